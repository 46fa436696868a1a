"""Entries of one stream, opened and decoded once for all its readers of the process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from temporal_token_interceptor.encryption import SEALED, FrameCodec
from temporal_token_interceptor.errors import ProtocolError, TransportUnavailable
from temporal_token_interceptor.protocol.frames import Packet, decode
from temporal_token_interceptor.transport.base import Entry

# Of the entries of a stream, as they were stored. Opened and decoded they take about ten times as much.
_KEPT_BYTES = 128 * 1024

# How long a reader waits for its codec, and for the other readers of its run that use it before.
_OPEN_SECONDS = 60.0


class SilentCodec(TransportUnavailable):
    """The codec does not answer, and not the transport: the history, which needs it too, is no way out."""


Decoded = Packet | ProtocolError
"""A frame, or why an entry is none."""


class EntryCache:
    """Opens and decodes the entries of a stream, and keeps the newest while it has several readers.

    It belongs to its readers: when the last one has left, what it kept is freed, decrypted text among it.

    Args:
        name: The stream, for errors.
        codec: Opens sealed frames.

    Attributes:
        readers: How many use it.
    """

    def __init__(self, name: str, codec: FrameCodec) -> None:
        self.readers = 0
        self._name = name
        self._codec = codec
        self._kept: dict[str, tuple[bytes, Decoded]] = {}  # by entry id, oldest first
        self._size = 0
        self._turn = asyncio.Lock()

    def decoded(self, batch: Sequence[Entry]) -> list[Decoded] | None:
        """Return what each entry holds; None if some have to be opened first (`opened`)."""
        found: list[Decoded] = []
        is_shared = self.readers > 1
        for entry in batch:
            packet = self._known(entry) if is_shared else None
            if packet is None:
                if entry.data.startswith(SEALED):
                    return None
                packet = _decoded(entry.data)
                if is_shared:
                    self._keep(entry, packet)
            found.append(packet)
        return found

    async def opened(self, batch: Sequence[Entry]) -> list[Decoded]:
        """Return what each entry holds, sealed or not.

        Raises:
            CodecMismatch: the client's codec cannot undo what the writer's did.
            TransportUnavailable: the codec has not answered in time.
        """
        return [await self._opened(entry) for entry in batch]

    async def _opened(self, entry: Entry) -> Decoded:
        if (packet := self._known(entry)) is not None:
            return packet
        if not entry.data.startswith(SEALED):
            return _decoded(entry.data)
        try:
            async with asyncio.timeout(_OPEN_SECONDS), self._turn:
                # Many readers cost one call of the codec, which may be far away.
                if (packet := self._known(entry)) is None:
                    packet = _decoded(await self._codec.open(entry.data))
                    self._keep(entry, packet)
        except TimeoutError:
            raise SilentCodec(
                f"the client's payload codec has not opened a frame of {self._name!r} within "
                f"{_OPEN_SECONDS:g} s; resume from the last event's cursor once it answers"
            ) from None
        return packet

    def _known(self, entry: Entry) -> Decoded | None:
        # A stream that was deleted and begun again may give out an id twice: the bytes decide.
        kept = self._kept.get(entry.id)
        return kept[1] if kept is not None and kept[0] == entry.data else None

    def _keep(self, entry: Entry, packet: Decoded) -> None:
        size = len(entry.data)
        if size > _KEPT_BYTES:
            return
        if (former := self._kept.pop(entry.id, None)) is not None:
            self._size -= len(former[0])
        self._kept[entry.id] = (entry.data, packet)
        self._size += size
        while self._size > _KEPT_BYTES:
            oldest = next(iter(self._kept))
            self._size -= len(self._kept.pop(oldest)[0])


def _decoded(data: bytes) -> Decoded:
    try:
        return decode(data)
    except ProtocolError as error:
        return error.with_traceback(None)
