"""What stands of a run so far: attempts, calls with their tool calls, tools, nodes, and what failed."""

from contextlib import suppress
from itertools import count

from langchain.agents import create_agent
from langchain_core.tools import ToolException, create_retriever_tool, tool

from temporal_token_interceptor import (
    AttemptStarted,
    CallEnded,
    Event,
    Gap,
    NodeEnded,
    RetrieverEnded,
    RetrieverStarted,
    Snapshot,
    ToolCallText,
    ToolEnded,
    ToolStarted,
)
from temporal_token_interceptor.testing import StreamingActivityEnvironment
from temporal_token_interceptor.views.snapshot_fold import Fold
from tests.differential.models import SEARCH, after_tools, search
from tests.support.frames import an_origin
from tests.unit.test_retrievers import Notes


def standing(events: list[Event]) -> Snapshot:
    fold = Fold()
    for event in events:
        fold.add(event)
    return fold.snapshot("run", "cursor")


async def run_agent(*tools, asks=SEARCH, attempts=1, **options) -> list[Event]:
    """The events of an agent that uses a tool, and then answers; all attempts but the last fail."""
    environment = StreamingActivityEnvironment(**options)
    tries = count(1)

    async def ask() -> str:
        agent = create_agent(after_tools(asks), tools=[*tools])
        state = await agent.ainvoke({"messages": [("user", "?")]})
        if next(tries) < attempts:
            raise ConnectionError
        return str(state["messages"][-1].text)

    for _ in range(attempts):
        with suppress(ConnectionError, ToolException):
            await environment.run(ask)
    return environment.events


async def test_a_snapshot_has_tool_calls_tools_and_nodes():
    """A screen that opens late draws an agent's whole work from it."""
    found = standing(await run_agent(search, capture={"tool_input", "tool_output"}))

    first, second = found.calls
    (ran,) = found.tools
    assert first.tool_calls == (ToolCallText(id="tc-1", name="search", args='{"query": "tea"}'),)
    assert second.tool_calls == ()
    assert second.text == found.text != ""
    assert (ran.name, ran.tool_call_id, ran.node_name, ran.ended) == ("search", "tc-1", "tools", True)
    assert "tea" in str(ran.input)
    assert ran.output
    assert [(node.node_name, node.ended) for node in found.nodes] == [
        ("model", True),
        ("tools", True),
        ("model", True),
    ]
    assert [(one.origin.attempt, one.outcome) for one in found.attempts] == [(1, "completed_provisional")]
    assert found.errors == ()


async def test_a_snapshot_shows_what_is_under_way():
    """In the midst of a tool the tool and its node are open, and the tool call stands."""
    events = await run_agent(search)
    (middle,) = [place for place, event in enumerate(events) if isinstance(event, ToolStarted)]

    found = standing(events[: middle + 1])

    assert [(one.name, one.ended, one.error) for one in found.tools] == [("search", False, None)]
    assert [(one.node_name, one.ended) for one in found.nodes] == [("model", True), ("tools", False)]
    assert [one.outcome for one in found.attempts] == [None]


async def test_a_snapshot_names_what_failed():
    """The tool, its node and the attempt, by the class of the error; no message, which may hold content."""

    @tool
    def search(query: str) -> str:
        """Fail."""
        raise ToolException(f"no {query}")

    found = standing(await run_agent(search))

    assert [type(one).__name__ for one in found.errors] == ["ToolState", "NodeState"]
    assert {one.error for one in found.errors} == {"ToolException"}
    assert [one.outcome for one in found.attempts] == ["failed"]


async def test_what_a_retry_replaced_stands_in_no_part_of_a_snapshot():
    """Calls, tools, nodes and attempts are those of the newest attempt alone."""
    found = standing(await run_agent(search, attempts=2))

    origins = [one.origin for one in found.attempts] + [one.origin for one in found.calls]
    origins += [one.origin for one in found.tools] + [one.origin for one in found.nodes]
    assert {origin.attempt for origin in origins} == {2}
    assert (len(found.calls), len(found.tools), len(found.nodes)) == (2, 1, 3)


async def test_a_snapshot_has_retrievers():
    """How many documents each search found, where retrievers are asked for."""
    notes = create_retriever_tool(Notes(), "search", "Search.")

    found = standing(await run_agent(notes, retrievers=True))

    assert [(one.name, one.document_count, one.ended) for one in found.retrievers] == [("Notes", 2, True)]


async def test_ends_whose_starts_were_trimmed_away_are_in_a_snapshot():
    """After a gap, tools and nodes appear with their end, as calls do."""
    whole = await run_agent(search)
    ends = [event for event in whole if isinstance(event, ToolEnded | NodeEnded | CallEnded)]

    found = standing([Gap(missing=None, reason="trimmed"), *ends])

    assert [(one.name, one.ended) for one in found.tools] == [("search", True)]
    assert [one.node_name for one in found.nodes] == ["model", "tools", "model"]
    assert [call.ended for call in found.calls] == [True, True]
    assert [one.outcome for one in found.attempts] == [None]


def test_runs_of_one_name_without_ids_are_kept_apart():
    """Writers in other languages may leave run ids out."""
    origin = an_origin()

    def searched(found: int) -> list[Event]:
        return [
            RetrieverStarted(name="notes", origin=origin),
            RetrieverEnded(name="notes", document_count=found, origin=origin),
        ]

    found = standing([AttemptStarted(origin=origin, supersedes=None), *searched(1), *searched(2)])

    assert [one.document_count for one in found.retrievers] == [1, 2]
