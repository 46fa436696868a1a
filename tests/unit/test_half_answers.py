"""A stream that breaks off never passes for a whole answer; one that never begins is asked for plainly."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.caches import InMemoryCache
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

from temporal_token_interceptor import CallEnded, IncompleteAnswer
from temporal_token_interceptor.capture import forced_result
from temporal_token_interceptor.capture.forcing import REFUSALS
from temporal_token_interceptor.testing import StreamingActivityEnvironment
from tests.support.provider_shapes import SHAPES
from tests.unit.test_never_worse import WAYS, Own, ask, used

ENDS = {
    "langchain_anthropic": ("stop_reason", ["end_turn", "max_tokens", "tool_use", "refusal"], "anthropic"),
    "langchain_deepseek": ("finish_reason", ["stop", "insufficient_system_resource"], "standard"),
    "langchain_google_genai": ("finish_reason", ["STOP", "MAX_TOKENS", "SAFETY"], "google"),
    "langchain_groq": ("finish_reason", ["stop", "tool_calls"], "standard"),
    "langchain_mistralai": ("finish_reason", ["stop", "model_length"], "standard"),
    "langchain_ollama": ("done_reason", ["stop", "load", "length"], "standard"),
    "langchain_openai": ("finish_reason", ["stop", "length", "content_filter"], "standard"),
    "langchain_openai.chat_models.responses": ("status", ["completed", "incomplete"], "openai responses"),
    "langchain_openrouter": ("finish_reason", ["stop", "length"], "standard"),
    "langchain_xai": ("finish_reason", ["stop", "tool_calls"], "standard"),
}
"""By the module of a model: the name of its end, what that may be, and the shape of its stream."""


def test_the_end_of_each_provider_that_always_sends_one_is_tried():
    assert {module.partition(".")[0] for module in ENDS} == forced_result._ALWAYS_ENDS


class Streaming(Own):
    """Streams what it is given, ends included."""

    def _stream(self, *_: Any, **__: Any) -> Any:
        self.calls.append("stream")
        for chunk in self.chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk.model_copy(deep=True)


def of_module(module: str, depth: int, **facts: Any) -> Any:
    """A model of a package, or one that a user has derived from it, some times over."""
    model = type("Chat", (Streaming,), {"__module__": module})
    for _ in range(depth):
        model = type("Mine", (model,), {"__module__": "mine"})
    return model(**facts)


@st.composite
def whole_streams(draw: st.DrawFn) -> tuple[str, list[ChatGenerationChunk], int]:
    """The module of a model, a whole stream of it, and which of its chunks says the end."""
    module = draw(st.sampled_from(sorted(ENDS)))
    name, values, shape = ENDS[module]
    end = {name: draw(st.sampled_from(values))}
    beside = draw(st.booleans())  # where `langchain_openai` puts it: beside the message
    last = ChatGenerationChunk(
        message=AIMessageChunk("", response_metadata={} if beside else end),
        generation_info=end if beside else None,
    )
    said = [AIMessageChunk("so "), *draw(SHAPES[shape])]
    usage = draw(st.lists(st.just(AIMessageChunk("", usage_metadata=used(10, 3))), max_size=1))
    chunks = [ChatGenerationChunk(message=chunk) for chunk in (*said, *usage)]
    return module, [*chunks[: len(said)], last, *chunks[len(said) :]], len(said)


@given(whole_streams(), st.data(), st.integers(0, 2), st.booleans(), st.sampled_from(WAYS))
async def test_a_stream_that_is_cut_off_anywhere_never_passes_for_whole(stream, data, depth, cached, way):
    """Without its end it fails, so that Temporal retries; without any chunk it is asked for plainly."""
    REFUSALS.clear()
    module, chunks, end = stream
    cut = data.draw(st.integers(0, len(chunks)))
    cache = InMemoryCache()
    model = of_module(module, depth, chunks=tuple(chunks[:cut]), cache=cache if cached else False)
    environment = StreamingActivityEnvironment()

    async def activity() -> Any:
        return model.invoke("?") if way == "invoke" else await model.ainvoke("?")

    if 0 < cut <= end:
        with pytest.raises(ConnectionError) as raised:
            await environment.run(activity)
        assert type(raised.value) is IncompleteAnswer
        assert cache._cache == {}
    else:
        message = await environment.run(activity)
        [ended] = [event for event in environment.events if isinstance(event, CallEnded)]
        assert (ended.error, message.text.startswith("so " if cut else "one two")) == (None, True)
    assert model.calls == (["stream"] if cut else ["stream", "plain"])
    assert (model in REFUSALS) == (cut == 0)


class HttpError(Exception):
    """As clients raise it."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status_code = status


NOT_OF_STREAMING = {401, 402, 407, 408, 409, 413, 425, 429}
"""What fails alike without a stream."""


@given(
    st.integers(400, 599).map(HttpError) | st.sampled_from([NotImplementedError(), ValueError()]),
    st.integers(0, 3),
    st.sampled_from(sorted(ENDS)),
    st.lists(st.sampled_from(WAYS), min_size=2, max_size=3),
)
async def test_a_refusal_before_the_first_chunk_is_redone_plainly_and_remembered(error, said, module, ways):
    """What fails later, or would fail without a stream, is the activity's."""
    REFUSALS.clear()
    chunks = [ChatGenerationChunk(message=AIMessageChunk("so "))] * said
    model = of_module(module, 0, chunks=(*chunks, error))
    status = getattr(error, "status_code", 501)
    is_refusal = not said and (status == 501 or (status < 500 and status not in NOT_OF_STREAMING))

    for way in ways:
        if is_refusal:
            message, environment = await ask(model, way)
            assert (message.text, environment.text) == ("one two", "one two")
        else:
            with pytest.raises(type(error)):
                await ask(model, way)

    assert model.calls == (["stream", *["plain"] * len(ways)] if is_refusal else ["stream"] * len(ways))
