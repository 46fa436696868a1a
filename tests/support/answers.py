"""Answers of any shape, said in any order; and what a reader gets of them."""

import asyncio
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.messages.tool import tool_call_chunk

from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.capture.buffer import Buffer
from temporal_token_interceptor.capture.model_observer import Observer, capturing
from temporal_token_interceptor.events import Event, Frame
from temporal_token_interceptor.protocol.attempts import Attempts
from temporal_token_interceptor.protocol.frames import decode, encode
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.frames import an_origin

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


scripts = st.lists(st.tuples(answers(), st.lists(st.integers(0, 3), max_size=20)), min_size=1, max_size=8)
"""Up to eight calls: the chunks of each, and how often it gives way before each."""


def said_at_once(
    scripts: Sequence[tuple[Sequence[AIMessageChunk], Sequence[int]]],
) -> tuple[Buffer, list[BaseMessage]]:
    """Let calls speak at the same time; return what was captured, and the message that each returned."""
    buffer = Buffer(Budget(64 * 1024 * 1024), lambda: None)

    async def ask() -> list[BaseMessage]:
        with capturing(Observer(buffer, default_node="answer")):
            return await asyncio.gather(
                *(Pausing.of(chunks, pauses).ainvoke("?") for chunks, pauses in scripts)
            )

    return buffer, asyncio.run(ask())


def read_back(buffer: Buffer, size: int) -> list[Event]:
    """What a reader gets of a buffer that is taken in bites of a size."""
    attempts, events, seq = Attempts("run"), list[Event](), 0
    while records := buffer.take(size):
        frame = Frame(an_origin(), seq, records, header=seq == 0)
        events.extend(attempts.read(f"{seq:012d}", decode(encode(frame))))
        seq += 1
    return events
