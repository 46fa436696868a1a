"""From LangChain's callbacks to the buffer: what each model call says, as it says it.

The observer runs inside the user's model call, often once a token, so it hands over and returns. A chunk
that has only text takes the short way of `text_path.py`.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Any
from uuid import UUID

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import LLMResult

from temporal_token_interceptor._guard import NO_INJECTION, Guard, never_failing
from temporal_token_interceptor.capture.call_records import CallRecords, LiveCall
from temporal_token_interceptor.capture.echoes import Echoes
from temporal_token_interceptor.capture.filters import NO_STREAM_TAGS, Selection
from temporal_token_interceptor.capture.forced_call import ForceStreaming
from temporal_token_interceptor.capture.json_values import Limit, json_values
from temporal_token_interceptor.capture.langchain_hooks import observed_by, warn_of_hidden_model
from temporal_token_interceptor.capture.message_parts import (
    additional_of,
    finish_reason_of,
    message_of,
    usage_of,
)
from temporal_token_interceptor.capture.names import id_of, name_of, names_of
from temporal_token_interceptor.capture.nesting import calls_around
from temporal_token_interceptor.capture.outlet import Outlet
from temporal_token_interceptor.capture.places import place_of
from temporal_token_interceptor.capture.retriever_observer import RetrieverObserver
from temporal_token_interceptor.capture.text_path import OnToken, text_path
from temporal_token_interceptor.events import (
    Call,
    CallEnded,
    CallStarted,
    Gap,
)

# Of a call's metadata and its token counts: they stand in each start and end.
_METADATA = Limit(nodes=1_000, characters=16 * 1024)
_USAGE = Limit(nodes=200, characters=4 * 1024)

# As many nodes are named in the warning that the filters select none of them.
_NAMED_NODES = 8


class Observer(RetrieverObserver):
    """Writes every model call of one activity attempt, and what happens around it, into a buffer.

    A call's callbacks come one after another, those of different calls at any time and on any thread.

    Args:
        buffer: Where it goes.
        default_node: The node's name outside of a graph.
        selection: What to capture; None for everything.
        on_call: Is called with each call that begins, on the thread of the model.
        on_first_call: Is called when a model is called first, captured or not, on the thread of the model.
        is_cancelled: Returns whether the attempt is cancelled; None: any cancelled call is cut off by that.
        guard: Swallows our errors, and re-raises the cancellation that Temporal injects.
    """

    def __init__(
        self,
        buffer: Outlet,
        *,
        default_node: str,
        selection: Selection | None = None,
        on_call: Callable[[Call], None] | None = None,
        on_first_call: Callable[[], None] | None = None,
        is_cancelled: Callable[[], bool] | None = None,
        guard: Guard = NO_INJECTION,
    ) -> None:
        super().__init__(buffer, default_node=default_node, selection=selection, guard=guard)
        self.called_nodes: set[str] = set()
        """The nodes, at most eight, in which models were called that `nodes` and `tags` decide about."""
        self.has_captured = False
        """Whether a call was captured."""
        self._on_first_call = on_first_call
        self._is_cancelled = is_cancelled
        self._records = CallRecords(buffer, self._selection)
        self._on_call = on_call
        self._ordinals = count()
        self._echoes = Echoes()
        self._live: dict[int, LiveCall] = {}  # by `run_id.int`: a UUID hashes itself in Python

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
        live = self._live.get(run_id.int)
        if live is not None:
            live.on_token(token, chunk=chunk)  # it never fails

    def on_token_of(self, run_id: UUID) -> OnToken | None:
        """Return what is called with each token of a call, after the first; None if it is not captured."""
        live = self._live.get(run_id.int)
        return None if live is None else live.on_token

    def repeated_usage_of(self, run_id: UUID) -> Mapping[str, Any] | None:
        """Return what a call has used, if each chunk of it repeated that."""
        live = self._live.get(run_id.int)
        return None if live is None else live.usage.repeated

    @never_failing
    def _begin_stream(self, live: LiveCall, token: str | list[Any], *, chunk: Any = None) -> None:
        """Take the first token of a call."""
        if live.parts is not None:
            return
        live.streamed = True
        live.is_echo = self._echoes.may_be_one(live, getattr(chunk, "message", None))
        live.on_token = partial(self._add_chunk, live)
        if self._records.takes_text and not live.is_echo:
            live.on_token = text_path(live.sent, live.on_token, self._handle)
        live.on_token(token, chunk=chunk)

    @never_failing
    def _add_chunk(self, live: LiveCall, token: str | list[Any], *, chunk: Any = None, **_: Any) -> None:
        """Take a chunk of any kind."""
        if live.is_echo:
            return
        message = getattr(chunk, "message", None)
        if message is not None:
            # Not `token`: a model may report a text that its chunk, and so the message, does not have.
            self._records.put_message(live, message)
            if (usage := usage_of(message)) is not None:
                live.usage.add(usage)
        elif token.__class__ is str:
            self._records.put_text(live, "text", token)

    def _handle(self, error: Exception) -> None:
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
                self._records.put_text(live, "text", text, index)
            case "content-block-delta", {"type": "reasoning-delta", "reasoning": text}:
                live.parts.add(index)
                self._records.put_text(live, "reasoning", text, index)
            case "content-block-start", {"type": "tool_call_chunk"}:
                live.parts.add(index)
                self._records.put_tool_call(live, {**part, "index": index})
            case "content-block-delta", {"type": "tool-call-delta"} if index in live.parts:
                self._records.put_tool_call(live, {**part, "index": index})
            case "content-block-finish", {"type": "text" | "reasoning" as kind} if index in live.parts:
                self._records.put_block(live, {**part, kind: ""}, index)  # what it says beside its text
            case "content-block-finish", {"type": _} if index not in live.parts:
                self._records.put_block(live, part, index)

    @never_failing
    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        live = self._live.pop(run_id.int, None)
        if live is None:
            return
        message: AIMessage | None = None
        facts: dict[str, Any] = {}
        try:
            message = message_of(response)
            self._put_answer(live, message, response)
        except Exception:
            # How much is missing is not known.
            self._buffer.put(Gap(missing=None, reason="mismatch", call=live.call), live.call)
            raise
        finally:
            try:
                for name, read in _FACTS.items():
                    facts[name] = read(message, response)
            finally:
                self._end(live, **facts)

    def _put_answer(self, live: LiveCall, message: AIMessage | None, response: LLMResult) -> None:
        """Put what the answer of a call has and its stream did not."""
        if self._echoes.is_one(live, message, is_alone=not self._live):
            pass
        elif message is None:
            if not live.streamed and response.generations and response.generations[0]:
                self._records.put_text(live, "text", response.generations[0][0].text)
        elif live.streamed and not live.is_echo:
            if not self._records.complete(live, message):
                self._echoes.was_not_sent(message)
        else:
            # A cache hit, a model that cannot or may not stream, or one that changed the answer of a
            # model within it: all it said, at once.
            self._records.put_message(live, message)

    @never_failing
    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        live = self._live.pop(run_id.int, None)
        if live is not None:
            # A call that the user's code gave up, for a time limit or a quicker one, has failed; the text of
            # one that is cut off with its attempt, or whose stream was left, stands as far as it came.
            is_cut_off = (
                self._is_cancelled is None or self._is_cancelled()
                if isinstance(error, CancelledError)
                else isinstance(error, GeneratorExit) or self.guard.is_injected(error)
            )
            self._end(
                live,
                error=None if is_cut_off else type(error).__name__,
                unfinished=is_cut_off,
                usage=live.usage.used,
            )

    # ------------------------------------------------------------------ the attempt calls this

    @property
    def has_open_calls(self) -> bool:
        """Whether a captured call has not ended."""
        return bool(self._live)

    def close(self) -> None:
        """End what is open, as unfinished, calls before tools and nodes around them; ignore what follows."""
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
        place = place_of(metadata, self._default_node)
        if not NO_STREAM_TAGS.isdisjoint(tags):
            return
        if len(self.called_nodes) < _NAMED_NODES:
            self.called_nodes.add(place.node_name)
        if not self._takes(place, tags):
            return
        self.has_captured = True
        keys = self._selection.metadata_keys
        with self._starting:
            if self._closed:
                return
            around = self._calls_around(parent_run_id)
            call = Call(
                ordinal=next(self._ordinals),
                run_id=str(run_id),
                agent_name=name_of(metadata.get("lc_agent_name")),
                model=name_of(metadata.get("ls_model_name")),
                provider=name_of(metadata.get("ls_provider")),
                tags=names_of(tags),
                tool_call_id=self.tool_call_above(parent_run_id),
                metadata=json_values({key: metadata[key] for key in keys if key in metadata}, _METADATA)
                or None,
                parent=around[0] if around else None,
                **self._facts(place),
            )
            if self._on_call is not None:
                self._on_call(call)
            if self._known is not None:
                self._known.add(call.path, f"lc_run--{call.run_id}")
            self._buffer.put(CallStarted(call=call), call)
            self._live[run_id.int] = live = LiveCall(call, self._buffer, around)
            live.on_token = partial(self._begin_stream, live)

    def _calls_around(self, parent_run_id: UUID | None) -> tuple[int, ...]:
        """Return the ordinals of captured calls, not ended, that a call begins within, innermost first."""
        for run_id in (parent_run_id, *calls_around()):
            if run_id is not None and (live := self._live.get(run_id.int)) is not None:
                return (live.call.ordinal, *live.around)
        return ()

    def _end(self, live: LiveCall, **facts: Any) -> None:
        if live.pieces.is_open:  # of a call that was cut off
            self._records.put_open(live)
        live.sent.is_over = live.thought.is_over = True
        facts["usage"] = json_values(facts.get("usage"), _USAGE)
        if self._known is not None:
            self._known.add(live.call.path, facts.get("message_id"))
        self._buffer.put(CallEnded(call=live.call, streamed=live.streamed, **facts), live.call)


_FACTS: Mapping[str, Callable[[AIMessage | None, LLMResult], object]] = {
    "usage": lambda message, _: usage_of(message),
    "message_id": lambda message, _: id_of(getattr(message, "id", None)),
    "additional_kwargs": lambda message, _: additional_of(message),
    "finish_reason": finish_reason_of,
}
"""What the end of a call says of its answer."""


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
