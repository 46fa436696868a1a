"""Runs the cases against a reader, which is a program that answers lines with lines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from temporal_token_interceptor.conformance.case import Case, Json

_ANSWER_SECONDS = 30.0
_LINE_BYTES = 64 * 1024 * 1024
_MOST_STARTS = 20  # of a reader that dies

# Members that are records: a case names only some of their members. Other objects are compared whole.
_RECORDS = ("origin", "call", "supersedes", "superseded_by")


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        case: The case.
        wrong: What differs, or that the reader died or did not answer; None if it passed.
    """

    case: Case
    wrong: str | None


async def outcomes(command: Sequence[str], cases: Iterable[Case]) -> list[Outcome]:
    """Run cases against a reader; a reader that dies fails the case, and is started again.

    Args:
        command: The program and its arguments.
        cases: What to ask.

    Raises:
        OSError: the program cannot be started.
    """
    found: list[Outcome] = []
    reader = await _Reader.started(command)
    starts = 1
    try:
        for case in cases:
            try:
                answer = await reader.ask(case.request)
            except _ReaderFailed as failure:
                found.append(Outcome(case, str(failure)))
                await reader.end()
                if starts == _MOST_STARTS:
                    break
                reader = await _Reader.started(command)
                starts += 1
            else:
                found.append(Outcome(case, difference(case, answer)))
    finally:
        await reader.end()
    return found


def difference(case: Case, answer: Any) -> str | None:
    """Say where an answer differs from what a case expects; None if it does not."""
    expected = case.expected
    if not isinstance(answer, dict):
        return f"the answer is no object: {_shown(answer)}"
    if "error" in expected or "error" in answer:
        same = expected.get("error") == answer.get("error")
        return None if same else f"expected {_shown(expected)}, got {_shown(answer)}"
    if "state" in expected:
        return _unlike(expected["state"], answer.get("state"), "state", is_exact=True)
    events = answer.get("events")
    if not isinstance(events, list):
        return f"the answer has no array `events`: {_shown(answer)}"
    for place, (wanted, event) in enumerate(zip(expected["events"], events, strict=False)):
        if wrong := _unlike(wanted, event, f"events[{place}]", is_exact=case.is_exact):
            return wrong
    if len(events) != len(expected["events"]):
        rest = (expected["events"] + [None] * len(events))[len(events) :] or events[len(expected["events"]) :]
        return f"expected {len(expected['events'])} events, got {len(events)}: {_shown(rest[:1])}"
    if "skipped" in expected and answer.get("skipped") != expected["skipped"]:
        return f"expected {expected['skipped']} skipped entries, got {_shown(answer.get('skipped'))}"
    return None


def _unlike(wanted: Any, found: Any, place: str, *, is_exact: bool) -> str | None:
    if isinstance(wanted, dict) and isinstance(found, dict):
        if is_exact and (unknown := found.keys() - wanted.keys()):
            return f"{place} has {sorted(unknown)}, which is not expected"
        for name, value in wanted.items():
            if name not in found:
                return f"{place} has no {name}"
            exactly = is_exact or (name not in _RECORDS and isinstance(value, dict))
            if wrong := _unlike(value, found[name], f"{place}.{name}", is_exact=exactly):
                return wrong
        return None
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        return next(
            (
                wrong
                for index, (one, other) in enumerate(zip(wanted, found, strict=True))
                if (wrong := _unlike(one, other, f"{place}[{index}]", is_exact=is_exact))
            ),
            None,
        )
    same = wanted == found and isinstance(wanted, bool) == isinstance(found, bool)
    return None if same else f"{place}: expected {_shown(wanted)}, got {_shown(found)}"


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


class _ReaderFailed(Exception):
    """The reader died, did not answer, or wrote what is no JSON."""


class _Reader:
    """A program that answers lines with lines."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        requests: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
    ) -> None:
        self._process = process
        self._requests = requests
        self._answers = answers

    @classmethod
    async def started(cls, command: Sequence[str]) -> _Reader:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=_LINE_BYTES)
        if process.stdin is None or process.stdout is None:
            raise OSError("its input and output are no pipes")
        return cls(process, process.stdin, process.stdout)

    async def ask(self, request: Json) -> Any:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                self._requests.write(json.dumps(request).encode() + b"\n")
                await self._requests.drain()
                line = await self._answers.readline()
        except TimeoutError:
            raise _ReaderFailed(f"the reader did not answer within {_ANSWER_SECONDS:g} s") from None
        except (OSError, ValueError) as error:
            raise _ReaderFailed(f"the reader cannot be asked: {error}") from error
        if not line:
            raise _ReaderFailed("the reader ended without an answer")
        try:
            return json.loads(line)
        except ValueError:
            raise _ReaderFailed(f"the answer is no JSON: {line[:80]!r}") from None

    async def end(self) -> None:
        """Close its input, and end it if that does not."""
        self._requests.close()
        try:
            async with asyncio.timeout(5):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
