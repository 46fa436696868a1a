"""What every view makes of a call is what its message says: tool calls, usage, and ends that come late."""

import asyncio
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from temporal_token_interceptor import CallEnded, event_from_json
from temporal_token_interceptor.cli.transcript import Transcript
from temporal_token_interceptor.testing import ScriptedChatModel, StreamingActivityEnvironment
from temporal_token_interceptor.views.langgraph_messages import Chunks
from temporal_token_interceptor.views.snapshot_fold import Fold
from tests.support.call_views import all_that_run_shows
from tests.unit.test_final_message import of_kind


class Answering(BaseChatModel):
    """A model that does not stream."""

    message: Any

    @property
    def _llm_type(self) -> str:
        return "answering"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        return ChatResult(generations=[ChatGeneration(message=self.message)])


async def captured(activity: Any) -> tuple[Any, StreamingActivityEnvironment]:
    environment = StreamingActivityEnvironment()

    async def run() -> Any:
        return await activity()

    return await environment.run(run), environment


def by_messages(environment: StreamingActivityEnvironment) -> list[Any]:
    """What `.messages()` makes of each call, its chunks summed."""
    chunks, found = Chunks(subgraphs=True), {}
    for event in environment.events:
        for message, _ in chunks.read(event):
            known: Any = found.get(message.id)
            found[message.id] = message if known is None else known + message
    return list(found.values())


ARGS = st.none() | st.sampled_from(["", "{", '{"a": 1', '{"a": 1}', "null", "[1]", "{oops", '"text"'])


@given(st.lists(ARGS, min_size=1, max_size=4))
async def test_an_invalid_tool_call_stays_invalid(args):
    """Whatever its arguments: a viewer must not see `delete_all({})` that nothing may run."""
    invalid: Any = [
        {"type": "invalid_tool_call", "name": "delete_all", "args": one, "id": f"c{place}", "error": "no"}
        for place, one in enumerate(args)
    ]
    model = Answering(message=AIMessage("", invalid_tool_calls=invalid))

    _, environment = await captured(lambda: _ask(model))

    ids = [one["id"] for one in invalid]
    for message in (*await all_that_run_shows(environment.events), *by_messages(environment)):
        assert message.tool_calls == []
        assert [one["id"] for one in message.invalid_tool_calls] == ids
    (ran,) = await all_that_run_shows(environment.events)
    assert [one["args"] or "" for one in ran.invalid_tool_calls] == [one or "" for one in args]
    assert [event_from_json(event.to_json()) for event in environment.events] == environment.events


async def _ask(model: Any) -> Any:
    return await model.ainvoke("?")


FRAGMENT = st.tuples(
    st.integers(0, 1), st.sampled_from(["c1", "c2", "c3"]), st.sampled_from(['{"q": 1}', "{}", '{"r": 2}'])
)


@given(st.lists(FRAGMENT, min_size=1, max_size=4, unique_by=lambda fragment: fragment[1]), st.integers(0, 8))
async def test_tool_calls_that_share_an_index_are_told_apart_by_id(calls, cut):
    """In `.run()`, and in the terminal: each call with its own arguments, in pieces or whole."""
    chunks = []
    for index, id_, args in calls:
        head: Any = {"type": "tool_call_chunk", "name": "find", "id": id_, "args": args[:cut], "index": index}
        tail: Any = {"type": "tool_call_chunk", "name": None, "id": None, "args": args[cut:], "index": index}
        chunks += [AIMessageChunk("", tool_call_chunks=[part]) for part in (head, tail)]

    _, environment = await captured(lambda: _ask(ScriptedChatModel.saying(*chunks)))

    (ran,) = await all_that_run_shows(environment.events)
    transcript = Transcript()
    for event in environment.events:
        transcript.add(event)
    (block,) = [block for block in transcript.pending if not block.is_note]
    assert [call["id"] for call in ran.tool_calls] == [id_ for _, id_, _ in calls]
    assert [(one.id, one.name, one.args) for one in block.tools.written] == [
        (id_, "find", args) for _, id_, args in calls
    ]


class SlowCache(InMemoryCache):
    """A cache whose answers take their time, some more than others."""

    def __init__(self, turns: list[int]) -> None:
        super().__init__()
        self.turns = turns

    async def alookup(self, prompt: str, llm_string: str) -> Any:
        for _ in range(self.turns.pop() if self.turns else 0):
            await asyncio.sleep(0)
        return await super().alookup(prompt, llm_string)


async def _text_by(model: Any, way: str, question: str) -> str:
    """Return what a call says, by one of LangChain's ways to make it."""
    match way:
        case "invoke":
            return str(model.invoke(question).text)
        case "ainvoke":
            return str((await model.ainvoke(question)).text)
        case "stream":
            return "".join(chunk.text for chunk in model.stream(question))
        case "astream":
            return "".join([chunk.text async for chunk in model.astream(question)])
        case "v3 text":
            return "".join([text async for text in (await model.astream_events(question, version="v3")).text])
        case _:
            return str((await (await model.astream_events(question, version="v3")).output).text)


CALLS_BY = st.tuples(
    st.sampled_from(["ainvoke", "invoke", "astream", "stream", "v3 text", "v3 output"]),
    st.sampled_from(["one", "two", "two words"]),
)


@pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning")
@given(st.lists(CALLS_BY, min_size=1, max_size=5), st.booleans(), st.lists(st.integers(0, 9), max_size=5))
@example([("ainvoke", "one")] * 2, True, [4])  # the later call answers first, from its model; then a hit
async def test_every_view_has_the_text_and_the_end_of_cached_and_of_late_calls(calls, at_once, turns):
    """Hits and misses in any order, ends a turn of the loop after the activity has returned.

    Of a hit LangChain sets `usage_metadata={"total_cost": 0}`, which its own messages refuse.
    """
    model = ScriptedChatModel(script=lambda messages: list(messages[-1].text), cache=SlowCache(turns))

    async def activity() -> Any:
        asked = [_text_by(model, *call) for call in calls]
        return await asyncio.gather(*asked) if at_once else [await one for one in asked]

    results, environment = await captured(activity)

    assert results == [question for _, question in calls]
    ends = of_kind(environment, CallEnded)
    assert [(end.error, end.unfinished) for end in ends] == [(None, False)] * len(calls)
    ran = [message.text for message in await all_that_run_shows(environment.events)]
    for texts in (ran, [message.text for message in by_messages(environment)], standing(environment)):
        assert sorted(texts) == sorted(results)


def standing(environment: StreamingActivityEnvironment) -> list[str]:
    """The texts that a snapshot has of the calls that have not failed."""
    fold = Fold()
    for event in environment.events:
        fold.add(event)
    return [call.text for call in fold.snapshot("", "").calls if call.error is None]


class Repeating(BaseChatModel):
    """A model that reports its last letter again, with an empty chunk."""

    @property
    def _llm_type(self) -> str:
        return "repeating"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        raise NotImplementedError

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        for token, text in (("Hel", "Hel"), ("lo", "lo"), ("o", "")):
            chunk = ChatGenerationChunk(message=AIMessageChunk(text))
            if run_manager:
                run_manager.on_llm_new_token(token, chunk=chunk)
            yield chunk


async def test_text_is_that_of_the_message_and_not_of_the_token():
    message, environment = await captured(lambda: _ask(Repeating()))

    assert environment.text == message.text == "Hello"


@pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning")
@pytest.mark.parametrize("cancelled", [False, True])
async def test_an_async_v3_stream_ends_within_its_attempt(cancelled):
    """LangChain reports its end one turn of the loop after the activity has returned."""
    model = ScriptedChatModel.saying("Hel", "lo")

    async def activity() -> None:
        stream = await model.astream_events("?", version="v3")
        async for _ in stream.text:
            pass
        if cancelled:
            raise asyncio.CancelledError

    environment = StreamingActivityEnvironment()
    if cancelled:
        with pytest.raises(asyncio.CancelledError):
            await environment.run(activity)
    else:
        await environment.run(activity)

    (ended,) = of_kind(environment, CallEnded)
    assert environment.text == "Hello"
    assert ended.unfinished == cancelled
