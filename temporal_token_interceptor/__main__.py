"""`python -m temporal_token_interceptor`: the terminal tool, the same as `tti`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the terminal tool; exit with 2 and the command to install it where its libraries are missing."""
    try:
        from temporal_token_interceptor.cli.app import app  # noqa: PLC0415 - needs the extra
    except ModuleNotFoundError as missing:
        if missing.name not in {"typer", "rich"}:
            raise
        sys.stderr.write("tti needs its libraries: pip install 'temporal-token-interceptor[cli]'\n")
        raise SystemExit(2) from None
    app()


if __name__ == "__main__":
    main()
