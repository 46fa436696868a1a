"""What the views make of one captured call: its message by `.messages()`, and by `.run()`."""

from collections.abc import Iterable
from functools import reduce
from operator import add
from typing import Any

from langchain_core.messages import AIMessageChunk

from temporal_token_interceptor.events import (
    CallEnded,
    CallStarted,
    ContentBlock,
    Event,
    ReasoningEvent,
    TokenEvent,
    ToolCallChunk,
)
from temporal_token_interceptor.testing import ScriptedChatModel, StreamingActivityEnvironment
from temporal_token_interceptor.views.langgraph_messages import Chunks
from temporal_token_interceptor.views.model_call import CallAdapter, ModelCall


async def read(
    pieces: Iterable[Any], *, model: Any = None, **options: Any
) -> tuple[Any, StreamingActivityEnvironment]:
    """Return the message of a call within an activity, and what a reader gets of it."""
    environment = StreamingActivityEnvironment(**options)
    model = model or ScriptedChatModel.saying(*pieces)

    async def activity() -> Any:
        return await model.ainvoke("?")

    return await environment.run(activity), environment


def as_messages_show_it(events: Iterable[Event]) -> AIMessageChunk:
    """Return the message of the one call, the chunks of `.messages()` added up."""
    view = Chunks(subgraphs=True)
    chunks = [chunk for event in events for chunk, _ in view.read(event)]
    return reduce(add, [chunk for chunk in chunks if isinstance(chunk, AIMessageChunk)])


async def as_run_shows_it(events: Iterable[Event]) -> Any:
    """Return the message of the one call, as `.run()` makes it."""
    adapters: dict[int, CallAdapter] = {}
    for event in events:
        match event:
            case CallStarted(call=call, origin=origin):
                adapters[call.ordinal] = CallAdapter(ModelCall(origin, call))
            case CallEnded(call=call):
                adapters[call.ordinal].finish(event)
                return await adapters[call.ordinal].stream.output
            case (
                TokenEvent(call=call)
                | ReasoningEvent(call=call)
                | ContentBlock(call=call)
                | ToolCallChunk(call=call)
            ):
                adapters[call.ordinal].add(event)
            case _:
                pass
    raise AssertionError("the call did not end")
