"""Code and pages are written in plain technical English: a list of words that we avoid.

Readers are international, and in a hurry: say who does what. Report, record, deliver, log, receive.
"""

import re

import pytest

from tests.support.pages import ROOT, name_of

# The word, and what to write.
AVOIDED = {
    r"anew": "again",
    r"whoever": "a reader who, a program that",
    r"(nobody|somebody|anybody)": "name who: no reader, another program, the user",
    r"be it": "whether",
    r"for ever": "forever, without end",
    r"of no use": "useless",
    r"deaf": "ignores further events",
    r"hears?|heard": "receive, learn",
    r"news": "events, text",
    r"pulse": "automatic heartbeats",
    r"puts? up with": "accept",
    r"speaks|speaking": "send text, use a protocol",
    r"tells?|told|telling": "report, show, say",
}
_AVOIDED = re.compile("|".join(rf"\b(?:{word})\b" for word in AVOIDED), re.IGNORECASE)

# Where such a word is right.
ALLOWED = [
    r"\btell\w* (them |these |the two )?apart\b",
    r"a promise that somebody keeps",  # what a scripted model answers
]

SOURCES = sorted(
    path
    for pattern in (
        "temporal_token_interceptor/**/*.py",
        "docs/*.md",
        "examples/**/*.py",
        "benchmarks/**/*.py",
        "devservers.py",
        "*.md",
        "examples/**/*.md",
        "clients/*/*.md",
        "clients/*/src/*.ts",
    )
    for path in ROOT.glob(pattern)
)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_uses_plain_words(path):
    """What a reader meets has none of the words that the list replaces."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        for allowed in ALLOWED:
            line = re.sub(allowed, "", line)  # noqa: PLW2901 - what is allowed is taken out
        found += [f"{number}: {match[0]}" for match in _AVOIDED.finditer(line)]

    assert found == []
