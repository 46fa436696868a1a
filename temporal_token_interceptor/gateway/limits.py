"""How much a gateway takes on: connections, their workflows, the size of bodies, the time of a write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import timedelta

from temporal_token_interceptor._arguments import positive_duration, positive_number
from temporal_token_interceptor.gateway.problem import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of one gateway, which is one process. What is beyond them is refused with 429.

    Attributes:
        connections: Streams at a time.
        connections_per_workflow: Of them, those that read one workflow.
        connections_per_principal: Of them, those of one `Allow.principal`, where there is one.
        workflows_per_connection: Of a multiplexed stream.
        body_bytes: Of a request.
        write_timeout: How long a client may take to accept one write before its connection is closed.

    Raises:
        ConfigurationError: one of them is not positive.
    """

    connections: int = 10_000
    connections_per_workflow: int = 5_000
    connections_per_principal: int = 100
    workflows_per_connection: int = 64
    body_bytes: int = 1 << 20
    write_timeout: timedelta = timedelta(seconds=30)

    def __post_init__(self) -> None:
        for one in fields(self):
            check = positive_duration if one.name == "write_timeout" else positive_number
            check(one.name, getattr(self, one.name))


class Connections:
    """Counts the streams that live.

    Args:
        limits: What it refuses beyond.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._workflows: Counter[str] = Counter()
        self._principals: Counter[str] = Counter()
        self.count = 0

    def check(self, workflows: Sequence[str], principal: str | None) -> None:
        """Refuse a stream for which there is no room.

        Raises:
            Problem: 429; the detail names the limit.
        """
        limits = self._limits
        if self.count >= limits.connections:
            raise _too_many("this server")
        if principal is not None and self._principals[principal] >= limits.connections_per_principal:
            raise _too_many("you")
        if any(self._workflows[one] >= limits.connections_per_workflow for one in workflows):
            raise _too_many("a workflow")

    @contextmanager
    def counted(self, workflows: Sequence[str], principal: str | None) -> Iterator[None]:
        """Count a stream while it lives."""
        self._add(workflows, principal, 1)
        try:
            yield
        finally:
            self._add(workflows, principal, -1)

    def _add(self, workflows: Sequence[str], principal: str | None, number: int) -> None:
        self.count += number
        for counter, names in (
            (self._workflows, workflows),
            (self._principals, [principal] if principal else []),
        ):
            for name in names:
                counter[name] += number
                if not counter[name]:
                    del counter[name]  # or the counters would keep every name that ever was


def _too_many(whose: str) -> Problem:
    detail = f"too many streams of {whose} are open: close some, or come again later"
    return Problem(429, detail, {"Retry-After": "5"})
