"""What really happened, noted where it happened, so that the end of the demo reports measurements.

Worker and viewer append lines of JSON to one file that has no name, inherited from `story`, and so gone
with the last of the three. Their times compare because `time.monotonic()` is one clock for all processes.
"""

import json
import math
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, Any

NOTES_FD = "TTI_DEMO_NOTES_FD"


def note(what: str, workflow_id: str | None, attempt: int = 0, **facts: object) -> None:
    """Append a line, if the notes are wanted."""
    if fd := os.environ.get(NOTES_FD):
        line = {"what": what, "workflow": workflow_id, "attempt": attempt, **facts}
        os.write(int(fd), json.dumps(line).encode() + b"\n")


@dataclass
class Report:
    """The notes, added up.

    Attributes:
        delays: Seconds from the model to the screen, one per token, in rising order.
        delays_without_redis: The same of the answer that came through Temporal alone.
        first_tokens: Seconds from a question to the first token of its answer on the screen.
        taken_back: How many tokens were drawn and then taken back, one number per retraction.
        problems: What should not have happened, in words.
    """

    delays: list[float] = field(default_factory=list)
    delays_without_redis: list[float] = field(default_factory=list)
    first_tokens: list[float] = field(default_factory=list)
    taken_back: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def delay(delays: Sequence[float], percentile: int) -> float:
    """Return the delay, of some in rising order, that this many percent of the tokens did not exceed."""
    return delays[math.ceil(len(delays) * percentile / 100) - 1]


def add_up(file: IO[bytes], questions: Sequence[str]) -> Report:
    """Compare what the model made with what the viewer drew: token by token, attempt by attempt."""
    file.seek(0)
    lines: list[dict[str, Any]] = [json.loads(line) for line in file]
    report = Report()
    made, drawn = _by_attempt(lines, "made"), _by_attempt(lines, "drawn")
    seen = _by_attempt(lines, "seen")
    for attempt, came in seen.items():
        pairs = zip(made.pop(attempt), came, strict=False)
        report.delays_without_redis += [at - since for (said, since), (token, at) in pairs if said == token]
    report.delays_without_redis.sort()
    if not seen:
        report.problems.append("no token came through Temporal alone")
    for attempt in made | drawn:
        there, here = made.get(attempt, []), drawn.get(attempt, [])
        if [token for token, _ in there] != [token for token, _ in here]:
            report.problems.append(
                f"attempt {attempt[1]} made {len(there)} tokens, and others were drawn ({len(here)})"
            )
        report.delays += [at - since for (_, since), (_, at) in zip(there, here, strict=False)]
    report.delays.sort()

    ended = [line for line in lines if line["what"] == "ended"]
    report.first_tokens = [line["first_token"] for line in ended]
    statuses = [line["status"] for line in ended]
    if statuses != ["completed"] * len(questions):
        report.problems.append(f"the workflows should have completed; they ended as {statuses}")
    for line in lines:
        if line["what"] == "taken back":
            report.taken_back.append(len(drawn.get((line["workflow"], line["attempt"]), [])))
    if len(report.taken_back) != 1:
        report.problems.append(f"text should have been taken back once, not {len(report.taken_back)} times")
    return report


def _by_attempt(lines: list[dict[str, Any]], what: str) -> dict[tuple[str, int], list[tuple[str, float]]]:
    found = defaultdict(list)
    for line in lines:
        if line["what"] == what:
            found[line["workflow"], line["attempt"]].append((line["token"], line["at"]))
    return dict(found)
