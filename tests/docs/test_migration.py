"""What docs/migration.md says of names that stay: they take what they took.

What they do is held by tests/integration/test_by_hand.py and tests/unit/test_token_handler.py.
"""

import inspect
import re
from typing import Any

import pytest

import temporal_token_interceptor
from temporal_token_interceptor import (
    CallEnded,
    ConfigurationError,
    MemoryStreamBackend,
    RedisStreamBackend,
    TokenCapturingHandler,
    TokenEvent,
    TokenStreamingInterceptor,
    TokenSubscriber,
    create_token_handler,
    testing,
)
from temporal_token_interceptor.testing import ScriptedChatModel, StreamingActivityEnvironment
from tests.support.pages import ROOT

PAGE = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")

# Names and defaults as deepagent-temporal's streaming documentation has them; `...` for those without one.
HANDLER = {"heartbeat_fn": None, "heartbeat_interval": 50, "attempt": 1}
THERE: dict[str, tuple[Any, dict[str, Any]]] = {
    "TokenEvent": (
        TokenEvent,
        {"token": ..., "node_name": ..., "index": ..., "is_final": False, "attempt": 1},
    ),
    "TokenCapturingHandler": (TokenCapturingHandler, {"node_name": ..., "publish": ..., **HANDLER}),
    "create_token_handler": (create_token_handler, {"node_name": ..., "sink": ..., **HANDLER}),
    "publish": (RedisStreamBackend.publish, {"workflow_id": ..., "event": ...}),
    "publish_complete": (RedisStreamBackend.publish_complete, {"workflow_id": ...}),
    "subscribe": (RedisStreamBackend.subscribe, {"workflow_id": ..., "last_id": "0-0", "block_ms": None}),
    "cleanup": (RedisStreamBackend.cleanup, {"workflow_id": ...}),
    "close": (RedisStreamBackend.close, {}),
}


@pytest.mark.parametrize("name", THERE)
def test_what_keeps_its_name_keeps_its_arguments(name):
    """My calls go on: the same arguments, in the same order, with the same defaults."""
    found, there = THERE[name]
    here = {
        parameter.name: ... if parameter.default is parameter.empty else parameter.default
        for parameter in inspect.signature(found).parameters.values()
        if parameter.name != "self"
    }

    assert dict(list(here.items())[: len(there)]) == there
    assert name in PAGE


def test_the_backend_has_the_defaults_that_the_page_says():
    """The four arguments are in their old order; what they default to stands in the page."""
    parameters = inspect.signature(RedisStreamBackend).parameters
    here = {name: parameter.default for name, parameter in list(parameters.items())[:4]}

    assert list(here) == ["redis_url", "channel_prefix", "stream_maxlen", "stream_ttl_seconds"]
    assert f"`channel_prefix` is `{here['channel_prefix']}`" in PAGE
    assert f"`stream_maxlen` {here['stream_maxlen']:,}" in PAGE
    assert f"`stream_ttl_seconds` {here['stream_ttl_seconds']:,}" in PAGE


def test_names_of_the_new_side_exist():
    """Each capitalised name in the columns "here" and "otherwise" is public, or Temporal's."""
    cells = [row.split("|")[2:] for row in PAGE.splitlines() if row.startswith("| ")]
    names = {
        name
        for cell in cells
        for code in re.findall(r"`([^`]+)`", "|".join(cell))
        for name in re.findall(r"\b[A-Z][a-z]+[A-Z]\w+", code)
    }

    assert "TokenSubscriber" in names
    assert names <= {*temporal_token_interceptor.__all__, *testing.__all__}


async def test_what_the_page_says_of_filters_and_ends():
    """`nodes=`, `kinds=` and `force_streaming=` choose; a call ends by `CallEnded`, and no token is final."""

    async def answer() -> str:
        return (await ScriptedChatModel.saying("to", "ken").ainvoke("?")).text

    everything = StreamingActivityEnvironment(kinds=["text"])
    await everything.run(answer)
    whole = StreamingActivityEnvironment(force_streaming=False)
    await whole.run(answer)
    other_node = StreamingActivityEnvironment(nodes=["planner"])
    await other_node.run(answer)

    assert (everything.tokens, whole.tokens, other_node.tokens) == (["to", "ken"], ["token"], [])
    tokens = [event for event in everything.events if isinstance(event, TokenEvent)]
    assert [(token.call.id, token.index, token.is_final) for token in tokens] == [
        (tokens[0].call.id, 0, False),
        (tokens[0].call.id, 1, False),
    ]
    assert sum(isinstance(event, CallEnded) for event in everything.events) == 1


def test_what_cannot_be_used_is_refused_at_once():
    with pytest.raises(ConfigurationError):
        RedisStreamBackend(stream_maxlen=0)
    with pytest.raises(ConfigurationError):
        TokenCapturingHandler("node", print, heartbeat_interval=0)
    with pytest.raises(ConfigurationError):
        TokenSubscriber(None)
    assert TokenStreamingInterceptor(MemoryStreamBackend()).backend is not None
