"""A call that we made to stream, or left alone: its result is the one of a run without us."""

import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field

from temporal_token_interceptor import CallEnded, IncompleteAnswer, TokenEvent
from temporal_token_interceptor.capture.forcing import REFUSALS
from temporal_token_interceptor.capture.stream_usage import StreamUsage
from temporal_token_interceptor.testing import StreamingActivityEnvironment

WAYS = ["invoke", "ainvoke"]


@pytest.fixture(autouse=True)
def nothing_remembered():
    REFUSALS.clear()
    yield
    REFUSALS.clear()


class Own(BaseChatModel):
    """Answers `whole` plainly and `chunks` in a stream, and notes which."""

    whole: AIMessage = AIMessage("one two")
    chunks: tuple[Any, ...] = (AIMessageChunk("one "), AIMessageChunk("two"))
    calls: list[str] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "own"

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        self.calls.append("plain")
        return ChatResult(generations=[ChatGeneration(message=self.whole.model_copy(deep=True))])

    def _stream(self, *_: Any, **__: Any) -> Any:
        self.calls.append("stream")
        for chunk in self.chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield ChatGenerationChunk(message=chunk.model_copy(deep=True))


async def ask(
    model: Any, way: str, config: Any = None, **options: Any
) -> tuple[Any, StreamingActivityEnvironment]:
    """Call a model inside an activity; return its message and what was captured."""
    environment = StreamingActivityEnvironment(**options)

    async def activity() -> Any:
        return model.invoke("?", config) if way == "invoke" else await model.ainvoke("?", config)

    return await environment.run(activity), environment


def texts(environment: StreamingActivityEnvironment) -> list[str]:
    """The pieces of text that a reader was shown."""
    return [event.token for event in environment.events if isinstance(event, TokenEvent)]


# ------------------------------------------------------------------ the user's code, asked by us


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["n", "model_kwargs", "generation_config", "best_of"])
async def test_an_attribute_of_a_model_that_raises_costs_its_stream_alone(way, name, caplog):
    """We look at attributes that a model may compute: what they raise is no failure of the activity."""

    def broken(self: Any) -> Any:
        raise RuntimeError("not connected")

    model = type("Broken", (Own,), {name: property(broken), "__module__": __name__})()

    with caplog.at_level(logging.WARNING):
        message, environment = await ask(model, way)

    assert message.text == "one two"
    assert "".join(texts(environment)) == "one two"
    assert "not connected" not in caplog.text


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("config", "options"),
    [
        ({"tags": ["nostream"]}, {}),
        (None, {"nodes": ["another"]}),
        ({"tags": ["one"]}, {"tags": ["another"]}),
    ],
)
async def test_a_call_that_is_not_captured_is_left_alone(way, config, options):
    """Why should a call stream that no reader sees?"""
    model = Own()

    await ask(model, way, config, **options)

    assert model.calls == ["plain"]


# ------------------------------------------------------------------ adding chunks up


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "facts", [({"cost": 0.5}, {"cost": 0.75}), ({"cached": True}, {"cached": False}), ({"a": "x"}, {"a": 1})]
)
async def test_chunks_that_do_not_add_up_are_asked_for_as_a_whole(way, facts, caplog):
    """LangChain refuses to merge facts of some types: the plain answer has no chunks to merge."""
    chunks = tuple(
        AIMessageChunk(text, response_metadata=fact)
        for text, fact in zip(("one ", "two"), facts, strict=True)
    )
    model = Own(chunks=chunks)

    with caplog.at_level(logging.INFO):
        message, environment = await ask(model, way)
        await ask(model, way)

    assert message == (await Own().ainvoke("?")).model_copy(update={"id": message.id})
    assert texts(environment) == ["one ", "two"]
    assert model.calls == ["stream", "plain", "plain"]


@pytest.mark.parametrize("way", WAYS)
async def test_a_failure_of_the_provider_in_mid_stream_is_not_repeated(way):
    """Only LangChain's own sum is: a provider's error is the activity's, and Temporal retries it."""
    model = Own(chunks=(AIMessageChunk("one "), TypeError("broken")))

    with pytest.raises(TypeError, match="broken"):
        await ask(model, way)

    assert model.calls == ["stream"]


facts = st.dictionaries(
    st.sampled_from(["model_name", "system_fingerprint", "object", "service_tier"]),
    st.text(min_size=1, max_size=8),
)


@settings(deadline=None)
@given(facts, st.integers(2, 5))
async def test_what_each_chunk_repeats_is_said_once(repeated, times):
    """LangChain joins texts: the model's name would be there once for each chunk."""
    chunks = tuple(AIMessageChunk("x", response_metadata=dict(repeated)) for _ in range(times))
    model = Own(whole=AIMessage("x" * times, response_metadata=repeated), chunks=chunks)

    message, _ = await ask(model, "ainvoke")

    assert message.response_metadata == (await model.ainvoke("?")).response_metadata


# ------------------------------------------------------------------ usage


def used(count_in: int, count_out: int) -> UsageMetadata:
    return {"input_tokens": count_in, "output_tokens": count_out, "total_tokens": count_in + count_out}


@pytest.mark.parametrize("way", WAYS)
async def test_usage_that_each_chunk_repeats_is_counted_once(way):
    """10 + 1, 10 + 2, 10 + 3: that is 13, not 36."""
    chunks = tuple(AIMessageChunk("x", usage_metadata=used(10, count)) for count in (1, 2, 3))

    message, environment = await ask(Own(chunks=chunks), way)

    assert message.usage_metadata == used(10, 3)
    assert [event.usage for event in environment.events if isinstance(event, CallEnded)] == [used(10, 3)]
    assert texts(environment) == ["x", "x", "x"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ([used(10, 1), used(0, 5)], used(10, 6)),  # as Anthropic's
        ([used(10, 0), used(10, 4), used(10, 9)], used(10, 9)),
        ([used(10, 7)], used(10, 7)),
    ],
)
async def test_usage_of_a_call_that_failed_is_what_was_used_until_then(way, parts, whole):
    chunks = (*(AIMessageChunk("x", usage_metadata=part) for part in parts), ConnectionError("cut"))
    environment = StreamingActivityEnvironment()
    model = Own(chunks=chunks)

    async def activity() -> None:
        with pytest.raises(ConnectionError):
            model.invoke("?") if way == "invoke" else await model.ainvoke("?")

    await environment.run(activity)

    assert [event.usage for event in environment.events if isinstance(event, CallEnded)] == [whole]


counts = st.integers(0, 1_000)


@given(st.lists(st.tuples(counts, counts), min_size=1, max_size=6))
def test_parts_of_usage_are_added_up_unless_each_has_the_whole_prompt(parts):
    """The sum is LangChain's own; what repeats the prompt is no part."""
    stream, total = StreamUsage(), None
    for count_in, count_out in parts:
        stream.add(used(count_in, count_out))
        total = add_usage(total, used(count_in, count_out))

    is_repeated = (
        len(parts) > 1
        and len({count_in for count_in, _ in parts}) == 1
        and parts[0][0] > 0
        and [count_out for _, count_out in parts] == sorted(count_out for _, count_out in parts)
    )
    assert stream.used == (used(*parts[-1]) if is_repeated else total)
    assert (stream.repeated is not None) == is_repeated


# ------------------------------------------------------------------ the cache


@pytest.mark.parametrize("way", WAYS)
async def test_half_an_answer_is_not_kept_in_the_cache(way):
    """The retry would find it there, and pass it for whole."""
    cache = InMemoryCache()
    chunks = (AIMessageChunk("half an "),)
    package = {"__module__": "langchain_openai.chat_models"}
    model = type("Chat", (Own,), {**package, "_stream": Own._stream, "_generate": Own._generate})(
        chunks=chunks, cache=cache
    )

    for _ in range(2):
        with pytest.raises(IncompleteAnswer):
            await ask(model, way)

    assert cache._cache == {}


@pytest.mark.parametrize("way", WAYS)
async def test_a_whole_answer_is_kept_in_the_cache(way):
    model = Own(cache=InMemoryCache())

    first, streamed = await ask(model, way)
    again, hit = await ask(model, way)

    assert (first.text, again.text) == ("one two", "one two")
    assert (texts(streamed), texts(hit)) == (["one ", "two"], ["one two"])
    assert model.calls == ["stream"]
