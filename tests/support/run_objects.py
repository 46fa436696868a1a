"""What a run object says, LangGraph's or ours: the same code reads both."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from temporal_token_interceptor import CallNotCompleted, SubgraphNotCompleted

NAMES = ("messages", "lifecycle", "subgraphs", "tool_calls", "updates", "custom", "values")


async def told_by(run: Any, names: tuple[str, ...] = NAMES) -> dict[str, Any]:
    """Read the projections of a run and of all its subgraphs, each by a task of its own."""
    # LangGraph's projections keep nothing before they have a reader.
    readers = {name: aiter(getattr(run, name)) for name in names if hasattr(run, name)}
    read = await asyncio.gather(*(_all(name, reader, names) for name, reader in readers.items()))
    return dict(zip(readers, read, strict=True))


async def _all(name: str, reader: AsyncIterator[Any], names: tuple[str, ...]) -> list[Any]:
    match name:
        case "messages":
            return [message_facts(call) for call in await _items(reader)]
        case "tool_calls":
            return [tool_facts(tool) for tool in await _items(reader)]
        case "subgraphs":
            return await _subgraphs(reader, names)
        case _:
            return await _items(reader)


async def _items(reader: AsyncIterator[Any]) -> list[Any]:
    """Read to the end, well or not."""
    items = []
    with suppress(CallNotCompleted, SubgraphNotCompleted, RuntimeError):
        async for item in reader:
            items.append(item)  # noqa: PERF401 - what came before the error counts
    return items


async def _subgraphs(reader: AsyncIterator[Any], names: tuple[str, ...]) -> list[Any]:
    reading = []
    with suppress(SubgraphNotCompleted, RuntimeError):
        async for handle in reader:
            reading.append((handle, asyncio.ensure_future(told_by(handle, names))))
            await asyncio.sleep(0)  # so that its projections have readers before the next event
    found = [(handle, await one) for handle, one in reading]
    return [((handle.path, handle.trigger_call_id, handle.status), tree) for handle, tree in found]


def message_facts(call: Any) -> dict[str, Any]:
    """What one call's stream has come to."""
    message = call.output_message
    if message is None:
        return {"failed": True}
    blocks = [{key: block[key] for key in block if key not in ("index", "id")} for block in message.content]
    return {
        "id": str(message.id).removesuffix("-0"),
        "node": call.node,
        "blocks": blocks,
        "tool_calls": message.tool_calls,
        "usage": message.usage_metadata,
        "finish_reason": message.response_metadata.get("finish_reason"),
    }


def tool_facts(tool: Any) -> dict[str, Any]:
    """What one tool's handle has come to; of an error, whether there is one: ours is a class's name."""
    return {
        "name": tool.tool_name,
        "id": tool.tool_call_id,
        "input": tool.input,
        "output": tool.output if isinstance(tool.output, str | None) else type(tool.output).__name__,
        "failed": bool(tool.error),
        "completed": tool.completed,
    }
