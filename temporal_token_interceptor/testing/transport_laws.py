"""Checks for your own transport: what every `TokenSink` and `TokenSource` must keep, as named laws.

In a test of yours:

    @pytest.mark.parametrize("law", TRANSPORT_LAWS)
    async def test_transport(law):
        await check_transport(make_my_transport, laws=[law])

or, without pytest, all at once: `asyncio.run(check_transport(make_my_transport))`. Needs no test framework;
what is broken comes as an `AssertionError` that names the law. The transports of this package pass the same
checks.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import timedelta
from itertools import zip_longest
from types import MappingProxyType
from typing import Protocol

from temporal_token_interceptor.errors import InvalidCursor, TokenStreamError
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.transport.base import Entry, TokenSink, TokenSource


class Transport(TokenSink, TokenSource, Protocol):
    """Both halves of a transport in one object; `close` closes both."""


Law = Callable[[Transport], Awaitable[None]]
"""Raises `AssertionError`, or never returns, if a transport breaks it."""

_laws: dict[str, Law] = {}

TRANSPORT_LAWS: Mapping[str, Law] = MappingProxyType(_laws)
"""The laws by name, simple ones first."""


async def check_transport(
    make: Callable[[], AbstractAsyncContextManager[Transport]],
    *,
    laws: Iterable[str] | None = None,
    deadline: timedelta = timedelta(seconds=20),
) -> None:
    """Check that a transport keeps the laws, each on a fresh transport and on streams of its own.

    Args:
        make: Called once for each law; returns an `async with` block around a working transport. The block
            must accept a transport that is closed already.
        laws: Names out of `TRANSPORT_LAWS`; all of them if not given.
        deadline: How long one law may take. A transport that loses an entry is waited for this long.

    Raises:
        AssertionError: a law is broken; the message names it.
        KeyError: there is no such law.
    """
    for name in TRANSPORT_LAWS if laws is None else laws:
        law = TRANSPORT_LAWS[name]
        try:
            async with asyncio.timeout(deadline.total_seconds()), make() as transport:
                await law(transport)
        except TimeoutError as error:
            raise AssertionError(f"{name}: not done after {deadline}; is an entry lost?") from error
        except Exception as error:
            broken = _first_broken(error)
            if broken is None:
                error.add_note(f"while checking the law {name}")
                raise
            raise AssertionError(f"{name}: {broken}") from error


def _law(law: Callable[[Transport], Awaitable[None]]) -> Law:
    _laws[law.__name__.strip("_")] = law
    return law


@_law
async def _entries_keep_their_order(transport: Transport) -> None:
    stream = _stream()
    sent = _numbered(250)
    for data in sent:
        await transport.write(stream, data)
    _same(await _read(transport, stream, sent[-1]), sent)


@_law
async def _ids_sort_as_strings(transport: Transport) -> None:
    stream = _stream()
    sent = _numbered(250)
    await asyncio.gather(*(transport.write(stream, data) for data in sent[:-1]))  # also at load
    await transport.write(stream, sent[-1])
    ids = [entry.id for entry in await _read(transport, stream, sent[-1])]
    _require(all(ids), "an id is empty: that means the beginning of a stream")
    _require(len(set(ids)) == len(sent), "two entries have the same id")
    _require(ids == sorted(ids), "ids do not sort in the order of the stream")


@_law
async def _data_is_not_altered(transport: Transport) -> None:
    stream = _stream()
    sent = [bytes(range(256)), b"\xff\xfe", b" \r\n\0", "héllo".encode(), b"x" * 1_000_000]
    for data in sent:
        await transport.write(stream, data)
    _same(await _read(transport, stream, sent[-1]), sent)


@_law
async def _streams_are_apart(transport: Transport) -> None:
    name = uuid.uuid4().hex
    names = [("", "a", "b"), ("", "a", "c"), ("", "a/b", ""), ("/a", "b", ""), ("", "a}b{", "%")]
    streams = [StreamKey(name + suffix, workflow_id, run_id) for suffix, workflow_id, run_id in names]
    for number, stream in enumerate(streams):
        await transport.write(stream, b"from %d" % number)
        await transport.write(stream, b"end")
    for number, stream in enumerate(streams):
        _same(await _read(transport, stream, b"end"), [b"from %d" % number, b"end"])


@_law
async def _first_and_last_id_are_those_of_the_oldest_and_newest_entry(transport: Transport) -> None:
    stream = _stream()
    _require(await transport.last_id(stream) == "", "a stream that does not exist has a last id")
    _require(await transport.first_id(stream) == "", "a stream that does not exist has a first id")
    for data in _numbered(3):
        await transport.write(stream, data)
        read = await _read(transport, stream, data)
        _require(await transport.last_id(stream) == read[-1].id, "last_id is not the id that a reader gets")
        _require(await transport.first_id(stream) == read[0].id, "first_id is not the id that a reader gets")


@_law
async def _keep_names_the_newest_run(transport: Transport) -> None:
    _require(transport.keep_interval > timedelta(0), "keep_interval is not positive")
    first = _stream()
    namespace, workflow_id, _ = first
    _require(await transport.newest_run(namespace, workflow_id) is None, "a run is named before any `keep`")
    for run in (first, first._replace(run_id="second"), first._replace(run_id="third")):
        transport.keep(run)  # also before the first entry: an activity may think for long
        while await transport.newest_run(namespace, workflow_id) != run.run_id:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    await transport.write(first, b"late")
    _require(await transport.newest_run(namespace, workflow_id) == "third", "an entry changed the newest run")
    _require(await transport.newest_run(namespace, f"{workflow_id}x") is None, "workflows are mixed up")


@_law
async def _reading_resumes_after_any_id(transport: Transport) -> None:
    stream = _stream()
    sent = _numbered(20)
    for data in sent:
        await transport.write(stream, data)
    for place, entry in enumerate((await _read(transport, stream, sent[-1]))[:-1], 1):
        rest = await _read(transport, stream, sent[-1], after=entry.id)
        _same(rest, sent[place:])


@_law
async def _an_id_of_another_transport_is_refused(transport: Transport) -> None:
    stream = _stream()
    await transport.write(stream, b"entry")
    try:
        await _read(transport, stream, b"entry", after="no id of any transport")
    except InvalidCursor:
        return
    raise AssertionError("reading after an id that was never handed out raised no InvalidCursor")


@_law
async def _a_reader_waits_for_a_stream_that_does_not_exist(transport: Transport) -> None:
    stream = _stream()
    async with asyncio.TaskGroup() as group:
        reader = group.create_task(_read(transport, stream, b"first"))
        await _read_something_else(transport)
        await asyncio.wait({reader}, timeout=0.05)  # one that ends too early has ended by then
        _require(not reader.done(), "the reader did not wait")
        await transport.write(stream, b"first")
    _same(reader.result(), [b"first"])


@_law
async def _every_reader_gets_everything_however_late(transport: Transport) -> None:
    stream = _stream()
    sent = _numbered(60)
    readers = []
    async with asyncio.TaskGroup() as group:
        for data in sent:
            readers.append(group.create_task(_read(transport, stream, sent[-1])))
            await transport.write(stream, data)
    for reader in readers:
        _same(reader.result(), sent)


@_law
async def _nothing_falls_between_past_and_present(transport: Transport) -> None:
    stream = _stream()
    sent = _numbered(400)

    async def read_in_hops() -> None:
        """Read some, leave, come back after the last id: each time, the writer is elsewhere."""
        after, seen, hop = "", 0, 0
        while seen < len(sent):
            hop += 1
            async with aclosing(transport.read(stream, after)) as batches:
                here = 0
                async for batch in batches:
                    _require(batch, "an empty batch")
                    _same(batch, sent[seen : seen + len(batch)])
                    after, seen, here = batch[-1].id, seen + len(batch), here + 1
                    if here > hop % 4 or seen >= len(sent):
                        break

    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(read_in_hops())
        for data in sent:
            await transport.write(stream, data)


@_law
async def _a_slow_reader_misses_nothing_and_holds_nobody_up(transport: Transport) -> None:
    stream = _stream()
    sent = _numbered(1_500)
    slow: list[Entry] = []
    async with aclosing(transport.read(stream)) as batches:
        for data in sent[:3]:  # by the third it has caught up
            await transport.write(stream, data)
            slow += await anext(batches)
        async with asyncio.TaskGroup() as group:
            fast = group.create_task(_read(transport, stream, sent[-1]))
            for data in sent[3:]:
                await transport.write(stream, data)
        while slow[-1].data != sent[-1]:
            slow += await anext(batches)
    _same(fast.result(), sent)
    _same(slow, sent)


@_law
async def _a_cancelled_write_harms_no_other(transport: Transport) -> None:
    stream = _stream()
    sent = _numbered(90)
    writes = [asyncio.ensure_future(transport.write(stream, data)) for data in sent[:45]]
    await asyncio.sleep(0)  # these are on their way, and the rest is not, when the first are cancelled
    writes += [asyncio.ensure_future(transport.write(stream, data)) for data in sent[45:]]
    for cancelled in writes[::3]:
        cancelled.cancel()
    results = await asyncio.gather(*writes, return_exceptions=True)
    _require(not any(results[1::3] + results[2::3]), "a write suffered from the end of another")
    await transport.write(stream, b"end")
    given_up = {*sent[::3]}  # stored once, twice or not at all
    others = [entry for entry in await _read(transport, stream, b"end") if entry.data not in given_up]
    _same(sorted(others, key=lambda entry: entry.data), sorted({*sent, b"end"} - given_up))


@_law
async def _a_reader_that_leaves_harms_no_other(transport: Transport) -> None:
    stream = _stream()
    sent = _numbered(100)
    async with asyncio.TaskGroup() as group:
        staying = group.create_task(_read(transport, stream, sent[-1]))
        for place, data in enumerate(sent):
            leaving = [asyncio.ensure_future(_read(transport, stream, b"never")) for _ in range(3)]
            for turn in range(place % 8):
                leaving[turn % 3].cancel()
                await asyncio.sleep(0)
            await transport.write(stream, data)
            for reader in leaving:
                reader.cancel()
            await asyncio.gather(*leaving, return_exceptions=True)
            _require(all(reader.cancelled() for reader in leaving), "a cancelled reader did not end as such")
    _same(staying.result(), sent)


@_law
async def _close_ends_what_is_open(transport: Transport) -> None:
    stream, silent = _stream(), _stream()
    await transport.write(stream, b"entry")

    async def read_to_the_end(stream: StreamKey) -> None:
        async for batch in transport.read(stream):
            _require(batch, "an empty batch")

    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(read_to_the_end(key)) for key in (stream, silent) * 5]
        await _read_something_else(transport)
        _require(not any(reader.done() for reader in readers), "an iterator ended by itself")
        await transport.close()
    await transport.close()
    await read_to_the_end(stream)
    transport.keep(stream)
    try:
        await transport.write(stream, b"too late")
    except TokenStreamError:
        return
    raise AssertionError("a closed transport took an entry and raised no TokenStreamError")


# ------------------------------------------------------------------ helpers


def _first_broken(error: BaseException) -> AssertionError | None:
    """Find what a law said, also if it said so in a task group."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(_first_broken, error.exceptions)), None)
    return error if isinstance(error, AssertionError) else None


def _stream() -> StreamKey:
    return StreamKey("conformance", uuid.uuid4().hex, "run")


def _numbered(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


async def _read(source: TokenSource, stream: StreamKey, last: bytes, after: str = "") -> list[Entry]:
    """Read until an entry has the data `last`."""
    read: list[Entry] = []
    async with aclosing(source.read(stream, after)) as batches:
        async for batch in batches:
            _require(batch, "an empty batch")
            read += batch
            if batch[-1].data == last:
                return read
    raise AssertionError("an iterator ended by itself")


async def _read_something_else(transport: Transport) -> None:
    """Return when the transport has had every chance to serve those who came before."""
    stream = _stream()
    await transport.write(stream, b"something else")
    await _read(transport, stream, b"something else")


def _require(condition: object, message: str) -> None:
    # Not `assert`: it must also hold under `python -O`.
    if not condition:
        raise AssertionError(message)


def _same(got: Sequence[Entry], sent: Sequence[bytes]) -> None:
    pairs = zip_longest((entry.data for entry in got), sent)
    for place, (found, expected) in enumerate(pairs):
        _require(found == expected, f"entry {place} of {len(sent)} is {found!r:.50}, not {expected!r:.50}")
