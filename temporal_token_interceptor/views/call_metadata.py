"""What LangGraph says of a message beside its chunks: which node, step and model, under which id.

Pure, and without LangChain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from temporal_token_interceptor.events import Call, NodeEnded, Origin

Metadata = dict[str, Any]
"""What LangGraph says of a chunk, and what we add; docs/langgraph.md has the keys."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a message comes from.

    Attributes:
        origin: The attempt.
        call: The call of a model; None where a node returned the message whole.
        node: The node.
        path: The names of the subgraphs around the node, outermost first.
        message_id: The message's id.
    """

    origin: Origin
    call: Call | None
    node: str
    path: tuple[str, ...]
    message_id: str

    @classmethod
    def of_call(cls, origin: Origin, call: Call) -> Self:
        """Return that of a call."""
        return cls(origin, call, call.node_name, call.path, message_id(origin, call))

    @classmethod
    def of_node(cls, event: NodeEnded, id_: str) -> Self:
        """Return that of a message which a node returned."""
        return cls(event.origin, None, event.node_name, event.path, id_)


def of_call(origin: Origin, call: Call) -> Metadata:
    """Return the metadata of all that a call says."""
    return {
        **(call.metadata or {}),
        **of_attempt(origin),
        "langgraph_node": call.node_name,
        **present(
            {
                "langgraph_step": call.step,
                "lc_agent_name": call.agent_name,
                "ls_provider": call.provider,
                "ls_model_name": call.model,
                "tags": [tag for tag in call.tags if not tag.startswith("seq:step")],
                "tool_call_id": call.tool_call_id,
                "task_id": call.task_id,
            }
        ),
        "path": call.path,
        "call_id": call.id,
    }


def of_attempt(origin: Origin) -> Metadata:
    """Return the metadata of all that an attempt says; the node is its activity where there is no graph."""
    return {
        "langgraph_node": origin.activity_type,
        "workflow_id": origin.workflow_id,
        "workflow_run_id": origin.run_id,
        "activity_id": origin.activity_id,
        "attempt": origin.attempt,
    }


def message_id(origin: Origin, call: Call) -> str:
    """Return the id that LangChain gives the chunks of a call; one of ours if the call's start was lost."""
    return f"lc_run--{call.run_id or f'{origin.attempt_id}-{call.ordinal}'}"


def present(facts: Metadata) -> Metadata:
    """Return the facts that are known: not None, and not empty."""
    # A step of LangGraph's functional API may be 0, which is something.
    return {name: value for name, value in facts.items() if value or type(value) is int}
