"""Models as users write and wrap them: the thin, the redacting, the retrying, the failing."""

import asyncio
from collections.abc import Sequence
from typing import Any

from langchain_core.caches import InMemoryCache
from langchain_core.language_models import FakeListChatModel, FakeListLLM, GenericFakeChatModel
from langchain_core.language_models.fake import FakeStreamingListLLM
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from pydantic import BaseModel

from temporal_token_interceptor.testing import Piece, ScriptedChatModel, tool_call

USAGE: UsageMetadata = {"input_tokens": 3, "output_tokens": 5, "total_tokens": 8}
LAST = AIMessageChunk("", usage_metadata=USAGE, response_metadata={"finish_reason": "stop"})
WORDS: list[Piece] = ["To", "kens ", "are ", "secret"]


class Verdict(BaseModel):
    """What a model with a structured output has to say."""

    score: int
    reason: str


class Redacting(ScriptedChatModel):
    """Removes a word from whatever the model says; to stream it would let the word out."""

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        result = super()._generate(*args, **kwargs)
        message = result.generations[0].message
        redacted = message.model_copy(update={"content": message.text.replace("secret", "***")})
        return ChatResult(generations=[ChatGeneration(message=redacted)])


class RedactingAsync(Redacting):
    """The same, where only the async method was thought of, too."""

    async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
        return await asyncio.to_thread(self._generate, *args, **kwargs)


class Retrying(ScriptedChatModel):
    """Fails once inside `_generate` and tries again by itself."""

    calls: int = 0

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        self.calls += 1
        return super()._generate(*args, **kwargs)


class WithFacts(ScriptedChatModel):
    """Tells more when it is not streamed: facts in `llm_output`."""

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        result = super()._generate(*args, **kwargs)
        return ChatResult(generations=result.generations, llm_output={"system_fingerprint": "fp-1"})

    def _stream(self, *args: Any, **kwargs: Any) -> Any:
        yield from super()._stream(*args, **kwargs)

    async def _astream(self, *args: Any, **kwargs: Any) -> Any:
        async for chunk in super()._astream(*args, **kwargs):
            yield chunk


class UsageOnlyWhole(ScriptedChatModel):
    """A provider that leaves the usage out of its stream."""

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        result = super()._generate(*args, **kwargs)
        message = result.generations[0].message.model_copy(update={"usage_metadata": USAGE})
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(self, *args: Any, **kwargs: Any) -> Any:
        yield from super()._stream(*args, **kwargs)

    async def _astream(self, *args: Any, **kwargs: Any) -> Any:
        async for chunk in super()._astream(*args, **kwargs):
            yield chunk


class NoStream(ScriptedChatModel):
    """Cannot stream: what it inherits is for its author not there."""

    def _should_stream(self, **kwargs: Any) -> bool:
        return False


def counting(fail_times: int, *pieces: Piece) -> ScriptedChatModel:
    """A model that fails so many times, after its first word, before it answers."""
    calls = iter(range(1_000))

    def script(messages: Sequence[BaseMessage]) -> Sequence[Piece]:
        return [pieces[0], ConnectionError("reset")] if next(calls) < fail_times else pieces

    return ScriptedChatModel(script=script)


def after_tools(*first: Piece) -> ScriptedChatModel:
    """Calls tools, and answers once there is a tool message."""

    def script(messages: Sequence[BaseMessage]) -> Sequence[Piece]:
        return ["It is ", "tea."] if messages[-1].type == "tool" else first

    return ScriptedChatModel(script=script)


def cached(model: Any) -> Any:
    """With a cache of its own."""
    return model.model_copy(update={"cache": InMemoryCache()})


@tool
def search(query: str) -> str:
    """Find something."""
    return f"found {query}"


SEARCH = tool_call("search", '{"query": "tea"}', id="tc-1")
VERDICT = tool_call("Verdict", '{"score": 7, "reason": "good"}', id="tc-9")

MODELS: dict[str, Any] = {
    "text": lambda: ScriptedChatModel.saying(*WORDS),
    "text with usage and finish reason": lambda: ScriptedChatModel.saying(*WORDS, LAST),
    "one chunk": lambda: ScriptedChatModel.saying("all"),
    "empty answer": lambda: ScriptedChatModel.saying(""),
    "empty chunks between": lambda: ScriptedChatModel.saying("a", "", "", "b"),
    "tool call": lambda: ScriptedChatModel.saying(SEARCH, LAST),
    "tool call in fragments": lambda: ScriptedChatModel.saying(
        tool_call("search", '{"que', id="tc-1"),
        AIMessageChunk(
            "",
            tool_call_chunks=[
                {"type": "tool_call_chunk", "name": None, "args": 'ry": "tea"}', "id": None, "index": 0}
            ],
        ),
    ),
    "text, then tool calls": lambda: ScriptedChatModel.saying("I look. ", SEARCH),
    "blocks of reasoning and text": lambda: ScriptedChatModel.saying(
        AIMessageChunk([{"type": "reasoning", "reasoning": "hm", "index": 0}]),
        AIMessageChunk([{"type": "text", "text": "yes", "index": 1}]),
    ),
    "an image": lambda: ScriptedChatModel.saying(
        AIMessageChunk([{"type": "image", "base64": "AAAA", "mime_type": "image/png", "index": 0}])
    ),
    "fails at once": lambda: ScriptedChatModel.saying(ConnectionError("refused")),
    "fails in mid-stream": lambda: ScriptedChatModel.saying("half", ConnectionError("reset")),
    "subclass that redacts in `_generate`": lambda: Redacting.saying(*WORDS),
    "subclass that redacts in `_agenerate`": lambda: RedactingAsync.saying(*WORDS),
    "subclass that counts in `_generate`": lambda: Retrying.saying(*WORDS),
    "facts in `llm_output`": lambda: WithFacts.saying(*WORDS),
    "usage only when not streamed": lambda: UsageOnlyWhole.saying(*WORDS),
    "a model that will not stream": lambda: NoStream.saying(*WORDS),
    "`disable_streaming=True`": lambda: _with(ScriptedChatModel.saying(*WORDS), disable_streaming=True),
    "`disable_streaming='tool_calling'`, tools bound": lambda: _with(
        ScriptedChatModel.saying(SEARCH), disable_streaming="tool_calling"
    ).bind_tools(["search"]),
    "`output_version='v1'`": lambda: _with(ScriptedChatModel.saying(*WORDS, LAST), output_version="v1"),
    "LangChain's generic fake with a tool call": lambda: GenericFakeChatModel(
        messages=iter([AIMessage("", tool_calls=[{"name": "search", "args": {}, "id": "tc-1"}])])
    ),
    "LangChain's list fake": lambda: FakeListChatModel(responses=["ab"]),
    "text LLM": lambda: FakeListLLM(responses=["ab"]),
    "text LLM that streams": lambda: FakeStreamingListLLM(responses=["ab"]),
    "`with_retry`": lambda: counting(1, *WORDS).with_retry(wait_exponential_jitter=False),
    "`with_retry`, in vain": lambda: counting(9, *WORDS).with_retry(
        stop_after_attempt=2, wait_exponential_jitter=False
    ),
    "`with_fallbacks`": lambda: counting(9, *WORDS).with_fallbacks([ScriptedChatModel.saying("plan ", "B")]),
    "`bind_tools`": lambda: ScriptedChatModel.saying(SEARCH).bind_tools([]),
    "`with_structured_output`": lambda: ScriptedChatModel.saying(VERDICT).with_structured_output(Verdict),
    "tag `nostream`": lambda: ScriptedChatModel.saying(*WORDS).with_config(tags=["nostream"]),
    "tag `tti:noforce`": lambda: ScriptedChatModel.saying(*WORDS).with_config(tags=["tti:noforce"]),
    "stop words": lambda: ScriptedChatModel.saying(*WORDS).bind(stop=["x"]),
}


def _with(model: ScriptedChatModel, **changes: Any) -> ScriptedChatModel:
    return model.model_copy(update=changes)
