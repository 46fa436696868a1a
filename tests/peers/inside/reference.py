"""What LangChain dispatches to the callbacks of each model call, noted without a handler of our own.

The methods of LangChain's run managers are wrapped: what they receive is what there is to capture.
"""

import functools
import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from langchain_core.callbacks import manager as managers
from langchain_core.messages import AIMessage
from langchain_core.outputs import LLMResult


@dataclass
class Answer:
    """A message as it was at the end of its call: tests and caches change it later."""

    text: str
    is_message: bool = False
    id: str | None = None
    reasoning: str | None = None
    tools: list[str] | None = None
    kinds: Counter[str] | None = None
    usage: Any = None


@dataclass
class Run:
    """One model call.

    Attributes:
        observed: Whether our observer is among its handlers.
        texts: The texts of its tokens.
        has_events: Whether it reported by events of version 3 in place of tokens.
        answer: How it ended, if it did.
        error: The name of the exception that it ended by.
    """

    observed: bool
    tags: frozenset[str]
    texts: list[str] = field(default_factory=list)
    has_events: bool = False
    answer: Answer | None = None
    error: str | None = None
    ends: int = 0


_INSIDE = ("observer", "handler")
"""Where those who take our observer's place in a call have it."""


class Reference:
    """The model calls of one test, by their run ids."""

    def __init__(self, observer: object) -> None:
        self.runs: dict[str, list[Run]] = {}
        self._observer = observer
        self._lock = threading.Lock()

    def start(self, started: list[Any]) -> None:
        for manager in started:
            observed = any(
                self._observer in (handler, *(getattr(handler, name, None) for name in _INSIDE))
                for handler in manager.handlers
            )
            with self._lock:
                run = Run(observed, frozenset(manager.tags or ()))
                self.runs.setdefault(str(manager.run_id), []).append(run)

    def note(self, event: str, manager: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        runs = self.runs.get(str(manager.run_id))
        if not runs:
            return
        run = runs[-1]
        if event == "on_llm_new_token":
            run.texts.append(_text_of(args[0] if args else kwargs.get("token"), kwargs.get("chunk")))
        elif event == "on_stream_event":
            run.has_events = True
        else:
            run.ends += 1
            received = args[0] if args else kwargs.get("response", kwargs.get("error"))
            if event == "on_llm_end":
                run.answer = _answer(received)
            else:
                run.error = type(received).__name__


def _text_of(token: Any, chunk: Any) -> str:
    message = getattr(chunk, "message", None)
    if message is not None:
        return str(message.text)
    return token if isinstance(token, str) else ""


def _answer(response: Any) -> Answer | None:
    if not isinstance(response, LLMResult) or not (response.generations and response.generations[0]):
        return None
    generation = response.generations[0][0]
    message = getattr(generation, "message", None)
    if message is None:
        return Answer(generation.text)
    answer = Answer(str(message.text), isinstance(message, AIMessage), message.id)
    if isinstance(message, AIMessage):
        answer.tools = tools_of(message)
        answer.usage = json.loads(json.dumps(message.usage_metadata)) if message.usage_metadata else None
    try:
        blocks = message.content_blocks
    except Exception:  # noqa: BLE001 - not every content can be translated: there is nothing to compare
        return answer
    answer.reasoning = "".join(
        str(block.get("reasoning") or "") for block in blocks if block["type"] == "reasoning"
    )
    # A v3 stream and a chunk say of a call that is whole that it is a fragment.
    answer.kinds = Counter(block["type"].removesuffix("_chunk") for block in blocks)
    return answer


def tools_of(message: AIMessage) -> list[str]:
    """Name each tool call with its arguments, valid or not, in an order of their own."""
    calls = [[call["name"], call["args"], call["id"]] for call in message.tool_calls]
    calls += [[call["name"], _unquoted(call["args"]), call["id"]] for call in message.invalid_tool_calls]
    return sorted(json.dumps(call, sort_keys=True, default=str) for call in calls)


def _unquoted(args: str | None) -> Any:
    """Return the arguments of an invalid call: `.messages()` quotes them, so that they are not completed."""
    try:
        read = json.loads(args or "")
    except ValueError:
        return args
    return read if isinstance(read, str) else args


_current: list[Reference] = []


def noting(reference: Reference | None) -> None:
    """Note from now on for a test; None: for no test."""
    _current[:] = [] if reference is None else [reference]


def _starting(original: Callable[..., Any], *, is_async: bool) -> Callable[..., Any]:
    @functools.wraps(original)
    async def astart(self: Any, *args: Any, **kwargs: Any) -> Any:
        started = await original(self, *args, **kwargs)
        for reference in _current:
            reference.start(started)
        return started

    @functools.wraps(original)
    def start(self: Any, *args: Any, **kwargs: Any) -> Any:
        started = original(self, *args, **kwargs)
        for reference in _current:
            reference.start(started)
        return started

    return astart if is_async else start


def _noting(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def passing(self: Any, *args: Any, **kwargs: Any) -> Any:
        for reference in _current:
            reference.note(name, self, args, kwargs)
        return original(self, *args, **kwargs)

    return passing


def install() -> None:
    """Wrap the methods."""
    for cls, is_async in ((managers.CallbackManager, False), (managers.AsyncCallbackManager, True)):
        for name in ("on_chat_model_start", "on_llm_start"):
            setattr(cls, name, _starting(getattr(cls, name), is_async=is_async))
    for run in (managers.CallbackManagerForLLMRun, managers.AsyncCallbackManagerForLLMRun):
        for name in ("on_llm_new_token", "on_stream_event", "on_llm_end", "on_llm_error"):
            setattr(run, name, _noting(name, getattr(run, name)))
