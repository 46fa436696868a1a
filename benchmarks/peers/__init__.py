"""The roads from a model's callback to a reader: ours, and those that it is compared with.

A road is what a worker has for all its calls. `call` opens the way of one call, and yields what is to be
awaited with each of its tokens: the model goes on when that returns.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from typing import Protocol

from temporal_token_interceptor.events import Origin

Say = Callable[[str], Awaitable[None]]

ROADS = {
    "ours": "ours",
    "raw": "plain_redis",
    "pipelined": "plain_redis",
    "coalesced": "plain_redis",
    "predecessor": "predecessor",
    "agentex": "agentex",
}
"""The module of each road, which has a function of the road's name."""


class Road(Protocol):
    """All that a worker has to send tokens with."""

    def call(self, attempt: Origin) -> AbstractAsyncContextManager[Say]:
        """Open the way of one call; once left, all its tokens are stored."""
        ...


def open_road(name: str, url: str) -> AbstractAsyncContextManager[Road]:
    """Return a road to the Redis of a URL, to be entered."""
    module = import_module(f"benchmarks.peers.{ROADS[name]}")
    entered: AbstractAsyncContextManager[Road] = getattr(module, name)(url)
    return entered


def plain_key(attempt: Origin) -> str:
    """Return the key that every road but ours uses for an attempt."""
    return f"peer:{attempt.attempt_id}"
