"""The suite runs where the extra `frameworks` is installed: `make frameworks`."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    """Let packages warn: of what they are made of, and not of us."""
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.filterwarnings("ignore:::(?!temporal_token_interceptor)"))
