"""`python -m temporal_token_interceptor.conformance`: run the cases, print them, or be asked as a reader."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Sequence

from temporal_token_interceptor.conformance.case import Case, named_cases
from temporal_token_interceptor.conformance.folds import fold_cases
from temporal_token_interceptor.conformance.generated import GENERATED, GROUP, generated_cases
from temporal_token_interceptor.conformance.reference import serve
from temporal_token_interceptor.conformance.runner import Outcome, outcomes

_SHOWN = 5  # failures of a group that are printed


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit code: 1 if a case failed, 2 if nothing could be run."""
    options = _parser().parse_args(arguments)
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # most cases have entries that are skipped, and each would be logged
    try:
        return _done(options)
    finally:
        logging.disable(disabled)


def _done(options: argparse.Namespace) -> int:
    if options.command == "reader":
        serve(sys.stdin, sys.stdout)
        return 0
    cases = _cases(options.group, options.generated, changes=options.changes)
    if not cases:
        sys.stderr.write(f"there is no group {', '.join(options.group)}; without --group, all are run\n")
        return 2
    if options.command == "export":
        for case in cases:
            facts = {"group": case.group, "rule": case.rule, "name": case.name, "exact": case.is_exact}
            line = json.dumps({**facts, "request": case.request, "expected": case.expected})
            sys.stdout.write(line + "\n")
        return 0
    return _run(options.reader, cases)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m temporal_token_interceptor.conformance",
        description="Checks that a reader of the token streams does what docs/protocol.md says.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("reader", help="be the reader of this package: answer each line of stdin with a line")
    run = commands.add_parser("run", help="drive a reader over stdin and stdout, and print a table")
    export = commands.add_parser("export", help="print all cases, one line of JSON each")
    for command in (run, export):
        command.add_argument("--group", action="append", default=[], help="only this group; may be repeated")
        command.add_argument(
            "--generated",
            type=int,
            default=GENERATED,
            metavar="N",
            help="how many generated streams (%(default)s)",
        )
        command.add_argument(
            "--changes",
            action="store_true",
            help="the changes that the gateway sends, for a program that folds them, in place of entries",
        )
    run.add_argument("reader", nargs="+", metavar="COMMAND", help="the reader, after `--`")
    return parser


def _cases(groups: Sequence[str], generated: int, *, changes: bool) -> list[Case]:
    return asyncio.run(all_cases(groups, generated, changes=changes))


async def all_cases(
    groups: Sequence[str] = (), generated: int = GENERATED, *, changes: bool = False
) -> list[Case]:
    """Return the cases of groups, or of all: of readers of entries, or of programs that fold changes."""
    cases = [case for case in named_cases() if not groups or case.group in groups]
    if not groups or GROUP in groups:
        cases += await generated_cases(generated)
    return [case async for case in fold_cases(cases)] if changes else cases


def _run(command: Sequence[str], cases: Sequence[Case]) -> int:
    try:
        found = asyncio.run(outcomes(command, cases))
    except OSError as error:
        sys.stderr.write(f"the reader {command[0]!r} cannot be started: {error}\n")
        return 2
    sys.stdout.write(table(cases, found) + "\n")
    failed = [outcome for outcome in found if outcome.wrong is not None]
    return 1 if failed or len(found) < len(cases) else 0


def table(cases: Sequence[Case], found: Sequence[Outcome]) -> str:
    """Return what became of each group, and the first failures of it."""
    lines = [f"{'group':<14}{'cases':>7}{'passed':>8}"]
    for group in dict.fromkeys(case.group for case in cases):
        count = sum(case.group == group for case in cases)
        mine = [outcome for outcome in found if outcome.case.group == group]
        failed = [outcome for outcome in mine if outcome.wrong is not None]
        lines.append(f"{group:<14}{count:>7}{len(mine) - len(failed):>8}")
        lines += [f"    {outcome.case.name}: {outcome.wrong}" for outcome in failed[:_SHOWN]]
        if len(failed) > _SHOWN:
            lines.append(f"    and {len(failed) - _SHOWN} more")
    passed = sum(outcome.wrong is None for outcome in found)
    lines.append(f"{'all':<14}{len(cases):>7}{passed:>8}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
