"""Running what stands in the pages: a play prepares what a snippet takes for granted, runs it and judges.

A snippet may write `...` for arguments that its reader has: the stand-ins here fill them in.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from tests.support.pages import ROOT, Block, blocks, name_of, pages
from tests.support.streams import unique

_PYTHON = frozenset({"python", "py", "pycon"})

# Pages that one test runs, or compares, as a whole.
PLAYED_AS_A_WHOLE = {
    "docs/api.md": "tests/docs/test_api_document.py::test_the_reference_is_that_of_the_code",
    "docs/tutorial.md": "tests/docs/test_tutorial.py::test_all_that_is_printed_is_run_here",
}


@dataclass
class Stage:
    """What a play may use.

    Attributes:
        client: A Temporal client, of a real server.
        redis_url: A real Redis.
        folder: An empty folder.
        exits: Closed when the play is over; last in, first out.
    """

    client: Client
    redis_url: str
    folder: Path
    exits: AsyncExitStack

    @property
    def environment(self) -> dict[str, str]:
        """What programs find in their environment to reach the servers."""
        return {
            "TEMPORAL_ADDRESS": self.client.service_client.config.target_host,
            "REDIS_URL": self.redis_url,
        }

    def program_environment(self) -> dict[str, str]:
        """The environment of a program that a page shows."""
        mine = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        return os.environ | self.environment | mine

    def worker(self, *, started: bool = True, **filled: Any) -> Callable[..., Worker]:
        """A `Worker` for snippets; what they left out as `...` stands in `filled`.

        Args:
            started: Whether it runs until the play is over; a snippet that runs it itself needs that not.
            filled: What `...` stands for.
        """

        def make(client: Client, *_left_out: object, **options: Any) -> Worker:
            defaults = {"task_queue": unique("snippet"), "workflow_runner": UnsandboxedWorkflowRunner()}
            worker = Worker(client, **(defaults | filled | options))
            if started:
                running = asyncio.ensure_future(worker.run())
                self.exits.push_async_callback(_stop, worker, running)
            return worker

        return make

    @property
    def connecting(self) -> type:
        """A `Client` for snippets: `connect(...)` reaches the server of the tests."""
        address = self.environment["TEMPORAL_ADDRESS"]

        class Connecting:
            @staticmethod
            async def connect(*_left_out: object, **options: Any) -> Client:
                return await Client.connect(**({"target_host": address} | options))

        return Connecting


async def _stop(worker: Worker, running: asyncio.Future[None]) -> None:
    await worker.shutdown()
    await running


@dataclass(frozen=True)
class Play:
    """Some snippets of a page, and what runs them."""

    page: str
    beginnings: tuple[str, ...]
    perform: Callable[..., Awaitable[None]]

    def __str__(self) -> str:
        return f"{self.page}: {self.perform.__name__}"

    def claims(self, block: Block) -> bool:
        """Whether it runs a block."""
        return block.page == self.page and any(block.code.startswith(begin) for begin in self.beginnings)

    def blocks(self) -> list[Block]:
        """The blocks that it runs: one for each beginning, in that order."""
        found: list[Block] = []
        for beginning in self.beginnings:
            matching = [
                block for block in snippets() if block.page == self.page and block.code.startswith(beginning)
            ]
            assert len(matching) == 1, f"{self}: {len(matching)} blocks begin with {beginning!r}"
            found += matching
        return found


PLAYS: list[Play] = []


def play(
    page: str, *beginnings: str
) -> Callable[[Callable[..., Awaitable[None]]], Callable[..., Awaitable[None]]]:
    """Say which snippets of a page a function runs: those that begin so.

    The function is called with the stage and the blocks. Each block has to have been run when it returns.
    """

    def register(perform: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        PLAYS.append(Play(page, beginnings, perform))
        return perform

    return register


@cache
def every_block() -> list[Block]:
    """Every fenced block of every page, but of those that are played as a whole."""
    return [block for page in pages() if name_of(page) not in PLAYED_AS_A_WHOLE for block in blocks(page)]


def snippets() -> list[Block]:
    """Those of Python."""
    return [block for block in every_block() if block.language in _PYTHON]


def other_blocks() -> list[Block]:
    """The rest."""
    return [block for block in every_block() if block.language not in _PYTHON]
