"""The handler of `deepagent-temporal`, attached by hand: same signature, same events."""

import asyncio
import threading
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk, GenerationChunk, LLMResult

from temporal_token_interceptor import (
    ConfigurationError,
    TokenCapturingHandler,
    TokenEvent,
    create_token_handler,
)
from temporal_token_interceptor.testing import ScriptedChatModel

RUN = uuid4()


def a_chunk(content: Any) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(content=content))


def speak(handler: TokenCapturingHandler, *tokens: str) -> None:
    """Call the handler as LangChain does in one model call."""
    handler.on_chat_model_start({}, [[]], run_id=RUN)
    for token in tokens:
        handler.on_llm_new_token(token, chunk=a_chunk(token), run_id=RUN)
    handler.on_llm_end(LLMResult(generations=[]), run_id=RUN)


def told(events: list[TokenEvent]) -> list[tuple[str, int, bool]]:
    return [(event.token, event.index, event.is_final) for event in events]


def test_tokens_are_numbered_and_a_final_marker_ends_the_call():
    """Each token once, in order, then an empty final event whose index is the number of tokens."""
    events: list[TokenEvent] = []

    speak(TokenCapturingHandler("planner", events.append, attempt=3), "a", "b")

    assert told(events) == [("a", 0, False), ("b", 1, False), ("", 2, True)]
    assert {(event.node_name, event.attempt) for event in events} == {("planner", 3)}


def test_each_call_counts_from_zero():
    """A summarising middleware may call the model first: the answer is numbered on its own."""
    events: list[TokenEvent] = []
    handler = TokenCapturingHandler("planner", events.append)

    speak(handler, "a", "b")
    speak(handler, "c")

    assert told(events)[3:] == [("c", 0, False), ("", 1, True)]
    assert handler.token_count == 1


def test_the_flat_form_is_the_one_that_clients_know():
    """Strings and integers only, as `XADD` accepts them."""
    events: list[TokenEvent] = []

    speak(TokenCapturingHandler("planner", events.append, attempt=2), "a")

    assert [event.to_dict() for event in events] == [
        {"type": "token", "token": "a", "node_name": "planner", "index": 0, "is_final": "0", "attempt": 2},
        {"type": "token", "token": "", "node_name": "planner", "index": 1, "is_final": "1", "attempt": 2},
    ]


def test_every_nth_token_beats_the_heart():
    """A heartbeat with a word on progress every `heartbeat_interval` tokens."""
    beats: list[str] = []
    handler = TokenCapturingHandler(
        "planner", lambda _event: None, heartbeat_fn=beats.append, heartbeat_interval=2
    )

    speak(handler, *"abcde")

    assert beats == ["node=planner tokens=2", "node=planner tokens=4"]


def test_a_heartbeat_outside_of_an_activity_is_no_error():
    """`activity.heartbeat` raises `RuntimeError` in a unit test; the tokens come all the same."""
    events: list[TokenEvent] = []

    def beat(*details: object) -> None:
        raise RuntimeError("Not in activity context")

    speak(TokenCapturingHandler("planner", events.append, heartbeat_fn=beat, heartbeat_interval=1), "a", "b")

    assert len(events) == 3


def test_other_errors_of_the_heartbeat_are_not_hidden():
    """Only what says "no activity here" is passed over."""

    def beat(*details: object) -> None:
        raise LookupError("mistyped")

    with pytest.raises(LookupError):
        speak(TokenCapturingHandler("p", lambda _: None, heartbeat_fn=beat, heartbeat_interval=1), "a")


@pytest.mark.parametrize("chunk", [None, GenerationChunk(text="a")])
def test_only_chat_models_are_heard(chunk):
    """Tokens without a chat chunk, as text models send them, are left out."""
    events: list[TokenEvent] = []

    TokenCapturingHandler("planner", events.append).on_llm_new_token("a", chunk=chunk, run_id=RUN)

    assert events == []


def test_content_in_blocks_is_told_as_its_text():
    """Where a provider sends blocks, `token` is a list; the event has the text among them."""
    events: list[TokenEvent] = []
    handler = TokenCapturingHandler("planner", events.append)
    blocks = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]

    handler.on_llm_new_token(blocks, chunk=a_chunk(blocks), run_id=RUN)

    assert told(events) == [("ab", 0, False)]


@pytest.mark.parametrize("interval", [0, -1])
def test_an_interval_that_never_comes_is_refused(interval):
    with pytest.raises(ConfigurationError, match="heartbeat_interval must be a positive whole number"):
        TokenCapturingHandler("planner", lambda _: None, heartbeat_interval=interval)


def test_the_factory_makes_the_same_handler():
    """`create_token_handler` calls the function `sink`."""
    events: list[TokenEvent] = []
    beats: list[str] = []

    handler = create_token_handler(
        "planner", sink=events.append, heartbeat_fn=beats.append, heartbeat_interval=1, attempt=4
    )
    speak(handler, "a")

    assert isinstance(handler, TokenCapturingHandler)
    assert told(events) == [("a", 0, False), ("", 1, True)]
    assert {event.attempt for event in events} == {4}
    assert beats == ["node=planner tokens=1"]


class Streaming(ScriptedChatModel):
    """A model that streams by itself, as most providers' do when told to."""

    streaming: bool = True


@pytest.mark.parametrize("way", ["ainvoke", "invoke", "thread", "astream"])
async def test_a_real_model_is_heard_in_order_where_it_speaks(way):
    """Attached to a model's `callbacks`: every token in order, on the thread that the model runs on."""
    words = [f"{number} " for number in range(50)]
    events: list[TokenEvent] = []
    threads: set[int] = set()

    def publish(event: TokenEvent) -> None:
        threads.add(threading.get_ident())
        events.append(event)

    handler = TokenCapturingHandler("planner", publish)
    model = Streaming(script=lambda _messages: words, streaming=True, callbacks=[handler])
    match way:
        case "ainvoke":
            await model.ainvoke("?")
        case "invoke":
            model.invoke("?")
        case "thread":
            await asyncio.to_thread(model.invoke, "?")
        case "astream":
            [part async for part in model.astream("?")]

    *tokens, last, final = events
    assert [event.token for event in tokens] == words
    assert [event.index for event in events] == list(range(len(words) + 2))
    assert (last.token, final.is_final) == ("", True)  # LangChain ends every stream with an empty chunk
    assert len(threads) == 1
    assert (threading.get_ident() in threads) is (way != "thread")
