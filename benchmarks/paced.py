"""A model that says the time at a rate: where LangChain itself is on the road."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult

from benchmarks.measure import stamp


class Paced(BaseChatModel):
    """Says tokens at a rate: a timer stands for its network.

    Attributes:
        tokens: How many.
        begin: When the first is due, on the monotonic clock.
        rate: Tokens a second.
        end: What each token ends with: it divides those that arrive as one text.
    """

    tokens: int
    begin: float
    rate: float
    end: str = ""

    @property
    def _llm_type(self) -> str:
        return "paced"

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        raise NotImplementedError  # capture has it stream

    async def _astream(self, *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
        for token in range(self.tokens):
            await asyncio.sleep(self.begin + token / self.rate - time.monotonic())
            yield ChatGenerationChunk(message=AIMessageChunk(content=f"{stamp()}{self.end}"))
