"""Whether a user's type checker knows the type of everything that is public; `make check` asks.

`pyright --verifytypes` counts what is written down, and nothing that another checker might infer differently.
It takes every module for public: here only what can be reached through the public names counts.
"""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import temporal_token_interceptor
from temporal_token_interceptor import testing

PACKAGE = temporal_token_interceptor.__name__


def public_names() -> set[str]:
    """Where pyright finds what the public names stand for, and the names themselves."""
    names: set[str] = set()
    for module in (temporal_token_interceptor, testing):
        for name in module.__all__:
            value = getattr(module, name)
            names.add(f"{module.__name__}.{name}")
            if inspect.isclass(value):
                # Also its bases of ours: what they have, it has.
                names |= {f"{one.__module__}.{one.__qualname__}" for one in value.__mro__}
            elif inspect.isroutine(value):
                names.add(f"{value.__module__}.{value.__qualname__}")
    return {name for name in names if name.startswith(PACKAGE)}


def judged() -> list[dict[str, Any]]:
    """What pyright says of each symbol."""
    python = Path(sys.executable)
    command = [str(python), "-m", "pyright", "--outputjson", "--ignoreexternal", "--verifytypes", PACKAGE]
    done = subprocess.run(  # noqa: S603 - our own words
        command,
        # It asks the `python` that comes first where packages are.
        env=os.environ | {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    symbols: list[dict[str, Any]] = json.loads(done.stdout)["typeCompleteness"]["symbols"]
    return symbols


def main() -> int:
    """Print what is not known, and how much is; return 1 if that is not all."""
    names = public_names()
    ours = [
        symbol for symbol in judged() if symbol["name"] in names or symbol["name"].rpartition(".")[0] in names
    ]
    unknown = [symbol for symbol in ours if not symbol["isTypeKnown"] or symbol["isTypeAmbiguous"]]
    for symbol in unknown:
        print(symbol["name"], *(said["message"] for said in symbol["diagnostics"]), sep="\n    ")
    print(f"{len(ours) - len(unknown)} of {len(ours)} public symbols have a type that every checker knows")
    if unseen := names - {symbol["name"] for symbol in ours}:
        print("pyright does not see:", *sorted(unseen), sep="\n    ")
    return 1 if unknown or unseen else 0


if __name__ == "__main__":
    sys.exit(main())
