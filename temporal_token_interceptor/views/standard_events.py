"""A subscription in the shape of LangChain's `astream_events(version="v2")`: dicts, by event and run.

What a worker does not send is not there: prompts never, what tools, retrievers and nodes take and return
only with `capture=`. What LangChain's own stream has no event for, because nothing is ever taken back or
missing in it, are events of ours: `on_chat_model_removed` and `on_gap`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessageChunk, RemoveMessage, message_chunk_to_message

from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.events import (
    AttemptStarted,
    Call,
    CallEnded,
    CallStarted,
    CustomEvent,
    Event,
    Gap,
    NodeEnded,
    NodeStarted,
    Origin,
    RetrieverEnded,
    RetrieverStarted,
    ToolEnded,
    ToolStarted,
)
from temporal_token_interceptor.events.graph import PlacedEvent
from temporal_token_interceptor.protocol.cursor import Cursor
from temporal_token_interceptor.views.call_metadata import Metadata, message_id, of_attempt, of_call
from temporal_token_interceptor.views.langgraph_messages import Chunks
from temporal_token_interceptor.views.message_stream import Past, recall_from

StandardEvent = dict[str, Any]
"""`event`, `name`, `run_id`, `parent_ids`, `tags`, `metadata`, `data`; see docs/langgraph.md."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events are shown, by LangChain's rules: any of the includes, and none of the excludes.

    Attributes:
        include_names: Names of models, tools, retrievers, nodes and custom events.
        include_types: `chat_model`, `tool`, `retriever`, `chain`; of a custom event, its name.
        include_tags: Tags.
        exclude_names: As `include_names`.
        exclude_types: As `include_types`.
        exclude_tags: Tags.

    Raises:
        ConfigurationError: one of them is a single string.
    """

    include_names: Collection[str] | None = None
    include_types: Collection[str] | None = None
    include_tags: Collection[str] | None = None
    exclude_names: Collection[str] | None = None
    exclude_types: Collection[str] | None = None
    exclude_tags: Collection[str] | None = None

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if isinstance(getattr(self, name), str):
                raise ConfigurationError(f"{name} must be a list of names, not one string")

    def shows(self, event: StandardEvent, kind: str) -> bool:
        """Whether an event of a type is shown."""
        name, tags = event["name"], event["tags"]
        included = [
            self.include_names is not None and name in self.include_names,
            self.include_types is not None and kind in self.include_types,
            self.include_tags is not None and any(tag in self.include_tags for tag in tags),
        ]
        has_includes = any(
            one is not None for one in (self.include_names, self.include_types, self.include_tags)
        )
        if has_includes and not any(included):
            return False
        return not (
            name in (self.exclude_names or ())
            or kind in (self.exclude_types or ())
            or any(tag in (self.exclude_tags or ()) for tag in tags)
        )


async def standard_events(
    events: AsyncGenerator[Event], past: Past, *, shown: Filter, cursor: str | None
) -> AsyncGenerator[StandardEvent]:
    """Iterate over a subscription's events in LangChain's shape.

    Args:
        events: The subscription; not with `on_retry="annotate"`. Closed at the end.
        past: Says again what the run of an attempt said; as for `messages`.
        shown: Which events are shown.
        cursor: Where the subscription began.

    Raises:
        WorkflowNotCompleted: at the end: it failed, was canceled or terminated, or timed out.
        TokensMissing: at the end: the workflow completed, but something that it said did not arrive.
    """
    shapes, resumes = _Shapes(cursor or ""), bool(cursor)
    async with aclosing(events):
        async for event in events:
            if resumes and event.origin is not None:
                resumes = False
                shapes = await _recalled(past, event, event.origin, cursor or "") or shapes
            if isinstance(event, AttemptStarted) and event.supersedes is not None:
                await recall_from(past, shapes.chunks, event.supersedes, cursor)
            for shaped, kind in shapes.read(event):
                if shown.shows(shaped, kind):
                    yield shaped
    shapes.chunks.end()


async def _recalled(past: Past, event: Event, origin: Origin, cursor: str) -> _Shapes | None:
    """Return what a reader of all that came before an event knows; None where that is not stored any more.

    It knows the calls and nodes that are open: without them a message would begin a second time, and end with
    a part of what it says.
    """
    shapes = _Shapes(cursor)
    if isinstance(event, AttemptStarted) or Cursor.parse(cursor).run_id != origin.run_id:
        return None
    async with aclosing(past(origin)) as batches:
        async for batch in batches:
            for earlier in batch:
                if earlier.cursor == event.cursor:
                    return shapes
                if not isinstance(earlier, Gap):  # its reader has had it
                    shapes.read(earlier)
    return None


_Shaped = tuple[StandardEvent, str]  # and its type


class _Shapes:
    """Turns events into LangChain's, one by one; pure."""

    def __init__(self, cursor: str) -> None:
        self.chunks = Chunks(subgraphs=True, cursor=cursor, returned=False)
        self._cursor = cursor
        self._said: dict[str, AIMessageChunk | None] = {}  # of the calls that are open, by message id
        self._open: dict[str, CallStarted] = {}  # those that were seen to begin
        self._around: dict[str, str | None] = {}  # the node around a node, by run id

    def read(self, event: Event) -> Sequence[_Shaped]:
        """Return what an event adds; the last alone has its cursor: after another, that comes again."""
        shaped = self._read(event)
        for made, _ in shaped[:-1]:
            made["metadata"] = {**made["metadata"], "cursor": self._cursor}
        self._cursor = event.cursor or self._cursor
        return shaped

    def _read(self, event: Event) -> Sequence[_Shaped]:
        match event:
            case NodeStarted():
                self._around[event.run_id] = event.node_run_id
                return [self._placed("on_chain_start", "chain", event, event.node_name, {"input": None})]
            case NodeEnded(interrupted=True):
                self._around.pop(event.run_id, None)
                return []  # LangChain has no event for it
            case NodeEnded():
                ended = self._ended("chain", event, event.node_name, event.output)
                self._around.pop(event.run_id, None)
                return [ended]
            case ToolStarted():
                return [self._placed("on_tool_start", "tool", event, event.name, {"input": event.input})]
            case ToolEnded():
                return [self._ended("tool", event, event.name, event.output)]
            case RetrieverStarted():
                data = {"input": {"query": event.input}}
                return [self._placed("on_retriever_start", "retriever", event, event.name, data)]
            case RetrieverEnded():
                return [self._ended("retriever", event, event.name, event.output)]
            case CustomEvent():
                return [self._placed("on_custom_event", event.name, event, event.name, event.data)]
            case _:
                return self._of_call(event)

    def _begun(self, event: CallStarted) -> list[_Shaped]:
        id_ = message_id(event.origin, event.call)
        self._open[id_], self._said[id_] = event, None
        metadata = {**of_call(event.origin, event.call), "cursor": event.cursor}
        return [self._called("on_chat_model_start", id_, event.call, metadata, {"input": None})]

    def _silent(self, before: Origin, event: AttemptStarted) -> list[_Shaped]:
        """Take back calls of an attempt that began and said nothing."""
        found: list[_Shaped] = []
        for id_, begun in list(self._open.items()):
            if begun.origin.attempt_id == before.attempt_id:
                self._forget(id_)
                metadata = {**of_call(begun.origin, begun.call), "cursor": event.cursor}
                data = {"message_id": id_, "reason": "superseded"}
                found.append(self._called("on_chat_model_removed", id_, begun.call, metadata, data))
        return found

    def _forget(self, message_id: str) -> None:
        self._said.pop(message_id, None)
        self._open.pop(message_id, None)

    def _of_call(self, event: Event) -> Sequence[_Shaped]:
        match event:
            case CallStarted():
                return self._begun(event)
            case AttemptStarted(supersedes=Origin() as before):
                return [*self._said_by(event), *self._silent(before, event)]
            case _:
                return self._said_by(event)

    def _said_by(self, event: Event) -> list[_Shaped]:
        call: Call | None = getattr(event, "call", None)
        shaped: list[_Shaped] = []
        for chunk, metadata in self.chunks.read(event):
            if isinstance(chunk, RemoveMessage):
                self._forget(str(chunk.id))
                reason = metadata.get("error", "superseded")
                data: Any = {"message_id": chunk.id, "reason": reason}
                shaped.append(self._called("on_chat_model_removed", str(chunk.id), call, metadata, data))
            elif isinstance(event, Gap):
                data = {"reason": event.reason, "missing": event.missing}
                shaped.append(_shaped("on_gap", "gap", event.reason, metadata, data))
            elif call is not None and isinstance(chunk, AIMessageChunk):
                shaped += self._chunk(chunk, call, metadata, is_last=isinstance(event, CallEnded))
        return shaped

    def _chunk(
        self, chunk: AIMessageChunk, call: Call, metadata: Metadata, *, is_last: bool
    ) -> list[_Shaped]:
        id_ = str(chunk.id)
        shaped: list[_Shaped] = []
        if id_ not in self._said:
            shaped.append(self._called("on_chat_model_start", id_, call, metadata, {"input": None}))
        before = self._said.get(id_)
        said = self._said[id_] = chunk if before is None else before + chunk
        shaped.append(self._called("on_chat_model_stream", id_, call, metadata, {"chunk": chunk}))
        if is_last:
            self._forget(id_)
            output = message_chunk_to_message(said)
            shaped.append(self._called("on_chat_model_end", id_, call, metadata, {"output": output}))
        return shaped

    def _called(
        self, event: str, message_id: str, call: Call | None, metadata: Metadata, data: Any
    ) -> _Shaped:
        name = str(metadata.get("ls_model_name") or metadata.get("ls_provider") or "")
        run_id = message_id.removeprefix("lc_run--")
        node = None if call is None else call.node_run_id
        tags = list(call.tags) if call is not None else list(metadata.get("tags", ()))
        parents = self._parents(node)
        return _shaped(
            event, "chat_model", name, metadata, data, run_id=run_id, parent_ids=parents, tags=tags
        )

    def _ended(
        self, kind: str, event: NodeEnded | ToolEnded | RetrieverEnded, name: str, output: Any
    ) -> _Shaped:
        error = event.error or ("unfinished" if event.unfinished else None)
        if error is not None:
            return self._placed(f"on_{kind}_error", kind, event, name, {"error": error})
        return self._placed(f"on_{kind}_end", kind, event, name, {"output": output})

    def _placed(self, event: str, kind: str, placed: PlacedEvent, name: str, data: Any) -> _Shaped:
        metadata = {
            **of_attempt(placed.origin),
            "langgraph_node": placed.node_name,
            "langgraph_step": placed.step,
            "path": placed.path,
            "task_id": placed.task_id,
            "cursor": placed.cursor,
        }
        run_id = getattr(placed, "run_id", "")
        parents = self._parents(placed.node_run_id)
        return _shaped(event, kind, name, metadata, data, run_id=run_id, parent_ids=parents)

    def _parents(self, node: str | None) -> list[str]:
        """Return the nodes around, outermost first."""
        parents: list[str] = []
        while node is not None and node not in parents:
            parents.insert(0, node)
            node = self._around.get(node)
        return parents


def _shaped(event: str, kind: str, name: str, metadata: Metadata, data: Any, **facts: Any) -> _Shaped:
    shaped: StandardEvent = {
        "event": event,
        "name": name,
        "run_id": "",
        "parent_ids": [],
        "tags": [],
        "metadata": metadata,
        "data": data,
        **facts,
    }
    return shaped, kind
