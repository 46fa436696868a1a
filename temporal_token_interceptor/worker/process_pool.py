"""Capture across processes: for sync activities that Temporal runs in a process pool.

Nothing that an interceptor sets up reaches the child: no ContextVar, no event loop, no connection to a
transport. So the function that the pool calls is wrapped: the wrapper captures in the child as elsewhere, and
a thread there sends what was captured to the parent as it comes, through a loopback socket. The parent's
session numbers and delivers it. So this works with every transport, and an attempt has one writer.

The child proves by a secret, made for the attempt, that it may write: what it sends is unpickled.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import pickle
import secrets
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import update_wrapper
from types import TracebackType
from typing import Any, Self

from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.capture.buffer import Buffer
from temporal_token_interceptor.capture.filters import Selection
from temporal_token_interceptor.capture.forced_call import ForceStreaming
from temporal_token_interceptor.capture.model_observer import Observer, capturing
from temporal_token_interceptor.capture.outlet import Outlet
from temporal_token_interceptor.events import CallStarted, Gap, Record, TextRun
from temporal_token_interceptor.telemetry.attempt import NO_TELEMETRY, NoTelemetry

logger = logging.getLogger(__name__)

_HOST = "127.0.0.1"
_LENGTH = struct.Struct("!I")
_BATCH_BYTES = 64 * 1024
_END = b""  # an empty batch: all has been sent
_RECEIVED = b"\x06"
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Capture:
    """How to capture in the child.

    Attributes:
        activity_type: Names the node outside of a graph, and the activity in warnings.
        selection: What to capture.
        force_streaming: As for `capturing`.
        max_buffered_bytes: Memory for what the parent has not taken yet.
        flush_timeout: Seconds that the activity may be held up, at its start and at its end.
    """

    activity_type: str
    selection: Selection
    force_streaming: ForceStreaming
    max_buffered_bytes: int
    flush_timeout: float


class Parent:
    """The end in the worker's process: as `async with`, it puts into a buffer what one child sends.

    Args:
        buffer: Where it goes.
        capture: How the child captures.
        telemetry: Receives the calls that begin, once this process knows of them.
        on_first_call: Is called when the first record arrives.
    """

    def __init__(
        self,
        buffer: Outlet,
        capture: Capture,
        telemetry: NoTelemetry = NO_TELEMETRY,
        on_first_call: Callable[[], None] | None = None,
    ) -> None:
        self.is_connected = False
        self._buffer = buffer
        self._capture = capture
        self._telemetry = telemetry
        self._on_first_call = on_first_call
        self._secret = secrets.token_bytes(_SECRET_BYTES)
        self._server: asyncio.Server | None = None
        self._receiving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Listen; raises `OSError` where that is not allowed."""
        self._server = await asyncio.start_server(self._receive, _HOST, 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop listening. What a child sent that ended well has been received by now."""
        if self._server is not None:
            self._server.close()
        for receiving in self._receiving:
            receiving.cancel()
        if self._receiving:
            await asyncio.wait(self._receiving)

    def wrap(self, function: Callable[..., Any]) -> InChild:
        """Return what the pool is to call in place of the activity's function."""
        if self._server is None:
            raise RuntimeError("enter it first")
        port: int = self._server.sockets[0].getsockname()[1]
        return InChild(function, port, self._secret, self._capture)

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._receiving.add(task)
        try:
            if not hmac.compare_digest(await reader.readexactly(_SECRET_BYTES), self._secret):
                return
            self.is_connected = True
            while batch := await reader.readexactly(*_LENGTH.unpack(await reader.readexactly(_LENGTH.size))):
                for record in pickle.loads(batch):  # noqa: S301 - from our own child, see the module
                    self._put(record)
            writer.write(_RECEIVED)
            await writer.drain()
        except (OSError, EOFError):
            pass  # the child was killed; what it had sent is here
        except Exception:  # ours: the activity must not fail because of it
            logger.exception("tokens of activity %r are no longer received", self._capture.activity_type)
        finally:
            if task is not None:
                self._receiving.discard(task)
            writer.close()

    def _put(self, record: Record) -> None:
        if self._on_first_call is not None:
            first, self._on_first_call = self._on_first_call, None
            first()
        if isinstance(record, CallStarted):
            self._telemetry.call_started(record.call)
        self._buffer.put(record, None if isinstance(record, TextRun) else getattr(record, "call", None))


class InChild:
    """The activity's function, to be called in another process: captures there, sends to the parent."""

    def __init__(self, function: Callable[..., Any], port: int, secret: bytes, capture: Capture) -> None:
        update_wrapper(self, function)
        self._function = function
        self._port = port
        self._secret = secret
        self._capture = capture

    def __call__(self, *args: Any) -> Any:
        """Return or raise what the function does."""
        capture = self._capture
        with _sending(self._port, self._secret, capture) as buffer:
            if buffer is None:
                return self._function(*args)
            observer = Observer(buffer, default_node=capture.activity_type, selection=capture.selection)
            with capturing(observer, force_streaming=capture.force_streaming):
                return self._function(*args)


@contextmanager
def _sending(port: int, secret: bytes, capture: Capture) -> Iterator[Buffer | None]:
    """Yield a buffer whose records a thread sends on; None where the parent cannot be reached."""
    try:
        connection = socket.create_connection((_HOST, port), timeout=capture.flush_timeout or None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(secret)
    except OSError:
        yield None  # the parent warns: this child never connected
        return
    sender = _Sender(connection, capture)
    sender.thread.start()
    try:
        yield sender.buffer
    finally:
        sender.finish()


class _Sender:
    """A thread that sends what is in a buffer, as it comes."""

    def __init__(self, connection: socket.socket, capture: Capture) -> None:
        self._ready = threading.Event()
        self.buffer = Buffer(Budget(capture.max_buffered_bytes), self._ready.set)
        self.thread = threading.Thread(target=self._run, name="token-stream to parent", daemon=True)
        self._connection = connection
        self._capture = capture
        self._ending = False

    def finish(self) -> None:
        """Send what is left and wait until the parent has it; at most `flush_timeout`."""
        self._ending = True
        self._ready.set()
        self.thread.join(self._capture.flush_timeout)
        self.buffer.close()
        self._connection.close()

    def _run(self) -> None:
        try:
            while not self._ending:
                self._ready.wait()
                self._ready.clear()
                while records := self.buffer.take(_BATCH_BYTES):
                    self._send(_pickled(records))
            while records := self.buffer.take(_BATCH_BYTES):  # put before the end was announced
                self._send(_pickled(records))
            self._send(_END)
            self._connection.recv(len(_RECEIVED))
        except OSError:
            logger.warning(
                "tokens of activity %r are lost: the connection to the parent process failed",
                self._capture.activity_type,
            )
        except Exception:  # ours: the activity must not fail because of it
            logger.exception("tokens of activity %r are no longer sent", self._capture.activity_type)
        finally:
            self.buffer.close()  # nothing takes from it any more

    def _send(self, batch: bytes) -> None:
        self._connection.sendall(_LENGTH.pack(len(batch)) + batch)


def _pickled(records: tuple[Record, ...]) -> bytes:
    with suppress(Exception):
        return pickle.dumps(records)
    return pickle.dumps([_picklable(record) for record in records])


def _picklable(record: Record) -> Record:
    """Return the record; where it holds something of the user's that does not pickle, a gap."""
    try:
        pickle.dumps(record)
    except Exception:  # noqa: BLE001 - whatever the user's class raises
        return Gap(missing=1, reason="unreadable", call=getattr(record, "call", None))
    return record
