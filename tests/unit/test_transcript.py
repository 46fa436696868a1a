"""What `tti tail` shows: blocks that grow, are final, or taken back; nothing that a terminal obeys."""

from dataclasses import replace

import pytest
from rich.console import Console

from temporal_token_interceptor.cli.tail import drawn, printable
from temporal_token_interceptor.cli.transcript import State, Transcript
from temporal_token_interceptor.events import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallStarted,
    Gap,
    StreamEnded,
    TokenEvent,
    ToolCallChunk,
)
from tests.support.frames import a_call, an_origin

FIRST, CALL = an_origin(), a_call(id="1:0")
SECOND = replace(FIRST, attempt=2, attempt_id="bb", started_time=FIRST.started_time.replace(hour=13))


def said(token, origin=FIRST):
    return TokenEvent(token, "answer", 0, call=CALL, origin=origin, attempt=origin.attempt)


def transcript_of(*events):
    transcript = Transcript()
    for event in events:
        transcript.add(event)
    return transcript


def test_text_of_an_attempt_that_may_be_retried_is_not_final():
    """Text that scrolls away cannot be struck out, so it stays until its attempt has succeeded."""
    events = [AttemptStarted(origin=FIRST), CallStarted(call=CALL, origin=FIRST), said("Hel"), said("lo")]

    transcript = transcript_of(*events, CallEnded(call=CALL, origin=FIRST))
    assert list(transcript.final()) == []

    transcript.add(AttemptEnded(outcome="completed_provisional", origin=FIRST))
    assert [(block.text, block.state) for block in transcript.final()] == [("Hello", State.DONE)]
    assert transcript.pending == ()


def test_a_retry_takes_text_back():
    transcript = transcript_of(
        AttemptStarted(origin=FIRST), said("half"), AttemptStarted(origin=SECOND, supersedes=FIRST)
    )

    old, note = list(transcript.final())
    assert (old.text, old.state) == ("half", State.TAKEN_BACK)
    assert "taken back" in note.text

    transcript.add(said("whole", SECOND))
    [new] = transcript.pending
    assert (new.title, new.text, new.state) == ("answer (attempt 2)", "whole", State.OPEN)


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (Gap(missing=3, reason="trimmed"), "gap: 3"),
        (Gap(missing=None, reason="lost"), "unknown number"),
        (StreamEnded(status="failed"), "workflow failed"),
    ],
)
def test_what_is_missing_and_how_it_ended_is_shown(event, words):
    [line] = transcript_of(event).final()

    assert words in line.text


def test_a_failed_attempt_waits_for_its_retry():
    transcript = transcript_of(
        AttemptStarted(origin=FIRST),
        said("half"),
        CallEnded(call=CALL, origin=FIRST, error="RateLimitError"),
        AttemptEnded(outcome="failed", will_retry=True, origin=FIRST),
    )

    assert transcript.pending[0].text == "half"
    assert list(transcript.final()) == []


def test_fragments_of_a_tool_call_are_joined():
    parts = [("search", '{"q":'), (None, '"x"}')]
    transcript = transcript_of(
        *(
            ToolCallChunk(index=0, id="c", name=name, args=args, call=CALL, origin=FIRST)
            for name, args in parts
        )
    )

    [block] = transcript.rest()
    assert [(written.name, written.args) for written in block.tools.written] == [("search", '{"q":"x"}')]


@pytest.mark.parametrize("hostile", ["\x1b[2J", "\x07", "\r", "\u202e", "\x9b31m", "\x00"])
def test_a_models_words_cannot_control_the_terminal(hostile):
    """A model that was tricked into writing escape codes writes question marks."""
    console = Console(width=80, force_terminal=True, record=True, file=None)
    transcript = transcript_of(said(f"a{hostile}b[bold]c"))
    with console.capture() as shown:
        console.print(drawn(transcript.pending[0]), end="")

    assert printable(hostile) != hostile
    assert hostile not in shown.get()
    assert "[bold]c" in shown.get()


def test_a_call_of_a_child_workflow_names_it():
    """With `--follow-children` several workflows speak: a child's text stands under its id."""
    [block] = transcript_of(said("hi", replace(FIRST, parent="root"))).pending

    assert block.title == f"{FIRST.workflow_id}: answer"
