"""All readers of this repository in the conformance suite: who passes how many cases.

The TypeScript reader must be built, in build/typescript. `tti.js`, which reads what the gateway sends, gets
the same streams as changes.
"""

import asyncio
import logging
import sys
from collections.abc import Mapping, Sequence

from temporal_token_interceptor.conformance.__main__ import all_cases
from temporal_token_interceptor.conformance.case import Case
from temporal_token_interceptor.conformance.runner import Outcome, outcomes
from tests.support.node import SCRIPT, find_node
from tests.support.pages import ROOT

BUILT = ROOT / "build" / "typescript" / "dist"
FOLDER = ROOT / "tests" / "contract" / "tti_program.mjs"
_SHOWN = 5


def entry_readers() -> Mapping[str, Sequence[str]]:
    """The programs that read entries, by name."""
    return {
        "Python": [sys.executable, "-m", "temporal_token_interceptor.conformance", "reader"],
        "TypeScript": [find_node(), str(BUILT / "conformance.js")],
        "page": [sys.executable, "-m", "tests.contract.page_program"],
    }


def change_readers() -> Mapping[str, Sequence[str]]:
    """The programs that fold changes, by name."""
    return {"tti.js": [find_node(), str(FOLDER), str(SCRIPT)]}


def table(found: Mapping[str, Sequence[Outcome]], asked: Mapping[str, Sequence[Case]]) -> str:
    """How many cases of each group each reader passed; of how many, where it failed one."""
    groups = list(dict.fromkeys(case.group for cases in asked.values() for case in cases))
    lines = [f"{'group':<12}" + "".join(f"{name:>14}" for name in found)]
    for group in [*groups, "all"]:
        row = f"{group:<12}"
        for name, outcomes_ in found.items():
            mine = [one for one in outcomes_ if group in (one.case.group, "all")]
            count = sum(group in (case.group, "all") for case in asked[name])
            passed = sum(one.wrong is None for one in mine)
            row += f"{passed if passed == count else f'{passed} of {count}':>14}"
        lines.append(row)
    for name, outcomes_ in found.items():
        failed = [one for one in outcomes_ if one.wrong is not None]
        lines += [f"{name}: {one.case.group}/{one.case.name}: {one.wrong}" for one in failed[:_SHOWN]]
    return "\n".join(lines)


async def main() -> int:
    """Run all and print the table; return 1 if a case failed."""
    entries, changes = await all_cases(), await all_cases(changes=True)
    readers = {**entry_readers(), **change_readers()}
    asked = {name: changes if name in change_readers() else entries for name in readers}
    found = {name: await outcomes(command, asked[name]) for name, command in readers.items()}
    sys.stdout.write(table(found, asked) + "\n")
    passed = all(one.wrong is None for many in found.values() for one in many)
    return 0 if passed and all(len(found[name]) == len(asked[name]) for name in readers) else 1


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    sys.exit(asyncio.run(main()))
