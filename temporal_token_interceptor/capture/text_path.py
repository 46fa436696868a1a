"""The short way of a chunk that is only text: from LangChain's callback into a run of the buffer.

Most chunks are such. The thread of the call appends to an open run by itself, without the buffer's lock,
within the room that the buffer has given to the run. The buffer closes a run before it hands it out; a piece
that came later is found, and put into the next one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from zlib import crc32

from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk

from temporal_token_interceptor.capture.outlet import OpenRun, Outlet
from temporal_token_interceptor.capture.sizes import VALUE_BYTES
from temporal_token_interceptor.events import Call, TextKind

_HASHED_TOGETHER: Final = 64
_ROOM: Final = 12 * 1024  # bytes, enough for about 180 pieces: as often a long run is joined and hashed

_MOST_CHARACTERS: Final = 2 * 1024 * 1024
"""Of a piece; a longer one is several: a frame has 16 MiB at most, and a character six bytes in JSON."""

_NO_LOCK = threading.Lock()


NEW_BLOCK: Final = object()
"""The key of a piece that is a block of its own."""

SAME_BLOCK: Final = object()
"""The key of a piece that belongs to the block before it."""


@dataclass(slots=True)
class SentText:
    """The text of one call, or its reasoning, as far as it was sent: where the next piece goes, and a hash.

    Attributes:
        outlet: Where it goes.
        call: The call.
        kind: Answer or reasoning.
        block: The number of the block that is written: 0 of plain text, from 1 on of those in a list.
        first: The number of the first one; None before it has begun.
        last: The number of the newest.
        facts: By block, what was sent of it beside its text: names, and ids with their value.
        run: The newest pieces; closed, if the next one cannot be added to it.
        length: Of the text that was hashed.
        digest: Its hash.
        is_over: Whether the call has ended: what comes now is ignored.
        before: Is called once before the next piece: it sends what has to come first.
    """

    outlet: Outlet
    call: Call
    kind: TextKind = "text"
    block: int = 0
    first: int | None = None
    last: int = 0
    facts: dict[int, dict[str, object]] = field(default_factory=dict)
    run: OpenRun = field(init=False)
    length: int = 0
    digest: int = 0
    is_over: bool = False
    before: Callable[[], None] | None = None
    _seen: int = 0  # so many pieces of the run were hashed, or are about to be
    _unhashed: list[str] = field(default_factory=list)
    _key: object = None
    _numbers: dict[object, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin with no piece."""
        self.run = OpenRun(self.kind, self.call, 0, [], 0, _NO_LOCK, is_closed=True)

    @property
    def count(self) -> int:
        """How many pieces there were."""
        return self.run.first_index + len(self.run.texts)

    def add(self, text: str, key: object = None) -> None:
        """Send a piece, and find out where the next one goes.

        Args:
            text: The piece.
            key: Pieces of the same key that follow each other are of one block; that of plain text is None.
        """
        if self.is_over:
            return
        if len(text) > _MOST_CHARACTERS:
            for start in range(0, len(text), _MOST_CHARACTERS):
                self.add(text[start : start + _MOST_CHARACTERS], SAME_BLOCK if start else key)
            return
        if self.before is not None:
            before, self.before = self.before, None
            before()
        self.turn_to(key)
        self._see()
        if len(self._unhashed) >= _HASHED_TOGETHER:
            self.take_hash()
        index = self.count
        # What has a key is never added without looking: the next piece may be of another block.
        room = _ROOM if self._key is None else 0
        run = self.outlet.put_text(self.call, self.kind, index, text, block=self.block, room=room)
        if run is not self.run:
            self._seen = 0
            # Held or dropped: it is in no run of the buffer.
            self.run = run or OpenRun(self.kind, self.call, index, [text], 0, _NO_LOCK, is_closed=True)

    def turn_to(self, key: object) -> None:
        """Begin the block of a key; go on with it, if it has begun."""
        if key is NEW_BLOCK or (key is not SAME_BLOCK and key != self._key):
            known = self._numbers.get(key)
            if known is None:
                known = self.last = self.last + 1
                if key is not None and key is not NEW_BLOCK:
                    self._numbers[key] = known
            self.block = known
        if key is not SAME_BLOCK:
            self._key = key
        if self.first is None:
            self.first = self.block

    def add_late(self) -> None:
        """Send what was added to the run after it was closed."""
        for text in self.run.late_pieces():
            self.add(text)

    def take_hash(self) -> None:
        """Hash what is not hashed yet: many pieces together, because each alone costs more."""
        self._see()
        text = "".join(self._unhashed)
        self._unhashed.clear()
        self.length += len(text)
        self.digest = digest_of(text, self.digest)

    def _see(self) -> None:
        texts = self.run.texts
        self._unhashed += texts[self._seen :]
        self._seen = len(texts)


def digest_of(text: str, so_far: int = 0) -> int:
    """Return a hash of text, after that of what came before it."""
    return crc32(text.encode("utf-16-le", "surrogatepass"), so_far)


OnToken = Callable[..., None]
"""LangChain's `on_llm_new_token`, of one call."""


def text_path(sent: SentText, otherwise: OnToken, failed: Callable[[Exception], None]) -> OnToken:
    """Return a callback for the chunks of one call, from the second on.

    A function, not a method, because LangChain finds out for each token whether it is a coroutine function:
    0.4 us longer for a method. And what LangChain passes is named here: 0.1 us longer in a dictionary.

    Args:
        sent: The text of the call.
        otherwise: Is called with every chunk that is not just a piece of text.
        failed: Is called with what this callback itself raises.
    """

    def on_llm_new_token(
        token: str | list[Any],
        *,
        chunk: Any = None,
        run_id: Any = None,
        parent_run_id: Any = None,
        tags: Any = None,
        **_: Any,
    ) -> None:
        try:
            if type(chunk) is ChatGenerationChunk and type(message := chunk.message) is AIMessageChunk:
                # Not `token`: a model may report a text that its chunk, and so the message, does not have.
                text = message.content
                if (
                    type(text) is str
                    and not message.additional_kwargs
                    and not message.tool_call_chunks
                    and message.usage_metadata is None
                    and text
                ):
                    run = sent.run
                    room = run.room - len(text) - VALUE_BYTES
                    if room >= 0 and text.isascii():
                        run.room = room  # first, so that a run that is closed now gives not too much back
                        run.texts.append(text)
                        if run.is_closed:
                            sent.add_late()
                    else:
                        sent.add(text)
                    return
        except Exception as error:  # noqa: BLE001 - the host's call must not fail because of us
            failed(error)
            return
        otherwise(token, chunk=chunk, run_id=run_id, parent_run_id=parent_run_id, tags=tags)

    return on_llm_new_token
