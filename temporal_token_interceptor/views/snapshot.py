"""What stands now of a run: its attempts, model calls, tools and nodes, as records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from temporal_token_interceptor.events import Call, Gap, Origin, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallText:
    """A tool call as far as the model has written it.

    Attributes:
        id: Its id, where one has come.
        name: The tool's name so far.
        args: The JSON of the arguments so far.
        invalid: Whether it is invalid whatever its arguments.
    """

    id: str | None = None
    name: str | None = None
    args: str = ""
    invalid: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CallText:
    """What one model call has said so far.

    Attributes:
        origin: The attempt that made the call.
        call: The call.
        text: The answer's text.
        reasoning: The text of the reasoning, apart.
        tool_calls: Those that it writes, in the order in which they began.
        blocks: Its other content, as `ContentBlock.block`.
        ended: Whether the call is over.
        error: The exception's class name if the call failed: its text does not stand, because the graph
            retried it, fell back to another model, or failed.
        unfinished: Whether the call was cut off: with its attempt, or because its stream was left early.
        usage: LangChain's `usage_metadata`, once the call is over and where the provider reported it.
        finish_reason: The provider's word for why the model stopped.
    """

    origin: Origin
    call: Call
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallText, ...] = ()
    blocks: tuple[Mapping[str, Any], ...] = ()
    ended: bool = False
    error: str | None = None
    unfinished: bool = False
    usage: Mapping[str, Any] | None = None
    finish_reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedState:
    """How far something has come that runs in a node.

    Attributes:
        origin: The attempt.
        node_name: The LangGraph node, or the activity type outside of a graph.
        path: The subgraph path, outermost first, without the node itself.
        step: LangGraph's superstep, where there is one.
        run_id: LangChain's run id.
        ended: Whether it is over.
        error: The exception's class name if it failed, also where the graph goes on regardless.
        output: What it returned, if the worker sends that (`capture=`).
        truncated: Whether an input or an output was too long to be sent whole.
        unfinished: Whether it was cut off with its attempt.
    """

    origin: Origin
    node_name: str = ""
    path: tuple[str, ...] = ()
    step: int | None = None
    run_id: str = ""
    ended: bool = False
    error: str | None = None
    output: Any = None
    truncated: bool = False
    unfinished: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState(PlacedState):
    """How far one run of a node has come.

    Attributes:
        interrupted: Whether it stopped to ask a human, or to hand over: no failure.
    """

    interrupted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolState(PlacedState):
    """How far one run of a tool has come.

    Attributes:
        name: The tool's name.
        tool_call_id: The tool call of a model's message that it answers, where there is one.
        input: The arguments, as text, if the worker sends them (`capture={"tool_input"}`).
        interrupted: Whether it stopped to ask a human, or to hand over: no failure.
    """

    name: str
    tool_call_id: str | None = None
    input: str | None = None
    interrupted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrieverState(PlacedState):
    """How far one search of a retriever has come; only with `retrievers=True`.

    Attributes:
        name: The retriever's name.
        tool_call_id: The tool call that it searches for, where there is one.
        input: The query, if the worker sends it (`capture={"retriever_input"}`).
        document_count: How many documents it found; None if it has not returned.
    """

    name: str
    tool_call_id: str | None = None
    input: str | None = None
    document_count: int | None = None


Failed = CallText | ToolState | RetrieverState | NodeState
"""What can have an `error`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptState:
    """How far an attempt that no newer one replaces has come.

    Attributes:
        origin: The attempt.
        outcome: How it ended, by its worker; None while it runs, or if its end was lost.
        will_retry: Whether Temporal will try again, where the worker knows.
    """

    origin: Origin
    outcome: Outcome | None = None
    will_retry: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What the newest attempts of one run have said and done so far.

    Where there is a backend, as far as that has it: what only the history has comes to a reader that goes on
    from the cursor.

    Attributes:
        run_id: The run.
        attempts: Those that stand, one for each activity that has streamed.
        calls: One for each model call, in the order in which they first appeared in their attempt.
        tools: One for each run of a tool, in the same order.
        retrievers: One for each search.
        nodes: One for each run of a node.
        gaps: What is known to be missing.
        cursor: Subscribe with it to go on right after what is in here.
    """

    run_id: str
    attempts: tuple[AttemptState, ...] = ()
    calls: tuple[CallText, ...]
    tools: tuple[ToolState, ...] = ()
    retrievers: tuple[RetrieverState, ...] = ()
    nodes: tuple[NodeState, ...] = ()
    gaps: tuple[Gap, ...]
    cursor: str

    @property
    def text(self) -> str:
        """The text of all calls that have not failed, joined.

        A model that calls a model and says something itself has the last word: what is within it is left out.
        """
        standing = {_place(call.origin, call.call.ordinal): call for call in self.calls if call.error is None}
        return mended("".join(call.text for call in standing.values() if not _is_overruled(call, standing)))

    @property
    def errors(self) -> tuple[Failed, ...]:
        """What has failed in the attempts that stand, each with its `error`, also where the graph went on."""
        steps: tuple[Failed, ...] = (*self.calls, *self.tools, *self.retrievers, *self.nodes)
        return tuple(step for step in steps if step.error is not None)


_Place = tuple[str, int]


def _place(origin: Origin, ordinal: int) -> _Place:
    return origin.attempt_id, ordinal


def _is_overruled(call: CallText, standing: Mapping[_Place, CallText]) -> bool:
    """Whether a call around this one has a text of its own."""
    around: CallText | None = call
    while around is not None and around.call.parent is not None and around.call.parent < around.call.ordinal:
        around = standing.get(_place(around.origin, around.call.parent))
        if around is not None and around.text:
            return True
    return False


def mended(text: str) -> str:
    """Join the halves of characters that came apart; half a character alone becomes a replacement mark."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
