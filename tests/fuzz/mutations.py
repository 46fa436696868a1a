"""Inputs that nobody would write: entries, cursors and results of ours, changed at random from a seed."""

import json
import random
from pathlib import Path
from typing import Any

from temporal_token_interceptor.events import (
    AttemptEnded,
    CallEnded,
    CallStarted,
    ContentBlock,
    CustomEvent,
    Frame,
    Gap,
    Record,
    RetrieverEnded,
    RetrieverStarted,
    TextRun,
    ToolCallChunk,
    ToolEnded,
    ToolStarted,
)
from temporal_token_interceptor.protocol.frames import encode
from temporal_token_interceptor.protocol.stream_key import StreamKey
from tests.support.frames import a_call, of_stream

CONTRACT = Path(__file__).parents[1] / "contract"

STREAM = StreamKey("default", "order-7", "0f0e4d5a-0000-4000-8000-000000000001")
"""The stream of the contract's stories."""

ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    7,
    2**53,
    2**63 - 1,
    -(2**63),
    1.5,
    1e308,
    "",
    "x",
    "9" * 30,
    "\ud83d",
    "x" * 2_000,
    [],
    {},
    [[]],
    [None],
    {"a": {"b": []}},
    ["text", 0, 0, ["x"]],
    ["call_end", 0, {}],
    ["attempt_end", "completed_provisional"],
)

TEXTS = ("", " ", "~", "~~", "1~", ".", "+", "-", "h", "\n", "\x00", "9" * 40, "é", "\ud83d", "a" * 200)

PIECES = (b"[", b"{", b'"', b"\\u", b"-", b"1e999", b"null")


def _attempt() -> list[bytes]:
    """The frames of one attempt, with each kind of event."""
    call = a_call(path=("outer",), tags=("t",), metadata={"k": 1}, model="m")
    records: list[tuple[Record, ...]] = [
        (CallStarted(call=call), TextRun("text", 0, 0, ("Hel", "lo"), 2)),
        (TextRun("reasoning", 0, 0, ("hm",), 1), TextRun("text", 0, 2, ("merged",), 40)),
        (
            ToolCallChunk(index=0, id="tc", name="search", args="{", call=call),
            ContentBlock(block={"type": "image", "size": 3}, call=call),
            ToolStarted(name="search", run_id="r", tool_call_id="tc"),
            ToolEnded(name="search", run_id="r", tool_call_id="tc", output="found"),
            RetrieverStarted(name="notes", run_id="r2", input="?"),
            RetrieverEnded(name="notes", run_id="r2", document_count=2, output=[{"page_content": "x"}]),
            CustomEvent(name="progress", data={"done": [1, 2]}),
            Gap(missing=3, reason="overflow", call=call),
        ),
        (CallEnded(call=call, usage={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}),),
        (AttemptEnded(outcome="completed_provisional"),),
    ]
    origin = of_stream(STREAM)
    return [
        encode(Frame(origin, seq, each, header=seq % 2 == 0, open_calls=(call,) if seq == 2 else ()))
        for seq, each in enumerate(records)
    ]


def entries() -> list[bytes]:
    """What the contract's stories and one attempt store, unchanged."""
    found = _attempt()
    for path in sorted(CONTRACT.glob("*.json")):
        for entry in json.loads(path.read_text("utf-8")).get("entries", ()):
            found.append(entry["data"].encode() if "data" in entry else json.dumps(entry["entry"]).encode())
    return found


class Mutations:
    """Changes what it is given; the same seed gives the same changes.

    Args:
        seed: Any number.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def entry(self, data: bytes) -> bytes:
        """Change an entry, as JSON mostly, else as bytes; one in eight is left as it was."""
        kind = self.random.randrange(8)
        if kind == 0:
            return data
        if kind < 6:
            try:
                value = json.loads(data)
            except ValueError:
                return self.bytes(data)
            for _ in range(self.random.choice((1, 1, 1, 2, 5))):
                value = self.json(value)
            return json.dumps(value).encode()
        return self.bytes(data)

    def json(self, value: Any) -> Any:
        """Change a value somewhere within."""
        if value and isinstance(value, dict) and self.random.random() < 0.9:
            return self._object(value)
        if value and isinstance(value, list) and self.random.random() < 0.9:
            return self._array(value)
        return self.deep() if self.random.random() < 0.05 else self.random.choice(ODD)

    def _object(self, value: dict[str, Any]) -> dict[str, Any]:
        random = self.random
        name = random.choice(list(value))
        match random.randrange(7):
            case 0:
                return {key: part for key, part in value.items() if key != name}
            case 1:
                return {**value, random.choice(list(value)): value[name]}
            case 2:
                return {**value, random.choice(TEXTS): random.choice(ODD)}
            case _:
                return {**value, name: self.json(value[name])}

    def _array(self, value: list[Any]) -> list[Any]:
        random = self.random
        place = random.randrange(len(value))
        match random.randrange(8):
            case 0:
                return value[:place] + value[place + 1 :]
            case 1:
                return [*value, value[place]]
            case 2:
                return [*value[:place], *value[place:][::-1]]
            case 3:
                return value * random.choice((0, 2, 50))
            case _:
                return [*value[:place], self.json(value[place]), *value[place + 1 :]]

    def deep(self) -> Any:
        """A value that is nested deeper than it has any right to be; as deep as `json` can write it."""
        value: Any = 1
        for _ in range(self.random.choice((10, 200, 300, 900))):
            value = [value] if self.random.random() < 0.5 else {"a": value}
        return value

    def bytes(self, data: bytes) -> bytes:
        """Change bytes: cut, repeat, swap, flip, or add brackets."""
        random, found = self.random, bytearray(data)
        for _ in range(random.choice((1, 1, 2, 10))):
            place = random.randrange(len(found) + 1)
            match random.randrange(6):
                case 0:
                    del found[place : place + random.choice((1, 2, 50, 10_000))]
                case 1:
                    found[place:place] = found[place : place + random.choice((1, 20, 200))]
                case 2:
                    found[place:place] = random.randbytes(random.choice((1, 4, 30)))
                case 3 if place < len(found):
                    found[place] ^= 1 << random.randrange(8)
                case 4:
                    found[place:place] = random.choice(PIECES) * random.choice((1, 3, 2_000))
                case _:
                    found = found[:place]
        return bytes(found)

    def text(self, text: str) -> str:
        """Change a text, as somebody might who edits a cursor by hand."""
        random = self.random
        for _ in range(random.choice((1, 1, 2, 4))):
            place = random.randrange(len(text) + 1)
            match random.randrange(4):
                case 0:
                    text = text[:place] + text[place + random.choice((1, 1, 5, 50)) :]
                case 1:
                    text = text[:place] + random.choice(TEXTS) + text[place:]
                case 2:
                    text = text[:place] + text[place : place + 10] + text[place:]
                case _:
                    text = text[:place] + chr(random.randrange(0x500)) + text[place + 1 :]
        return text
