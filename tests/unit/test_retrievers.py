"""Retrievers: off unless asked for, linked to their tool and node, and ended in any case."""

import asyncio
from typing import Any

import pytest
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import create_retriever_tool
from langgraph.graph import START, MessagesState, StateGraph

from temporal_token_interceptor import NodeStarted, RetrieverEnded, RetrieverStarted, ToolStarted
from temporal_token_interceptor.testing import StreamingActivityEnvironment
from tests.unit.test_final_message import of_kind


class Notes(BaseRetriever):
    """Finds two notes, also one by one, fails, or never comes back."""

    mood: str = "good"

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        if self.mood == "bad":
            raise ConnectionError("the content of an error")
        found = [Document("tea", metadata={"page": 1}), Document("milk")]
        return iter(found) if self.mood == "lazy" else found  # type: ignore[return-value] # as some do

    async def _aget_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        if self.mood == "slow":
            await asyncio.Event().wait()
        return self._get_relevant_documents(query, run_manager=run_manager)


async def searched(mood: str = "good", *, way: str = "ainvoke", **options: Any) -> list[Any]:
    environment = StreamingActivityEnvironment(**options)
    notes = Notes(mood=mood)

    async def activity() -> None:
        try:
            async with asyncio.timeout(0.05 if mood == "slow" else 10):
                await notes.ainvoke("what?") if way == "ainvoke" else notes.invoke("what?")
        except (ConnectionError, TimeoutError):
            pass

    await environment.run(activity)
    return [event for event in environment.events if isinstance(event, RetrieverStarted | RetrieverEnded)]


async def test_retrievers_are_off_unless_asked_for():
    assert await searched() == []


@pytest.mark.parametrize("way", ["ainvoke", "invoke"])
async def test_a_retriever_reports_how_many_documents_it_found_and_not_which(way):
    started, ended = await searched(way=way, retrievers=True)

    assert (started.name, started.input, started.run_id) == ("Notes", None, ended.run_id)
    assert (ended.name, ended.document_count, ended.output, ended.error) == ("Notes", 2, None, None)


@pytest.mark.parametrize("way", ["ainvoke", "invoke"])
async def test_a_retriever_that_returns_an_iterator_ends_and_keeps_it_whole(way):
    environment = StreamingActivityEnvironment(retrievers=True, capture=["retriever_output"])
    notes = Notes(mood="lazy")

    async def activity() -> list[str]:
        found: Any = await notes.ainvoke("what?") if way == "ainvoke" else notes.invoke("what?")
        return [document.page_content for document in found]

    assert await environment.run(activity) == ["tea", "milk"]
    [ended] = of_kind(environment, RetrieverEnded)
    assert (ended.document_count, ended.error, ended.unfinished) == (None, None, False)


async def test_the_query_and_the_documents_are_sent_if_asked_for():
    started, ended = await searched(retrievers=True, capture=["retriever_input", "retriever_output"])

    assert started.input == "what?"
    assert [document["page_content"] for document in ended.output] == ["tea", "milk"]
    assert ended.output[0]["metadata"] == {"page": 1}


@pytest.mark.parametrize(("mood", "error"), [("bad", "ConnectionError"), ("slow", None)])
async def test_a_retriever_that_does_not_return_ends_all_the_same(mood, error):
    """The error's class only; and one that is cancelled ends with its attempt."""
    _, ended = await searched(mood, retrievers=True, capture=["retriever_output"])

    assert (ended.error, ended.unfinished) == (error, mood == "slow")
    assert (ended.document_count, ended.output) == (None, None)


async def test_a_retriever_names_its_tool_call_and_its_node():
    environment = StreamingActivityEnvironment(retrievers=True)
    look = create_retriever_tool(Notes(), "notes", "Look into the notes.")

    async def node(state: Any) -> Any:
        await look.ainvoke({"type": "tool_call", "id": "c1", "name": "notes", "args": {"query": "tea"}})

    builder = StateGraph(MessagesState)
    builder.add_node("look", node)
    builder.add_edge(START, "look")
    graph = builder.compile()

    async def activity() -> None:
        await graph.ainvoke({"messages": []})

    await environment.run(activity)

    (started,) = of_kind(environment, RetrieverStarted)
    (tool,) = of_kind(environment, ToolStarted)
    (begun,) = of_kind(environment, NodeStarted)
    assert (started.tool_call_id, started.node_name, started.node_run_id) == ("c1", "look", begun.run_id)
    assert tool.tool_call_id == "c1"


async def test_filters_hold_for_retrievers_too():
    assert await searched(retrievers=True, nodes=["other"]) == []
