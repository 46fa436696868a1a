"""One wire for the session. The suite runs where the extra `providers` is installed: `make providers`."""

import gc
import os
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tests.providers.page import Stage
from tests.providers.providers import PROVIDERS, QUICK
from tests.providers.wire import serving

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = (
    "True"  # it would look for prices in the network when it is imported
)

HERE = Path(__file__).parent
RUN = os.environ.get("TTI_PROVIDERS", "all")
"""Which providers: `all`, `quick`, or names."""


def chosen() -> list[str]:
    """Return the names of the providers to be run; an unknown one is an error."""
    names = {"all": list(PROVIDERS), "quick": list(QUICK)}.get(RUN) or RUN.split(",")
    return [PROVIDERS[name].name for name in names]


def pytest_collection_modifyitems(items):
    """Let packages warn: of what they are made of, and not of us."""
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.filterwarnings("ignore:::(?!temporal_token_interceptor)"))
            # LiteLLM takes a minute to be imported, and boto3 seconds for a client, on a loaded machine.
            item.add_marker(pytest.mark.timeout(180))


def pytest_generate_tests(metafunc):
    if "provider" in metafunc.fixturenames:
        names = chosen()
        metafunc.parametrize("provider", [PROVIDERS[name] for name in names], ids=names)


@pytest.fixture(autouse=True)
async def nothing_is_left_behind(no_leaked_tasks):
    """LiteLLM starts a task for its own log, and leaves it to its users to stop it."""
    yield
    if "litellm" in sys.modules:
        await import_module("litellm.litellm_core_utils.logging_worker").GLOBAL_LOGGING_WORKER.stop()


@pytest.fixture(scope="session")
def wire(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("wire"), sorted({p.host for p in PROVIDERS.values()})) as wire:
        yield wire
    gc.collect()  # here, where packages may warn: google-genai leaves a coroutine behind when it fails


@pytest.fixture(scope="session")
def stage(wire):
    """Runs each thing once, for the tests and for the page."""
    return Stage(wire)
