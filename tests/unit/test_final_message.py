"""The final message is the truth of a call: what a reader has of a call is what its message says."""

import asyncio
import dataclasses
import enum
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import BaseModel, Field

from temporal_token_interceptor import CallEnded, CallStarted, ContentBlock, Gap, TokenEvent, ToolCallChunk
from temporal_token_interceptor.capture import json_values as reading
from temporal_token_interceptor.capture.json_values import bounded_values, json_values
from temporal_token_interceptor.testing import ScriptedChatModel, StreamingActivityEnvironment
from temporal_token_interceptor.views.snapshot import mended


class Reporting(BaseChatModel):
    """A model that reports tokens by hand and then returns its message."""

    tokens: list[str] = Field(default_factory=list)
    message: Any = None

    @property
    def _llm_type(self):
        return "reporting"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        for token in self.tokens:
            run_manager.on_llm_new_token(token)
        return ChatResult(generations=[ChatGeneration(message=self.message)])


async def capture(model: Any, *, fails: bool = False) -> StreamingActivityEnvironment:
    environment = StreamingActivityEnvironment()

    async def activity() -> Any:
        return await model.ainvoke("?")

    if fails:
        with pytest.raises(ConnectionError):
            await environment.run(activity)
    else:
        await environment.run(activity)
    return environment


def of_kind(environment, kind):
    return [event for event in environment.events if isinstance(event, kind)]


TEXTS = st.lists(st.text(alphabet="abc é☂😀", max_size=6), max_size=80)


@given(TEXTS, st.text(alphabet="abc é☂", max_size=6))
async def test_what_the_stream_left_out_is_sent_at_the_end(tokens, rest):
    """A model reports some of its text and returns all of it: the reader has all of it, without a gap."""
    whole = "".join(tokens) + rest

    seen = await capture(Reporting(tokens=tokens, message=AIMessage(whole)))

    assert seen.text == whole
    assert of_kind(seen, Gap) == []
    assert len(of_kind(seen, CallEnded)) == 1


@given(
    st.lists(st.text(alphabet="ab", min_size=1, max_size=4), min_size=1, max_size=70),
    st.text("cd", min_size=1),
)
async def test_a_text_that_differs_is_reported(tokens, other):
    """What a model streamed is not what it returned: the reader is told so at the call."""
    seen = await capture(Reporting(tokens=tokens, message=AIMessage(other)))

    [gap] = of_kind(seen, Gap)
    assert (gap.reason, gap.call.ordinal) == ("mismatch", 0)


@given(st.sampled_from(["", "x"]), st.lists(st.sampled_from(["find", "send"]), min_size=1, max_size=4))
async def test_tool_calls_of_the_message_are_sent_if_none_was_streamed(token, names):
    calls = [{"name": name, "args": {"n": i}, "id": f"c{i}"} for i, name in enumerate(names)]

    seen = await capture(Reporting(tokens=[token], message=AIMessage(token, tool_calls=calls)))

    assert [(chunk.name, chunk.id) for chunk in of_kind(seen, ToolCallChunk)] == [
        (call["name"], call["id"]) for call in calls
    ]


RAISING = [
    ("openai", [{"type": "text", "text": "two ", "annotations": None}]),
    ("openai", [{"type": "text", "text": "two ", "annotations": 3}]),
    ("anthropic", [{"type": "text", "text": "two ", "citations": [None]}]),
]


@pytest.mark.parametrize(("provider", "content"), RAISING)
async def test_blocks_that_cannot_be_translated_lose_no_text(provider, content):
    chunk = AIMessageChunk(content, response_metadata={"model_provider": provider})

    seen = await capture(ScriptedChatModel.saying("one ", chunk, "three"))

    assert seen.text == "one two three"
    assert len(of_kind(seen, CallEnded)) == 1


async def test_a_text_of_the_chunk_comes_before_the_reported_token():
    """Some models report their last letter again, with an empty chunk: the message has it once."""

    class Repeating(Reporting):
        def _generate(self, messages, stop=None, run_manager=None, **kwargs):
            for token, text in [("Hell", "Hell"), ("o", "o"), ("o", "")]:
                chunk = ChatGenerationChunk(message=AIMessageChunk(text))
                run_manager.on_llm_new_token(token, chunk=chunk)
            return ChatResult(generations=[ChatGeneration(message=AIMessage("Hello"))])

    seen = await capture(Repeating())

    assert seen.text == "Hello"
    assert of_kind(seen, Gap) == []


@given(
    st.dictionaries(
        st.sampled_from(["refusal", "citations", "audio", "reasoning"]), st.text() | st.integers(0, 99)
    )
)
async def test_what_a_provider_adds_travels_with_the_end(kwargs):
    seen = await capture(ScriptedChatModel.saying(AIMessageChunk("x", additional_kwargs=kwargs)))

    [end] = of_kind(seen, CallEnded)
    assert (end.additional_kwargs or {}) == kwargs


async def test_usage_of_a_failed_call_is_not_forgotten():
    usage = {"input_tokens": 1000, "output_tokens": 1, "total_tokens": 1001}
    model = ScriptedChatModel.saying(AIMessageChunk("", usage_metadata=usage), "half", ConnectionError("x"))

    seen = await capture(model, fails=True)

    [end] = of_kind(seen, CallEnded)
    assert (end.usage, end.error) == (usage, "ConnectionError")


# ------------------------------------------------------------------ what stands


@pytest.mark.parametrize("failures", [1, 3])
async def test_text_of_a_call_that_failed_does_not_stand(failures):
    """The first models fail in mid-sentence, another answers: the text is that of the answer."""
    broken = [ScriptedChatModel.saying("Sorry, ", ConnectionError("x")) for _ in range(failures)]
    model = broken[0].with_fallbacks([*broken[1:], ScriptedChatModel.saying("Plan B")])

    seen = await capture(model)

    assert seen.text == "Plan B"


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("streams", [True, False])
async def test_a_model_that_calls_a_model_is_not_doubled(depth, streams):
    class Router(BaseChatModel):
        inner: Any

        @property
        def _llm_type(self):
            return "router"

        def _generate(self, messages, stop=None, run_manager=None, **kwargs):
            return ChatResult(generations=[ChatGeneration(message=self.inner.invoke(messages))])

        async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
            return ChatResult(generations=[ChatGeneration(message=await self.inner.ainvoke(messages))])

    model: Any = ScriptedChatModel.saying("Hel", "lo") if streams else Reporting(message=AIMessage("Hello"))
    for _ in range(depth):
        model = Router(inner=model)

    seen = await capture(model)

    assert seen.text == "Hello"
    assert len(of_kind(seen, CallStarted)) == len(of_kind(seen, CallEnded)) == depth + 1


async def test_a_cancelled_call_ends_when_it_is_cancelled():
    environment = StreamingActivityEnvironment()
    begun = asyncio.Event()

    class Slow(ScriptedChatModel):
        async def _astream(self, *args, **kwargs):
            begun.set()
            await asyncio.Event().wait()
            yield

    async def activity() -> None:
        call = asyncio.create_task(Slow.saying("never").ainvoke("?"))
        await begun.wait()
        call.cancel()
        await asyncio.wait([call])
        await ScriptedChatModel.saying("then").ainvoke("?")

    await environment.run(activity)

    kinds = [
        (type(event).__name__, event.call.ordinal) for event in environment.events if hasattr(event, "call")
    ]
    assert kinds.index(("CallEnded", 0)) < kinds.index(("CallStarted", 1))
    assert of_kind(environment, CallEnded)[0].error == "CancelledError"
    assert environment.text == "then"


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=20), st.integers(0, 40))
def test_characters_in_two_halves_are_joined(text, cut):
    halves = text.encode("utf-16-le")
    pieces = [halves[: cut // 2 * 2], halves[cut // 2 * 2 :]]

    joined = mended("".join(piece.decode("utf-16-le", "surrogatepass") for piece in pieces))

    assert joined == text


@given(st.text(alphabet=st.characters(), max_size=20))
def test_a_mended_text_can_always_be_encoded(text):
    mended(text).encode()


# ------------------------------------------------------------------ values


class Colour(enum.Enum):
    RED = "red"


class Model(BaseModel):
    name: str = "m"
    secret: str = Field("s", exclude=True)


@dataclasses.dataclass
class Order:
    when: datetime
    price: Decimal
    colour: Colour
    inner: Any = None


NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (NOON, "2026-11-20T12:00:00+00:00"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Decimal("1.50"), "1.50"),
        (Colour.RED, "red"),
        (Model(), {"name": "m"}),
        (
            Order(NOON, Decimal(2), Colour.RED, [Model()]),
            {"when": "2026-11-20T12:00:00+00:00", "price": "2", "colour": "red", "inner": [{"name": "m"}]},
        ),
        ({Colour.RED: {1: 2}}, {"red": {"1": 2}}),
        (float("nan"), None),
        (object(), {"unserializable": "object"}),
        (2**80, str(2**80)),
        (10**5000, {"unserializable": "int"}),
    ],
    ids=range(11),
)
def test_values_travel_as_json(value, expected):
    assert json_values(value) == expected


def test_a_cycle_ends():
    loop: list[Any] = [1]
    loop.append(loop)

    assert json_values(loop) == [1, {"unserializable": "list"}]


def test_shared_data_is_read_within_a_budget():
    """Forty levels of two references to the same object would be a trillion nodes."""
    value: Any = ["x"]
    for _ in range(30):
        value = [value, value]

    read, cut = bounded_values(value)

    assert cut
    assert str(read).count("'") < 4 * reading.MOST_NODES


def test_a_serializer_of_the_users_is_never_run():
    class Slow(BaseModel):
        name: str = "x"

        def model_dump(self, *args, **kwargs):
            raise AssertionError("the user's code ran")

    class Raising(dict[str, str]):
        def items(self):
            raise ValueError("content in an error")

    assert json_values([Slow(), Raising(a="b")]) == [{"name": "x"}, {"a": "b"}]


SHAPES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.dates()
    | st.uuids(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
        | st.tuples(inner, inner)
        | st.builds(Order, st.just(NOON), st.just(Decimal(1)), st.just(Colour.RED), inner)
    ),
    max_leaves=20,
)


@given(SHAPES)
def test_any_value_becomes_json(value):
    json.loads(json.dumps(json_values(value)))


async def test_other_blocks_of_the_message_are_sent_if_none_was_streamed():
    image = {"type": "image", "url": "https://a.example/i.png"}

    seen = await capture(Reporting(tokens=["x"], message=AIMessage([{"type": "text", "text": "x"}, image])))

    assert [event.block["type"] for event in of_kind(seen, ContentBlock)] == ["image"]
    assert [event.token for event in of_kind(seen, TokenEvent)] == ["x"]


THOUGHT = {"type": "reasoning", "id": "rs_1", "extras": {"encrypted_content": "c2Vj"}}
SENT_THOUGHT = {**THOUGHT, "reasoning": "", "index": 1}
FILES: list[Any] = [{"type": "image", "url": f"http://localhost/{name}.png"} for name in "ab"]


@pytest.mark.parametrize("tokens", [[], ["so"]])
@pytest.mark.parametrize("content", [[THOUGHT], [THOUGHT, *FILES], FILES])
async def test_every_block_that_was_not_streamed_is_sent(tokens, content):
    """Reasoning without a text was thought all the same: its id, and what is encrypted, are there."""
    message = AIMessage(
        [*content, {"type": "text", "text": "so"}], response_metadata={"output_version": "v1"}
    )

    environment = await capture(Reporting(tokens=tokens, message=message))

    expected = [SENT_THOUGHT if block is THOUGHT else block for block in content]
    assert [event.block for event in of_kind(environment, ContentBlock)] == expected
    assert environment.text == "so"


# ------------------------------------------------------------------ messages that were changed later


class Odd:
    """What a program may have put into a message: it cannot even be asked whether it is true."""

    def __bool__(self) -> bool:
        raise OSError("odd")


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize(
    "facts",
    [
        {"response_metadata": {"finish_reason": Odd()}},
        {"additional_kwargs": {"a": Odd()}},
        {"usage_metadata": {"a": Odd()}},
        {"id": 5},
    ],
)
async def test_an_odd_fact_costs_no_text(streams, facts):
    message = AIMessage("Hello")
    vars(message).update(facts)
    seen = await capture(Reporting(message=message, tokens=["Hel"] if streams else []))

    assert seen.text == "Hello"
    assert [end.error for end in of_kind(seen, CallEnded)] == [None]


@pytest.mark.parametrize("name", ["tool_calls", "invalid_tool_calls"])
async def test_tool_calls_without_a_type_are_tool_calls(name):
    """LangChain's type for them does not require it; a message checks them only when it is made."""
    message = AIMessage("Hello")
    vars(message)[name] = [{"name": "find", "args": {} if name == "tool_calls" else "{", "id": "c1"}]

    seen = await capture(Reporting(message=message))

    [part] = of_kind(seen, ToolCallChunk)
    assert (part.id, part.name, part.invalid) == ("c1", "find", name != "tool_calls")


async def test_a_message_that_cannot_be_read_is_a_gap():
    class Unreadable(AIMessage):
        @property
        def text(self):
            return Odd()

    seen = await capture(Reporting(message=Unreadable("Hello")))

    assert [gap.reason for gap in of_kind(seen, Gap)] == ["mismatch"]
    assert len(of_kind(seen, CallEnded)) == 1


@pytest.mark.parametrize("kind", ["unknown", "text", "tool calls"])
@pytest.mark.parametrize("count", [2_000, 2_100])
async def test_a_message_of_very_many_parts_is_sent_within_a_bound(kind, count):
    """They are read on the loop of the worker; what is left out is counted, and no text is."""
    message = AIMessage(
        [{"type": "text", "text": "a"}] * count
        if kind == "text"
        else [{"type": "x"}] * count * (kind == "unknown"),
        tool_calls=[{"name": "f", "args": {}, "id": str(n)} for n in range(count * (kind == "tool calls"))],
    )

    seen = await capture(Reporting(message=message))

    assert seen.text == message.text
    parts = len(of_kind(seen, ContentBlock)) + len(of_kind(seen, ToolCallChunk))
    missing = [(gap.reason, gap.missing) for gap in of_kind(seen, Gap)]
    assert (parts, missing) == {
        "text": (0, []),
        **dict.fromkeys(("unknown", "tool calls"), (2_000, [("overflow", 100)] if count > 2_000 else [])),
    }[kind]
