"""Blocks that come in pieces and are no text: unknown ones, and media. Collected until each is whole.

LangChain adds up the pieces of a list's content by their `index`; a reader of blocks has no rule for that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from langchain_core.messages import AIMessageChunk
from langchain_core.messages.ai import add_ai_message_chunks

from temporal_token_interceptor.capture.message_parts import MEDIA, blocks_of

_KINDS: Final = frozenset({"non_standard", *MEDIA})
_MOST_PIECES: Final = 10_000


def index_of(block: Mapping[str, Any]) -> object:
    """Return what the pieces of a block have in common; None for one that comes whole."""
    if block["type"] not in _KINDS:
        return None
    value = block.get("value")
    return block.get("index", value.get("index") if isinstance(value, Mapping) else None)


class BlockPieces:
    """The block of one model call that is being written."""

    __slots__ = ("_chunks", "_index", "is_open")

    def __init__(self) -> None:
        self._chunks: list[AIMessageChunk] = []
        self._index: object = None
        self.is_open = False
        """Whether there are pieces that were not sent."""

    def add(self, message: AIMessageChunk, index: object) -> Sequence[Mapping[str, Any]]:
        """Take a chunk that has a piece; return the block before it, if it is of another."""
        done = self.take() if index != self._index or len(self._chunks) >= _MOST_PIECES else ()
        self._index, self.is_open = index, True
        if not self._chunks or self._chunks[-1] is not message:
            self._chunks.append(message)
        return done

    def take(self) -> Sequence[Mapping[str, Any]]:
        """Return the block that the pieces are, as LangChain adds them up."""
        chunks, self._chunks, self.is_open = self._chunks, [], False
        if not chunks:
            return ()
        try:
            whole = [chunks[0] if len(chunks) == 1 else add_ai_message_chunks(*chunks)]
        except (TypeError, ValueError):  # of two types, say; then each piece is one
            whole = chunks
        return [block for one in whole for block in blocks_of(one) if index_of(block) == self._index]
