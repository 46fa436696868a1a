"""Which workflows a stream over many reads: those that a user names, or that a query finds."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from typing import NamedTuple


class Found(NamedTuple):
    """A workflow that a query found.

    Attributes:
        workflow_id: The workflow.
        run_id: One of its runs.
        is_running: Whether that run has not closed.
    """

    workflow_id: str
    run_id: str
    is_running: bool


class RoundOver(NamedTuple):
    """A query has been answered once, from beginning to end."""


Feed = AsyncGenerator[str | Found | RoundOver]
"""Where the workflows come from, beside `add`."""


async def given(workflows: Iterable[str] | AsyncIterable[str]) -> Feed:
    """Iterate over the workflows that a user names; a generator is closed with this one."""
    if not isinstance(workflows, AsyncIterable):
        for workflow_id in workflows:
            yield workflow_id
        return
    ids = aiter(workflows)
    try:
        async for workflow_id in ids:
            yield workflow_id
    finally:
        if isinstance(ids, AsyncGenerator):
            await ids.aclose()
