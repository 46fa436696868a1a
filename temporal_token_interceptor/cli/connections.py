"""What every command needs, by environment: a Temporal client, a backend where there is one, a subscriber."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from temporalio.client import Client
from temporalio.converter import DataConverter
from temporalio.envconfig import ClientConfig
from temporalio.service import RPCError

from temporal_token_interceptor.cli.importing import imported
from temporal_token_interceptor.errors import ConfigurationError, TransportUnavailable
from temporal_token_interceptor.reader.subscriber import TokenSubscriber
from temporal_token_interceptor.transport.redis.backend import RedisStreamBackend

_T = TypeVar("_T")

# Seconds. After its last answer a thread of the Temporal SDK still releases Python objects; an interpreter
# that exits just then aborts ("PyGILState_Release"), and there is no event to wait for: sdk-python issue 300.
_SDK_REST = 0.2


@dataclass(frozen=True, slots=True)
class Connections:
    """What a command works with.

    Attributes:
        client: A connected Temporal client.
        subscriber: Reads from both.
    """

    client: Client
    subscriber: TokenSubscriber


@asynccontextmanager
async def connected(data_converter: str | None) -> AsyncGenerator[Connections]:
    """Connect by `TEMPORAL_*` (or Temporal's configuration file), `REDIS_URL` and `TTI_*`.

    Args:
        data_converter: `module:name` of the data converter of your workers' clients; None for the default.

    Raises:
        ConfigurationError: a variable or `data_converter` cannot be used; the message names it.
        TransportUnavailable: Temporal does not answer.
    """
    async with AsyncExitStack() as stack:
        client = await temporal_client(data_converter)
        backend = None
        if os.environ.get("REDIS_URL"):
            backend = await stack.enter_async_context(RedisStreamBackend.from_environment())
        yield Connections(client, TokenSubscriber.from_environment(client, backend))


async def at_once() -> None:
    """Be done: as the `until=` of a subscription it ends it once what is there has been read."""


def run_and_rest(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine on a loop of its own, with a rest before the interpreter may exit."""

    async def rested() -> _T:
        try:
            return await work
        finally:
            await asyncio.sleep(_SDK_REST)

    return asyncio.run(rested())


async def temporal_client(data_converter: str | None) -> Client:
    """Connect to Temporal by the environment.

    Raises:
        ConfigurationError: the configuration or `data_converter` cannot be used.
        TransportUnavailable: Temporal does not answer; the message names the address.
    """
    try:
        config: dict[str, Any] = dict(ClientConfig.load_client_connect_config())
    except (RuntimeError, ValueError) as error:
        raise ConfigurationError(
            f"Temporal's configuration cannot be read: {error}; check TEMPORAL_*"
        ) from error
    config.setdefault("target_host", "localhost:7233")
    if data_converter:
        config["data_converter"] = _converter(data_converter)
    try:
        return await Client.connect(**config)
    except (RuntimeError, RPCError) as error:
        raise TransportUnavailable(
            f"Temporal does not answer at {config['target_host']}: start it, or set TEMPORAL_ADDRESS"
        ) from error


def _converter(name: str) -> DataConverter:
    found = imported("--data-converter", name)
    if not isinstance(found, DataConverter):
        raise ConfigurationError(
            f"--data-converter {name!r} is a {type(found).__name__}, not a DataConverter"
        )
    return found
