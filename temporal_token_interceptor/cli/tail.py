"""`tti tail`: a workflow's tokens as they come, with what a retry takes back shown as taken back."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from temporal_token_interceptor.cli.transcript import Block, State, Transcript
from temporal_token_interceptor.events import Event, StreamEnded

_PAINT_SECONDS = 0.08
_EDGE = 4  # rows that stay free, for the prompt and rich's own


async def print_json(events: AsyncGenerator[Event]) -> str:
    """Print each event as one line of JSON, at once; return the status of the end."""
    status = "unknown"
    async with aclosing(events):
        async for event in events:
            sys.stdout.write(json.dumps(event.to_json(), ensure_ascii=False) + "\n")
            sys.stdout.flush()
            if isinstance(event, StreamEnded):
                status = event.status
    return status


async def print_live(events: AsyncGenerator[Event], console: Console) -> str:
    """Show each call's text as it grows; return the status of the end.

    Text that can still be taken back stays in a region that is drawn again; what is final scrolls away above
    it. Where the output is no terminal, only what is final is printed.
    """
    transcript, status = Transcript(), "unknown"
    with Live(console=console, auto_refresh=False, transient=True) as live:
        async with aclosing(events), _painter(transcript, live) as changed:
            async for event in events:
                transcript.add(event)
                for block in transcript.final():
                    console.print(drawn(block))
                changed.set()
                if isinstance(event, StreamEnded):
                    status = event.status
        live.update(Group())
    for block in transcript.rest():
        console.print(drawn(block))
    return status


@asynccontextmanager
async def _painter(transcript: Transcript, live: Live) -> AsyncGenerator[asyncio.Event]:
    """Draw the region after a change, at most a few times a second: a token must not cost a screen."""
    changed = asyncio.Event()

    async def paint() -> None:
        while True:
            await changed.wait()
            changed.clear()
            live.update(_fitting(transcript.pending, live.console), refresh=True)
            await asyncio.sleep(_PAINT_SECONDS)

    task = asyncio.create_task(paint()) if live.console.is_terminal else None
    try:
        yield changed
    finally:
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def drawn(block: Block) -> Text:
    """Return a block as styled text; nothing in a model's words is taken for markup or for control codes."""
    if block.is_note:
        return Text(f"· {printable(block.text)}", style="yellow" if "gap:" in block.text else "cyan")
    struck = "strike dim" if block.state is State.TAKEN_BACK else ""
    text = Text(f"{printable(block.title)}\n", style=f"bold {struck}".strip())
    if block.reasoning:
        text.append(f"  {printable(block.reasoning)}\n", style=f"italic dim {struck}".strip())
    text.append(printable(block.text), style=struck or "not bold")
    for written in block.tools.written:
        called = f"{printable(written.name or '')}({printable(written.args)})"
        text.append(f"\n  → {called}", style=f"magenta {struck}".strip())
    if block.state is State.OPEN:
        text.append(" ▌", style="blink")
    if block.state is State.TAKEN_BACK:
        text.append("  (taken back)", style="dim")
    return text


def printable(text: str) -> str:
    """Replace what a terminal would obey: control codes except new lines and tabs, and direction marks."""
    return "".join(character if _is_harmless(character) else "\ufffd" for character in text)


def _is_harmless(character: str) -> bool:
    return character in "\n\t" or (character.isprintable() and character not in _DIRECTIONS)


_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def _fitting(blocks: tuple[Block, ...], console: Console) -> Group:
    """Return the newest lines of the blocks that fit on the screen: a region must never be taller."""
    rows = max(console.height - _EDGE, 1)
    most = (
        rows * console.width
    )  # characters that can be seen at all: longer text is not wrapped again each time
    lines: list[Text] = []
    for block in reversed(blocks):
        shown = replace(block, text=block.text[-most:], reasoning=block.reasoning[-most:])
        wrapped = drawn(shown).wrap(console, console.width)
        lines[:0] = wrapped[-(rows - len(lines)) :]
        if len(lines) >= rows:
            break
    return Group(*lines)
