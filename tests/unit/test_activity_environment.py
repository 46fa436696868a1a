"""Activities of one's own, tested without a server: `StreamingActivityEnvironment`."""

import asyncio

import pytest
from temporalio import activity

from temporal_token_interceptor import AttemptEnded, AttemptStarted, ConfigurationError, Gap, TokenEvent
from temporal_token_interceptor.testing import ScriptedChatModel, StreamingActivityEnvironment


@activity.defn
async def answer(question: str) -> str:
    return (await ScriptedChatModel.saying("To ", question).ainvoke("?")).text


@activity.defn
def answer_in_thread(question: str) -> str:
    return ScriptedChatModel.saying("To ", question).invoke("?").text


@pytest.mark.parametrize("function", [answer, answer_in_thread])
async def test_what_an_activity_says_is_there_when_it_returns(function):
    """I run my activity, get its result, and see what a subscriber would."""
    environment = StreamingActivityEnvironment()

    assert await environment.run(function, "you") == "To you"

    assert environment.tokens == ["To ", "you"]
    assert environment.text == "To you"
    [token, _] = [event for event in environment.events if isinstance(event, TokenEvent)]
    assert (token.origin.activity_type, token.node_name) == (function.__name__, function.__name__)
    assert not any(isinstance(event, Gap) for event in environment.events)


async def test_each_run_is_a_further_attempt_that_takes_the_last_one_back():
    """My model dies in mid-sentence: its text does not stand; I run again, and have what a retry gives."""
    answers = iter([["Dur", ConnectionError("gone")], ["Durable", "."]])
    model = ScriptedChatModel(script=lambda _messages: next(answers))
    environment = StreamingActivityEnvironment()

    async def speak() -> str:
        return (await model.ainvoke("?")).text

    with pytest.raises(ConnectionError, match="gone"):
        await environment.run(speak)
    assert environment.text == ""
    assert await environment.run(speak) == "Durable."

    assert environment.text == "Durable."
    assert environment.tokens == ["Dur", "Durable", "."]
    [first, second] = [event for event in environment.events if isinstance(event, AttemptStarted)]
    assert (first.supersedes, second.supersedes) == (None, first.origin)
    assert [event.outcome for event in environment.events if isinstance(event, AttemptEnded)] == [
        "failed",
        "completed_provisional",
    ]


async def test_it_filters_as_the_interceptor_does():
    environment = StreamingActivityEnvironment(activities=["another"])

    assert await environment.run(answer, "nobody") == "To nobody"

    assert environment.events == []


async def test_an_unusable_option_is_named_at_once():
    with pytest.raises(ConfigurationError, match="kinds"):
        StreamingActivityEnvironment(kinds=["texts"])  # type: ignore[list-item]


async def test_a_cancelled_activity_tells_what_it_said_before():
    """I cancel through Temporal's own environment, in mid-sentence."""
    said = asyncio.Event()
    environment = StreamingActivityEnvironment()

    async def never_end() -> None:
        await ScriptedChatModel.saying("so far").ainvoke("?")
        said.set()
        await asyncio.Event().wait()

    running = asyncio.ensure_future(environment.run(never_end))
    await said.wait()
    environment.environment.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert environment.text == "so far"
    assert [event.outcome for event in environment.events if isinstance(event, AttemptEnded)] == ["cancelled"]
