"""Questions to Temporal that wait out what passes, and the answer that ends a stream."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from temporal_token_interceptor.errors import ConfigurationError, StreamNotFound, TransportUnavailable
from temporal_token_interceptor.events import Status

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # seconds between two questions

# Of these no later answer is another one: the question itself is wrong, or this server has no answer to it.
_FINAL: Final = frozenset(
    {RPCStatusCode.INVALID_ARGUMENT, RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.OUT_OF_RANGE}
)

# What a rotated token or a reloaded access list looks like for a moment, and missing rights for good.
_REFUSED: Final = frozenset({RPCStatusCode.UNAUTHENTICATED, RPCStatusCode.PERMISSION_DENIED})


@dataclass(frozen=True, slots=True)
class Closed:
    """How a run closed.

    Attributes:
        status: As Temporal reports it.
        next_run_id: The run that the workflow goes on in, if it does.
        again: Whether that run does again what this one did (a reset, a retry): its activities then replace
            those of the same id.
    """

    status: Status
    next_run_id: str | None = None
    again: bool = False


@dataclass(frozen=True, slots=True)
class RunDescription:
    """A run as Temporal knows it.

    Attributes:
        run_id: The run.
        start_time: When it began, by Temporal's clock.
        status: How it closed; None while it runs, and of a run that goes on in another.
    """

    run_id: str
    start_time: datetime
    status: Status | None


class RetryingClient:
    """Asks Temporal until it answers.

    Args:
        client: The client.
        patience: How long Temporal may be away, or refuse, before that is an error.

    Attributes:
        patience: That, in seconds.
    """

    def __init__(self, client: Client, *, patience: timedelta) -> None:
        self.patience = patience.total_seconds()
        self._client = client

    async def call(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Ask until Temporal answers, within the bound; translate what it refuses.

        Raises:
            StreamNotFound: Temporal does not know what was asked for.
            ConfigurationError: Temporal refuses the question, and has done so for as long as the bound.
            TransportUnavailable: Temporal was away for too long.
        """
        loop = asyncio.get_running_loop()
        since: float | None = None
        pause = FIRST_PAUSE
        while True:
            try:
                answer = await ask()
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND:
                    raise StreamNotFound(
                        "Temporal knows no such workflow, run or activity in namespace "
                        f"{self._client.namespace!r}: {error.message}"
                    ) from error
                if error.status in _FINAL:
                    raise ConfigurationError(
                        f"Temporal refuses to answer ({error.status.name}: {error.message})"
                    ) from error
                if since is None:
                    since = loop.time()
                    logger.warning(
                        "Temporal does not answer (%s); asking again for %g s",
                        error.status.name,
                        self.patience,
                    )
                elif loop.time() - since > self.patience:
                    raise self._given_up(error) from error
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                if since is not None:
                    logger.warning("Temporal answers again")
                return answer

    def _given_up(self, error: RPCError) -> ConfigurationError | TransportUnavailable:
        if error.status in _REFUSED:
            return ConfigurationError(
                f"Temporal has refused to answer for {self.patience:g} s ({error.status.name}: "
                f"{error.message}); check the credentials of the client and its rights in namespace "
                f"{self._client.namespace!r}"
            )
        return TransportUnavailable(
            f"Temporal has not answered for {self.patience:g} s ({error.status.name}); resume from the last "
            "event's cursor once it is back"
        )
