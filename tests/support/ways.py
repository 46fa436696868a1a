"""Every way to call a model, sync and async, as activities of every kind; importable by a child process."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler, CallbackManager
from langchain_core.runnables.config import ContextThreadPoolExecutor
from temporalio import activity
from temporalio.common import RawValue

from temporal_token_interceptor.testing import ScriptedChatModel

WORDS = ["To", "kens"]


def model() -> ScriptedChatModel:
    return ScriptedChatModel.saying(*WORDS)


def failing() -> ScriptedChatModel:
    return ScriptedChatModel.saying(ConnectionError("refused"))


def once_failing() -> Any:
    tries = iter((True, False))
    script = lambda _: [ConnectionError("refused")] if next(tries) else WORDS  # noqa: E731 - one line, one use
    return ScriptedChatModel(script=script).with_retry(wait_exponential_jitter=False)


def cached() -> ScriptedChatModel:
    return model().model_copy(update={"cache": InMemoryCache()})


def in_pool(pool: Any, call: Any) -> Any:
    with pool as threads:
        return threads.submit(*call).result()


async def async_twice(model: Any) -> None:
    await model.ainvoke("?")
    await model.ainvoke("?")


async def drain(items: Any) -> list[Any]:
    return [item async for item in items]


async def v3_events() -> list[Any]:
    return await drain(await model().astream_events("?", version="v3"))


async def in_executor() -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, model().invoke, "?")


SYNC: dict[str, Any] = {
    "`invoke`": lambda: model().invoke("?"),
    "`stream`": lambda: list(model().stream("?")),
    "`batch`": lambda: model().batch(["?"]),
    "`with_retry`": lambda: once_failing().invoke("?"),
    "`with_fallbacks`": lambda: failing().with_fallbacks([model()]).invoke("?"),
    "out of a cache, the second time": lambda: [asked.invoke("?") for asked in [cached()] * 2],
    "own callbacks": lambda: model().invoke("?", {"callbacks": [BaseCallbackHandler()]}),
    "own callback manager": lambda: model().invoke("?", {"callbacks": CallbackManager([])}),
    "LangChain's own thread pool": lambda: in_pool(ContextThreadPoolExecutor(), (model().invoke, "?")),
    "thread pool, context copied": lambda: in_pool(
        ThreadPoolExecutor(), (copy_context().run, model().invoke, "?")
    ),
    "thread pool, context not copied": lambda: in_pool(ThreadPoolExecutor(), (model().invoke, "?")),
    "`model._generate` itself": lambda: model()._generate([]),
}

ASYNC: dict[str, Any] = {
    "`ainvoke`": lambda: model().ainvoke("?"),
    "`astream`": lambda: drain(model().astream("?")),
    "`abatch`": lambda: model().abatch(["?"]),
    "`astream_events` v2": lambda: drain(model().astream_events("?", version="v2")),
    "`astream_events` v3": v3_events,
    "`with_retry`": lambda: once_failing().ainvoke("?"),
    "`with_fallbacks`": lambda: failing().with_fallbacks([model()]).ainvoke("?"),
    "out of a cache, the second time": lambda: async_twice(cached()),
    "own callbacks": lambda: model().ainvoke("?", {"callbacks": [BaseCallbackHandler()]}),
    "own callback manager": lambda: model().ainvoke("?", {"callbacks": CallbackManager([])}),
    "`asyncio.create_task`": lambda: asyncio.create_task(model().ainvoke("?")),
    "`asyncio.to_thread`": lambda: asyncio.to_thread(model().invoke, "?"),
    "`loop.run_in_executor`": in_executor,
    "`model._agenerate` itself": lambda: model()._agenerate([]),
}


@activity.defn
async def call_async(way: str) -> None:
    """Call in one of the async ways."""
    await ASYNC[way]()


@activity.defn
def call_sync(way: str) -> None:
    """Call in one of the sync ways."""
    SYNC[way]()


@activity.defn(dynamic=True)
async def call_anything(arguments: Sequence[RawValue]) -> None:
    """Call in one of the async ways, whatever name the activity was called by."""
    (way,) = arguments
    await ASYNC[activity.payload_converter().from_payload(way.payload, str)]()
