"""Frames through the payload codec of a Temporal data converter: what Temporal may not read, Redis may not.

A sealed frame is a serialized Temporal `Payload`: the frame's JSON as `json/plain`, put through the codec.
Its first byte is never the `{` that a plain frame begins with, so both may stand in one stream.

Only the codec is used. A payload converter would wrap JSON in JSON, and external storage is for what a
history cannot hold.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError
from temporalio.api.common.v1 import Payload
from temporalio.converter import WorkflowSerializationContext

from temporal_token_interceptor.errors import CodecMismatch, ConfigurationError, TransportUnavailable
from temporal_token_interceptor.protocol.stream_key import StreamKey

if TYPE_CHECKING:
    from temporalio.converter import DataConverter, PayloadCodec

_ENCODING = "encoding"
_JSON = b"json/plain"

# How a serialized payload begins: with its metadata or, without any, with its data.
_FIRST_BYTES = (b"\x0a", b"\x12")

# Opened frames that are kept for the other subscribers of the process, who want the same ones about now.
_REMEMBERED = 256


# How long a reader waits for its codec, and for the others of its run who want theirs before it.
_OPEN_SECONDS = 60.0


class SilentCodec(TransportUnavailable):
    """Not the transport is away but the codec, and the history needs it, too."""


def is_sealed(data: bytes) -> bool:
    """Whether an entry is a sealed frame, and not a plain one."""
    return data.startswith(_FIRST_BYTES)


class FrameCodec:
    """Seals and opens the frames of one stream, with the codec that protects the rest of its workflow.

    Costs one call of the codec for each frame; none at all in a process without a codec.

    Args:
        converter: The client's. Without a codec, nothing is sealed and nothing can be opened.
        stream: Codecs that want a serialization context are told its namespace and workflow id.
    """

    def __init__(self, converter: DataConverter | None, stream: StreamKey) -> None:
        self._codec: PayloadCodec | None = None
        if converter is not None and converter.payload_codec is not None:
            context = WorkflowSerializationContext(stream.namespace, stream.workflow_id)
            self._codec = converter.with_context(context).payload_codec
        self._stream = stream
        self._opened: OrderedDict[bytes, bytes] = OrderedDict()
        self._turn = asyncio.Lock()

    @classmethod
    def of(cls, converter: DataConverter | None, stream: StreamKey) -> FrameCodec | None:
        """Return the codec of a writer; None where frames stay plain."""
        if converter is None or converter.payload_codec is None:
            return None
        return cls(converter, stream)

    async def seal(self, frame: bytes) -> bytes:
        """Return what is to be stored for a frame. Raises whatever the codec raises."""
        if self._codec is None:
            raise ConfigurationError("the data converter has no payload codec to seal frames with")
        (payload,) = await self._codec.encode([Payload(metadata={_ENCODING: _JSON}, data=frame)])
        return payload.SerializeToString()

    async def open(self, data: bytes) -> bytes:
        """Return the frame in a sealed entry; once opened, it is kept a while for other subscribers.

        What is no payload is returned as it is: it is no frame either, and counted where it is decoded.

        Raises:
            CodecMismatch: the client's codec cannot undo what the writer's did; names the encoding.
            TransportUnavailable: the codec, which may ask a key service, has not answered in time.
        """
        if (frame := self._opened.get(data)) is not None:
            return frame
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                return await self._opened_once(data)
        except TimeoutError:
            raise SilentCodec(
                f"the client's payload codec has not opened a frame of {self._stream.name!r} within "
                f"{_OPEN_SECONDS:g} s; resume from the last event's cursor once it answers"
            ) from None

    async def _opened_once(self, data: bytes) -> bytes:
        async with self._turn:  # so that many subscribers cost one call, also to a codec that is far away
            frame = self._opened.get(data)
            if frame is None:
                frame = self._opened[data] = await self._open(data)
                if len(self._opened) > _REMEMBERED:
                    self._opened.popitem(last=False)
            return frame

    async def _open(self, data: bytes) -> bytes:
        try:
            payload = Payload.FromString(data)
        except DecodeError:
            return data
        encoding = _encoding(payload)
        if not encoding:
            return data
        if self._codec is None:
            raise self._mismatch(encoding, "this reader's data converter has no payload codec")
        name = type(self._codec).__name__
        try:
            (opened,) = await self._codec.decode([payload])
        except Exception as error:
            raise self._mismatch(
                encoding, f"this reader's {name} cannot decode it ({type(error).__name__})"
            ) from error
        if opened.metadata.get(_ENCODING) != _JSON:
            raise self._mismatch(encoding, f"this reader's {name} leaves it as {_encoding(opened)!r}")
        return opened.data

    def _mismatch(self, encoding: str, reason: str) -> CodecMismatch:
        return CodecMismatch(
            f"a frame of stream {self._stream.name!r} is encoded as {encoding!r}, and {reason}; connect the "
            "client with the data converter, and the keys, of the worker's client"
        )


def _encoding(payload: Payload) -> str:
    return payload.metadata.get(_ENCODING, b"").decode(errors="replace")
