"""With real packages: my results are those without us, and a reader gets what the message says."""

import json
import os
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from langchain_core.messages import AIMessage

from temporal_token_interceptor.events import CallStarted, Event, Gap
from temporal_token_interceptor.views.workflow_run import WorkflowRun
from tests.providers.answers import ANSWERS
from tests.providers.compare import folded, messages_of, reason, refusal_of, said
from tests.providers.failures import FAILURES, verdict
from tests.providers.page import PAGE, cases, differing, messages_in, page, section, sections_of
from tests.providers.play import STREAMS, WAYS, plain
from tests.providers.providers import PROVIDERS, Provider


@pytest.mark.parametrize("way", WAYS)
async def test_my_result_is_the_one_without_us(provider, way, stage):
    """All fields of all messages, but for what docs/providers.md lists with a reason."""
    for answer in (answer for asked, answer in cases(provider) if asked == way):
        bare, captured = await stage.pair(provider, way, answer)

        assert not bare.raised, bare.result
        assert not captured.raised, captured.result
        assert plain([said(m) for m in messages_in(captured)]) == plain([said(m) for m in messages_in(bare)])
        if way not in STREAMS:
            refusals = [refusal_of(message) for message in messages_in(bare)]
            assert [refusal_of(message) for message in messages_in(captured)] == refusals
            assert bool(any(refusals)) is bool(ANSWERS[answer].refusal)
        found = await differing(provider, stage, way, answer)
        assert [name for name in found if reason(name) is None] == [], answer


async def test_the_provider_is_asked_the_same(provider, stage):
    """The second turn's request: what streaming made of a message does not change what the model reads."""
    bare, captured = await stage.pair(provider, "tools agent", "text")

    assert len(bare.requests) == len(captured.requests) == 2
    for one, other in zip(bare.requests, captured.requests, strict=True):
        assert _asked(other) == _asked(one)


def _asked(request):
    ignored = ("stream", "stream_options")
    return {name: value for name, value in request.json.items() if name not in ignored}


@pytest.mark.parametrize("way", WAYS)
async def test_a_reader_gets_what_the_message_says(provider, way, stage):
    """The events add up to the message: text, reasoning, tool calls, usage, why it ended."""
    for answer in (answer for asked, answer in cases(provider) if asked == way):
        _, captured = await stage.pair(provider, way, answer)

        assert [event for event in captured.events if isinstance(event, Gap)] == []
        if way in STREAMS:
            [*chunks] = captured.result
            whole = chunks[0]
            for chunk in chunks[1:]:
                whole += chunk
            assert folded(captured.events) == [said(whole)], answer
        else:
            expected = [said(message) for message in messages_in(captured)]
            assert _ended(provider, folded(captured.events)) == expected, answer


def _ended(provider: Provider, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was said, without the line ends that a package takes off the end of plain answers."""
    return [{**call, "text": call["text"].rstrip("\n")} if provider.strips else call for call in calls]


@pytest.mark.parametrize("answer", ANSWERS)
async def test_messages_adds_up_to_what_a_local_stream_does(provider, answer, stage):
    """`.messages()` of a remote activity against `astream` in this process."""
    if not provider.gives(ANSWERS[answer]):
        return
    local, _ = await stage.pair(provider, "astream", answer)
    _, captured = await stage.pair(provider, "ainvoke", answer)
    whole = local.result[0]
    for chunk in local.result[1:]:
        whole += chunk

    [view] = messages_of(captured.events)

    assert plain(said(view)) == plain(said(whole))
    if ANSWERS[answer].refusal:  # which a local stream may have lost
        assert refusal_of(view) == "".join(ANSWERS[answer].refusal)
    else:
        assert _kinds(view) == _kinds(whole)


def _kinds(message: AIMessage) -> list[tuple[str, str]]:
    """What else there is, beside the text, which LangChain's `content_blocks` leaves out of some sums."""
    blocks: list[dict[str, Any]] = [dict(block) for block in message.content_blocks]
    return [
        (block["type"], str(block.get("reasoning") or block.get("name") or ""))
        for block in blocks
        if block["type"] != "text"
    ]


@pytest.mark.parametrize("answer", ANSWERS)
async def test_run_has_no_invalid_tool_call_that_the_message_has_not(provider, answer, stage):
    """`.run()`: the calls of the message, valid where they are."""
    if not provider.gives(ANSWERS[answer]):
        return
    bare, captured = await stage.pair(provider, "ainvoke", answer)

    async def result() -> None:
        pass

    async with WorkflowRun(_replayed(captured.events), result) as run:
        outputs = [await call.output async for call in run.messages]

    assert plain(_ended(provider, [said(output) for output in outputs])) == plain([said(bare.result)])
    assert len(outputs) == sum(isinstance(event, CallStarted) for event in captured.events)


async def _replayed(events: list[Event]) -> AsyncGenerator[Event]:
    for event in events:
        yield event


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_failure_is_no_worse_than_without_us(provider, failure, stage):
    """Where it fails without us, it fails; where it answers, it answers the same."""
    is_as_good, outcomes = verdict(*await stage.failing(provider, failure))

    assert is_as_good, outcomes


async def test_the_page_shows_what_was_seen(provider, stage):
    """docs/providers.md is true."""
    made = await section(provider, stage)
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    if os.environ.get("TTI_UPDATE_DOCS"):
        known = {**sections_of(text), provider.title: made}
        titles = [one.title for one in PROVIDERS.values()]
        text = page([known[title] for title in titles if title in known])
        PAGE.write_text(text, encoding="utf-8")

    assert sections_of(text)[provider.title] == sections_of(page([made]))[provider.title]


def test_the_page_has_every_provider():
    """And no other; its head is the one of the code."""
    text = PAGE.read_text(encoding="utf-8")

    assert list(sections_of(text)) == [provider.title for provider in PROVIDERS.values()]
    assert text == page(list(sections_of(text).values()))


def test_answers_are_json_where_they_say_so():
    """A guard of the suite itself: tools get arguments that can be read."""
    for answer in ANSWERS.values():
        assert all(isinstance(json.loads(call.json), dict) for call in answer.calls)
