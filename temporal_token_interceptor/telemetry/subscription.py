"""What a reader measures: a `receive` span a subscription, linked to writers' traces; delays and gaps."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import get_args

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind

from temporal_token_interceptor.events import AttemptStarted, Event, Gap, GapReason, Origin, TokenEvent
from temporal_token_interceptor.protocol.frames import Packet
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.telemetry import names
from temporal_token_interceptor.telemetry.instruments import (
    PROPAGATOR,
    Instruments,
    destination,
    fail,
    live_instruments,
    live_tracer,
    system_of,
)

_MOST_LINKS = 128  # of a span: the default of the SDK


class SubscriptionTelemetry:
    """What one subscription reports, from its first event asked for to its end.

    Args:
        stream: What it reads, by namespace and workflow.
        system: The transport.
        tracer: For its `receive` span; None for no span.
        instruments: For metrics; None for none.
    """

    def __init__(
        self, stream: str, system: str, tracer: trace.Tracer | None, instruments: Instruments | None
    ) -> None:
        self._stream = stream
        self._system = system
        self._tracer = tracer
        self._instruments = instruments
        self._span: trace.Span = trace.INVALID_SPAN
        self._began = 0
        self._frames = 0
        self._linked: set[str] = set()
        self._tokens: Counter[str] = Counter()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Report what is read within. Leaving a subscription early is no error."""
        self._began = time.time_ns() // 1_000
        if self._tracer is not None:
            attributes = destination("receive", self._system, self._stream)
            self._span = self._tracer.start_span(
                names.RECEIVE.name, kind=SpanKind.CLIENT, attributes=attributes
            )
        try:
            yield
        except Exception as error:
            fail(self._span, type(error).__name__)
            raise
        finally:
            self._span.set_attribute(names.MESSAGE_COUNT, self._frames)
            self._span.end()

    def skimmed(self, count: int) -> None:
        """Note frames without a header that were read before the cursor."""
        self._frames += count

    def packet(self, packet: Packet) -> None:
        """Note a frame that was read."""
        self._frames += 1
        if (
            packet.traceparent is not None
            and packet.traceparent not in self._linked
            and len(self._linked) < _MOST_LINKS
        ):
            self._linked.add(packet.traceparent)
            context = PROPAGATOR.extract({"traceparent": packet.traceparent}, Context())
            writer = trace.get_current_span(context).get_span_context()
            if writer.is_valid:
                self._span.add_link(writer)
        since = packet.waiting_since
        if self._instruments is not None and since is not None and since >= self._began:
            delay = max(0, time.time_ns() // 1_000 - since) / 1e6
            self._instruments[names.DELIVERY_DELAY](delay, {names.SYSTEM: self._system})

    def events(self, events: Sequence[Event]) -> None:
        """Note events that are delivered to the user."""
        if self._instruments is None:
            return
        for event in events:
            match event:
                case TokenEvent():
                    self._tokens[event.origin.attempt_id] += 1
                case Gap():
                    self._instruments[names.READER_GAPS](1, {names.GAP_REASON: _known(event.reason)})
                case AttemptStarted(supersedes=Origin(attempt_id=superseded)):
                    if taken_back := self._tokens.pop(superseded, 0):
                        self._instruments[names.READER_TOKENS_SUPERSEDED](taken_back)
                case _:
                    pass


def _known(reason: str) -> str:
    """Return the reason, or `other`: a writer's own words would make a series each."""
    return reason if reason in get_args(GapReason) else "other"


def subscription_telemetry(namespace: str, workflow_id: str, source: object) -> SubscriptionTelemetry | None:
    """Return what a subscription reports to; None without an OpenTelemetry SDK."""
    tracer, instruments = live_tracer(), live_instruments()
    if tracer is None and instruments is None:
        return None
    stream = StreamKey(namespace, workflow_id, "").workflow
    return SubscriptionTelemetry(stream, system_of(source), tracer, instruments)
