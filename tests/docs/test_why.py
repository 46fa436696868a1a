"""What docs/why.md says of others is still so in the packages that are installed here."""

import inspect
import re
from datetime import timedelta
from importlib import metadata
from pathlib import Path

import pytest
from temporalio.contrib import workflow_streams
from temporalio.contrib.workflow_streams import WorkflowStreamClient

from tests.support.pages import ROOT

PAGE = (ROOT / "docs" / "why.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("package", ["temporalio", "temporalio-langgraph", "langgraph-temporal"])
def test_the_versions_are_those_that_were_compared(package):
    """Another version: read again what it does, correct the page, then name it there."""
    [named] = re.findall(rf"(?<![\w-]){package}`? (\d[\d.]*\d)", PAGE)

    assert named == metadata.version(package)


def test_workflow_streams_are_experimental_and_batched_by_two_seconds():
    """Its own words, and its defaults."""
    package = Path(workflow_streams.__file__).parent
    readme = (package / "README.md").read_text(encoding="utf-8")
    defaults = inspect.signature(WorkflowStreamClient.create).parameters

    assert "experimental release stage" in readme
    assert "latency is around 100ms" in readme
    assert defaults["batch_interval"].default == timedelta(seconds=2)
    assert "Signals carry publishes, Updates serve" in readme


def test_temporals_langgraph_plugin_streams_what_nodes_write_and_no_tokens():
    """Its own words, and what it says of a retry."""
    about = metadata.metadata("temporalio-langgraph").json["description"]

    assert 'exactly **one** LangGraph stream mode: `stream_mode="custom"`' in about
    assert "**at-least-once** delivery per activity attempt" in about
    assert "**must** construct `WorkflowStream()`" in about
