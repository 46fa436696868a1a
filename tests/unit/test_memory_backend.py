"""The transport in memory, and the checks for transports: they tell a good one from a bad one."""

import asyncio
from contextlib import aclosing
from datetime import timedelta

import pytest

from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.testing import TRANSPORT_LAWS, check_transport
from temporal_token_interceptor.transport.base import Entry, TokenSink, TokenSource
from temporal_token_interceptor.transport.memory import MemoryStreamBackend

STREAM = StreamKey("default", "workflow", "run")


@pytest.mark.parametrize("law", TRANSPORT_LAWS)
async def test_memory_keeps_the_laws_of_transports(law):
    """Whatever holds for any transport holds in memory."""
    await check_transport(MemoryStreamBackend, laws=[law])


def test_memory_has_both_halves():
    """One object serves a worker and its readers."""
    backend = MemoryStreamBackend()

    assert isinstance(backend, TokenSink)
    assert isinstance(backend, TokenSource)


async def test_oldest_entries_go_first():
    """A stream keeps its newest entries."""
    backend = MemoryStreamBackend(stream_maxlen=3)
    for number in range(5):
        await backend.write(STREAM, b"%d" % number)

    async with aclosing(backend.read(STREAM)) as batches:
        batch = await anext(batches)

    assert [entry.data for entry in batch] == [b"2", b"3", b"4"]


async def test_stream_written_longest_ago_goes_first():
    """Streams are kept by their last entry, not by their first."""
    backend = MemoryStreamBackend(max_streams=2)
    first, second, third = (STREAM._replace(run_id=run_id) for run_id in "123")
    for stream in (first, second, first, third):
        await backend.write(stream, b"entry")

    assert await backend.last_id(first)
    assert not await backend.last_id(second)
    assert await backend.last_id(third)


async def test_reader_outlives_the_eviction_of_its_stream():
    """A reader of a stream that was dropped gets what is written to it afterwards."""
    backend = MemoryStreamBackend(max_streams=1)
    for _ in range(5):
        await backend.write(STREAM, b"before")
    async with aclosing(backend.read(STREAM)) as batches:
        await anext(batches)

        await backend.write(STREAM._replace(run_id="other"), b"entry")
        await backend.write(STREAM, b"after")

        assert [entry.data for entry in await anext(batches)] == [b"after"]


async def test_readers_of_nothing_take_no_room():
    """Waiting for streams that never come evicts no stream, and leaves nothing behind."""
    backend = MemoryStreamBackend(max_streams=2)
    await backend.write(STREAM, b"entry")
    readers = [
        asyncio.ensure_future(anext(backend.read(STREAM._replace(run_id=f"never {number}"))))
        for number in range(10)
    ]
    await asyncio.sleep(0)

    await backend.write(STREAM._replace(run_id="other"), b"entry")
    for reader in readers:
        reader.cancel()
    await asyncio.wait(readers)

    assert await backend.last_id(STREAM)
    assert repr(backend) == "<MemoryStreamBackend 2 streams, 0 readers>"


@pytest.mark.parametrize("argument", ["stream_maxlen", "max_streams"])
@pytest.mark.parametrize("value", [0, -1, True, 1.5, "10", None])
def test_impossible_bounds_are_refused_by_name(argument, value):
    """A bound is a positive whole number."""
    with pytest.raises(ConfigurationError, match=argument):
        MemoryStreamBackend(**{argument: value})


# ------------------------------------------------------------------ the checks find what is broken


class LosesEntries(MemoryStreamBackend):
    async def write(self, stream, data):
        if data != b"17":
            await super().write(stream, data)


class Doubles(MemoryStreamBackend):
    async def write(self, stream, data):
        await super().write(stream, data)
        if data == b"17":
            await super().write(stream, data)


class ForgetsTheWorkflow(MemoryStreamBackend):
    async def write(self, stream, data):
        await super().write(stream._replace(workflow_id="", namespace="one for all"), data)

    def read(self, stream, after=""):
        return super().read(stream._replace(workflow_id="", namespace="one for all"), after)


class UnpaddedIds(MemoryStreamBackend):
    async def read(self, stream, after=""):
        async with aclosing(super().read(stream)) as batches:
            async for batch in batches:
                if rest := [
                    Entry(str(int(entry.id)), entry.data)
                    for entry in batch
                    if not after or int(entry.id) > int(after)
                ]:
                    yield rest


class Decodes(MemoryStreamBackend):
    async def write(self, stream, data):
        await super().write(stream, data.decode(errors="replace").encode())


class ReadsOnlyWhatIsNew(MemoryStreamBackend):
    async def read(self, stream, after=""):
        async with aclosing(super().read(stream, after or await self.last_id(stream))) as batches:
            async for batch in batches:
                yield batch


class EndsWhereNothingIs(MemoryStreamBackend):
    async def read(self, stream, after=""):
        if await self.last_id(stream):
            async with aclosing(super().read(stream, after)) as batches:
                async for batch in batches:
                    yield batch


class SwallowsCancellation(MemoryStreamBackend):
    async def read(self, stream, after=""):
        async with aclosing(super().read(stream, after)) as batches:
            try:
                async for batch in batches:
                    yield batch
            except asyncio.CancelledError:
                return


class OneForAll(MemoryStreamBackend):
    """A cancelled write cancels all that are under way."""

    def __init__(self):
        super().__init__()
        self.together = asyncio.Event()

    async def write(self, stream, data):
        try:
            await super().write(stream, data)
        except asyncio.CancelledError:
            self._closed = True
            raise


class StaysOpen(MemoryStreamBackend):
    async def close(self):
        pass


class PointsToTheLastWritten(MemoryStreamBackend):
    async def write(self, stream, data):
        await super().write(stream, data)
        self.keep(stream)


class TakesAnyId(MemoryStreamBackend):
    def read(self, stream, after=""):
        return super().read(stream, after if after.isdecimal() else "")


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (LosesEntries, "entries_keep_their_order"),
        (LosesEntries, "nothing_falls_between_past_and_present"),
        (Doubles, "entries_keep_their_order"),
        (Doubles, "every_reader_gets_everything_however_late"),
        (ForgetsTheWorkflow, "streams_are_apart"),
        (UnpaddedIds, "ids_sort_as_strings"),
        (Decodes, "data_is_not_altered"),
        (ReadsOnlyWhatIsNew, "every_reader_gets_everything_however_late"),
        (EndsWhereNothingIs, "a_reader_waits_for_a_stream_that_does_not_exist"),
        (SwallowsCancellation, "a_reader_that_leaves_harms_no_other"),
        (OneForAll, "a_cancelled_write_harms_no_other"),
        (StaysOpen, "close_ends_what_is_open"),
        (PointsToTheLastWritten, "keep_names_the_newest_run"),
        (TakesAnyId, "an_id_of_another_transport_is_refused"),
    ],
)
async def test_checks_name_the_law_that_is_broken(broken, law):
    """A transport with this fault fails at this law, and the message says which."""
    with pytest.raises(Exception) as failure:  # noqa: PT011 - an error of the transport carries the law as a note
        await check_transport(broken, laws=[law], deadline=timedelta(seconds=0.5))

    assert law in str(failure.value) + "".join(getattr(failure.value, "__notes__", []))
