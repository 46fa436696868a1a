"""The Markdown pages of the project: their code blocks, headings and links, as GitHub reads them."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from inspect import isawaitable
from pathlib import Path
from textwrap import dedent
from types import FunctionType
from typing import Any

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,}) *(?P<language>[\w+-]*) *$")
_HEADING = re.compile(r"^#{1,6} +(?P<text>.+?)(?: +#+)? *$")
_LINK = re.compile(r"\]\(<?(?P<target>[^()\s>]+)>?(?: \"[^\"]*\")?\)")
_REFERENCE = re.compile(r"^ {0,3}\[[^\]]+\]: +<?(?P<target>[^\s>]+)>?", re.MULTILINE)
_IN_LINE_CODE = re.compile(r"(?P<ticks>`+)(?:.+?)(?P=ticks)")
_TAG = re.compile(r"<(?:img|a|source|video)\b[^>]*?\b(?:src|href|srcset)=\"(?P<target>[^\"\s]+)\"")


@dataclass(eq=False)
class Block:
    """A fenced block of a page.

    Attributes:
        page: The page, relative to the checkout.
        line: Where its code begins, from 1.
        language: The word after the fence; empty if there is none.
        code: What stands in it.
        ran: Whether it was run, or written to a file that was.
    """

    page: str
    line: int
    language: str
    code: str
    ran: bool = field(default=False, repr=False)

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def file_name(self) -> str | None:
        """The file that it is, if its first line says so: `# chat.py`."""
        found = re.match(r"# ([\w/.]+\.py)\n", self.code)
        return found and found[1]

    def save(self, folder: Path) -> Path:
        """Write the file that it is; the caller then runs it."""
        assert self.file_name is not None
        file = folder / self.file_name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(self.code, encoding="utf-8")
        self.ran = True
        return file

    async def run(self, **names: Any) -> dict[str, Any]:
        """Run it here, `await` and all, with these names; return what it knows at its end."""
        code = compile(self._padded(), str(ROOT / self.page), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        known: dict[str, Any] = {"__name__": "snippet", **names}
        result = FunctionType(code, known)()
        if isawaitable(result):
            await result
        self.ran = True
        return known

    def _padded(self) -> str:
        # A traceback then shows the line of the page.
        return "\n" * (self.line - 1) + self.code


def pages() -> list[Path]:
    """Every page of the checkout."""
    return sorted(
        page
        for page in ROOT.rglob("*.md")
        if not any(
            part.startswith(".") or part in ("node_modules", "build") for part in page.relative_to(ROOT).parts
        )
    )


def name_of(page: Path) -> str:
    """How tests call a page: `docs/why.md`."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    opened: re.Match[str] | None = None
    code: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if opened is None:
            opened, code = fence, []
        elif fence and fence["fence"].startswith(opened["fence"]) and not fence["language"]:
            text = dedent("".join(f"{line}\n" for line in code))
            found.append(Block(name_of(page), number - len(code), opened["language"], text))
            opened = None
        else:
            code.append(line)
    assert opened is None, f"{name_of(page)}: a block is not closed"
    return found


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    lines: list[str] = []
    opened = ""
    for line in page.read_text(encoding="utf-8").splitlines():
        fence = _FENCE.match(line)
        if not opened and not fence:
            lines.append(line)
        elif fence and not opened:
            opened = fence["fence"]
        elif fence and fence["fence"].startswith(opened) and not fence["language"]:
            opened = ""
    return "\n".join(lines)


def links(page: Path) -> Iterator[str]:
    """Where the links and pictures of a page lead, as they stand there."""
    text = _IN_LINE_CODE.sub("", prose(page))
    for pattern in (_LINK, _REFERENCE, _TAG):
        for found in pattern.finditer(text):
            yield found["target"]


@cache
def anchors(page: Path) -> frozenset[str]:
    """The names of a page's headings, as GitHub makes them, and of its own anchors."""
    seen: Counter[str] = Counter()
    names: set[str] = set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", prose(page)))
    for line in prose(page).splitlines():
        if heading := _HEADING.match(line):
            slug = _slug(heading["text"])
            names.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
    return frozenset(names)


def _slug(heading: str) -> str:
    """GitHub: lower case; without what is neither letter, digit, blank, `-` nor `_`; blanks as hyphens."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)  # a link's words, not its target
    text = re.sub(r"(?<![\w`])[*_]+|[*_]+(?![\w`])", "", text)  # emphasis, but not the inner underscores
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
