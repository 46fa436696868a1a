"""Streams as `subscribe(on_retry="hold")` yields them, made by chance."""

from random import Random

from temporal_token_interceptor.events import Event, RunContinued, StreamEnded
from temporal_token_interceptor.protocol.cursor import Cursor
from temporal_token_interceptor.reader.hold_policy import Held
from tests.support.projected import a_stream


def a_held_stream(random: Random) -> list[Event]:
    """What `a_stream` is for a reader that holds attempts back; without gaps of the whole stream."""
    held, entry, shown = Held("11111111-first"), "", []
    for event in a_stream(random):
        if isinstance(event, RunContinued | StreamEnded):
            shown += [*held.rest(entry, 2), event]
            held = Held(event.run_id if isinstance(event, RunContinued) else "")
        else:
            entry = Cursor.parse(event.cursor).entry
            shown += held.read(entry, [event])
    return shown
