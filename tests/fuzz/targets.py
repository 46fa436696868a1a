"""Where hostile inputs go in: each target takes one, and may raise nothing but what it says.

A target raises `AssertionError` where something foreign came out; `run` says which input did it.
"""

import asyncio
import gc
import json
import time
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, NamedTuple

from starlette.requests import Request
from temporalio.api.common.v1 import Payload
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.converter import DataConverter, PayloadCodec

from temporal_token_interceptor.encryption import SEALED, FrameCodec
from temporal_token_interceptor.errors import (
    CodecMismatch,
    InvalidCursor,
    ProtocolError,
    TokensMissing,
    WorkflowNotCompleted,
)
from temporal_token_interceptor.events import Event, StreamEnded
from temporal_token_interceptor.gateway.encoder import NativeEvents
from temporal_token_interceptor.gateway.replay import Replay
from temporal_token_interceptor.protocol.cursor import MAX_CURSOR, Cursor
from temporal_token_interceptor.protocol.frames import decode
from temporal_token_interceptor.protocol.positions import key_of, name_in, packed, short_form, unpacked
from temporal_token_interceptor.protocol.result_items import counts_in, frames_in, summary_events
from temporal_token_interceptor.reader.entry_cache import EntryCache
from temporal_token_interceptor.reader.entry_decoder import EntryDecoder
from temporal_token_interceptor.reader.live_mark import started_time_in
from temporal_token_interceptor.reader.position import ReadPosition
from temporal_token_interceptor.reader.request import OnRetry
from temporal_token_interceptor.reader.statistics import ReaderStatistics
from temporal_token_interceptor.reader.temporal.heartbeats import RunHeartbeats
from temporal_token_interceptor.transport.base import Entry
from temporal_token_interceptor.transport.heartbeat import attempts_in
from temporal_token_interceptor.transport.redis.connection import stored_time
from temporal_token_interceptor.views.langgraph_messages import Chunks
from temporal_token_interceptor.views.snapshot_fold import Fold
from temporal_token_interceptor.views.workflow_run import WorkflowRun
from tests.fuzz.mutations import STREAM, Mutations, entries

POLICIES: tuple[OnRetry, ...] = ("reset", "hold", "annotate")
ROAD = 24
"""Entries of one stream: some as they were written, the others changed."""

ATTEMPT = 5
"""The first so many seeds are the frames of one attempt."""


class Report(NamedTuple):
    """What a run met.

    Attributes:
        inputs: How many there were.
        seconds: The CPU of this thread that the slowest took: an input, or a road of them through all views.
        events: How many events came out.
        refused: How many inputs were refused, as they should be.
    """

    inputs: int
    seconds: float
    events: int
    refused: int


class _Xor(PayloadCodec):
    """A codec that anybody can undo: what matters here is what it is given."""

    async def encode(self, payloads: Any) -> list[Payload]:
        return [
            Payload(metadata={"encoding": b"xor"}, data=bytes(b ^ 7 for b in payload.SerializeToString()))
            for payload in payloads
        ]

    async def decode(self, payloads: Any) -> list[Payload]:
        return [Payload.FromString(bytes(b ^ 7 for b in payload.data)) for payload in payloads]


def _nothing(*_: Any, **__: Any) -> None:
    """Be asked, and do nothing."""


class Fuzz:
    """Runs inputs from a seed.

    Args:
        seed: Any number; the same gives the same inputs.
    """

    def __init__(self, seed: int) -> None:
        self.mutations = Mutations(seed)
        self.seeds = entries()
        self.events = 0
        self.refused = 0
        self.slowest = 0.0
        self._shown: list[Event] = []  # by the gateway
        self._loop = asyncio.new_event_loop()
        converter = DataConverter(payload_codec=_Xor())
        self._codec = FrameCodec(converter, STREAM)
        self._sealed = [self._await(self._codec.seal(data)) for data in self.seeds if data.startswith(b"{")]

    def run(self, inputs: int) -> Report:
        """Run so many inputs, each target in its turn."""
        done = 0
        targets: tuple[Callable[[], int], ...] = (
            self.one_entry,
            self.road,
            self.cursor,
            self.result,
            self.sealed_road,
            self.heartbeat,
            self.many_cursor,
            self.gateway_cursor,
        )
        gc.freeze()  # a collection that walks the heap of all other tests is not the cost of an input
        try:
            while done < inputs:
                for target in targets:
                    begun = time.thread_time()
                    count = target()
                    self.slowest = max(self.slowest, time.thread_time() - begun)
                    done += count
        finally:
            gc.unfreeze()
            self._loop.close()
        return Report(done, self.slowest, self.events, self.refused)

    def _await(self, asking: Any) -> Any:
        return self._loop.run_until_complete(asking)

    # ------------------------------------------------------------------ the targets

    def one_entry(self) -> int:
        """An entry alone: a frame, or a `ProtocolError` whose text is short."""
        data = self.mutations.entry(self.mutations.random.choice(self.seeds))
        try:
            decode(data, STREAM)
        except ProtocolError as error:
            assert len(str(error)) < 300
            self.refused += 1
        return 1

    def road(self) -> int:
        """A stream of entries, by each policy, through all views; again from a cursor within it."""
        random = self.mutations.random
        stored = [
            Entry(f"{1_796_000_000_000 + place:015d}-{0:010d}", data)
            for place, data in enumerate(self._stream_of(self.seeds))
        ]
        cache = EntryCache(STREAM, FrameCodec(None, STREAM))
        cache.readers = random.choice((1, 2))
        events = self._read(cache, stored, random.choice(POLICIES), None)
        self._show(events)
        if events:
            place = Cursor.parse(random.choice(events).cursor)
            self._read(cache, stored, random.choice(POLICIES), place)
        return ROAD

    def sealed_road(self) -> int:
        """The same where frames are sealed."""
        stored = [Entry(f"{place:015d}", data) for place, data in enumerate(self._stream_of(self._sealed))]
        cache = EntryCache(STREAM, self._codec, accepts_plain=self.mutations.random.random() < 0.5)
        with suppress(CodecMismatch):
            self._show(self._read(cache, stored, "reset", None))
        return ROAD

    def cursor(self) -> int:
        """A cursor that somebody has edited: a place, or `InvalidCursor`."""
        entry = self.mutations.random.choice(("", "h000000000000007-0000", "0017-00.h000000000000007-0000"))
        text = self.mutations.text(str(Cursor(STREAM.run_id, entry, 2)))
        try:
            place = Cursor.parse(text)
        except InvalidCursor as error:
            assert len(str(error)) < 2_000
            self.refused += 1
        else:
            assert len(text) <= MAX_CURSOR
            where = ReadPosition(STREAM.run_id, place)
            assert Cursor.parse(where.start) == place
            with suppress(InvalidCursor):
                stored_time(place.transport or "0-0")
        return 1

    def result(self) -> int:
        """A result of an activity: what is in its `custom_data`, item by item."""
        frames = [json.loads(data) for data in self.seeds[:5]]
        counts = {"attempt_id": "a", "started_time": 1_767_323_045_000_006, "token_count": 3}
        items = [{"token_stream": {"frames": frames}}, {"token_stream": counts}, {"other": 1}]
        value = self.mutations.json({"text": "an answer", "custom_data": items})
        for frame in frames_in(value):
            with suppress(ProtocolError):
                decode(frame, STREAM)
        for counted in counts_in(value):
            assert counted.token_count >= 0
        found = value.get("custom_data") if isinstance(value, dict) else None
        for item in found if isinstance(found, list) else [value]:
            self._show(summary_events(item))
        return 1

    def heartbeat(self) -> int:
        """The last detail of an activity's heartbeat, as its reader and its retry find it."""
        random = self.mutations.random
        frames = [json.loads(data) for data in random.sample(self.seeds[:ATTEMPT], ATTEMPT)]
        frames = [frames[0], *frames] if random.random() < 0.5 else frames
        value = self.mutations.json({"token_stream_live": frames})
        for frame in attempts_in([value], STREAM.run_id, "1"):
            assert frame.origin.run_id == STREAM.run_id
        pending = PendingActivityInfo(activity_id="1")
        pending.heartbeat_details.payloads.append(
            Payload(metadata={"encoding": b"json/plain"}, data=json.dumps(value).encode())
        )
        client: Any = SimpleNamespace(get_workflow_handle=_nothing, data_converter=DataConverter.default)
        unasked: Any = None
        batches = self._await(RunHeartbeats(client, unasked, STREAM)._new([pending]))
        cache = EntryCache(STREAM, FrameCodec(None, STREAM))
        where, statistics = ReadPosition(STREAM.run_id, None), ReaderStatistics()
        decoder = EntryDecoder(STREAM, where, statistics, on_retry=random.choice(POLICIES))
        events: list[Event] = []
        for batch in batches:
            events += decoder.read(where.live, batch, cache.from_history(batch))
        for event in events:
            assert started_time_in(Cursor.parse(event.cursor).live).year >= 1970
        self._show(events)
        self.events += len(events)
        self.refused += not batches
        return 1

    def many_cursor(self) -> int:
        """A cursor over many workflows that was edited: the places as they were, or `InvalidCursor`."""
        places = {key_of("order-7"): str(Cursor(STREAM.run_id, "0017-00", 2)), key_of("b"): STREAM.run_id}
        whole = self.mutations.random.choice((packed(places), short_form("0" * 32)))
        text = self.mutations.text(whole)
        try:
            found = places if name_in(text) is not None else unpacked(text)
        except InvalidCursor as error:
            assert len(str(error)) < 2_000
            self.refused += 1
        else:
            assert found == places
        return 1

    def gateway_cursor(self) -> int:
        """What an HTTP client says it has: a place in the changes, the whole state, or status 400."""
        random = self.mutations.random
        if not self._shown:
            stored = [
                Entry(f"{1_796_000_000_000 + place:015d}-{0:010d}", data)
                for place, data in enumerate(self.seeds[:ATTEMPT])
            ]
            self._shown = self._read(EntryCache(STREAM, FrameCodec(None, STREAM)), stored, "reset", None)
        cursor = random.choice(self._shown).cursor
        self._await(self._served(self.mutations.text(cursor) if random.random() < 0.9 else cursor))
        return 1

    async def _served(self, cursor: str) -> None:
        headers = [(b"last-event-id", cursor.encode("utf-8", "surrogatepass"))]
        request = Request({"type": "http", "method": "GET", "headers": headers, "query_string": b""})
        said = request.headers["last-event-id"]
        try:
            place = Cursor.parse(said)
        except InvalidCursor as error:
            assert len(str(error)) < 2_000
            self.refused += 1
            return
        assert Cursor.parse(str(place)) == place

        async def events() -> Any:
            for event in self._shown:
                yield event
            yield StreamEnded(status="completed", cursor=self._shown[-1].cursor)

        woken = asyncio.Event()
        replay = Replay(events(), woken, said)
        encoder = NativeEvents()
        try:
            while not replay.has_ended:
                async with asyncio.timeout(5):
                    await woken.wait()
                woken.clear()
                taken = replay.take()
                if isinstance(taken, tuple):
                    assert encoder.late(*taken)
                else:
                    assert isinstance(encoder.encode(taken), bytes)
        finally:
            await replay.close()

    # ------------------------------------------------------------------ what they share

    def _stream_of(self, seeds: list[bytes]) -> list[bytes]:
        """Return an attempt's frames in their order, among others; half of all are changed."""
        random = self.mutations.random
        stored = [
            seeds[place % ATTEMPT] if place < 2 * ATTEMPT else random.choice(seeds) for place in range(ROAD)
        ]
        if random.random() < 0.3:
            random.shuffle(stored)
        return [self._changed(data) if random.random() < 0.5 else data for data in stored]

    def _changed(self, data: bytes) -> bytes:
        return self.mutations.bytes(data) if data.startswith(SEALED) else self.mutations.entry(data)

    def _read(
        self, cache: EntryCache, stored: list[Entry], on_retry: OnRetry, place: Cursor | None
    ) -> list[Event]:
        where, statistics = ReadPosition(STREAM.run_id, place), ReaderStatistics()
        time_of = stored_time if stored[0].id.endswith("-0000000000") else None
        decoder = EntryDecoder(STREAM, where, statistics, on_retry=on_retry, stored_time=time_of)
        decoded = cache.decoded(stored)
        if decoded is None:
            decoded = self._await(cache.opened(stored))
        events = decoder.read(where.transport, stored, decoded)
        events += decoder.rest(999_000_000)
        self.events += len(events)
        self.refused += statistics.unreadable
        return events

    def _show(self, events: list[Event]) -> None:
        """Hand events to each view, and to what a user does with one: print it, hash it, send it as JSON."""
        fold, chunks = Fold(), Chunks(subgraphs=True)
        for event in events:
            fold.add(event)
            chunks.read(event)
            assert repr(event)
            assert json.dumps(event.to_json(), default=repr)
            if (call := getattr(event, "call", None)) is not None:
                hash(call)
        assert fold.snapshot("run", "").text is not None
        if events and self.mutations.random.random() < 0.1:
            self._await(self._run(events))

    async def _run(self, events: list[Event]) -> None:
        async def source() -> Any:
            for event in events:
                yield event
            yield StreamEnded(status="completed")

        async def nothing() -> None:
            return None

        async with WorkflowRun(source(), nothing) as run:
            with suppress(TokensMissing, WorkflowNotCompleted):
                async for _ in run.temporal:
                    pass
