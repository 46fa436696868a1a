"""A refusal that a package leaves out of its streams: my result has it all the same."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from temporal_token_interceptor import CallEnded, Gap
from temporal_token_interceptor.capture.forcing import REFUSALS
from tests.support.call_views import read

REFUSED = {"refusal": "I can not."}


class Refusing(BaseChatModel):
    """As ChatOpenAI: the plain answer has the refusal, the stream has nothing."""

    __module__ = "langchain_openai.chat_models.base"

    pieces: Any = ("",)
    finish: Any = "stop"
    beside: bool = False
    asked: list[str] = []  # noqa: RUF012 - a field, which pydantic copies

    @property
    def _llm_type(self) -> str:
        return "refusing"

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        self.asked.append("plain")
        message = AIMessage("", additional_kwargs=REFUSED, response_metadata={"finish_reason": "stop"})
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(self, *args: Any, **kwargs: Any) -> Any:
        self.asked.append("stream")
        for piece in self.pieces:
            yield ChatGenerationChunk(message=AIMessageChunk(content=piece))
        end = {"finish_reason": self.finish}
        last = AIMessageChunk(content="", response_metadata={} if self.beside else end)
        yield ChatGenerationChunk(message=last, generation_info=end if self.beside else None)


class Subclass(Refusing):
    """As ChatDeepSeek, ChatXAI, and the classes of users."""

    __module__ = "of_a_user"


@pytest.mark.parametrize("model", [Refusing, Subclass])
@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@given(st.integers(0, 3), st.booleans(), st.booleans())
async def test_an_answer_that_says_nothing_is_asked_for_plainly(model, way, pieces, beside, cached):
    """And its stream is tried again the next time: another answer will have a text."""
    cache = InMemoryCache() if cached else False
    asked = model(pieces=[""] * pieces, beside=beside, cache=cache)

    message, environment = await read([], model=asked, way=way)

    [end] = [event for event in environment.events if isinstance(event, CallEnded)]
    assert asked.asked == ["stream", "plain"]
    assert message.additional_kwargs == end.additional_kwargs == REFUSED
    assert [event for event in environment.events if isinstance(event, Gap)] == []
    assert asked not in REFUSALS


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@given(
    said=st.lists(st.sampled_from(["", "a"]), max_size=3),
    finish=st.sampled_from(["stop", "length", "content_filter", "tool_calls"]),
    cached=st.booleans(),
)
async def test_no_other_answer_is_asked_for_twice(way, said, finish, cached):
    """A model that was cut off, or has said something, has cost what it costs."""
    cache = InMemoryCache() if cached else False
    asked = Refusing(pieces=said, finish=finish, cache=cache)

    message, _ = await read([], model=asked, way=way)

    is_hidden = finish == "stop" and not any(said)
    assert asked.asked == (["stream", "plain"] if is_hidden else ["stream"])
    assert message.text == "".join(said)


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_a_stream_that_i_ask_for_is_left_alone(way):
    """Its package loses the refusal without us, too."""
    asked = Refusing()

    await read([], model=asked, way=way)

    assert asked.asked == ["stream"]
