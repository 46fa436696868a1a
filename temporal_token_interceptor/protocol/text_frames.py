"""Frames that hold one run of text and nothing else, read without a JSON parser.

Most entries of a stream are such frames. A reader that resumes reads all that was before its cursor, and of
those it needs only the number, the call and the text. What is recognized here is a part of what
`frames.decode` reads, exactly as our writers write it; everything else is left to that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

MOST_BYTES: Final = 64 * 1024
"""Of a frame that is recognized: so it keeps to all bounds that `frames.decode` checks."""

_HEADER = b'"o":{'  # no text has it: there a quotation mark is escaped

_NUMBER = rb"(?:0|[1-9][0-9]{0,14})"
_STRING = rb'"[^"\\\x00-\x1f]*"'  # without an escape
# The number of pieces stands behind them if it is not that of the strings, or if that of a block follows.
_FORM = (
    (
        rb'\{"v":1,"a":"([!#-\[\]-~]{1,64})","n":(NUMBER)(?:,"t":NUMBER)?,'
        rb'"e":\[\["(text|reasoning)",(NUMBER),NUMBER,\[(STRING(?:,STRING)*)\](?:,(NUMBER)(?:,NUMBER)?)?\]\]\}'
    )
    .replace(b"NUMBER", _NUMBER)
    .replace(b"STRING", _STRING)
)
_FRAME = re.compile(_FORM).fullmatch
_FRAMES = re.compile(rb"^%b$" % _FORM, re.MULTILINE).findall


class Run(NamedTuple):
    """Frames of one attempt that follow each other and hold nothing but text of one call.

    Attributes:
        attempt_id: Which attempt sent them.
        seq: The number of the first one.
        frames: How many there are.
        is_answer: Whether it is answer text, and not reasoning.
        call: The ordinal of the call.
        text: The text, all pieces joined.
        pieces: How many pieces there are.
    """

    attempt_id: str
    seq: int
    frames: int
    is_answer: bool
    call: int
    text: str
    pieces: int


def text_run(entries: Sequence[bytes], first: int) -> Run | None:
    """Return the run that begins with an entry; None if that may hold anything else.

    Args:
        entries: Entries of a stream, in its order.
        first: The place of the first one among them.
    """
    end = first
    while end < len(entries) and _HEADER not in entries[end]:
        end += 1
    return _run_of_all(entries[first:end]) or _run(entries, first, end)


def _run_of_all(entries: Sequence[bytes]) -> Run | None:
    """Return the run of all entries, at half the cost of one after the other; None if they are none."""
    lines = b"\n".join(entries)
    if not entries or len(lines) > MOST_BYTES or lines.count(b"\n") != len(entries) - 1:
        return None
    found = _FRAMES(lines)
    if len(found) != len(entries):
        return None
    attempt_ids, numbers, kinds, calls, strings, counts = zip(*found, strict=True)
    seq, frames = int(numbers[0]), len(entries)
    if any(counts) or list(map(int, numbers)) != list(range(seq, seq + frames)):
        return None
    if not len({*attempt_ids}) == len({*kinds}) == len({*calls}) == 1:
        return None
    try:
        text, pieces = _joined(b",".join(strings))
    except UnicodeDecodeError:
        return None
    return Run(attempt_ids[0].decode(), seq, frames, kinds[0] == b"text", int(calls[0]), text, pieces)


def _run(entries: Sequence[bytes], first: int, end: int) -> Run | None:
    of: tuple[bytes, bytes, bytes] | None = None
    number = pieces = 0
    texts: list[str] = []
    for place in range(first, end):
        data = entries[place]
        if len(data) > MOST_BYTES or (match := _FRAME(data)) is None:
            break
        attempt_id, seq, kind, call, strings, count = match.groups()
        if of is None:
            of, number = (attempt_id, kind, call), int(seq)
        elif int(seq) != number + len(texts) or (attempt_id, kind, call) != of:
            break
        try:
            text, joined = _joined(strings)
        except UnicodeDecodeError:
            break
        texts.append(text)
        pieces += joined if count is None else int(count)
    if of is None or not texts:
        return None
    attempt_id, kind, call = of
    return Run(attempt_id.decode(), number, len(texts), kind == b"text", int(call), "".join(texts), pieces)


def _joined(strings: bytes) -> tuple[str, int]:
    """Return the text of JSON strings, and how many there are.

    Raises:
        UnicodeDecodeError: it is none; looked for before they are joined, which might mend it.
    """
    text = strings[1:-1].decode()
    if '"' not in text:
        return text, 1
    # No string has one in it: they come in pairs, with a comma between.
    return text.replace('","', ""), text.count('","') + 1
