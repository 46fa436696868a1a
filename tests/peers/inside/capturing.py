"""A plugin of pytest that runs each test of a suite under capture, and writes what came of it.

It is loaded within a foreign suite, whose own package `tests` hides ours; so it imports only its neighbours.
`TTI_PEERS_OUT` is the file it writes, one JSON object a line; without `TTI_PEERS_CAPTURE` it only does that.
"""

import asyncio
import functools
import inspect
import json
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CAPTURES = bool(os.environ.get("TTI_PEERS_CAPTURE"))
OUT = Path(os.environ["TTI_PEERS_OUT"] + os.environ.get("PYTEST_XDIST_WORKER", ""))

if CAPTURES:
    from temporal_token_interceptor.capture.budget import Budget
    from temporal_token_interceptor.capture.buffer import Buffer
    from temporal_token_interceptor.capture.langchain_hooks import observed_by
    from temporal_token_interceptor.capture.model_observer import Observer

    from .audit import Audit, read
    from .reference import Reference, install, noting

    install()


class Capture:
    """What the interceptor has around one attempt: a buffer, and an observer that is bound."""

    def __init__(self) -> None:
        self.buffer = Buffer(Budget(64 * 1024 * 1024), lambda: None)
        self.observer = Observer(self.buffer, default_node="test")
        self.reference = Reference(self.observer)

    @contextmanager
    def bound(self) -> Iterator[None]:
        with observed_by(self.observer, force_streaming="auto"):
            yield


_current: list[Capture] = []


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Any:
    _current[:] = [Capture()] if CAPTURES else []
    if CAPTURES:
        noting(_current[0].reference)
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Any:
    if not _current:
        return (yield)
    [capture] = _current
    original = getattr(item, "obj", None)
    if not inspect.iscoroutinefunction(original):
        with capture.bound():
            return (yield)

    @functools.wraps(original)
    async def test(*args: Any, **kwargs: Any) -> Any:
        # Bound within: the task of an async test has a context of its own.
        with capture.bound():
            result = await original(*args, **kwargs)
            await asyncio.sleep(0)  # as for an activity: ends may be dispatched one turn later
            return result

    item.obj = test  # type: ignore[attr-defined]
    try:
        return (yield)
    finally:
        item.obj = original  # type: ignore[attr-defined]


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> Any:
    try:
        return (yield)
    finally:
        for capture in _current:
            capture.observer.close()
            noting(None)
            try:
                audit = Audit(capture.reference, read(capture.buffer.take(sys.maxsize)))
            except Exception:  # noqa: BLE001 - it is a mismatch, and the suite goes on
                note(item.nodeid, {}, [f"broke: {traceback.format_exc()[-800:]}"])
            else:
                note(item.nodeid, audit.counts, audit.mismatches)
        _current.clear()


def note(test: str, counts: Mapping[str, int], mismatches: Sequence[str]) -> None:
    """Write what was compared in a test, and what differs."""
    _write(id=test, counts=counts, mismatches=mismatches)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ and getattr(report, "node", None) is not None:
        return  # what a worker has written already
    if report.when == "call" or report.outcome != "passed":
        text = "" if report.outcome == "passed" else str(report.longrepr)[-1500:]
        _write(id=report.nodeid, outcome=report.outcome, text=text)


def _write(**record: Any) -> None:
    with OUT.open("a", encoding="utf-8") as out:
        out.write(json.dumps(record, default=str) + "\n")
