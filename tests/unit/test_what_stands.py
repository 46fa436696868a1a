"""What failed or was given up within an attempt stands in no view: each shows what the result says."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import RemoveMessage

from temporal_token_interceptor import CallEnded, CallNotCompleted, StreamEnded
from temporal_token_interceptor.testing import ScriptedChatModel, StreamingActivityEnvironment
from temporal_token_interceptor.views.langgraph_messages import Chunks
from temporal_token_interceptor.views.snapshot_fold import Fold
from temporal_token_interceptor.views.workflow_run import WorkflowRun

Words = Sequence[str]


# ------------------------------------------------------------------ what an activity does


class Hanging(ScriptedChatModel):
    """A model that says its words, and then nothing more."""

    reached: Any

    async def _astream(self, *args: Any, **kwargs: Any) -> Any:
        async for chunk in super()._astream(*args, **kwargs):
            yield chunk
        await self._agenerate()

    async def _agenerate(self, *_: Any, **__: Any) -> Any:
        self.reached.set()
        await asyncio.Event().wait()


async def given_up(way: str, words: Words) -> str:
    """Cancel a call after some words, as a time limit does; it adds nothing to the result."""
    reached = asyncio.Event()
    model = Hanging(script=lambda _: words, reached=reached)

    async def streamed() -> None:
        async for _ in model.astream("?"):
            pass

    tags = ["tti:noforce"] if way == "unforced" else []
    asked = model.ainvoke("?", {"tags": tags}) if way != "astream" else streamed()
    call = asyncio.ensure_future(asked)
    await reached.wait()
    call.cancel()
    await asyncio.wait([call])
    return ""


async def left(words: Words) -> str:
    """Leave a stream once there is enough: what it said is used."""
    stream = cast("AsyncGenerator[Any]", ScriptedChatModel.saying(*words, "never seen").astream("?"))
    said: list[str] = []
    async with aclosing(stream):
        async for chunk in stream:
            said.append(chunk.text)
            if len(said) == len(words):
                break
    return "".join(said)


async def answered(way: str, broken: Sequence[Sequence[Words]], words: Words) -> str:
    """Ask models that each break off at some word as often as they are tried; the last one answers."""
    models = []
    for number, tries in enumerate(broken):
        scripts: list[Any] = [[*said, ConnectionError()] for said in tries]
        if number == len(broken) - 1:
            scripts.append(words)
        model = ScriptedChatModel(script=partial(lambda left, _: left.pop(0), scripts))
        models.append(model.with_retry(stop_after_attempt=len(scripts), wait_exponential_jitter=False))
    whole = models[0].with_fallbacks(models[1:])
    return str(whole.invoke("?").text if way == "invoke" else (await whole.ainvoke("?")).text)


WORDS = st.lists(st.sampled_from(["tea ", "no ", "é", "☂ "]), max_size=3)
SOME = st.lists(st.sampled_from(["tea ", "no ", "é", "☂ "]), min_size=1, max_size=3)
TRIES = st.lists(st.lists(WORDS, min_size=1, max_size=3), min_size=1, max_size=3)
STEPS = st.one_of(
    st.builds(partial, st.just(answered), st.sampled_from(["invoke", "ainvoke"]), TRIES, SOME),
    st.builds(partial, st.just(given_up), st.sampled_from(["ainvoke", "astream", "unforced"]), WORDS),
    st.builds(partial, st.just(left), SOME),
)


# ------------------------------------------------------------------ what is seen of it


def in_snapshot(environment: StreamingActivityEnvironment) -> list[str]:
    fold = Fold()
    for event in environment.events:
        fold.add(event)
    return [call.text for call in fold.snapshot("", "").calls if call.error is None]


def in_messages(environment: StreamingActivityEnvironment) -> list[str]:
    chunks, found = Chunks(subgraphs=True), dict[str | None, str]()
    for event in environment.events:
        for message, _ in chunks.read(event):
            if isinstance(message, RemoveMessage):
                found.pop(message.id, None)
            else:
                found[message.id] = found.get(message.id, "") + message.text
    return list(found.values())


async def in_run(environment: StreamingActivityEnvironment) -> list[str]:
    async def source() -> Any:
        for event in environment.events:
            yield event
        yield StreamEnded(status="completed")

    async def no_result() -> None:
        raise AssertionError("it is not asked for")

    said = []
    async with WorkflowRun(source(), no_result) as run:
        async for call in run.messages:
            text = ""
            try:
                async for piece in call.text:
                    text += piece
            except CallNotCompleted as end:
                if end.reason != "unfinished":
                    continue
            said.append((call, text))
    return [text for call, text in said if not call.superseded]


@given(st.lists(STEPS, min_size=1, max_size=4), st.booleans(), st.integers(0, 1))
async def test_every_view_shows_what_the_result_says(steps, at_once, failures):
    """Retries, fallbacks, cancelled calls, streams left early: in turn or at once, in any attempt."""
    environment = StreamingActivityEnvironment()

    async def activity() -> list[str]:
        return (
            await asyncio.gather(*(step() for step in steps)) if at_once else [await step() for step in steps]
        )

    async def failing() -> None:
        await activity()
        raise ConnectionError

    for _ in range(failures):
        with pytest.raises(ConnectionError):
            await environment.run(failing)
    result = [text for text in await environment.run(activity) if text]

    ends = [event for event in environment.events if isinstance(event, CallEnded)]
    assert len({(end.origin, end.call.ordinal) for end in ends}) == len(ends)
    for said in (in_snapshot(environment), in_messages(environment), await in_run(environment)):
        assert sorted(text for text in said if text) == sorted(result)
    if not at_once:
        assert environment.text == "".join(result)
