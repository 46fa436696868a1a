"""What stands of a run at present, read once: what `GET .../snapshot` answers."""

from __future__ import annotations

from contextlib import aclosing

from temporal_token_interceptor.gateway.access import Target
from temporal_token_interceptor.protocol.cursor import Cursor
from temporal_token_interceptor.reader.request import OnRetry
from temporal_token_interceptor.reader.subscriber import TokenSubscriber
from temporal_token_interceptor.views.changes import View
from temporal_token_interceptor.views.projector import Projector


async def current_state(subscriber: TokenSubscriber, target: Target, on_retry: OnRetry) -> tuple[View, str]:
    """Return the state of a run, and the cursor that resumes right after it; it waits for nothing to come.

    Raises:
        StreamNotFound: no such workflow or run.
        TransportUnavailable: Redis or Temporal was away for longer than the subscriber's patience.
        CodecMismatch: frames are sealed, and the client's codec cannot open them.
    """
    run = await subscriber.describe(target.workflow_id, target.run_id)
    projector, cursor = Projector(), str(Cursor(run.run_id))
    read = subscriber.events_so_far if run.status is None else subscriber.subscribe  # which has the end, too
    async with aclosing(read(target.workflow_id, run.run_id, on_retry=on_retry)) as events:
        async for event in events:
            if projector.read(event):
                cursor = event.cursor  # of one that changes nothing, no other process has the place
    return projector.view, cursor
