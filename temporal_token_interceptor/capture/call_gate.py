"""Between capture and buffer: calls that are held until they have ended, and text that the user transforms.

Only where a worker is configured so: a call of any other goes straight into the buffer. What is held counts
against the buffer's budget. A transform that fails must not leak: from then on the text of its call is
withheld, and a `Gap` in its place says how much.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Final, Protocol

from temporal_token_interceptor._guard import NO_INJECTION, Guard
from temporal_token_interceptor.capture.buffer import Buffer
from temporal_token_interceptor.capture.names import MOST_TAGS, name_of
from temporal_token_interceptor.capture.outlet import OpenRun, Outlet
from temporal_token_interceptor.capture.sizes import VALUE_BYTES, record_bytes, text_bytes
from temporal_token_interceptor.events import (
    Call,
    CallEnded,
    CallStarted,
    ContentBlock,
    Gap,
    Record,
    TextKind,
    TextRun,
)

logger = logging.getLogger(__name__)

_KINDS: Final[tuple[TextKind, TextKind]] = ("reasoning", "text")


class TextTransform(Protocol):
    """What changes the text of one call before it leaves the worker, piece by piece.

    It runs in the callback of the model, on its thread or on the event loop: it must not wait. If it raises,
    nothing more of the text leaves, and readers see a `Gap`.
    """

    def feed(self, text: str) -> str:
        """Return what may leave now, given the next piece; empty to wait for more."""
        ...

    def flush(self) -> str:
        """Return what is left: the text has ended."""
        ...


MakeTransform = Callable[[Call], TextTransform | None]
"""Returns the transform of a call's answer, and, called again, that of its reasoning; None for none."""

HoldCalls = bool | Collection[str]
"""Which calls to hold: all, none, or those with one of these tags or within one of these nodes."""


class _Passing:
    """What the gate knows of a call that has not ended."""

    def __init__(self, call: Call, *, is_held: bool) -> None:
        self.call = call
        self.held: list[tuple[TextKind, str, int] | Record] | None = [] if is_held else None
        self.size = 0
        self.overflow = 0
        self.withheld = 0
        self.is_broken = False
        self.indexes: dict[TextKind, int] = dict.fromkeys(_KINDS, 0)
        self.blocks: dict[TextKind, int] = dict.fromkeys(_KINDS, 0)  # of the newest pieces
        self.transforms: dict[TextKind, TextTransform | None] = {}


class CallGate:
    """Takes what a `Buffer` takes, and puts it into one: at once, changed, or when its call has ended.

    Args:
        buffer: Where it goes.
        hold: Which calls to hold.
        transform: Makes the transforms; None for none.
        guard: Lets a cancellation through that Temporal injects.
    """

    def __init__(
        self,
        buffer: Buffer,
        *,
        hold: HoldCalls,
        transform: MakeTransform | None,
        guard: Guard = NO_INJECTION,
    ) -> None:
        self._buffer = buffer
        self._holds_all = hold is True
        self._held_names = frozenset() if isinstance(hold, bool) else frozenset(map(name_of, hold))
        self._transform = transform
        self._guard = guard
        self._passing: dict[int, _Passing] = {}
        self._is_logged = False

    def put_text(
        self, call: Call, kind: TextKind, index: int, text: str, *, block: int = 0, room: int = 0
    ) -> OpenRun | None:
        """As `Buffer.put_text`."""
        passing = self._passing.get(call.ordinal)
        if passing is None:
            return self._buffer.put_text(call, kind, index, text, block=block, room=room)
        changed = self._changed(passing, kind, text)
        passing.blocks[kind] = block
        self._pass_text(passing, kind, changed)
        return None

    def put(self, record: Record, call: Call | None) -> None:
        """As `Buffer.put`."""
        match record:
            case CallStarted(call=begun):
                self._begin(begun)
            case TextRun() if (passing := self._passing.get(record.call)) is not None:
                for text in record.texts:
                    changed = self._changed(passing, record.kind, text)
                    passing.blocks[record.kind] = record.block
                    self._pass_text(passing, record.kind, changed)
                return
            case CallEnded() if (passing := self._passing.pop(record.call.ordinal, None)) is not None:
                self._end(passing, record)
                return
            case _ if call is not None and (passing := self._passing.get(call.ordinal)) is not None:
                self._pass_record(passing, record)
                return
            case _:
                pass
        self._buffer.put(record, call)

    # ------------------------------------------------------------------ one call

    def _begin(self, call: Call) -> None:
        # Of very many tags not all are known here: such a call may have one that holds it.
        names = {call.node_name, *call.path, *call.tags}
        is_held = self._holds_all or bool(
            self._held_names and (len(call.tags) > MOST_TAGS or not self._held_names.isdisjoint(names))
        )
        if is_held or self._transform is not None:
            self._passing[call.ordinal] = _Passing(call, is_held=is_held)

    def _pass_text(self, passing: _Passing, kind: TextKind, text: str) -> None:
        if not text:
            return
        if passing.held is not None:
            if self._has_room(passing, VALUE_BYTES + text_bytes(text)):
                passing.held.append((kind, text, passing.blocks[kind]))
        else:
            self._put_text(passing, kind, text, passing.blocks[kind])

    def _pass_record(self, passing: _Passing, record: Record) -> None:
        if self._transform is not None and _is_beside_text(record):
            return  # a source may quote the text, which no transform has seen there
        if passing.held is None:
            self._buffer.put(record, passing.call)
        elif self._has_room(passing, record_bytes(record)):
            passing.held.append(record)

    def _has_room(self, passing: _Passing, size: int) -> bool:
        if passing.overflow or not self._buffer.hold(size):
            passing.overflow += 1
            return False
        passing.size += size
        return True

    def _put_text(self, passing: _Passing, kind: TextKind, text: str, block: int) -> None:
        index = passing.indexes[kind]
        passing.indexes[kind] = index + 1
        self._buffer.put_text(passing.call, kind, index, text, block=block)

    def _end(self, passing: _Passing, end: CallEnded) -> None:
        call = passing.call
        stands = end.error is None and not end.unfinished
        if stands or passing.held is None:
            for kind in _KINDS:
                self._pass_text(passing, kind, self._changed(passing, kind, None))
        if passing.held is not None:
            held, passing.held = passing.held, None
            self._buffer.unhold(passing.size)
            # What failed does not stand, so that nothing of it has to leave.
            for part in held if stands else ():
                if isinstance(part, tuple):
                    self._put_text(passing, *part)
                else:
                    self._buffer.put(part, call)
        if passing.withheld:
            self._buffer.put(Gap(missing=passing.withheld, reason="withheld", call=call), call)
        if passing.overflow and stands:
            self._buffer.put(Gap(missing=passing.overflow, reason="overflow", call=call), call)
        if self._transform is not None or not stands:
            end = replace(end, additional_kwargs=None)  # text that no transform has seen
        self._buffer.put(end, call)

    # ------------------------------------------------------------------ the user's transform

    def _changed(self, passing: _Passing, kind: TextKind, text: str | None) -> str:
        """Return what may leave: of a piece, or, for None, of the end."""
        if self._transform is None:
            return text or ""
        try:
            if not passing.is_broken:
                return self._fed(passing, kind, text, self._transform)
        except Exception as error:
            passing.is_broken = True
            if self._guard.is_injected(error):
                raise
            self._log(error)
            passing.withheld += text is None
        passing.withheld += text is not None
        return ""

    def _fed(self, passing: _Passing, kind: TextKind, text: str | None, make: MakeTransform) -> str:
        if text is None:
            transform = passing.transforms.get(kind)
            changed = "" if transform is None else transform.flush()
        else:
            if kind not in passing.transforms:
                passing.transforms[kind] = make(passing.call)
            transform = passing.transforms[kind]
            changed = text if transform is None else transform.feed(text)
        if not isinstance(changed, str):
            raise TypeError("a transform returns text")
        return changed

    def _log(self, error: Exception) -> None:
        if not self._is_logged:
            self._is_logged = True
            # Not the error's text: it may hold content.
            logger.warning(
                "the transform of a call's text failed (%s): the rest of that text is withheld, and readers "
                "see a gap; correct the transform (logged once an attempt)",
                type(error).__name__,
            )


def _is_beside_text(record: Record) -> bool:
    """Whether a record is what a text says beside itself, such as its sources."""
    if not isinstance(record, ContentBlock):
        return False
    kind = record.block.get("type")
    return kind in _KINDS and not record.block.get(kind)


def gated(
    buffer: Buffer, *, hold: HoldCalls, transform: MakeTransform | None, guard: Guard = NO_INJECTION
) -> Outlet:
    """Return what captured records go into: the buffer itself, unless something is held or transformed."""
    if hold is False and transform is None:
        return buffer
    return CallGate(buffer, hold=hold, transform=transform, guard=guard)
