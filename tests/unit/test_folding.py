"""Whatever a model says, in whatever pieces: the events, folded, are the message that it returned."""

from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.utils.json import parse_partial_json

from temporal_token_interceptor.events import (
    CallEnded,
    CallStarted,
    Event,
    ReasoningEvent,
    TokenEvent,
    ToolCallChunk,
)
from tests.support.answers import read_back, said_at_once, scripts


def folded(events: Sequence[Event], ordinal: int) -> dict[str, Any]:
    """One call's events as the facts of a message."""
    mine = [event for event in events if getattr(getattr(event, "call", None), "ordinal", None) == ordinal]
    calls: dict[object, dict[str, Any]] = {}
    for event in mine:
        if isinstance(event, ToolCallChunk):
            call = calls.setdefault(event.index, {"name": None, "id": None, "args": ""})
            call["args"] += event.args
            call["name"], call["id"] = call["name"] or event.name, call["id"] or event.id
    (end,) = [event for event in mine if isinstance(event, CallEnded)]
    return {
        "text": "".join(event.token for event in mine if isinstance(event, TokenEvent)),
        "reasoning": "".join(event.token for event in mine if isinstance(event, ReasoningEvent)),
        "tool_calls": [{**call, "args": parse_partial_json(call["args"])} for call in calls.values()],
        "usage": dict(end.usage) if end.usage else None,
        "finish": end.finish_reason,
        "id": end.message_id,
    }


def facts(message: BaseMessage) -> dict[str, Any]:
    """The same facts of the message that the model returned."""
    assert isinstance(message, AIMessage)
    return {
        "text": message.text,
        "reasoning": message.additional_kwargs.get("reasoning_content", ""),
        "tool_calls": [
            {"name": call["name"], "id": call["id"], "args": call["args"]} for call in message.tool_calls
        ],
        "usage": dict(message.usage_metadata) if message.usage_metadata else None,
        "finish": message.response_metadata["finish_reason"],
        "id": message.id,
    }


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scripts=scripts, bite=st.sampled_from([1, 700, 2**30]))
def test_the_events_of_a_call_folded_are_its_message(scripts, bite):
    """Up to eight calls at once, cut and mixed in any way: a reader ends up with what each model returned."""
    buffer, messages = said_at_once(scripts)
    events = read_back(buffer, bite)

    by_run = {event.call.run_id: event.call.ordinal for event in events if isinstance(event, CallStarted)}
    for message in messages:
        run = str(message.id).removeprefix("lc_run--")
        assert folded(events, by_run[run]) == facts(message)
