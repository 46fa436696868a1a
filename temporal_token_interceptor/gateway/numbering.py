"""From when the changes of a workflow are numbered: its run's start, by Temporal; see `views.sequence`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from temporal_token_interceptor.errors import TokenStreamError
from temporal_token_interceptor.events import Event
from temporal_token_interceptor.protocol.cursor import Cursor
from temporal_token_interceptor.reader.subscriber import TokenSubscriber
from temporal_token_interceptor.views.projector import Projector

RunStarted = Callable[[str], Awaitable[int | None]]
"""Returns when a run began, in milliseconds since 1970; None where that is not known."""


def run_started(subscriber: TokenSubscriber, workflow_id: str) -> RunStarted:
    """Return what asks Temporal when a run of a workflow began."""

    async def ask(run_id: str) -> int | None:
        try:
            run = await subscriber.describe(workflow_id, run_id)
        except TokenStreamError:
            return None  # numbers count from the first entry then
        return int(run.start_time.timestamp() * 1_000)

    return ask


async def projector_for(event: Event, ask: RunStarted | None) -> Projector:
    """Return the projector of a subscription whose first event this is."""
    if ask is None or not event.cursor:
        return Projector()
    return Projector(run_started=await ask(Cursor.parse(event.cursor).run_id))
