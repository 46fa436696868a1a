"""What the views make of one captured call: its message by `.messages()`, and by `.run()`."""

from collections.abc import AsyncGenerator, Iterable, Iterator
from functools import reduce
from operator import add
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, message_chunk_to_message
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from temporal_token_interceptor.events import Event, StreamEnded
from temporal_token_interceptor.testing import ScriptedChatModel, StreamingActivityEnvironment
from temporal_token_interceptor.views.langgraph_messages import Chunks
from temporal_token_interceptor.views.workflow_run import WorkflowRun


class Whole(BaseChatModel):
    """A model that cannot stream.

    Args:
        message: What it answers.
        generation_info: What stands beside the message.
    """

    message: Any
    generation_info: Any = None

    def __init__(self, message: Any, **options: Any) -> None:
        super().__init__(message=message, **options)

    @property
    def _llm_type(self) -> str:
        return "whole"

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        message = message_chunk_to_message(self.message)
        return ChatResult(generations=[ChatGeneration(message=message, generation_info=self.generation_info)])


class OneChunk(Whole):
    """A model that streams its answer in one chunk."""

    def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        yield ChatGenerationChunk(message=self.message, generation_info=self.generation_info)


async def read(
    pieces: Iterable[Any],
    *,
    model: Any = None,
    way: str = "ainvoke",
    raises: type[Exception] | None = None,
    **options: Any,
) -> tuple[Any, StreamingActivityEnvironment]:
    """Return the message of a call within an activity, and what a reader gets of it."""
    environment = StreamingActivityEnvironment(**options)
    model = model or ScriptedChatModel.saying(*pieces)

    async def activity() -> Any:
        match way:
            case "ainvoke":
                return await model.ainvoke("?")
            case "astream":
                return [chunk async for chunk in model.astream("?")]
            case "invoke":
                return model.invoke("?")
            case _:
                return list(model.stream("?"))

    if raises is None:
        return await environment.run(activity), environment
    with pytest.raises(raises):
        await environment.run(activity)
    return None, environment


def as_messages_show_it(events: Iterable[Event]) -> AIMessageChunk:
    """Return the message of the one call, the chunks of `.messages()` added up."""
    view = Chunks(subgraphs=True)
    chunks = [chunk for event in events for chunk, _ in view.read(event)]
    return reduce(add, [chunk for chunk in chunks if isinstance(chunk, AIMessageChunk)])


async def as_run_shows_it(events: Iterable[Event]) -> Any:
    """Return the message of the one call, as `.run()` makes it."""
    [message] = await all_that_run_shows(events)
    return message


async def all_that_run_shows(events: Iterable[Event]) -> list[Any]:
    """Return the messages of all calls, as `.run()` makes them."""

    async def source() -> AsyncGenerator[Event]:
        for event in events:
            yield event
        yield StreamEnded(status="completed")

    async def no_result() -> None:
        raise AssertionError("it is not asked for")

    async with WorkflowRun(source(), no_result, subgraphs=True) as run:
        return [await call.output async for call in run.messages]
