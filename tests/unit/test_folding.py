"""Whatever a model says, in whatever pieces: the events, folded, are the message that it returned."""

import asyncio
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.utils.json import parse_partial_json

from temporal_token_interceptor.attempts import Attempts
from temporal_token_interceptor.buffer import Budget, Buffer
from temporal_token_interceptor.capture import Observer, capturing
from temporal_token_interceptor.events import (
    CallEnded,
    CallStarted,
    Event,
    Frame,
    ReasoningEvent,
    TokenEvent,
    ToolCallChunk,
)
from temporal_token_interceptor.protocol import decode, encode
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.frames import an_origin

# ------------------------------------------------------------------ arbitrary answers

words = st.text(min_size=0, max_size=6)


@st.composite
def tool_calls(draw: st.DrawFn) -> list[AIMessageChunk]:
    """A tool call, cut anywhere."""
    index = draw(st.integers(0, 3))
    args = '{"query": "tea and milk", "limit": 7}'
    cuts = sorted(draw(st.lists(st.integers(1, len(args) - 1), max_size=4, unique=True)))
    parts = [args[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True)]
    names = [("search", f"tc-{index}"), *[(None, None)] * len(cuts)]
    return [
        AIMessageChunk("", tool_call_chunks=[tool_call_chunk(name=name, args=part, id=id_, index=index)])
        for part, (name, id_) in zip(parts, names, strict=True)
    ]


texts = words.map(lambda text: [AIMessageChunk(text)])
reasonings = words.map(
    lambda text: [AIMessageChunk("", additional_kwargs={"reasoning_content": text} if text else {})]
)
usages = st.integers(1, 9).map(
    lambda n: [
        AIMessageChunk("", usage_metadata={"input_tokens": n, "output_tokens": n, "total_tokens": 2 * n})
    ]
)
ends = st.sampled_from(["stop", "length"]).map(
    lambda reason: [AIMessageChunk("", response_metadata={"finish_reason": reason})]
)


@st.composite
def answers(draw: st.DrawFn) -> list[AIMessageChunk]:
    """The chunks of one answer: text, reasoning, tool calls, usage and empty chunks in any order."""
    parts = draw(st.lists(st.one_of(texts, texts, reasonings, tool_calls(), usages), max_size=8))
    seen: set[object] = set()
    kept = []
    for part in parts:
        fragments = part[0].tool_call_chunks
        if fragments and fragments[0]["index"] in seen:
            continue  # no provider uses an index twice
        seen.update(fragment["index"] for fragment in fragments)
        kept.append(part)
    return [*(chunk for part in kept for chunk in part), *draw(ends)]


class Pausing(ScriptedChatModel):
    """Gives way before each chunk, so that calls that run at the same time interleave."""

    pauses: Sequence[int]

    @classmethod
    def of(cls, chunks: Sequence[AIMessageChunk], pauses: Sequence[int]) -> ScriptedChatModel:
        return cls(script=lambda _: chunks, pauses=pauses)

    async def _astream(self, *args: Any, **kwargs: Any) -> Any:
        pauses = iter([*self.pauses, *[0] * 200])
        async for chunk in super()._astream(*args, **kwargs):
            for _ in range(next(pauses)):
                await asyncio.sleep(0)
            yield chunk


# ------------------------------------------------------------------ folding what a reader gets


def read_back(buffer: Buffer, size: int) -> list[Event]:
    """What a reader gets of a buffer that is taken in bites of a size."""
    attempts, events, seq = Attempts("run"), list[Event](), 0
    while records := buffer.take(size):
        frame = Frame(an_origin(), seq, records, header=seq == 0)
        events.extend(attempts.read(f"{seq:012d}", decode(encode(frame))))
        seq += 1
    return events


def folded(events: Sequence[Event], ordinal: int) -> dict[str, Any]:
    """One call's events as the facts of a message."""
    mine = [event for event in events if getattr(getattr(event, "call", None), "ordinal", None) == ordinal]
    calls: dict[object, dict[str, Any]] = {}
    for event in mine:
        if isinstance(event, ToolCallChunk):
            call = calls.setdefault(event.index, {"name": None, "id": None, "args": ""})
            call["args"] += event.args
            call["name"], call["id"] = call["name"] or event.name, call["id"] or event.id
    (end,) = [event for event in mine if isinstance(event, CallEnded)]
    return {
        "text": "".join(event.token for event in mine if isinstance(event, TokenEvent)),
        "reasoning": "".join(event.token for event in mine if isinstance(event, ReasoningEvent)),
        "tool_calls": [{**call, "args": parse_partial_json(call["args"])} for call in calls.values()],
        "usage": dict(end.usage) if end.usage else None,
        "finish": end.finish_reason,
        "id": end.message_id,
    }


def facts(message: BaseMessage) -> dict[str, Any]:
    """The same facts of the message that the model returned."""
    assert isinstance(message, AIMessage)
    return {
        "text": message.text,
        "reasoning": message.additional_kwargs.get("reasoning_content", ""),
        "tool_calls": [
            {"name": call["name"], "id": call["id"], "args": call["args"]} for call in message.tool_calls
        ],
        "usage": dict(message.usage_metadata) if message.usage_metadata else None,
        "finish": message.response_metadata["finish_reason"],
        "id": message.id,
    }


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    scripts=st.lists(st.tuples(answers(), st.lists(st.integers(0, 3), max_size=20)), min_size=1, max_size=8),
    bite=st.sampled_from([1, 700, 2**30]),
)
def test_the_events_of_a_call_folded_are_its_message(scripts, bite):
    """Up to eight calls at once, cut and mixed in any way: a reader ends up with what each model returned."""
    buffer = Buffer(Budget(64 * 1024 * 1024), lambda: None)

    async def ask() -> list[BaseMessage]:
        with capturing(Observer(buffer, default_node="answer")):
            return await asyncio.gather(
                *(Pausing.of(chunks, pauses).ainvoke("?") for chunks, pauses in scripts)
            )

    messages = asyncio.run(ask())
    events = read_back(buffer, bite)

    by_run = {event.call.run_id: event.call.ordinal for event in events if isinstance(event, CallStarted)}
    for message in messages:
        run = str(message.id).removeprefix("lc_run--")
        assert folded(events, by_run[run]) == facts(message)
