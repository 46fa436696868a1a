"""What a tree of workflows reads in a namespace: a child may live in another one than its parent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Protocol

from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.reader.request import ReadRequest
from temporal_token_interceptor.reader.run_stream import Batches
from temporal_token_interceptor.reader.temporal.children import RunEnded, Start, children, in_namespace
from temporal_token_interceptor.reader.workflow_stream import Runs

if TYPE_CHECKING:
    from temporalio.client import Client


class Readable(Protocol):
    """What a tree asks of a namespace; `Namespace` has it."""

    async def first_run(self, request: ReadRequest) -> str | None:
        """Return the run that a request begins with."""
        ...

    def batches(self, request: ReadRequest) -> Batches:
        """Iterate over the events of a workflow."""
        ...

    def children(self, workflow_id: str, run_id: str, stop: asyncio.Future[None]) -> AsyncGenerator[Start]:
        """Iterate over the children that the runs of a workflow start."""
        ...

    async def history_length(self, workflow_id: str, run_id: str) -> int:
        """Return how many events the history of a run has."""
        ...


ReadsIn = Callable[[str], Readable]
"""Returns the namespace of a name."""


class Namespace:
    """Reads workflows of one namespace, and which children they start.

    Args:
        client: Of the namespace.
        runs: The same namespace's.

    Raises:
        ConfigurationError: there is no client, which knows the children of a workflow.
    """

    def __init__(self, client: Client | None, runs: Runs) -> None:
        if client is None or runs.workflows is None:
            raise ConfigurationError("children=True needs a Temporal client: it knows what a workflow starts")
        self._client = client
        self._asking = runs.workflows
        self._runs = runs

    async def first_run(self, request: ReadRequest) -> str | None:
        """Return the run that a request begins with; None if its `until`, a future, comes first.

        Raises:
            StreamNotFound: not started in time, or no such namespace.
        """
        return await self._runs.first_run(request)

    def batches(self, request: ReadRequest) -> Batches:
        """Iterate over the events of a workflow, in lists."""
        return self._runs.batches(request)

    async def children(
        self, workflow_id: str, run_id: str, stop: asyncio.Future[None]
    ) -> AsyncGenerator[Start]:
        """Iterate over the children that the runs of a workflow start, from this run on.

        Args:
            workflow_id: The workflow.
            run_id: The run.
            stop: Once it is done, what there is by then is read, and no more is waited for.

        Raises:
            StreamNotFound: no such run.
            TransportUnavailable: Temporal was away for too long.
        """
        run: str | None = run_id
        while run is not None:
            has_ended = False
            async with aclosing(children(self._client, self._asking, workflow_id, run, stop)) as starts:
                async for start in starts:
                    has_ended = isinstance(start, RunEnded)
                    yield start
            run = (await self._asking.closed(workflow_id, run)).next_run_id if has_ended else None

    async def history_length(self, workflow_id: str, run_id: str) -> int:
        """Return how many events the history of a run has."""
        return await self._asking.history_length(workflow_id, run_id)


class Namespaces:
    """Makes a `Namespace` of each that is named, over one connection.

    Args:
        own: The subscriber's.
        make: Makes what reads the runs of another one.
    """

    def __init__(self, own: Runs, make: Callable[[Client], Runs]) -> None:
        self._own = own
        self._make = make
        self._known: dict[str, Namespace] = {}

    def __call__(self, name: str) -> Namespace:
        """Return the namespace of a name.

        Raises:
            ConfigurationError: there is no client.
        """
        found = self._known.get(name)
        if found is None:
            client = self._own.client
            if client is None or name == client.namespace:
                found = Namespace(client, self._own)
            else:
                other = in_namespace(client, name)
                found = Namespace(other, self._make(other))
            self._known[name] = found
        return found
