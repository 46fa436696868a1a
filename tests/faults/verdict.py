"""What a viewer holds at the end, compared with what the activities returned: one judge for every fault."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Self

from temporal_token_interceptor import AttemptStarted, Event, Gap, Origin, StreamEnded, TokenEvent

UNSEEN = "unseen-"
"""How the names of attempts begin that ran without the interceptor: nothing is promised of them."""

PROMISES = ("lost", "duplicated", "garbled", "unreported", "false_ends", "hung", "immortal")
"""What must be 0, whatever happens."""


@dataclass(slots=True)
class Verdict:
    """Pieces, over some runs; but for `told` and `pieces`, all must be 0.

    Attributes:
        pieces: That should have been seen.
        told: Missing where the fault takes them, and told by a `Gap`.
        lost: Missing where the fault must not cost any.
        unreported: Missing without a `Gap`.
        duplicated: Seen twice.
        garbled: Out of order, of an attempt that was taken back, or under a wrong name.
        false_ends: Runs whose end is not what Temporal says.
        hung: Runs that did not end in time.
        immortal: Keys that Redis would keep forever.
    """

    pieces: int = 0
    told: int = 0
    lost: int = 0
    unreported: int = 0
    duplicated: int = 0
    garbled: int = 0
    false_ends: int = 0
    hung: int = 0
    immortal: int = 0

    def __iadd__(self, other: "Verdict") -> Self:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
        return self

    @property
    def is_good(self) -> bool:
        """Whether every promise was kept."""
        return not any(getattr(self, name) for name in PROMISES)


def judge(
    events: Sequence[Event], truth: Sequence[dict[str, str]] | None, status: str, *, may_lose: bool
) -> Verdict:
    """Judge one viewer.

    Args:
        events: What it saw.
        truth: What the activities returned, text by `<attempt>.<call>`; None if the workflow has no result:
            then what was seen must be whole from the first piece to the last that was seen.
        status: How the workflow ended.
        may_lose: Whether the fault takes pieces, which then must be told.
    """
    verdict = Verdict()
    end = events[-1] if events else None
    verdict.false_ends = not (isinstance(end, StreamEnded) and end.status == status)
    standing: dict[str, dict[str, list[int]]] = {}
    names: dict[str, str] = {}
    gone: set[str] = set()
    gaps: set[str] = set()
    for event in events:
        attempt_id = event.origin.attempt_id if event.origin else ""
        match event:
            case AttemptStarted(supersedes=Origin(attempt_id=superseded)):
                standing.pop(superseded, None)
                gone.add(superseded)
                gone.discard(attempt_id)  # what is shown again was taken back: it begins again
            case Gap():
                gaps.add(attempt_id)
            case TokenEvent():
                calls = standing.setdefault(attempt_id, defaultdict(list))
                for piece in event.token.split(";")[:-1]:
                    name, call, index, *_ = piece.split(".")
                    verdict.garbled += attempt_id in gone or names.setdefault(attempt_id, name) != name
                    calls[f"{name}.{call}"].append(int(index))
    lengths = {
        name: text.count(";")
        for told in truth or ()
        for name, text in told.items()
        if not name.startswith(UNSEEN)
    }
    seen: dict[str, tuple[str, list[int]]] = {
        name: (attempt_id, indexes)
        for attempt_id, calls in standing.items()
        for name, indexes in calls.items()
    }
    for name in lengths.keys() | seen.keys():
        attempt_id, indexes = seen.get(name, ("", []))
        distinct = set(indexes)
        length = lengths.get(name, max(distinct, default=-1) + 1)
        missing = length - len(distinct)
        verdict.pieces += length
        verdict.duplicated += len(indexes) - len(distinct)
        verdict.garbled += sum(a > b for a, b in pairwise(indexes))
        is_told = attempt_id in gaps or "" in gaps
        if missing and not is_told:
            verdict.unreported += missing
        elif missing and not may_lose:
            verdict.lost += missing
        else:
            verdict.told += missing
    return verdict
