"""Entries of one stream, opened and decoded once for all its readers of the process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from temporal_token_interceptor.encryption import SEALED, FrameCodec
from temporal_token_interceptor.errors import CodecMismatch, ProtocolError, TransportUnavailable
from temporal_token_interceptor.protocol.frames import Packet, decode
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.reader.shared_events import SharedEvents
from temporal_token_interceptor.transport.base import Entry

# Of the entries of a stream, as they were stored. Opened and decoded they take about ten times as much.
_KEPT_BYTES = 128 * 1024

# How long a reader waits for its codec, and for the other readers of its run that use it before.
_OPEN_SECONDS = 60.0

# Between two questions to a codec that has lost the connection to its key service.
_PAUSE = 0.5


class SilentCodec(TransportUnavailable):
    """The codec does not answer, and not the transport: the history, which needs it too, is no way out."""


Decoded = Packet | ProtocolError | CodecMismatch
"""A frame; or why an entry is none; or why this reader cannot read one that may well be ours."""


class EntryCache:
    """Opens and decodes the entries of a stream, and keeps the newest while it has several readers.

    It belongs to its readers: when the last one has left, what it kept is freed, decrypted text among it.

    Args:
        stream: The run. A frame of another one is none here.
        codec: Opens sealed frames.
        accepts_plain: Whether frames that are not sealed are read although there is a codec.

    Attributes:
        readers: How many use it.
        events: What the entries add, for those of them that read alike.
    """

    def __init__(self, stream: StreamKey, codec: FrameCodec, *, accepts_plain: bool = False) -> None:
        self.readers = 0
        self.events = SharedEvents(stream.run_id)
        self._stream = stream
        self._codec = codec
        self._accepts_plain = accepts_plain or not codec.has_codec
        self._kept: dict[str, tuple[bytes, Decoded]] = {}  # by entry id, oldest first
        self._size = 0
        self._turn = asyncio.Lock()

    @property
    def accepts_plain(self) -> bool:
        """Whether frames that are not sealed are read."""
        return self._accepts_plain

    def decoded(self, batch: Sequence[Entry]) -> list[Decoded] | None:
        """Return what each entry holds; None if some have to be opened first (`opened`)."""
        found: list[Decoded] = []
        is_shared = self.readers > 1
        for entry in batch:
            packet = self._known(entry) if is_shared else None
            if packet is None:
                if entry.data.startswith(SEALED):
                    return None
                packet = self._plain(entry.data)
                if is_shared:
                    self._keep(entry, packet)
            found.append(packet)
        return found

    async def opened(self, batch: Sequence[Entry]) -> list[Decoded]:
        """Return what each entry holds, sealed or not.

        Raises:
            TransportUnavailable: the codec has not answered in time.
        """
        return [await self._opened(entry) for entry in batch]

    def from_history(self, batch: Sequence[Entry]) -> list[Decoded]:
        """Return what entries hold that stood in results, which the data converter has opened."""
        return [_decoded(entry.data, self._stream) for entry in batch]

    def _plain(self, data: bytes) -> Decoded:
        packet = _decoded(data, self._stream)
        if self._accepts_plain or not isinstance(packet, Packet):
            return packet
        return CodecMismatch(
            f"a frame of stream {self._stream.name!r} is not sealed, and this reader has a payload codec: "
            "give the worker's client the codec too, or pass accept_plain_frames=True while both are in use"
        )

    async def _opened(self, entry: Entry) -> Decoded:
        if (packet := self._known(entry)) is not None:
            return packet
        if not entry.data.startswith(SEALED):
            return self._plain(entry.data)
        try:
            async with asyncio.timeout(_OPEN_SECONDS), self._turn:
                # Many readers cost one call of the codec, which may be far away.
                if (packet := self._known(entry)) is None:
                    packet = await self._open(entry.data)
                    self._keep(entry, packet)
        except TimeoutError:
            raise SilentCodec(
                f"the client's payload codec has not opened a frame of {self._stream.name!r} within "
                f"{_OPEN_SECONDS:g} s; resume from the last event's cursor once it answers"
            ) from None
        return packet

    async def _open(self, data: bytes) -> Decoded:
        while True:
            try:
                frame, was_sealed = await self._codec.open(data)
            except CodecMismatch as error:
                if not isinstance(error.__cause__, OSError):
                    return error.with_traceback(None)
                await asyncio.sleep(_PAUSE)  # its key service is away: that passes, within the time above
            else:
                return _decoded(frame, self._stream, is_opened=True) if was_sealed else self._plain(frame)

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


def _decoded(data: bytes, stream: StreamKey, *, is_opened: bool = False) -> Packet | ProtocolError:
    try:
        return decode(data, stream, is_opened=is_opened)
    except ProtocolError as error:
        return error.with_traceback(None)
    except Exception as error:  # noqa: BLE001 - whatever it is, an entry costs itself and no reader
        return ProtocolError(f"entry of {len(data)} bytes cannot be read ({type(error).__name__})")
