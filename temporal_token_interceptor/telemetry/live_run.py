"""A model call or a tool run that has started and not ended, as telemetry follows it."""

from __future__ import annotations

import time
from typing import Any

from opentelemetry.trace import Span


class LiveRun:
    """The span of a run, the attributes of its metrics, and what was counted of it."""

    __slots__ = ("attributes", "by_events", "chunks", "last_chunk", "span", "started")

    def __init__(self, span: Span, attributes: dict[str, Any]) -> None:
        self.span = span
        self.attributes = attributes
        self.started = self.last_chunk = time.monotonic()
        self.chunks = 0
        # A model may report its chunks both as v3 events and as tokens: whichever comes first is counted.
        self.by_events: bool | None = None
