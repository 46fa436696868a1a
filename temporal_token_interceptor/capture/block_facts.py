"""What a block says beside its text, and server tools, whose calls come in pieces.

A signature, annotations, an id, a phase: the stream of a text has no room for them, and a program that sends
the message back to its provider needs them. They travel as a block of the same type without text, whose
`index` is the number of the block that they belong to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.messages.ai import add_ai_message_chunks

from temporal_token_interceptor.capture.json_values import CUT_MARK
from temporal_token_interceptor.capture.message_parts import blocks_of

TEXTS: Final = frozenset({"text", "reasoning"})
"""The types of blocks that are text: each has it under its own name."""

_BARE: Final = {kind: frozenset({"type", "index", kind}) for kind in TEXTS}
# Of one call of a server tool; what has more is left to the message.
_MOST_PIECES: Final = 10_000
_MOST_CHARACTERS: Final = 256 * 1024


def text_of(block: Mapping[str, Any]) -> str:
    """Return the text of a block; none where a provider, or its translator, has put something else there."""
    text = block.get(block["type"])
    return text if isinstance(text, str) else ""


def facts_of(block: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a block of text says beside its text; members that say nothing are left out."""
    bare = _BARE[block["type"]]
    if block.keys() <= bare:
        return {}
    return {name: value for name, value in block.items() if name not in bare and not _is_nothing(value)}


def in_stream(message: BaseMessage, block: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a block of a chunk without what only the whole message says in the right place.

    OpenAI's translator has the extras of reasoning within it or beside its first text, if it ever has one.
    """
    is_late = block["type"] == "reasoning" and message.response_metadata.get("model_provider") == "openai"
    return {name: block[name] for name in block if name != "extras"} if is_late else block


def facts_block(kind: str, number: int, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the block in which facts travel."""
    return {"type": kind, kind: "", **facts, "index": number}


def new_facts(facts: dict[str, Any], known: dict[str, object]) -> dict[str, Any]:
    """Return what of facts is new, and note it; an id may stand in each piece, and is one."""
    new = {name: value for name, value in facts.items() if name != "id" or known.get(name) != value}
    known.update((name, value if name == "id" else None) for name, value in new.items())
    return new


class ServerTools:
    """The calls of tools that the provider runs, of one model call: collected until each is whole."""

    __slots__ = ("_chunks", "_has_others", "_index", "_sent", "_text", "is_open")

    def __init__(self) -> None:
        self.is_open = False
        """Whether there are pieces that were not sent: the message has them whole."""
        self._sent: set[str] = set()
        self._has_others = False
        self._begin(None)

    def _begin(self, index: object) -> None:
        self._index, self._text = index, ""
        self._chunks: list[AIMessageChunk] = []

    def add(self, message: AIMessageChunk, block: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """Take a piece; return the call before it, if that is whole now."""
        index = block.get("index")
        done = self.take() if self._chunks and index != self._index else ()
        if not self._chunks:
            self._begin(index)
        self.is_open = True
        args = block.get("args")
        text = args if isinstance(args, str) else ""
        if index != self._index or self._text == CUT_MARK:
            self._has_others = True
        elif len(self._chunks) < _MOST_PIECES and len(self._text) + len(text) <= _MOST_CHARACTERS:
            self._chunks.append(message)
            self._text += text
        else:
            self._text = CUT_MARK  # which is no JSON
        return done

    def note(self, block: Mapping[str, Any]) -> None:
        """Note a call that is sent."""
        if isinstance(name := block.get("id"), str):
            self._sent.add(name)

    def has_sent(self, block: Mapping[str, Any]) -> bool:
        """Whether a call of the whole message was sent, in pieces or whole."""
        name = block.get("id")
        return isinstance(name, str) and name in self._sent

    def take(self) -> Sequence[Mapping[str, Any]]:
        """Return the call that the pieces are, as LangChain reads them; nothing if it is not whole yet."""
        if not self._chunks or not _is_object(self._text):
            return ()
        whole = add_ai_message_chunks(*self._chunks, AIMessageChunk(content="", chunk_position="last"))
        calls = [block for block in blocks_of(whole) if block["type"] == "server_tool_call"]
        self._begin(None)
        self.is_open = self._has_others or not calls
        return calls


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text or "{}"), dict)
    except (ValueError, RecursionError):
        return False


def _is_nothing(value: object) -> bool:
    return value is None or (isinstance(value, str | list | dict) and not value)
