"""Where to look when nothing comes: logged once an activity has completed without a stream.

A workflow without models looks the same as a worker that is set up wrongly. An activity that completed on a
worker makes the difference: before it there was nothing to stream, and a workflow that has only child
workflows has nothing to stream at all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from itertools import chain, repeat

from temporal_token_interceptor.errors import TokenStreamError
from temporal_token_interceptor.reader.run_stream import RunStream
from temporal_token_interceptor.reader.temporal.workflow_end import Completion

logger = logging.getLogger(__name__)

# Seconds of silence before each look at the history: a read of one page or more.
_FIRST_PAUSES = (5.0, 10.0, 20.0, 40.0)
_LONGEST_PAUSE = 60.0


class SilenceHint:
    """Logs, once, that an activity completed and nothing of it was streamed.

    Args:
        workflows: Asks Temporal; None: nothing can be known, and nothing is logged.
        has_transport: Whether the reader has one: it decides where to look.
    """

    def __init__(self, workflows: Completion | None, *, has_transport: bool) -> None:
        self._workflows = workflows
        self._has_transport = has_transport
        self._is_logged = False

    async def watch(self, stream: RunStream, workflow_id: str, run_id: str) -> None:
        """Look again and again while nothing comes of a run; return once something does. Never raises."""
        for pause in _pauses():
            await asyncio.sleep(pause)
            if self._is_logged or not stream.is_silent:
                return
            await self.look(workflow_id, run_id)

    async def look(self, workflow_id: str, run_id: str) -> None:
        """Log where to look, if an activity of this silent run has completed."""
        if self._is_logged or self._workflows is None:
            return
        try:
            activity_type = await self._workflows.completed_activity(workflow_id, run_id)
        except TokenStreamError:  # Temporal is away, or forgot the run: the reader itself says so
            return
        if activity_type is None or self._is_logged:
            return
        self._is_logged = True
        logger.warning(
            "activity %r of workflow %r completed and none of its activities streamed so far; if they "
            "call models: %s See docs/nothing-comes.md (logged once)",
            activity_type,
            workflow_id,
            "has its worker a TokenStreamingInterceptor, with this reader's Redis and channel_prefix?"
            if self._has_transport
            else "do their results have a field custom_data (docs/durable.md)?",
        )


def _pauses() -> Iterator[float]:
    return chain(_FIRST_PAUSES, repeat(_LONGEST_PAUSE))
