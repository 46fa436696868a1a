"""The audit of `make peers` finds what differs: an audit that cannot fail would show nothing."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from temporal_token_interceptor import CallStarted, TokenEvent
from temporal_token_interceptor.testing import ScriptedChatModel, StreamingActivityEnvironment
from tests.peers.inside.audit import Audit
from tests.peers.inside.reference import Answer, Reference, Run, tools_of
from tests.peers.suites import SUITES


@pytest.fixture
async def call():
    """One call's events, and a reference that has the same."""
    environment, messages = StreamingActivityEnvironment(), []

    async def activity() -> None:
        messages.append(await ScriptedChatModel.saying("Tea ", "is hot.").ainvoke("?"))

    await environment.run(activity)
    [started] = [event for event in environment.events if isinstance(event, CallStarted)]
    [message] = messages
    run = Run(True, frozenset(), ["Tea ", "is hot."], ends=1)
    run.answer = Answer(
        message.text, True, message.id, "", tools_of(message), Counter(text=1), message.usage_metadata
    )
    reference = Reference(None)
    reference.runs[started.call.run_id] = [run]
    return environment.events, reference, run


async def test_what_is_equal_is_no_mismatch(call):
    events, reference, _ = call

    audit = Audit(reference, events)

    assert audit.mismatches == []
    assert audit.counts == {"calls": 1, "texts": 1, "views": 1}


CHANGED: dict[str, dict[str, Any]] = {
    "text": {"text": "Tea is cold."},
    "reasoning": {"reasoning": "Hm."},
    "message id": {"id": "another"},
    "usage": {"usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}},
    "`.messages()`: tool calls": {"tools": ['["search", {}, "1"]']},
    "`.messages()`: blocks": {"kinds": Counter(text=1, image=1)},
}


@pytest.mark.parametrize("what", CHANGED)
async def test_each_difference_is_found(call, what):
    events, reference, run = call
    run.answer = replace(run.answer, **CHANGED[what])

    assert any(found.startswith(f"{what}:") for found in Audit(reference, events).mismatches)


async def test_a_text_that_is_lost_is_found(call):
    events, reference, _ = call
    without = [event for event in events if not isinstance(event, TokenEvent)]

    assert any(found.startswith("text:") for found in Audit(reference, without).mismatches)


async def test_a_call_that_only_one_side_has_is_found(call):
    events, reference, run = call
    more, fewer = Reference(None), Reference(None)
    more.runs = {**reference.runs, "another": [run]}

    assert Audit(more, events).mismatches == ["calls: 1 of LangChain, 0 captured"]
    assert Audit(fewer, events).mismatches == ["calls: captured alone, 1"]


def test_only_named_tests_may_fail():
    """A name is no pattern that a whole file falls under, but where all of a file is one thing."""
    for suite in SUITES:
        assert suite.why(f"{suite.tests}/test_new.py::test_new") is None
        assert all("::" in start for start in suite.known)
