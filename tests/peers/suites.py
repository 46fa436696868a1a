"""The suites, and the tests that fail under capture and not without: each with why that is inherent."""

from collections.abc import Mapping
from dataclasses import dataclass, field

_UNIT = "tests/unit_tests"
_NO_SOCKETS = ("--disable-socket", "--allow-unix-socket", "--benchmark-disable")
_ON_TEMPORAL = ("-p", "inside.on_temporal", "-o", "asyncio_mode=auto")
_STREAMS = "it asserts that `invoke` does not stream: with us it does"
_MOCKED = "it replaces the client's method that does not stream by a mock: with us the other one is called"


@dataclass(frozen=True)
class Suite:
    """The tests of a package, from its source package.

    Attributes:
        package: As it is installed; the version is the installed one.
        tests: Where they are in the source package.
        options: Of pytest.
        known: The tests that may fail under capture, by how their ids begin, and why.
        mismatches: The tests in which what was captured may differ, and why.
    """

    package: str
    tests: str = _UNIT
    options: tuple[str, ...] = _NO_SOCKETS
    known: Mapping[str, str] = field(default_factory=dict)
    mismatches: Mapping[str, str] = field(default_factory=dict)

    def why(self, test: str) -> str | None:
        """Return why a test may fail under capture; None if it may not."""
        return _named(self.known, test)

    def why_different(self, test: str) -> str | None:
        """Return why what was captured in a test may differ; None if it may not."""
        return _named(self.mismatches, test)


def _named(reasons: Mapping[str, str], test: str) -> str | None:
    return next((why for start, why in reasons.items() if test.startswith(start)), None)


SUITES = (
    Suite("langgraph-prebuilt", tests="tests", options=()),
    Suite(
        "langchain-core",
        known={
            f"{_UNIT}/language_models/chat_models/test_base.py::test_disable_streaming": _STREAMS,
            f"{_UNIT}/runnables/test_config.py::test_merge_config_callbacks": "it counts the "
            "handlers of a call: ours is one more",
        },
        mismatches={
            f"{_UNIT}/language_models/test_chat_model_v3_stream.py::TestStreamV2::"
            "test_stream_events_v3_malformed_tool_args": "a v3 stream says at its end that a tool call whose "
            "arguments are cut off is invalid; LangChain's sum of the same chunks completes them",
        },
    ),
    Suite("langchain-tests"),
    Suite("langchain"),
    Suite("langchain-openai"),
    Suite(
        "langchain-anthropic",
        known={f"{_UNIT}/test_chat_models.py::test_mcp_tracing": _MOCKED},
    ),
    Suite("langgraph", tests="tests", options=("-p", "no:asyncio")),
    # On Temporal, with our interceptor in every worker. Temporal's own suites are in no package: the tests of
    # `temporalio`, `temporalio-langgraph` and `temporalio-deepagents` are only in its repository.
    Suite("langgraph-temporal", tests="tests", options=_ON_TEMPORAL),
    Suite("deepagent-temporal", tests="tests", options=_ON_TEMPORAL),
)
