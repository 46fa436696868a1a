"""Events as of `astream_events(version="v2")`: calls that begin, or are taken back, without a word."""

from typing import Any

import pytest

from temporal_token_interceptor.events import (
    AttemptStarted,
    CallEnded,
    CallStarted,
    Event,
    NodeStarted,
    StreamEnded,
    TokenEvent,
)
from temporal_token_interceptor.protocol.cursor import Cursor
from temporal_token_interceptor.views.standard_events import Filter, standard_events
from tests.support.frames import a_call, an_origin

FIRST, SECOND = an_origin(attempt=1, attempt_id="a1"), an_origin(attempt=2, attempt_id="a2", started=5)


def at(place: int) -> dict[str, str]:
    return {"cursor": str(Cursor(FIRST.run_id, f"{place:03d}"))}


async def shaped(
    events: list[Event], cursor: str | None = None, stored: list[Event] | None = None
) -> list[Any]:
    """What a subscription that yields these events becomes; `stored` is what its run has said so far."""

    async def yielded(some: list[Event]) -> Any:
        for event in some:
            yield event

    async def past(_: Any) -> Any:
        yield stored or []

    ended = yielded([*events, StreamEnded(status="completed")])
    return [event async for event in standard_events(ended, past, shown=Filter(), cursor=cursor)]


CALL = a_call(run_id="run-1", node_run_id="n-1")
BEGUN: list[Event] = [
    AttemptStarted(origin=FIRST, **at(0)),
    NodeStarted(node_name="answer", run_id="n-1", origin=FIRST, **at(1)),
    CallStarted(call=CALL, origin=FIRST, **at(2)),
]
SAID: list[Event] = [
    TokenEvent(text, "answer", place, call=CALL, origin=FIRST, **at(3 + place))
    for place, text in enumerate(("It ", "is"))
]
ENDED = CallEnded(call=CALL, origin=FIRST, **at(5))


async def test_a_call_begins_when_it_does_and_not_with_its_first_word():
    assert [(event["event"], event["metadata"].get("cursor")) for event in await shaped(BEGUN)] == [
        ("on_chain_start", at(1)["cursor"]),
        ("on_chat_model_start", at(2)["cursor"]),
    ]


async def test_a_call_that_a_retry_replaces_before_its_first_word_is_taken_back():
    retry = AttemptStarted(origin=SECOND, supersedes=FIRST, **at(9))

    *_, removed = await shaped([*BEGUN, retry])

    assert (removed["event"], removed["run_id"]) == ("on_chat_model_removed", "run-1")
    assert removed["data"] == {"message_id": "lc_run--run-1", "reason": "superseded"}
    assert [event["event"] for event in await shaped([*BEGUN, *SAID, retry])].count(
        "on_chat_model_removed"
    ) == 1


@pytest.mark.parametrize("place", range(1, 5))
async def test_a_reader_that_resumes_within_a_call_ends_with_the_whole_message(place):
    """Nodes around are known, too. Where the past is not stored any more, the call begins again."""
    whole = [*BEGUN, *SAID, ENDED]
    rest, cursor = whole[place + 1 :], at(place)["cursor"]

    resumed = await shaped(rest, cursor, whole)
    lost = await shaped(rest, cursor, [])

    there = await shaped(whole)
    assert [str(event) for event in resumed] == [str(event) for event in there[-len(resumed) :]]
    assert resumed[-1]["data"]["output"].text == "It is"
    assert resumed[-1]["parent_ids"] == ["n-1"]
    assert lost[0]["event"] == "on_chat_model_start"
