"""One rule for all code that runs inside the user's calls: our errors stay here, injected ones leave.

Temporal cancels a sync activity by raising an exception in its thread, wherever that thread is: also in a
callback of ours. A handler that swallows it swallows the cancellation, which is sent only once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Protocol, TypeVar, cast


class Guard:
    """Swallows exceptions, except those that were injected from outside.

    Args:
        injected: The types that another thread may raise here. They are always raised again.
    """

    def __init__(self, injected: tuple[type[Exception], ...] = ()) -> None:
        self._injected = injected

    def is_injected(self, error: BaseException) -> bool:
        """Whether another thread raised it here: nothing that we do may keep it from leaving."""
        return isinstance(error, self._injected)

    def handle(self, error: Exception, log: Callable[[Exception], None]) -> None:
        """Log an exception, or raise it again if it was injected."""
        if self.is_injected(error):
            raise error
        log(error)


NO_INJECTION = Guard()
"""For code that no other thread raises exceptions in."""


class Guarded(Protocol):
    """What `never_failing` needs of the object whose method it wraps."""

    guard: Guard

    def log_error(self, error: Exception) -> None:
        """Log an exception that was swallowed."""


_Method = TypeVar("_Method", bound=Callable[..., None])


def never_failing(method: _Method) -> _Method:
    """Wrap a method of a `Guarded` object: it raises only what was injected, and logs everything else."""

    @wraps(method)
    def guarded(self: Guarded, *args: Any, **kwargs: Any) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - the host's call must not fail because of us
            self.guard.handle(error, self.log_error)

    return cast("_Method", guarded)
