"""Tokens published by hand, under a workflow id alone: the verbs of `deepagent-temporal`, over frames.

Code that has a handler of its own keeps working with a changed import, and gains what frames give: order,
no token twice, and a reported gap. What takes more than a workflow id it does not gain: runs, taking back the
text of a failed attempt, the end as Temporal reports it. For those there is the interceptor.

All that is published for a workflow goes to one stream, of the run `published`. Each publisher counts its
own frames for each node and attempt, so that several can write at a time.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from temporal_token_interceptor.errors import ConfigurationError, ProtocolError, TokenStreamError
from temporal_token_interceptor.events import (
    AttemptEnded,
    Call,
    CallEnded,
    CallStarted,
    CustomEvent,
    Event,
    Frame,
    Gap,
    Origin,
    Record,
    TextRun,
    TokenEvent,
)
from temporal_token_interceptor.protocol.attempts import Attempts
from temporal_token_interceptor.protocol.frames import decode, encode
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.transport.base import TokenSink, TokenSource, hurry

logger = logging.getLogger(__name__)

_RUN = "published"

# The names of custom events that carry what is no token.
_MAPPING, _COMPLETE = "published", "stream_complete"

# How long a transport that is away may hold up the publishing code, in seconds.
_PATIENCE = 5.0

# Frames from one header to the next: a reader of a stream that was trimmed begins there.
_HEADER_EVERY = 64

_WORKFLOWS = 1_024  # that a publisher remembers; of others it begins again, as another attempt


class _Part:
    """What this publisher has sent for one node, in one attempt."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.frames = 0
        self.is_cut = False  # a frame was lost: the next one has a header again
        self.call: Call | None = None
        self.calls = 0


class HandPublisher:
    """Writes tokens under a workflow id. A transport that is away costs a log line, never an exception.

    Args:
        sink: Where to.

    Raises:
        ConfigurationError: from each verb, for a workflow id that is no string.
    """

    def __init__(self, sink: TokenSink) -> None:
        self._sink = sink
        self._parts: OrderedDict[str, dict[tuple[str, int], _Part]] = OrderedDict()
        self._warned = False

    async def publish(self, workflow_id: str, event: TokenEvent | Mapping[str, Any]) -> None:
        """Store a token, or a mapping of what else viewers are to see; return once stored, or given up."""
        if isinstance(event, TokenEvent):
            part = self._of(workflow_id, event.node_name, event.attempt)
            await self._send(part, _records(part, event))
        else:
            part = self._of(workflow_id, "", 1)
            await self._send(part, [CustomEvent(name=_MAPPING, data=dict(event))])

    async def complete(self, workflow_id: str) -> None:
        """Store the end of the stream."""
        ended = AttemptEnded(outcome="completed_provisional")
        last = self._of(workflow_id, "", 1)
        for part in list(self._parts[workflow_id].values()):
            if part is not last:
                await self._send(part, [ended])
        await self._send(last, [ended, CustomEvent(name=_COMPLETE)])
        self.forget(workflow_id)

    def forget(self, workflow_id: str) -> None:
        """Begin again with the workflow's next token."""
        self._parts.pop(workflow_id, None)

    def _of(self, workflow_id: str, node_name: str, attempt: int) -> _Part:
        stream = hand_stream(workflow_id)
        nodes = self._parts.setdefault(workflow_id, {})
        self._parts.move_to_end(workflow_id)
        if len(self._parts) > _WORKFLOWS:
            self._parts.popitem(last=False)
        part = nodes.get((node_name, attempt))
        if part is None:
            unique = uuid.uuid4().hex
            part = nodes[node_name, attempt] = _Part(
                Origin(
                    **stream._asdict(),
                    activity_id=f"{node_name}:{unique[:8]}",
                    activity_type=node_name,
                    attempt=attempt,
                    attempt_id=unique[:16],
                    started_time=datetime.now(UTC),
                )
            )
        return part

    async def _send(self, part: _Part, records: list[Record]) -> None:
        # Numbered before the first await: tasks that were started in order publish in order.
        header = part.is_cut or part.frames % _HEADER_EVERY == 0
        frame = Frame(
            part.origin,
            part.frames,
            tuple(records),
            header=header,
            open_calls=(part.call,) if header and part.call and part.frames else (),
        )
        part.frames += 1
        part.is_cut = False
        stream = StreamKey.of(part.origin)
        if header:
            self._sink.keep(stream)
        hurry(self._sink, stream)
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._sink.write(stream, encode(frame))
        except (TokenStreamError, TimeoutError) as error:
            if not self._warned:
                logger.warning(
                    "a frame published for workflow %r is lost (%s); logged once until one is stored",
                    part.origin.workflow_id,
                    type(error).__name__,
                )
            self._warned = part.is_cut = True
        else:
            self._warned = False


def _records(part: _Part, event: TokenEvent) -> list[Record]:
    """Return what a token adds. A call begins with the index 0, and ends with the token that is final."""
    records: list[Record] = []
    if part.call is None or (event.index == 0 and event.token):
        part.call = Call(ordinal=part.calls, node_name=event.node_name)
        part.calls += 1
        records.append(CallStarted(call=part.call))
    if event.token:
        records.append(TextRun("text", part.call.ordinal, event.index, [event.token], 1))
    if event.is_final:
        records.append(CallEnded(call=part.call))
        part.call = None
    return records


def hand_stream(workflow_id: str) -> StreamKey:
    """Return the stream of all that is published for a workflow.

    Raises:
        ConfigurationError: the id is no string; a transport that cannot name a stream would try without end.
    """
    if not isinstance(workflow_id, str):
        raise ConfigurationError(
            f"workflow_id must be a string, such as str(workflow_id), not {type(workflow_id).__name__}"
        )
    return StreamKey("default", workflow_id, _RUN)


async def published(source: TokenSource, stream: StreamKey, after: str) -> AsyncGenerator[dict[str, str]]:
    """Iterate over what was published for a workflow, as flat mappings, up to its end.

    Args:
        source: Where from.
        stream: The workflow's, by `hand_stream`; nothing need have been published yet.
        after: An entry's id: only what came after it.
    """
    attempts = Attempts(_RUN, fencing=False)
    next_indexes: dict[tuple[str, int], int] = {}
    async with aclosing(source.read(stream)) as batches:
        async for batch in batches:
            for entry in batch:
                try:
                    events = attempts.read(entry.id, decode(entry.data))
                except ProtocolError as error:
                    logger.warning("skipping an entry of workflow %r: %s", stream.workflow_id, error)
                    continue
                for event in events:
                    flat = _flat(event, next_indexes)
                    if entry.id <= after:
                        continue
                    if isinstance(event, CustomEvent) and event.name == _COMPLETE:
                        return
                    if flat is not None:
                        yield flat


def _flat(event: Event, next_indexes: dict[tuple[str, int], int]) -> dict[str, str] | None:
    """Return an event as `deepagent-temporal` sends it: all strings, as Redis gives them back."""
    match event:
        case TokenEvent():
            next_indexes[event.origin.attempt_id, event.call.ordinal] = event.index + 1
            token = event
        case CallEnded(call=call, origin=origin):
            index = next_indexes.pop((origin.attempt_id, call.ordinal), 0)
            token = TokenEvent("", call.node_name, index, is_final=True, attempt=origin.attempt)
        case CustomEvent(data=data) if isinstance(data, dict):
            return _texts(data)
        case Gap(missing=missing, reason=reason):
            return {"type": "gap", "missing": "" if missing is None else str(missing), "reason": reason}
        case _:
            return None
    return _texts(token.to_dict())


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items()}
