"""What must not leave early: calls that are held until they have ended, and text that is changed first."""

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessageChunk

from temporal_token_interceptor import CallEnded, CallStarted, Gap, ReasoningEvent, TokenEvent, ToolCallChunk
from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.capture.buffer import Buffer
from temporal_token_interceptor.capture.call_gate import CallGate
from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.events import Call, TextRun
from temporal_token_interceptor.testing import ScriptedChatModel, StreamingActivityEnvironment
from temporal_token_interceptor.worker.options import StreamingOptions
from tests.unit.test_final_message import of_kind

CALL = Call(ordinal=0, node_name="draft", tags=("public",), path=("outer",))
PLENTY = 10**7
ALL = 10**9


class Doubling:
    """Says each letter twice, one piece later; the rest at the end."""

    def __init__(self) -> None:
        self.waiting = ""

    def feed(self, text: str) -> str:
        sent, self.waiting = self.waiting, text
        return sent * 2

    def flush(self) -> str:
        return self.waiting * 2


class Failing:
    """Passes pieces on until one that it cannot bear."""

    def __init__(self, at: str) -> None:
        self.at = at

    def feed(self, text: str) -> str:
        if text == self.at:
            raise ValueError(f"secret {text}")
        return text

    def flush(self) -> Any:
        return None if self.at == "end" else ""


def texts(records: Any, kind: str = "text") -> str:
    return "".join(t for r in records if isinstance(r, TextRun) and r.kind == kind for t in r.texts)


@given(
    st.lists(st.tuples(st.sampled_from(["text", "reasoning"]), st.text(min_size=1, max_size=5)), max_size=30),
    st.booleans(),
    st.booleans(),
)
def test_what_leaves_is_what_the_transform_returns_and_when_the_call_may(pieces, held, changed):
    """Of each kind, whatever the pieces; held or not; numbered from 0 without holes."""
    buffer = Buffer(Budget(PLENTY), lambda: None)
    gate = CallGate(buffer, hold=held, transform=(lambda call: Doubling()) if changed else None)

    gate.put(CallStarted(call=CALL), CALL)
    for kind, text in pieces:
        gate.put_text(CALL, kind, 99, text)
    early = buffer.take(ALL)
    gate.put(CallEnded(call=CALL, additional_kwargs={"own": 1}), CALL)
    records = [*early, *buffer.take(ALL)]

    assert not held or early == (CallStarted(call=CALL),)
    for name in ("text", "reasoning"):
        said = [text for kind, text in pieces if kind == name]
        assert texts(records, name) == "".join(text * 2 if changed else text for text in said)
        runs = [record for record in records if isinstance(record, TextRun) and record.kind == name]
        if held or changed:
            assert [run.first_index for run in runs] == [
                sum(run.count for run in runs[:place]) for place in range(len(runs))
            ]
    assert records[-1] == CallEnded(call=CALL, additional_kwargs=None if changed else {"own": 1})
    buffer.close()
    assert buffer._budget.leased == 0


@pytest.mark.parametrize(
    ("hold", "held"),
    [
        (True, True),
        (["draft"], True),
        (["public"], True),
        (["outer"], True),
        (["other"], False),
        (False, False),
    ],
)
def test_calls_are_held_by_tag_by_node_or_all(hold, held):
    buffer = Buffer(Budget(PLENTY), lambda: None)
    gate = CallGate(buffer, hold=hold, transform=None)

    gate.put(CallStarted(call=CALL), CALL)
    gate.put_text(CALL, "text", 0, "x")

    assert texts(buffer.take(ALL)) == ("" if held else "x")


@pytest.mark.parametrize("facts", [{"error": "ValueError"}, {"unfinished": True}])
def test_nothing_leaves_of_a_held_call_that_failed(facts):
    """A guard that raises within the call has kept its text back; nothing is missing: it does not stand."""
    budget = Budget(PLENTY)
    buffer = Buffer(budget, lambda: None)
    gate = CallGate(buffer, hold=True, transform=None)

    gate.put(CallStarted(call=CALL), CALL)
    gate.put_text(CALL, "text", 0, "x")
    gate.put(ToolCallChunk(index=0, id="1", name="n", args="{}", call=CALL), CALL)
    gate.put(CallEnded(call=CALL, additional_kwargs={"refusal": "x"}, **facts), CALL)

    assert buffer.take(ALL) == (CallStarted(call=CALL), CallEnded(call=CALL, **facts))


def test_what_is_held_counts_against_the_budget():
    """And what does not fit is a gap, once the call has ended."""
    budget = Budget(40_000)
    buffer = Buffer(budget, lambda: None)
    gate = CallGate(buffer, hold=True, transform=None)

    gate.put(CallStarted(call=CALL), CALL)
    for index in range(1_000):
        gate.put_text(CALL, "text", index, "x" * 100)
        assert budget.leased <= 40_000
    gate.put(CallEnded(call=CALL), CALL)
    records = buffer.take(ALL)

    (gap,) = [record for record in records if isinstance(record, Gap)]
    assert len(texts(records)) // 100 + (gap.missing or 0) == 1_000
    assert gap.missing
    buffer.close()
    assert budget.leased == 0


@given(st.lists(st.sampled_from("abc"), max_size=12), st.booleans(), st.sampled_from("abc"))
def test_a_transform_that_fails_leaks_nothing_more(pieces, held, at):
    """What it had let through has left; the rest is withheld, and counted."""
    buffer = Buffer(Budget(PLENTY), lambda: None)
    gate = CallGate(buffer, hold=held, transform=lambda call: Failing(at))

    gate.put(CallStarted(call=CALL), CALL)
    for piece in pieces:
        gate.put_text(CALL, "text", 0, piece)
    gate.put(CallEnded(call=CALL), CALL)
    records = buffer.take(ALL)

    before = pieces[: pieces.index(at)] if at in pieces else pieces
    gaps = [(record.missing, record.reason) for record in records if isinstance(record, Gap)]
    assert texts(records) == "".join(before)
    assert gaps == ([(len(pieces) - len(before), "withheld")] if at in pieces else [])


@pytest.mark.parametrize("at", ["make", "feed", "end", "no text"])
async def test_a_failing_transform_is_a_gap_and_a_log_line_without_content(at, caplog):
    """The activity goes on; neither the text nor the error's text is in the log."""

    def make(call: Call) -> Any:
        if at == "make":
            raise ValueError("secret")
        transform = Failing({"feed": "x", "end": "end"}.get(at, ""))
        if at == "no text":
            transform.feed = lambda text: b"secret"  # type: ignore[method-assign, assignment, return-value]
        return transform

    environment = StreamingActivityEnvironment(transform=make)

    async def activity() -> str:
        return (await ScriptedChatModel.saying("x", "y").ainvoke("?")).text

    with caplog.at_level(logging.WARNING):
        assert await environment.run(activity) == "xy"

    assert environment.text == ("xy" if at == "end" else "")
    assert [gap.reason for gap in of_kind(environment, Gap)] == ["withheld"]
    assert "the transform of a call's text failed" in caplog.text
    assert "secret" not in caplog.text


async def test_a_transform_may_leave_a_call_alone_and_sees_answer_and_reasoning_apart():
    environment = StreamingActivityEnvironment(
        transform=lambda call: Doubling() if "private" in call.tags else None
    )
    chunk = AIMessageChunk([{"type": "reasoning", "reasoning": "r"}])

    async def activity() -> None:
        await ScriptedChatModel.saying(chunk, "a").ainvoke("?", {"tags": ["private"]})
        await ScriptedChatModel.saying("b").ainvoke("?")

    await environment.run(activity)

    assert "".join(event.token for event in of_kind(environment, TokenEvent)) == "aab"
    assert "".join(event.token for event in of_kind(environment, ReasoningEvent)) == "rr"
    assert of_kind(environment, Gap) == []


async def test_a_name_to_hold_that_matches_nothing_is_logged(caplog):
    """A typo would let out what must not leave."""
    environment = StreamingActivityEnvironment(hold_calls=["activty"])

    async def activity() -> None:
        await ScriptedChatModel.saying("x").ainvoke("?")

    with caplog.at_level(logging.WARNING):
        await environment.run(activity)

    assert "the filters name activty" in caplog.text
    assert "did you mean activity?" in caplog.text


@pytest.mark.parametrize("options", [{"hold_calls": "draft"}, {"transform": "upper"}])
def test_what_cannot_be_used_is_an_error_at_once(options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        StreamingOptions(**options)
