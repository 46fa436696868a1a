"""Commands as bytes, packed in C where redis-py has hiredis.

redis-py's asyncio connections pack in Python: 1.5 us a word, and a batch of the writer, or a shared read, has
two or three words for each stream. Its connections for threads pack by hiredis, at a fifth of that; so do we.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from redis.asyncio.connection import AbstractConnection

Command = Sequence[str | int | bytes]
"""A command's words."""

_pack: Callable[..., list[bytes]] | None
try:
    from redis.connection import HiredisRespSerializer
except ImportError:  # redis-py was installed without hiredis, which we ask for
    _pack = None
else:
    _pack = HiredisRespSerializer().pack


def packed(connection: AbstractConnection, commands: Iterable[Command]) -> list[bytes]:
    """Return what is to be sent over a connection for some commands."""
    pack: Callable[..., list[Any]] = _pack or connection.pack_command
    if _pack is None:
        return [chunk for command in commands for chunk in pack(*command)]
    return [b"".join([chunk for command in commands for chunk in pack(*command)])]
