"""One call of a provider's model, or one run of an agent, with and without us."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.tools import tool
from pydantic import BaseModel

from temporal_token_interceptor.events import Event
from temporal_token_interceptor.testing import StreamingActivityEnvironment
from tests.providers.answers import Answer, agent, structured
from tests.providers.providers import Provider
from tests.providers.wire import Reply, Request, Wire

QUESTION = "What is tea?"
_RANDOM = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{32}\b")


class Verdict(BaseModel):
    """A structured answer."""

    score: int
    reason: str


@tool
def search(query: str) -> str:
    """Find something."""
    return f"found {query}"


async def _invoke(model: BaseChatModel) -> Any:
    return await asyncio.to_thread(model.invoke, QUESTION)


async def _ainvoke(model: BaseChatModel) -> Any:
    return await model.ainvoke(QUESTION)


async def _stream(model: BaseChatModel) -> Any:
    return await asyncio.to_thread(lambda: list(model.stream(QUESTION)))


async def _astream(model: BaseChatModel) -> Any:
    return [chunk async for chunk in model.astream(QUESTION)]


async def _structured(model: BaseChatModel) -> Any:
    return await model.with_structured_output(Verdict, include_raw=True).ainvoke(QUESTION)


async def _agent(model: BaseChatModel) -> Any:
    return (await create_agent(model, [search]).ainvoke({"messages": [("user", QUESTION)]}))["messages"]


Way = Callable[[BaseChatModel], Awaitable[Any]]

STREAMS: Mapping[str, Way] = {"stream": _stream, "astream": _astream}
PLAIN: Mapping[str, Way] = {"invoke": _invoke, "ainvoke": _ainvoke, **STREAMS}
WAYS: Mapping[str, Way] = {**PLAIN, "structured output": _structured, "tools agent": _agent}


@dataclass
class Outcome:
    """What came of a run.

    Attributes:
        result: What it returned, or the exception.
        requests: What the provider was asked.
        events: What a reader gets, with us.
    """

    result: Any
    requests: list[Request]
    events: list[Event] = field(default_factory=list)

    @property
    def raised(self) -> bool:
        """Whether it failed."""
        return isinstance(self.result, Exception)


async def run(
    provider: Provider,
    way: Way,
    wire: Wire,
    *,
    captured: bool,
    answer: Callable[[Request], Reply],
    **options: Any,
) -> Outcome:
    """Make a model, and run it in a way; an exception is an outcome."""
    wire.reset()
    wire.answer = answer
    model, environment = provider.model(**options), StreamingActivityEnvironment()

    async def activity() -> Any:
        return await way(model)

    try:
        result = await (environment.run(activity) if captured else activity())
    except Exception as error:  # noqa: BLE001 - whatever it is, it has to be the same
        result = error
    return Outcome(result, list(wire.requests), environment.events)


def saying(provider: Provider, answer: Answer | Callable[[Request], Answer]) -> Callable[[Request], Reply]:
    """Answer each request, streamed or not as it asks."""

    def reply(request: Request) -> Reply:
        said = answer(request) if callable(answer) else answer
        form = provider.form
        if form.asks_to_stream(request):
            return Reply(form.stream(said, request), content_type=form.content_type)
        return Reply([form.whole(said, request)])

    return reply


def answers_to(way: str, answer: Answer) -> Answer | Callable[[Request], Answer]:
    """Return what the provider answers when it is asked in a way."""
    return {"structured output": structured, "tools agent": agent}.get(way, answer)


def plain(value: Any) -> Any:
    """A value as it can be compared: no random ids, and the class of each object beside its fields."""
    if isinstance(value, str):
        return _RANDOM.sub("#", value)
    if isinstance(value, Mapping):
        # Numbered, because a random key may stand beside another.
        names = (_RANDOM.sub(f"#{number}", str(key)) for number, key in enumerate(value))
        return {name: plain(part) for name, part in zip(names, value.values(), strict=True)}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, BaseModel):
        fields = {name: getattr(value, name, None) for name in type(value).model_fields}
        fields |= value.model_extra or {}
        return {"class": type(value).__name__, **plain(fields)}
    if isinstance(value, Exception):
        return {"raised": type(value).__name__}
    return value if isinstance(value, int | float | None) else _RANDOM.sub("#", repr(value))
