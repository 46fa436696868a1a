"""Fails loudly when LangChain or LangGraph changes what `langchain_hooks.py` relies on.

A failure here is no bug in a test: it names the assumption that no longer holds and what to do about it.
"""

import asyncio
import inspect
import sys
import threading
from collections.abc import AsyncIterator
from types import CodeType, FrameType
from typing import Any

import pytest
from langchain_core.callbacks import (
    AsyncCallbackHandler,
    AsyncCallbackManager,
    BaseCallbackHandler,
    BaseCallbackManager,
)
from langchain_core.callbacks.base import LLMManagerMixin
from langchain_core.language_models import BaseChatModel, FakeListLLM, GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tracers import context as tracers_context
from langchain_core.tracers._streaming import _StreamingCallbackHandler
from langgraph._internal import _runnable
from langgraph.graph import START, MessagesState, StateGraph

from temporal_token_interceptor.capture import forced_call
from temporal_token_interceptor.capture import langchain_hooks as _langchain
from temporal_token_interceptor.capture.langchain_hooks import InlineHandler, observed_by
from temporal_token_interceptor.capture.observing import OBSERVER
from temporal_token_interceptor.testing import ScriptedChatModel

# ------------------------------------------------------------------ the hooks


def test_all_hooks_are_registered_once():
    """LangChain still keeps what `register_configure_hook` is given, as it is given."""
    hooks = [(var, inheritable) for var, inheritable, _, _ in tracers_context._configure_hooks]

    ours = [
        (var, inheritable)
        for var, inheritable in hooks
        if var is OBSERVER or isinstance(var, _langchain._ForEachCall)
    ]

    assert ours[0] == (OBSERVER, True)
    assert [inheritable for _, inheritable in ours] == [True, False], (
        "LangChain no longer keeps hooks as (variable, inheritable, class, environment): "
        "see the calls of register_configure_hook in langchain_hooks.py"
    )


@pytest.mark.parametrize(
    ("way", "asker"), [("invoke", BaseChatModel.generate), ("ainvoke", BaseChatModel.agenerate)]
)
async def test_the_asking_model_is_found_above_the_hook(monkeypatch, way, asker):
    """`_configure` calls `.get()`, called by `configure`, called by `generate`/`agenerate` with the model."""
    above: list[FrameType] = []
    managers: list[Any] = []

    def get(hook: object) -> None:
        frame = _langchain.model_frame(sys._getframe(1))
        if frame is not None:
            above.append(frame)
            managers.append(sys._getframe(1).f_locals.get("callback_manager"))

    monkeypatch.setattr(_langchain._ForEachCall, "get", get)
    model = ScriptedChatModel.saying("a")
    config: RunnableConfig = {"tags": ["a tag"]}
    if way == "invoke":
        model.invoke("?", config)
    else:
        await model.ainvoke("?", config)

    advice = "the model's frame has moved: see model_frame in langchain_hooks.py"
    assert above, advice
    assert above[0].f_code is asker.__code__, advice
    assert isinstance(managers[0], BaseCallbackManager), (
        "_configure no longer keeps the call's handlers in `callback_manager`: see _ForEachCall.get"
    )
    assert {"self", "tags", "callbacks"} <= set(inspect.signature(asker).parameters), (
        "tags of a call are no longer arguments of generate: see _tags in langchain_hooks.py"
    )


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_the_trigger_makes_a_model_stream(way):
    """The two tap methods are still how LangChain knows a handler that wants to see chunks."""
    tokens: list[Any] = []

    class Counting(InlineHandler):
        def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
            tokens.append(token)

    model = ScriptedChatModel.saying("a", "b")
    with observed_by(Counting(), force_streaming="auto"):
        model.invoke("?") if way == "invoke" else await model.ainvoke("?")

    assert tokens[:2] == ["a", "b"], (
        "BaseChatModel._should_stream no longer asks for a _StreamingCallbackHandler by structure: "
        "see _Trigger in langchain_hooks.py"
    )


def test_the_trigger_is_a_streaming_handler_by_structure_alone():
    """LangChain tests the protocol's structure, LangGraph the class: we match the first, never the second."""
    trigger = forced_call.Trigger(InlineHandler(), "auto")

    assert isinstance(trigger, _StreamingCallbackHandler), (
        "the tap methods were renamed, or the protocol became a class: see _Trigger in langchain_hooks.py"
    )
    assert _StreamingCallbackHandler not in type(trigger).__mro__
    assert not isinstance(InlineHandler(), _StreamingCallbackHandler)
    assert not _runnable._is_stream_handler(trigger), (
        "LangGraph takes the trigger for a stream handler and would run graphs by `astream`"
    )


def test_the_trigger_passes_on_whatever_a_chat_model_can_say():
    """It stands in for the observer: an event that it does not know would be lost."""
    events = {name for name in dir(LLMManagerMixin) if name.startswith("on_")}

    assert {*forced_call.MODEL_EVENTS} == events | {"on_chat_model_start"}, (
        "LangChain tells of models by other events than before: see _MODEL_EVENTS in langchain_hooks.py"
    )


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_a_call_that_is_made_to_stream_has_one_handler_of_ours(way):
    """The trigger takes the observer's place in the call alone: what the call calls inherits the observer."""
    managers: list[Any] = []

    class Looking(ScriptedChatModel):
        def _should_stream(self, *, async_api: bool, run_manager: Any = None, **kwargs: Any) -> bool:
            managers.append(run_manager)
            return super()._should_stream(async_api=async_api, run_manager=run_manager, **kwargs)

    observer = InlineHandler()
    model = Looking.saying("a")
    with observed_by(observer, force_streaming=True):
        model.invoke("?") if way == "invoke" else await model.ainvoke("?")

    (manager,) = managers
    assert [isinstance(handler, forced_call.Trigger) for handler in manager.handlers] == [True]
    assert manager.inheritable_handlers == [observer]


def test_the_generic_fake_still_needs_to_be_left_alone():
    """Made to stream, LangChain's fake loses the tool calls of its message."""
    reply = AIMessage("text", tool_calls=[{"name": "find", "args": {}, "id": "c1"}])
    with observed_by(InlineHandler(), force_streaming=True):
        message = GenericFakeChatModel(messages=iter([reply])).invoke("?")

    assert message.tool_calls == [], (
        "GenericFakeChatModel streams whole messages now: take its exception out of streams_as_it_generates"
    )


# ------------------------------------------------------------------ LangGraph's look at handlers


class Telling(Runnable[Any, Any]):
    """A node that tells how it was run."""

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        return {"messages": ["invoke"]}

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:  # noqa: A002
        return {"messages": ["ainvoke"]}

    async def astream(
        self,
        input: Any,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        yield {"messages": ["astream"]}


class Inheriting(BaseCallbackHandler, _StreamingCallbackHandler[Any]):
    """What the trigger must not be."""

    def tap_output_iter(self, run_id: Any, output: Any) -> Any:
        return output

    def tap_output_aiter(self, run_id: Any, output: Any) -> Any:
        return output


async def test_a_graph_runs_its_nodes_as_it_would_without_us():
    """A custom Runnable as a node: a handler that inherits the protocol changes how it runs, ours do not."""
    builder = StateGraph(MessagesState)
    builder.add_node("node", Telling())
    builder.add_edge(START, "node")
    graph: Any = builder.compile()

    async def way(**config: Any) -> str:
        return str((await graph.ainvoke({"messages": []}, config))["messages"][-1].text)

    assert await way() == "ainvoke"
    with observed_by(InlineHandler(), force_streaming=True):
        assert await way() == "ainvoke", "LangGraph takes one of our handlers for a stream handler"
    assert await way(callbacks=[Inheriting()]) == "astream", (
        "LangGraph no longer looks at the handler's class: the trigger might as well inherit the protocol"
    )


# ------------------------------------------------------------------ inline handlers


class Starts(AsyncCallbackHandler):
    def __init__(self) -> None:
        self.starts = 0

    async def on_llm_start(self, *args: Any, **kwargs: Any) -> None:
        self.starts += 1


class PlainInline(BaseCallbackHandler):
    """An inline handler as LangChain documents it, without our workaround."""

    run_inline = True


async def test_langchain_still_forgets_handlers_beside_an_inline_one():
    """The bug that `_BesideOthers` works around still exists."""
    starts = Starts()

    await FakeListLLM(responses=["a"]).ainvoke("?", {"callbacks": [PlainInline(), starts]})

    assert starts.starts == 0, (
        "langchain#39633 is fixed: when the oldest supported langchain-core has the fix, remove "
        "_BesideOthers, _wrap_inline_handlers, _ON_LLM_START, _handlers_of and _is_foreign_inline"
    )


async def test_our_inline_handlers_make_nobody_forgotten():
    """`run_inline` is read within `on_llm_start` itself, where ours denies it; it is read nowhere before."""
    starts = Starts()

    await FakeListLLM(responses=["a"]).ainvoke("?", {"callbacks": [InlineHandler(), starts]})

    assert starts.starts == 1, (
        "on_llm_start reads run_inline elsewhere than in its own code: see _ON_LLM_START"
    )


async def test_an_inline_handler_is_called_on_the_loop_s_own_thread():
    """`ahandle_event` asks `run_inline`, and takes a sync handler that denies it to another thread."""
    asked: list[CodeType] = []
    threads: dict[str, int] = {}
    loop = asyncio.get_running_loop()

    class Asked(BaseCallbackHandler):
        def __init__(self, *, inline: bool) -> None:
            self.inline = inline

        @property
        def run_inline(self) -> bool:  # type: ignore[override]
            asked.append(sys._getframe(1).f_code)
            return self.inline

        def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
            threads[str(self.inline)] = threading.get_ident()

    class Ours(InlineHandler):
        def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
            assert asyncio.get_running_loop() is loop
            threads["ours"] = threading.get_ident()

    handlers = [Asked(inline=True), Asked(inline=False), Ours()]
    await ScriptedChatModel.saying("a").ainvoke("?", {"callbacks": handlers})

    here = threading.get_ident()
    advice = "LangChain no longer calls handlers by run_inline: see InlineHandler in langchain_hooks.py"
    assert asked, advice
    assert threads["True"] == threads["ours"] == here, advice
    assert threads["False"] != here, advice


def test_the_code_that_forgets_handlers_is_known():
    """`on_llm_start` is a plain function whose handlers are an attribute of its `self`."""
    assert inspect.iscoroutinefunction(AsyncCallbackManager.on_llm_start)
    assert id(AsyncCallbackManager.on_llm_start.__code__) in _langchain._ON_LLM_START
    assert "self" in AsyncCallbackManager.on_llm_start.__code__.co_varnames
    assert AsyncCallbackManager([InlineHandler()]).handlers
