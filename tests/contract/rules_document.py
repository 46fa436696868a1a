"""The tables of rules in docs/conformance.md: `python -m tests.contract.rules_document` writes them."""

from temporal_token_interceptor.conformance.case import named_cases, rules
from tests.support.pages import ROOT

PATH = ROOT / "docs" / "conformance.md"
BEGIN, END = "## The rules\n", "\n## What a reader is asked\n"


def written() -> str:
    """The part, from its heading to the next."""
    every = list(named_cases())
    lines = [
        "",
        f"{len(rules())} rules have {len(every)} cases.",
        "",
    ]
    for group in dict.fromkeys(case.group for case in every):
        lines += [f"### {group}", "", "| rule | what it demands | cases |", "|---|---|---|"]
        for rule, demand in rules().items():
            if rule.startswith(f"{group}."):
                names = "; ".join(case.name for case in every if case.rule == rule)
                lines.append(f"| `{rule}` | {demand} | {names} |")
        lines.append("")
    return "\n".join(lines[:-1]) + "\n"


def part_of(page: str) -> str:
    """The part as it stands on the page."""
    return page.partition(BEGIN)[2].partition(END)[0]


if __name__ == "__main__":
    text = PATH.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    PATH.write_text(f"{head}{BEGIN}{written()}{END}{rest.partition(END)[2]}", encoding="utf-8")
