"""Who may do what: the question that a gateway asks its host, and the answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from starlette.requests import Request

from temporal_token_interceptor.views.visible import Visible


@dataclass(frozen=True, slots=True)
class Target:
    """What a client asks for.

    Attributes:
        workflow_id: The workflow; empty where one is to be started, or runs are to be listed.
        run_id: The run to begin with; None for the newest.
        action: What is to be done with it.
    """

    workflow_id: str
    run_id: str | None
    action: Literal["read", "start", "cancel", "list"]


@dataclass(frozen=True, slots=True)
class Allow:
    """The client may.

    Attributes:
        nodes: As of `Visible`: only what these nodes report. None for all.
        kinds: As of `Visible`.
        content: As of `Visible`.
        until: When a stream has to come again to be asked for again; None: `recheck` alone decides.
        principal: Whose connection it is, for `Limits.connections_per_principal`; it is sent nowhere.
    """

    nodes: frozenset[str] | None = None
    kinds: frozenset[str] | None = None
    content: bool = True
    until: datetime | None = None
    principal: str | None = None

    @property
    def visible(self) -> Visible:
        """What of a stream is shown."""
        return Visible(self.nodes, self.kinds, self.content)


@dataclass(frozen=True, slots=True)
class Deny:
    """The client may not.

    Attributes:
        status: 403, or 401 where the client has to log in first.
        hide: Whether it is answered as if there were no such workflow.
    """

    status: Literal[401, 403] = 403
    hide: bool = False


Authorize = Callable[[Request, Target], Awaitable[Allow | Deny]]
"""Answers for each connection, and again while a stream lives."""


async def anyone(request: Request, target: Target) -> Allow:  # noqa: ARG001 - as every `authorize`
    """Allow everything: for streams that hold nothing private, and for a first try."""
    return Allow()
