"""Users with few rights: those of docs/operations.md, word for word."""

import re
from pathlib import Path

_OPERATIONS = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")

# In the order of the page: a single server's, then those of the nodes of a cluster.
_WRITERS, _READERS = (
    [
        line.split()
        for line in re.findall(
            rf"^ACL SETUSER tti-{who} on >\.\.\. ~tti:v1:\* (.+)$", _OPERATIONS, re.MULTILINE
        )
    ]
    for who in ("writer", "reader")
)

WRITER, CLUSTER_WRITER = _WRITERS
READER, CLUSTER_READER = _READERS
