"""Draws a conversation: on a terminal, where text is taken back, or on paper, where that is said in words."""

import math
import os
import re
import shutil
import textwrap
from dataclasses import dataclass, field
from typing import Protocol, TextIO

from temporal_token_interceptor import Origin

_STYLES = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "magenta": 35, "cyan": 36}
_STYLE_CODE = re.compile(r"\x1b\[[0-9;]*m")
_NODE_STYLES = {"model": "cyan", "tools": "magenta"}

_LONGEST_LINE = 88  # wider is harder to read
_INDENT = 11


class Page(Protocol):
    """What a viewer can do with the events it receives."""

    def ask(self, question: str) -> None:
        """Begin a conversation."""

    def write(self, origin: Origin, call_id: str, node: str, token: str) -> None:
        """Add a token to what a model call has said."""

    def call_tool(self, origin: Origin, node: str, call: str) -> None:
        """Show that a node calls a tool."""

    def mark_dead(self, origin: Origin, *, will_retry: bool) -> None:
        """Show that an attempt will say no more."""

    def take_back(self, dead: Origin) -> None:
        """Remove all that an attempt has drawn."""

    def remark(self, remark: str) -> None:
        """Show something that no model has said."""

    def end(self, status: str, first_token: float) -> None:
        """Show how the workflow closed, and the seconds from the question to the first token."""


def page_on(stream: TextIO) -> Page:
    """Return the page that suits where the output goes."""
    if stream.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        return TerminalPage(stream)
    return PaperPage(stream)


@dataclass(frozen=True)
class Brush:
    """Paints text in the colours of a terminal, where there are any and the user wants them."""

    coloured: bool

    @classmethod
    def suits(cls, stream: TextIO) -> "Brush":
        """Return the brush for a stream: colourless on paper and for those who set `NO_COLOR`."""
        on_terminal = stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        return cls(coloured=on_terminal and not os.environ.get("NO_COLOR"))

    def __call__(self, text: str, *styles: str) -> str:
        """Return the text, painted."""
        codes = ";".join(str(_STYLES[style]) for style in styles)
        return f"\x1b[{codes}m{text}\x1b[0m" if self.coloured and styles else text


class Screen:
    """The last lines of a terminal, drawn again wherever they changed.

    If nothing else is printed in between, any line may change; appending and taking back are the same act.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: list[str] = []

    def draw(self, lines: list[str]) -> None:
        """Show these lines; the cursor rests at the end of the last."""
        old = self._lines
        kept = 0
        while kept < min(len(old), len(lines) - 1) and old[kept] == lines[kept]:
            kept += 1
        codes = ""
        if kept < len(old):
            columns = shutil.get_terminal_size().columns  # asked each time: windows change
            up = sum(_rows(line, columns) for line in old[kept:]) - 1
            codes = "\r" + (f"\x1b[{up}A" if up else "") + "\x1b[J"
        elif old:
            codes = "\n"
        self._stream.write(codes + "\n".join(lines[kept:]))
        self._stream.flush()
        self._lines = lines

    def leave(self) -> None:
        """Let the lines be, and go below them."""
        self._stream.write("\n")
        self._stream.flush()
        self._lines = []


@dataclass
class _Passage:
    """What one call of a model has said, or a tool call, or a remark."""

    attempt_id: str
    call_id: str
    node: str
    text: str
    styles: tuple[str, ...] = ()


@dataclass
class TerminalPage:
    """Keeps a conversation in mind and draws it on a `Screen`."""

    stream: TextIO
    _passages: list[_Passage] = field(default_factory=list)
    _heading: str = ""

    def __post_init__(self) -> None:
        self._screen = Screen(self.stream)
        self._brush = Brush.suits(self.stream)

    def ask(self, question: str) -> None:
        self._heading, self._passages = question, []
        self._draw()

    def write(self, origin: Origin, call_id: str, node: str, token: str) -> None:
        last = self._passages[-1] if self._passages else None
        if last is None or (last.attempt_id, last.call_id) != (origin.attempt_id, call_id):
            last = _Passage(origin.attempt_id, call_id, node, "")
            self._passages.append(last)
        last.text += token
        self._draw()

    def call_tool(self, origin: Origin, node: str, call: str) -> None:
        self._passages.append(_Passage(origin.attempt_id, "", node, f"→ {call}", ("dim",)))
        self._draw()

    def mark_dead(self, origin: Origin, *, will_retry: bool) -> None:
        for passage in self._passages:
            if passage.attempt_id == origin.attempt_id:
                passage.styles = ("dim",)
        after = "Temporal tries again" if will_retry else "Temporal gives up"
        epitaph = f"✗ attempt {origin.attempt} died; {after}"
        self._passages.append(_Passage(origin.attempt_id, "", "", epitaph, ("red",)))
        self._draw()

    def take_back(self, dead: Origin) -> None:
        self._passages = [passage for passage in self._passages if passage.attempt_id != dead.attempt_id]
        self.remark(f"↺ attempt {dead.attempt} died; what it had said is taken back")

    def remark(self, remark: str) -> None:
        self._passages.append(_Passage("", "", "", remark, ("yellow",)))
        self._draw()

    def end(self, status: str, first_token: float) -> None:
        good = status == "completed"
        self._draw(
            "",
            self._brush(f"    {'✓' if good else '✗'} {status}", "green" if good else "red", "bold")
            + self._brush(f", says Temporal; first token after {first_token * 1000:.0f} ms", "dim"),
            "",
        )
        self._screen.leave()

    def _draw(self, *footer: str) -> None:
        width = min(shutil.get_terminal_size().columns, _LONGEST_LINE)
        # One column stays free: terminals disagree on where the cursor is after the last one.
        lines = [
            self._brush(line, "bold")
            for line in textwrap.wrap(
                f"? {self._heading}", max(width - 1, 20), initial_indent="  ", subsequent_indent="    "
            )
        ]
        lines.append("")
        speaker = ""
        for passage in self._passages:
            name, speaker = "" if passage.node == speaker else passage.node, passage.node or speaker
            margin = "    " + self._brush(f"{name:<{_INDENT - 4}}", _NODE_STYLES.get(name, "bold"))
            for line in textwrap.wrap(passage.text, max(width - _INDENT - 1, 20)):
                lines.append(margin + self._brush(line, *passage.styles))
                margin = " " * _INDENT
        self._screen.draw([*lines, *footer])


@dataclass
class PaperPage:
    """Prints a conversation on what cannot be erased: a file, a pipe, a log."""

    stream: TextIO
    _open: tuple[str, str] | None = None

    def ask(self, question: str) -> None:
        self._line(f"? {question}")

    def write(self, origin: Origin, call_id: str, node: str, token: str) -> None:
        if self._open != (origin.attempt_id, call_id):
            self._break()
            self._open = origin.attempt_id, call_id
            self._put(f"[{node}] ")
        self._put(token)

    def call_tool(self, origin: Origin, node: str, call: str) -> None:  # noqa: ARG002 - never taken back
        self._line(f"[{node}] -> {call}")

    def mark_dead(self, origin: Origin, *, will_retry: bool) -> None:
        after = "Temporal tries again" if will_retry else "Temporal gives up"
        self._line(f"-- attempt {origin.attempt} died; {after} --")

    def take_back(self, dead: Origin) -> None:
        self._line(f"-- attempt {dead.attempt} is taken back --")

    def remark(self, remark: str) -> None:
        self._line(f"-- {remark} --")

    def end(self, status: str, first_token: float) -> None:
        self._line(f"-- {status}, says Temporal; first token after {first_token * 1000:.0f} ms --\n")

    def _line(self, line: str) -> None:
        self._break()
        self._put(f"{line}\n")

    def _break(self) -> None:
        if self._open is not None:
            self._open = None
            self._put("\n")

    def _put(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()


def _rows(line: str, columns: int) -> int:
    """Count the rows that a line takes, also in a window that has become narrower since it was drawn."""
    return max(1, math.ceil(len(_STYLE_CODE.sub("", line)) / columns))
