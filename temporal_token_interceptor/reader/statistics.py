"""What the readers of a process met, in numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class ReaderStatistics:
    """What the subscriptions of one subscriber met, added up.

    Attributes:
        entries: Entries that were read, of transports and of histories.
        unreadable: Entries that are no frames of a version that this reader knows: they were skipped.
        duplicates: Frames that came twice, and were shown once.
        superseded: Frames of attempts that a newer one had replaced: they were not shown.
        gaps: `Gap`s that were reported.
    """

    entries: int = 0
    unreadable: int = 0
    duplicates: int = 0
    superseded: int = 0
    gaps: int = 0
