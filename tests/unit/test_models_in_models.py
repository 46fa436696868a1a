"""A model that calls a model and returns its answer, whole or changed: its own message is what it says."""

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from temporal_token_interceptor import CallEnded, Gap
from temporal_token_interceptor.testing import ScriptedChatModel, StreamingActivityEnvironment
from temporal_token_interceptor.views.snapshot_fold import Fold
from tests.support.call_views import all_that_run_shows

CHANGES = ["none", "upper case", "another text", "in place", "more", "a tool call"]
CALL: Any = {"name": "find", "args": {"q": 1}, "id": "c1", "type": "tool_call"}


def changed(message: Any, how: str) -> Any:
    """Change a message, or a chunk of one; it keeps the id that the inner call gave it."""
    match how:
        case "upper case":
            return message.model_copy(update={"content": message.content.upper()})
        case "another text":
            return message.model_copy(update={"content": "x" if message.content else ""})
        case "in place":
            message.content = message.content.replace("e", "*")
        case "more" if message.content:
            return message.model_copy(update={"content": f"{message.content}!"})
        case "a tool call" if isinstance(message, AIMessage) and not isinstance(message, AIMessageChunk):
            return message.model_copy(update={"tool_calls": [CALL]})
        case _:
            pass
    return message


class Whole(BaseChatModel):
    """Returns the message of another model, changed."""

    inner: Any
    how: str

    @property
    def _llm_type(self) -> str:
        return "outer"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        return _result(changed(self.inner.invoke(messages), self.how))

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        return _result(changed(await self.inner.ainvoke(messages), self.how))


class Streaming(Whole):
    """Streams the chunks of another model, changed; without a stream it asks it for one, too."""

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        for chunk in self.inner.stream(messages):
            yield ChatGenerationChunk(message=changed(_chunk(chunk), self.how))

    async def _astream(self, messages, stop=None, run_manager=None, **kwargs):
        async for chunk in self.inner.astream(messages):
            yield ChatGenerationChunk(message=changed(_chunk(chunk), self.how))

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        raise NotImplementedError

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        raise NotImplementedError


def _chunk(message: Any) -> Any:
    """A model without a stream yields its message."""
    if isinstance(message, AIMessageChunk):
        return message
    return AIMessageChunk(message.content, id=message.id, tool_calls=getattr(message, "tool_calls", []))


def _result(message: BaseMessage) -> ChatResult:
    return ChatResult(generations=[ChatGeneration(message=message)])


@given(
    st.lists(
        st.tuples(st.sampled_from([Whole, Streaming]), st.sampled_from(CHANGES)), min_size=1, max_size=4
    ),
    st.lists(st.sampled_from(["one ", "two e", ""]), max_size=3),
    st.sampled_from(["invoke", "ainvoke", "stream", "astream"]),
)
@example([(Whole, "a tool call"), (Streaming, "none")], [], "astream")
async def test_the_outermost_model_has_the_last_word(models, words, way):
    """Its text is the snapshot's, and what it only repeats is there once."""
    model: Any = ScriptedChatModel.saying(*words, "end")
    for kind, how in models:
        model = kind(inner=model, how=how)
    environment = StreamingActivityEnvironment()

    async def activity() -> str:
        match way:
            case "invoke":
                return str(model.invoke("?").text)
            case "ainvoke":
                return str((await model.ainvoke("?")).text)
            case "stream":
                return "".join(chunk.text for chunk in model.stream("?"))
            case _:
                return "".join([chunk.text async for chunk in model.astream("?")])

    text = await environment.run(activity)

    assert environment.text == text
    ends = [event for event in environment.events if isinstance(event, CallEnded)]
    assert [(end.error, end.unfinished) for end in ends] == [(None, False)] * (len(models) + 1)
    fold = Fold()
    for event in environment.events:
        fold.add(event)
    said = [call.text for call in fold.snapshot("", "").calls]
    changes = [how for _, how in models if how not in ("none", "a tool call")]
    assert len([one for one in said if one]) <= 1 + len(changes) + [how for _, how in models].count(
        "a tool call"
    )
    gaps = [event for event in environment.events if isinstance(event, Gap)]
    # A chunk that the outer model changes in place is one of the inner model's message, too.
    assert {gap.reason for gap in gaps} <= ({"mismatch"} if "in place" in changes else set())
    if not gaps:
        assert [message.text for message in await all_that_run_shows(environment.events)] == said
