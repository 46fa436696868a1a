"""Chat models that say what a script says: no key, no network, real LangChain streaming.

For tests of your own streams, and for ours, the demo and the benchmarks.
"""

# ruff: noqa: ARG002 - LangChain passes by keyword: its signatures are kept whole

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool

Piece = str | AIMessageChunk | Exception
"""A chunk of an answer; a string is one of text, an exception is raised in its place."""


class ScriptedChatModel(BaseChatModel):
    """Answers by a script: streams it where LangChain streams, returns it whole where it does not.

    Attributes:
        script: Given the messages, returns the pieces of the answer. It may be called in any thread.
        delay: Seconds before each piece.
        model: The name that LangChain reports.
    """

    script: Callable[[Sequence[BaseMessage]], Sequence[Piece]]
    delay: float = 0.0
    model: str = "scripted"

    @classmethod
    def saying(cls, *pieces: Piece, delay: float = 0.0) -> ScriptedChatModel:
        """Return a model that answers the same to everything."""
        return cls(script=lambda _messages: pieces, delay=delay)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[LanguageModelInput, AIMessage]:
        """Accept tools, as agents require; the script decides which are called."""
        return self.bind(tools=[tool.name if isinstance(tool, BaseTool) else str(tool) for tool in tools])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for piece in self.script(messages):
            if self.delay:
                time.sleep(self.delay)
            yield _chunk(piece)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for piece in self.script(messages):
            await asyncio.sleep(self.delay)
            yield _chunk(piece)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        whole: ChatGenerationChunk | None = None
        for chunk in self._stream(messages, stop, run_manager, **kwargs):
            whole = chunk if whole is None else whole + chunk
        message = AIMessage("") if whole is None else _whole(whole.message)
        return ChatResult(generations=[ChatGeneration(message=message)])


def tool_call(name: str, args: str, *, id: str, index: int = 0) -> AIMessageChunk:  # noqa: A002 - LangChain's name
    """Return a chunk that holds a whole tool call; `args` is JSON."""
    return AIMessageChunk(
        content="",
        tool_call_chunks=[{"type": "tool_call_chunk", "name": name, "args": args, "id": id, "index": index}],
    )


def _chunk(piece: Piece) -> ChatGenerationChunk:
    if isinstance(piece, Exception):
        raise piece
    # A copy, because LangChain writes the id of the run into the chunk, and a script may be used again.
    message = AIMessageChunk(content=piece) if isinstance(piece, str) else piece.model_copy()
    return ChatGenerationChunk(message=message)


def _whole(chunk: BaseMessage) -> AIMessage:
    facts = chunk.model_dump(exclude={"type", "tool_call_chunks", "chunk_position"})
    return AIMessage(**facts)
