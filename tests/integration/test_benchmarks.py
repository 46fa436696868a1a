"""Every benchmark runs, in a small form that measures nothing: so that it works when it is needed."""

import gc
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib import import_module
from types import SimpleNamespace

import pytest

from benchmarks import measure
from benchmarks.__main__ import BENCHMARKS
from benchmarks.measure import Figure, Size

SMALL = Size(0.01)


@pytest.fixture(autouse=True)
def in_threads(monkeypatch):
    """Children are threads: a process of its own takes seconds to import what is already here."""
    monkeypatch.setattr(measure, "ProcessPoolExecutor", lambda workers, _context: ThreadPoolExecutor(workers))
    threshold = gc.get_threshold()
    gc.freeze()  # benchmarks collect garbage often, and the suite's own objects are many
    yield
    gc.set_threshold(*threshold)
    gc.unfreeze()


@pytest.fixture(autouse=True)
def servers(monkeypatch, redis_url, client):
    """Those of the session, not one of each for each benchmark."""
    monkeypatch.setenv("REDIS_URL", redis_url)

    @asynccontextmanager
    async def running():
        yield SimpleNamespace(client=client)

    for module in ("history", "heartbeats", "peers.workflow_streams"):
        monkeypatch.setattr(import_module(f"benchmarks.{module}"), "temporal_server", running)


@pytest.mark.parametrize("name", BENCHMARKS)
async def test_a_benchmark_measures_what_its_name_says(name):
    """Each yields figures, under its own name, that read back as they were written."""
    module, function = BENCHMARKS[name]

    figures = [figure async for figure in getattr(import_module(f"benchmarks.{module}"), function)(SMALL)]

    assert figures
    assert {figure.name.partition(".")[0] for figure in figures} == {
        "peers" if name == "workflow_streams" else name
    }
    assert [Figure.of(figure.line()).name for figure in figures] == [figure.name for figure in figures]
    assert not [figure for figure in figures if figure.name.endswith(".lost") and figure.value]
