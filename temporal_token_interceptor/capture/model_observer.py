"""From LangChain's callbacks to the buffer: what each model call says, as it says it.

The observer runs inside the user's model call, often once a token, so it hands over and returns. A chunk
that has only text takes the fast path: one dictionary look-up, three attribute checks, one append.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any
from uuid import UUID

from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult

from temporal_token_interceptor._guard import NO_INJECTION, Guard, never_failing
from temporal_token_interceptor.capture.buffer import Buffer
from temporal_token_interceptor.capture.filters import NO_STREAM_TAGS, Selection
from temporal_token_interceptor.capture.forced_call import ForceStreaming
from temporal_token_interceptor.capture.graph_observer import SurroundingsObserver
from temporal_token_interceptor.capture.langchain_hooks import observed_by, warn_of_hidden_model
from temporal_token_interceptor.capture.message_parts import (
    TOOL_CALLS,
    block_of,
    finish_reason_of,
    json_of,
    message_of,
    plain,
    plain_blocks,
    tool_calls_of,
)
from temporal_token_interceptor.events import (
    Call,
    CallEnded,
    CallStarted,
    ContentBlock,
    TextKind,
    ToolCallChunk,
)

# As many nodes are named in the warning that the filters select none of them.
_NAMED_NODES = 8


class _LiveCall:
    """A call that has started and not ended."""

    __slots__ = ("call", "parts", "reasoning", "streamed", "text", "tool_calls")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.text = 0
        self.reasoning = 0
        self.tool_calls = 0  # of those without an index
        self.streamed = False
        # Of a call that is heard by v3 events: the blocks that came in parts. A model may report its chunks
        # both as events and as tokens; whichever comes first is listened to.
        self.parts: set[int | str] | None = None


class Observer(SurroundingsObserver):
    """Writes every model call of one activity attempt, and what happens around it, into a buffer.

    A call's callbacks come one after another, those of different calls at any time and on any thread.

    Args:
        buffer: Where it goes.
        default_node: The node's name outside of a graph.
        selection: What to capture; None for everything.
        on_call: Is called with each call that begins, on the thread of the model.
        on_first_call: Is called when a model is called first, captured or not, on the thread of the model.
        guard: Swallows our errors, and re-raises the cancellation that Temporal injects.
    """

    def __init__(
        self,
        buffer: Buffer,
        *,
        default_node: str,
        selection: Selection | None = None,
        on_call: Callable[[Call], None] | None = None,
        on_first_call: Callable[[], None] | None = None,
        guard: Guard = NO_INJECTION,
    ) -> None:
        super().__init__(buffer, default_node=default_node, selection=selection, guard=guard)
        self.called_nodes: set[str] = set()
        """The nodes, at most eight, in which models were called that `nodes` and `tags` decide about."""
        self.has_captured = False
        """Whether a call was captured."""
        self._on_first_call = on_first_call
        kinds = self._selection.kinds
        self._tells_text, self._tells_reasoning = "text" in kinds, "reasoning" in kinds
        self._tells_tool_calls, self._tells_blocks = "tool_call" in kinds, "block" in kinds
        self._with_media = "media" in self._selection.contents
        self._on_call = on_call
        self._ordinals = count()
        self._live: dict[int, _LiveCall] = {}  # by `run_id.int`: a UUID hashes itself in Python

    # ------------------------------------------------------------------ LangChain calls these

    @never_failing
    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        warn_of_hidden_model()
        self._begin(run_id, parent_run_id, tags or [], metadata or {})

    @never_failing
    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self._begin(run_id, parent_run_id, tags or [], metadata or {})

    def on_llm_new_token(
        self, token: str | list[Any], *, chunk: Any = None, run_id: UUID, **kwargs: Any
    ) -> None:
        try:
            live = self._live.get(run_id.int)
            if live is None or live.parts is not None:
                return
            live.streamed = True
            message = getattr(chunk, "message", None)
            if token.__class__ is str and (
                message is None
                or (
                    message.content.__class__ is str
                    and not message.additional_kwargs
                    and not getattr(message, "tool_call_chunks", None)
                )
            ):
                if token and self._tells_text:
                    index = live.text
                    live.text = index + 1
                    self._buffer.put_text(live.call, "text", index, token)
            elif message is not None:
                self._put_message(live, message)
        except Exception as error:  # noqa: BLE001 - as `never_failing`, without a call more for each token
            self.guard.handle(error, self.log_error)

    @never_failing
    def on_stream_event(self, event: Mapping[str, Any], *, run_id: UUID, **kwargs: Any) -> None:
        live = self._live.get(run_id.int)
        if live is None or (live.streamed and live.parts is None):
            return
        live.streamed = True
        live.parts = live.parts or set()
        index: int | str = event.get("index", "")
        part: Mapping[str, Any] = event.get("delta") or event.get("content") or {}
        match event["event"], part:
            case "content-block-delta", {"type": "text-delta", "text": text}:
                live.parts.add(index)
                self._put_text(live, "text", text)
            case "content-block-delta", {"type": "reasoning-delta", "reasoning": text}:
                live.parts.add(index)
                self._put_text(live, "reasoning", text)
            case "content-block-start", {"type": "tool_call_chunk"}:
                live.parts.add(index)
                self._put_tool_call(live, {**part, "index": index})
            case "content-block-delta", {"type": "tool-call-delta"} if index in live.parts:
                self._put_tool_call(live, {**part, "index": index})
            case "content-block-finish", {"type": _} if index not in live.parts:
                self._put_block(live, part)

    @never_failing
    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        live = self._live.pop(run_id.int, None)
        if live is None:
            return
        message = message_of(response)
        if not live.streamed:
            # A cache hit, or a model that cannot or may not stream: all it said, at once.
            if message is not None:
                self._put_message(live, message)
            elif response.generations and response.generations[0]:
                self._put_text(live, "text", response.generations[0][0].text)
        self._end(
            live,
            usage=getattr(message, "usage_metadata", None),
            finish_reason=finish_reason_of(message, response),
            message_id=getattr(message, "id", None),
        )

    @never_failing
    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        live = self._live.pop(run_id.int, None)
        if live is not None:
            self._end(live, error=type(error).__name__)

    # ------------------------------------------------------------------ the attempt calls this

    def close(self) -> None:
        """End what is open, as unfinished, and turn deaf; calls before the tools and nodes around them."""
        with self._starting:  # a call that starts now, on another thread, is either ended here or not begun
            self._closed = True
        for run in list(self._live):
            live = self._live.pop(run, None)
            if live is not None:
                self._end(live, unfinished=True)
        super().close()

    # ------------------------------------------------------------------ records

    def _begin(
        self, run_id: UUID, parent_run_id: UUID | None, tags: Collection[str], metadata: Mapping[str, Any]
    ) -> None:
        if self._on_first_call is not None:
            first, self._on_first_call = self._on_first_call, None
            first()
        place = self._place(metadata)
        if not NO_STREAM_TAGS.isdisjoint(tags):
            return
        if len(self.called_nodes) < _NAMED_NODES:
            self.called_nodes.add(place["node_name"])
        if not self._selection.takes(place["node_name"], tags):
            return
        self.has_captured = True
        keys = self._selection.metadata_keys
        with self._starting:
            if self._closed:
                return
            call = Call(
                ordinal=next(self._ordinals),
                run_id=str(run_id),
                agent_name=metadata.get("lc_agent_name"),
                model=metadata.get("ls_model_name"),
                provider=metadata.get("ls_provider"),
                tags=tuple(tags),
                tool_call_id=self.tool_call_above(parent_run_id),
                metadata={key: plain(metadata[key]) for key in keys if key in metadata} or None,
                **place,
            )
            if self._on_call is not None:
                self._on_call(call)
            self._buffer.put(CallStarted(call=call), call)
            self._live[run_id.int] = _LiveCall(call)

    def _end(self, live: _LiveCall, **facts: Any) -> None:
        self._buffer.put(CallEnded(call=live.call, streamed=live.streamed, **facts), live.call)

    def _put_message(self, live: _LiveCall, message: BaseMessage) -> None:
        """Put everything that a message, or a chunk of one, holds."""
        if (plain_ones := plain_blocks(message)) is not None:
            for block in plain_ones:
                self._put_block(live, block)
            return
        blocks = message.content_blocks
        text = "".join(block.get("text") or "" for block in blocks if block["type"] == "text")
        if text != message.text:
            # Not every provider's blocks are translated; `.text` is what users compare with.
            self._put_text(live, "text", message.text)
            blocks = [block for block in blocks if block["type"] != "text"]
        if tool_calls := tool_calls_of(message):
            blocks = [block for block in blocks if block["type"] not in TOOL_CALLS]
        for block in (*blocks, *tool_calls):
            self._put_block(live, block)

    def _put_block(self, live: _LiveCall, block: Mapping[str, Any]) -> None:
        kind = block["type"]
        if kind == "text":
            self._put_text(live, "text", block.get("text") or "")
            if block.get("annotations") and self._tells_blocks:
                self._put_other(live, {**block, "text": ""})
        elif kind == "reasoning":
            self._put_text(live, "reasoning", block.get("reasoning") or "")
        elif kind in TOOL_CALLS:
            self._put_tool_call(live, block)
        elif self._tells_blocks:
            self._put_other(live, block)

    def _put_other(self, live: _LiveCall, block: Mapping[str, Any]) -> None:
        sent = block_of(block, with_media=self._with_media)
        self._buffer.put(ContentBlock(block=sent, call=live.call), live.call, len(str(sent)))

    def _put_text(self, live: _LiveCall, kind: TextKind, text: str) -> None:
        if not text or not (self._tells_text if kind == "text" else self._tells_reasoning):
            return
        if kind == "text":
            index, live.text = live.text, live.text + 1
        else:
            index, live.reasoning = live.reasoning, live.reasoning + 1
        self._buffer.put_text(live.call, kind, index, text)

    def _put_tool_call(self, live: _LiveCall, block: Mapping[str, Any]) -> None:
        if not self._tells_tool_calls:
            return
        args, index = block.get("args"), block.get("index")
        if index is None:  # as in a whole message: LangChain's way to say that it is no fragment
            index, live.tool_calls = live.tool_calls, live.tool_calls + 1
        chunk = ToolCallChunk(
            index=index,
            id=block.get("id"),
            name=block.get("name"),
            args=args if isinstance(args, str) else json_of(args),
            call=live.call,
        )
        self._buffer.put(chunk, live.call, len(chunk.args))


@contextmanager
def capturing(observer: Observer, *, force_streaming: ForceStreaming = "auto") -> Iterator[None]:
    """Capture every model call made within the context; at its end, close what is still open.

    Args:
        observer: Where the calls go.
        force_streaming: Whether `invoke` and `ainvoke` are made to stream; `"auto"`: where streaming a
            model runs the same code of its author as not streaming it.
    """
    try:
        with observed_by(observer, force_streaming=force_streaming):
            yield
    finally:
        observer.close()
