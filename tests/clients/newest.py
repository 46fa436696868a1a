"""Prints `package.json` for the newest release of every package; run by `make clients-newest`.

What is there in an older major, because both are in the field, stays in it.
"""

import json
from pathlib import Path

OLDER = frozenset({"ai", "@ai-sdk/react", "agui0"})


def newest(package: dict[str, object]) -> dict[str, object]:
    """Return the package with ranges in place of exact versions."""
    dependencies = package["dependencies"]
    assert isinstance(dependencies, dict)
    return package | {"dependencies": {name: _range(name, at) for name, at in dependencies.items()}}


def _range(name: str, version: str) -> str:
    alias, _, exact = version.rpartition("@")
    return f"{alias}@{'^' if name in OLDER else '>='}{exact}".removeprefix("@")


if __name__ == "__main__":
    print(json.dumps(newest(json.loads(Path(__file__).with_name("package.json").read_text())), indent=2))
