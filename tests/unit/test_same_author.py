"""A program that changes only the plain answers of a model, in any way, is not bypassed by a stream."""

import inspect
from functools import wraps
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.rate_limiters import BaseRateLimiter

from temporal_token_interceptor.capture.forcing import REFUSALS
from temporal_token_interceptor.testing import StreamingActivityEnvironment


@pytest.fixture(autouse=True)
def nothing_remembered():
    REFUSALS.clear()
    yield
    REFUSALS.clear()


def result(text: str) -> ChatResult:
    return ChatResult(generations=[ChatGeneration(message=AIMessage(text))])


def model_class() -> Any:
    """Return a new class, because tests change it."""

    class Chat(BaseChatModel):
        pieces: Any = ("the ", "secret")
        rate_limiter: Any = None

        @property
        def _llm_type(self) -> str:
            return "chat"

        def _finish(self, text: str) -> ChatResult:
            return result(text)

        def _piece(self, text: str) -> ChatGenerationChunk:
            return ChatGenerationChunk(message=AIMessageChunk(text))

        def _generate(self, messages, stop=None, run_manager=None, **kwargs):
            return self._finish("the secret")

        async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
            return self._finish("the secret")

        def _stream(self, messages, stop=None, run_manager=None, **kwargs):
            for piece in self.pieces:
                yield self._piece(piece)

        async def _astream(self, messages, stop=None, run_manager=None, **kwargs):
            for piece in self.pieces:
                yield self._piece(piece)

    return Chat


def subclass(model: Any, **methods: Any) -> Any:
    """Return a subclass of a model, written by someone else than LangChain."""
    return type("Mine", (model,), {"__module__": __name__, **methods})


async def ask(model: Any, way: str) -> tuple[str, StreamingActivityEnvironment]:
    environment = StreamingActivityEnvironment()

    async def activity() -> Any:
        return model.invoke("?") if way == "invoke" else await model.ainvoke("?")

    return (await environment.run(activity)).text, environment


# ------------------------------------------------------------------ ways to change the plain answers


def fake(way: str, how: str) -> Any:
    """Return what takes the place of a plain method."""
    if how == "mock":
        return (
            MagicMock(return_value=result("new"))
            if way == "invoke"
            else AsyncMock(return_value=result("new"))
        )
    if way == "invoke":
        return lambda *_, **__: result("new")

    async def answer(*_: Any, **__: Any) -> ChatResult:
        return result("new")

    return answer


def wrapped(method: Any) -> Any:
    """Redact as a decorator does that keeps the name of what it wraps."""
    if inspect.iscoroutinefunction(method):

        @wraps(method)
        async def redact(*args: Any, **kwargs: Any) -> ChatResult:
            await method(*args, **kwargs)
            return result("new")

        return redact

    @wraps(method)
    def redact_now(*args: Any, **kwargs: Any) -> ChatResult:
        method(*args, **kwargs)
        return result("new")

    return redact_now


PLAIN = {"invoke": "_generate", "ainvoke": "_agenerate"}
CHANGES = ["class", "object", "mock on class", "mock on object", "decorator", "subclass", "what it calls"]


@given(
    st.sampled_from(sorted(PLAIN)),
    st.sampled_from(CHANGES),
    st.integers(0, 2),
    st.integers(0, 2),
    st.booleans(),
)
async def test_who_changes_plain_answers_alone_is_not_bypassed(way, change, below, above, asked_before):
    """At any depth, also where calls of the class were made to stream before it was changed."""
    base = chat = model_class()
    for _ in range(below):
        chat = type("Chat", (chat,), {"__module__": __name__})
    name = PLAIN[way]
    changed = chat
    for _ in range(above):
        changed = type("Mine", (changed,), {"__module__": __name__})
    if asked_before:
        assert [
            event.token for event in (await ask(changed(), way))[1].events if hasattr(event, "token")
        ] == [
            "the ",
            "secret",
        ]
    if change == "subclass":
        changed = type("Redacting", (changed,), {name: fake(way, "function"), "__module__": __name__})
    elif change == "what it calls":
        changed = subclass(changed, _finish=lambda self, text: result("new"))
    elif change.endswith("class"):
        setattr(base, name, fake(way, change.split()[0]))
    elif change == "decorator":
        setattr(base, name, wrapped(vars(base)[name]))
    model = changed()
    if change.endswith("object"):
        setattr(model, name, fake(way, change.split()[0]))

    text, environment = await ask(model, way)

    assert (text, environment.text) == ("new", "new")


@pytest.mark.parametrize("way", sorted(PLAIN))
async def test_who_changes_the_stream_as_well_is_made_to_stream(way):
    both = subclass(
        model_class(),
        _finish=lambda self, text: result(text.upper()),
        _piece=lambda self, text: ChatGenerationChunk(message=AIMessageChunk(text.upper())),
    )

    text, environment = await ask(both(), way)

    assert (text, environment.tokens) == ("THE SECRET", ["THE ", "SECRET"])


# ------------------------------------------------------------------ what is no refusal of the model


class Trouble(Exception):
    """An error of something around the model, with attributes that raise, too."""

    @property
    def status_code(self) -> int:
        raise RuntimeError("not known")


class BrokenCache(InMemoryCache):
    is_away = True

    def lookup(self, prompt: str, llm_string: str) -> Any:
        if self.is_away:
            raise Trouble("cache")
        return super().lookup(prompt, llm_string)

    async def alookup(self, prompt: str, llm_string: str) -> Any:
        return self.lookup(prompt, llm_string)


class BrokenLimiter(BaseRateLimiter):
    is_away = True

    def acquire(self, *, blocking: bool = True) -> bool:
        if self.is_away:
            raise Trouble("limiter")
        return True

    async def aacquire(self, *, blocking: bool = True) -> bool:
        return self.acquire()


@pytest.mark.parametrize("way", sorted(PLAIN))
@pytest.mark.parametrize(("name", "broken"), [("cache", BrokenCache), ("rate_limiter", BrokenLimiter)])
async def test_a_cache_or_limiter_that_fails_is_no_refusal(way, name, broken):
    """The activity fails as without us, and the next attempt streams."""
    around = broken()
    model = model_class()(**{name: around})

    with pytest.raises(Trouble, match=r"cache|limiter"):
        await ask(model, way)
    around.is_away = False
    text, environment = await ask(model, way)

    assert (text, environment.tokens) == ("the secret", ["the ", "secret"])


class Budget(BaseCallbackHandler):
    """A callback of the user's that stops a stream."""

    raise_error = True

    def on_llm_new_token(self, *_: Any, **__: Any) -> None:
        raise Trouble("too much")


@pytest.mark.parametrize("way", sorted(PLAIN))
@pytest.mark.parametrize("streams_anyway", [False, True])
async def test_a_callback_that_raises_stops_only_what_would_have_streamed(way, streams_anyway):
    """A plain call has no tokens, so without us it is never called."""
    chat = type(
        "Chat", (model_class(),), {"__annotations__": {"streaming": bool}, "streaming": streams_anyway}
    )
    stopped = chat().with_config(callbacks=[Budget()])

    if streams_anyway:
        with pytest.raises(Trouble, match="too much"):
            await ask(stopped, way)
    else:
        text, environment = await ask(stopped, way)
        assert (text, environment.text) == ("the secret", "the secret")
    assert (await ask(model_class()(), way))[1].tokens == ["the ", "secret"]


@pytest.mark.parametrize("way", sorted(PLAIN))
async def test_an_error_whose_attributes_raise_may_be_a_refusal(way):
    def refuse(self: Any, text: str) -> Any:
        raise Trouble("no stream")

    text, _ = await ask(subclass(model_class(), _piece=refuse)(), way)

    assert text == "the secret"


@pytest.mark.parametrize("way", sorted(PLAIN))
@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("count", [1, 3])
async def test_empty_chunks_alone_are_no_answer(way, cached, count):
    """Of a model that has no stream: it is asked plainly, and no empty answer stays in the cache."""
    model = model_class()(pieces=[""] * count, cache=InMemoryCache() if cached else None)

    asked = [await ask(model, way) for _ in range(2)]

    assert [(text, environment.text) for text, environment in asked] == [("the secret", "the secret")] * 2


async def test_a_stream_that_is_a_coroutine_is_left_alone():
    """LangChain cannot iterate over it, and Python would warn of a coroutine that nothing awaited."""

    async def _astream(self: Any, *_: Any, **__: Any) -> Any:
        return self._stream([])

    chat = model_class()
    model = type("Chat", (chat,), {"_astream": _astream, "_agenerate": chat._agenerate})()

    assert (await ask(model, "ainvoke"))[0] == "the secret"


@pytest.mark.parametrize("name", ["model_name", "model", "system_fingerprint"])
@pytest.mark.parametrize("times", [2, 3])
async def test_what_later_chunks_repeat_is_said_once(name, times):
    """LangChain joins texts, here of chunks from the second on."""

    def named(self: Any, text: str) -> ChatGenerationChunk:
        facts = {} if text == "the " else {name: "my-1"}
        return ChatGenerationChunk(message=AIMessageChunk(text, response_metadata=facts))

    environment = StreamingActivityEnvironment()

    async def activity() -> Any:
        return await subclass(model_class(), _piece=named)(pieces=["the ", *["s"] * times]).ainvoke("?")

    assert (await environment.run(activity)).response_metadata == {name: "my-1"}
