"""The messages in what a node returned that are new to a reader, whole: of LangGraph's mode `messages`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from langchain_core.messages import BaseMessage, ToolMessage

from temporal_token_interceptor.events import NodeEnded
from temporal_token_interceptor.views.call_metadata import Metadata, of_attempt, present
from temporal_token_interceptor.views.graph_updates import START, is_command
from temporal_token_interceptor.views.graph_values import with_messages


def new_messages(event: NodeEnded, *, subgraphs: bool, tools: bool = True) -> list[BaseMessage]:
    """Return the messages that a reader of LangGraph's own stream gets when a node ends, with their ids.

    Args:
        event: The end; without its output there are none.
        subgraphs: Whether the reader is shown subgraphs.
        tools: Whether it is shown messages of tools.
    """
    if event.output is None or event.node_name == START or (event.path and not subgraphs):
        return []
    known = {*event.known_ids, *(event.known_inner_ids if subgraphs else ())}
    made = iter(event.made_ids)
    found: list[BaseMessage] = []
    for number, message in enumerate(_returned_by(with_messages(event.output))):
        message_id = message.id or next(made, f"{event.run_id}-{number}")
        if message_id not in known and (tools or not isinstance(message, ToolMessage)):
            known.add(message_id)
            found.append(message.model_copy(update={"id": message_id}))
    return found


def whole_messages(event: NodeEnded) -> list[BaseMessage]:
    """Return those that LangGraph's protocol events have: of subgraphs, too, and none of a tool."""
    return new_messages(event, subgraphs=True, tools=False)


def of_node(event: NodeEnded) -> Metadata:
    """Return the metadata of what a node returned."""
    facts = {
        "langgraph_step": event.step,
        "lc_agent_name": event.agent_name,
        "task_id": event.task_id,
    }
    return {
        **of_attempt(event.origin),
        "langgraph_node": event.node_name,
        **present(facts),
        "path": event.path,
    }


def _returned_by(output: object) -> Iterator[BaseMessage]:
    parts = cast("list[object]", output) if isinstance(output, list) else [output]
    if any(is_command(part) for part in parts):
        for part in parts:
            yield from _found_in(cast("Any", part)["update"] if is_command(part) else part)
    else:
        yield from _found_in(output)


def _found_in(update: object) -> Iterator[BaseMessage]:
    values = cast("dict[str, object]", update).values() if isinstance(update, dict) else [update]
    for value in values:
        for part in cast("list[object]", value) if isinstance(value, list) else [value]:
            if isinstance(part, BaseMessage):
                yield part
