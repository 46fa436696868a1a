"""Frames through the payload codec of a Temporal data converter: what Temporal may not read, Redis may not.

A sealed frame is a serialized Temporal `Payload`: the frame's JSON as `json/plain`, put through the codec.
Its first byte is never the `{` that a plain frame begins with, so both may stand in one stream.

Only the codec is used. A payload converter would wrap JSON in JSON, and external storage is for what a
history cannot hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError
from temporalio.api.common.v1 import Payload
from temporalio.converter import WorkflowSerializationContext

from temporal_token_interceptor.errors import CodecMismatch, ConfigurationError
from temporal_token_interceptor.protocol.frames import bound
from temporal_token_interceptor.protocol.stream_key import StreamKey

if TYPE_CHECKING:
    from temporalio.converter import DataConverter, PayloadCodec

_ENCODING = "encoding"
_JSON = b"json/plain"

# How a serialized payload begins: with its metadata or, without any, with its data.
SEALED = (b"\x0a", b"\x12")


def is_sealed(data: bytes) -> bool:
    """Whether an entry is a sealed frame, and not a plain one."""
    return data.startswith(SEALED)


class FrameCodec:
    """Seals and opens the frames of one stream, with the codec that protects the rest of its workflow.

    Costs one call of the codec for each frame; none at all in a process without a codec.

    Args:
        converter: The client's. Without a codec, nothing is sealed and nothing can be opened.
        stream: Codecs that want a serialization context get its namespace and workflow id.
    """

    @property
    def has_codec(self) -> bool:
        """Whether there is a codec at all: then frames are expected to be sealed."""
        return self._codec is not None

    def __init__(self, converter: DataConverter | None, stream: StreamKey) -> None:
        self._codec: PayloadCodec | None = None
        if converter is not None and converter.payload_codec is not None:
            context = WorkflowSerializationContext(stream.namespace, stream.workflow_id)
            self._codec = converter.with_context(context).payload_codec
        self._stream = stream

    @classmethod
    def of(cls, converter: DataConverter | None, stream: StreamKey) -> FrameCodec | None:
        """Return the codec of a writer; None where frames stay plain."""
        if converter is None or converter.payload_codec is None:
            return None
        return cls(converter, stream)

    async def seal(self, frame: bytes) -> bytes:
        """Return what is to be stored for a frame. Raises whatever the codec raises.

        The stream's name is sealed in: an entry that is copied into another stream is no frame there.
        """
        if self._codec is None:
            raise ConfigurationError("the data converter has no payload codec to seal frames with")
        data = bound(frame, self._stream)
        (payload,) = await self._codec.encode([Payload(metadata={_ENCODING: _JSON}, data=data)])
        return payload.SerializeToString()

    async def open(self, data: bytes) -> tuple[bytes, bool]:
        """Return the frame in an entry that begins as a sealed one does, and whether it was sealed.

        What is no payload is returned as it is, and so is the frame in a payload that no codec has touched:
        any client can write one.

        Raises:
            CodecMismatch: the client's codec cannot undo what the writer's did; names the encoding.
        """
        try:
            payload = Payload.FromString(data)
        except DecodeError:
            return data, False
        encoding = _encoding(payload)
        if not encoding:
            return data, False
        if payload.metadata.get(_ENCODING) == _JSON:
            return payload.data, False
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
        return opened.data, True

    def _mismatch(self, encoding: str, reason: str) -> CodecMismatch:
        return CodecMismatch(
            f"a frame of stream {self._stream.name!r} is encoded as {encoding!r}, and {reason}; connect the "
            "client with the data converter, and the keys, of the worker's client"
        )


def _encoding(payload: Payload) -> str:
    # Another program's word, maybe: enough of it to know it by, in a log line.
    return payload.metadata.get(_ENCODING, b"")[:40].decode(errors="replace")
