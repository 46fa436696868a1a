"""docs/telemetry.md and the dashboard say what the code says."""

import json
import re

from temporal_token_interceptor.telemetry.names import METRICS
from tests.support.telemetry_documents import DASHBOARD, PAGE, dashboard, page, prometheus


def test_the_tables_are_those_of_the_code():
    """If this fails after a change of names: `python -m tests.support.telemetry_documents`."""
    assert PAGE.read_text(encoding="utf-8") == page()


def test_the_dashboard_is_that_of_the_code():
    """If this fails after a change of names: `python -m tests.support.telemetry_documents`."""
    assert DASHBOARD.read_text(encoding="utf-8") == dashboard()


def test_the_dashboard_shows_every_metric_and_no_other():
    """Each metric has a panel, and each query asks for a metric that exists."""
    queries = [
        target["expr"]
        for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
        for target in panel["targets"]
    ]

    ungrouped = [re.sub(r"by \([^)]*\)", "", query) for query in queries]
    asked = {
        re.sub("_(bucket|sum|count)$", "", name)
        for query in ungrouped
        for name in re.findall(r"\((\w+)(?=[\[{)])", query)
    }

    assert asked == {prometheus(metric) for metric in METRICS}
