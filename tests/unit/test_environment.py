"""Every option has one name in code and one in the environment, and the documentation lists both."""

import inspect
import re
from datetime import timedelta
from pathlib import Path

import pytest

from temporal_token_interceptor import (
    ConfigurationError,
    RedisStreamBackend,
    TokenStreamingInterceptor,
    TokenStreamingPlugin,
)
from temporal_token_interceptor.environment import INTERCEPTOR, REDIS, options

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


def test_the_table_of_the_documentation_is_what_the_code_reads():
    """What I read in docs/operations.md is all there is, under the same names."""
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", OPERATIONS.read_text(encoding="utf-8"), re.MULTILINE)

    assert dict(rows) == {variable: option for variable, (option, _) in {**REDIS, **INTERCEPTOR}.items()}


@pytest.mark.parametrize(
    ("variables", "takes"), [(REDIS, RedisStreamBackend), (INTERCEPTOR, TokenStreamingInterceptor)]
)
def test_every_variable_is_an_option(variables, takes):
    assert {option for option, _ in variables.values()} <= set(inspect.signature(takes).parameters)


def test_values_are_read_by_their_kind():
    environ = {
        "TTI_NODES": "planner, writer",
        "TTI_FORCE_STREAMING": "False",
        "TTI_FLUSH_TIMEOUT_SECONDS": "0.5",
        "TTI_MAX_BUFFERED_BYTES": "",
    }

    assert options(INTERCEPTOR, environ) == {
        "nodes": ["planner", "writer"],
        "force_streaming": False,
        "flush_timeout": timedelta(seconds=0.5),
    }


@pytest.mark.parametrize("variable", ["TTI_STREAM_MAXLEN", "TTI_FORCE_STREAMING", "TTI_PATIENCE_SECONDS"])
def test_what_cannot_be_used_is_named_without_its_value(variable):
    with pytest.raises(ConfigurationError, match=variable) as caught:
        TokenStreamingPlugin.from_environment({variable: "s3cret"})

    assert "s3cret" not in str(caught.value)


def test_a_wrong_url_is_named_before_a_worker_starts():
    with pytest.raises(ConfigurationError, match="redis_url"):
        TokenStreamingPlugin.from_environment({"REDIS_URL": "http://:s3cret@host"})
