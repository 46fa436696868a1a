"""The peers' own suites under capture: `make peers`, or `python -m tests.peers [package ...]`.

Each suite is run without us and with us. It is an error if a test fails with us alone that `suites.py` does
not name with its reason, or if what was captured of a model call is not what LangChain dispatched.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.peers.sources import FOLDER, unpacked
from tests.peers.suites import SUITES, Suite

HERE = Path(__file__).parent


@dataclass
class Seen:
    """What a run of a suite gave."""

    outcomes: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    mismatches: list[tuple[str, str]] = field(default_factory=list)

    @property
    def failed(self) -> set[str]:
        return {test for test, outcome in self.outcomes.items() if outcome == "failed"}


def run(suite: Suite, folder: Path, *, captured: bool, tests: tuple[str, ...] = ()) -> Seen:
    """Run a suite, or some of its tests."""
    out = FOLDER / f"{suite.package}.{'with' if captured else 'without'}.jsonl"
    for old in FOLDER.glob(f"{out.name}*"):
        old.unlink()
    environment = {
        **os.environ,
        "PYTHONPATH": str(HERE),
        "TTI_PEERS_OUT": str(out),
        "TTI_PEERS_CAPTURE": "1" if captured else "",
        "NO_DOCKER": "true",
        "LANGGRAPH_TEST_FAST": "true",
        "LANGSMITH_TRACING": "false",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    options = "-qq --tb=short --no-header -W ignore -o addopts= --timeout 60 -p no:cacheprovider"
    workers = () if tests else ("-n", os.environ.get("TTI_PEERS_WORKERS", "2"))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "inside.capturing",
        *options.split(),
        *workers,
        *suite.options,
    ]
    log = FOLDER / f"{out.stem}.log"
    with log.open("w") as stdout:
        subprocess.run(  # noqa: S603 - pytest
            [*command, *(tests or (suite.tests,))],
            cwd=folder,
            env=environment,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            check=False,
        )
    seen = _read(out)
    if not seen.outcomes:
        raise SystemExit(f"{suite.package}: no test was run; see {log}")
    return seen


def _read(out: Path) -> Seen:
    seen = Seen()
    for file in sorted(FOLDER.glob(f"{out.name}*")):
        for line in file.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            test = record["id"]
            if "outcome" in record:
                if seen.outcomes.get(test) != "failed":  # a failed teardown is a failure
                    seen.outcomes[test] = record["outcome"]
                    seen.texts[test] = record["text"]
            else:
                seen.counts.update(record["counts"])
                seen.mismatches += [(test, mismatch) for mismatch in record["mismatches"]]
    return seen


def check(suite: Suite) -> tuple[str, list[str]]:
    """Return the row of a suite, and what is wrong with it."""
    begun = time.monotonic()
    folder = unpacked(suite)
    bare = run(suite, folder, captured=False)
    captured = run(suite, folder, captured=True)
    new = captured.failed - bare.failed
    unknown = sorted(test for test in new if suite.why(test) is None)
    if unknown:  # once more, alone: a loaded machine makes some of them time out
        again = run(suite, folder, captured=True, tests=tuple(unknown))
        unknown = [test for test in unknown if again.outcomes.get(test) != "passed"]
    named = [found for found in captured.mismatches if suite.why_different(found[0])]
    known = {test: why for test in sorted(new) if (why := suite.why(test)) is not None}
    missing = bare.outcomes.keys() - captured.outcomes.keys()
    cells = (
        f"{suite.package} {folder.name.rpartition('-')[2]}",
        len(bare.outcomes),
        len(bare.failed),
        f"{len(known) + len(unknown)} ({len(known)} named)",
        captured.counts["calls"],
        captured.counts["texts"],
        captured.counts["views"],
        f"{len(captured.mismatches)} ({len(named)} named)",
        f"{time.monotonic() - begun:.0f} s",
    )
    wrong = [f"{suite.package}: fails with us: {test}\n{captured.texts[test]}" for test in unknown]
    wrong += [
        f"{suite.package}: {test}: {mismatch}"
        for test, mismatch in captured.mismatches
        if (test, mismatch) not in named
    ]
    if missing:
        wrong.append(f"{suite.package}: {len(missing)} tests did not run with us, such as {min(missing)}")
    for test, _ in named:
        print(f"{suite.package}: {test} differs, because {suite.why_different(test)}", flush=True)
    for why in sorted(set(known.values())):
        print(
            f"{suite.package}: {sum(value == why for value in known.values())} fail, because {why}",
            flush=True,
        )
    return f"| {' | '.join(str(cell) for cell in cells)} |", wrong


HEAD = """\
| suite | tests | fail without us | fail with us alone | calls | texts | `.messages()` | mismatches | took |
|---|---|---|---|---|---|---|---|---|"""


def main(names: list[str]) -> int:
    """Run the suites that are named, or all; print a table."""
    rows, wrong = [], []
    for suite in SUITES:
        if not names or suite.package in names:
            row, found = check(suite)
            rows.append(row)
            wrong += found
            print(row, flush=True)
    print("", *wrong, "", HEAD, *rows, sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
