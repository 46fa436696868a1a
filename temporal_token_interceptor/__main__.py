"""`python -m temporal_token_interceptor`: the terminal tool, the same as `tti`; and `run worker.py`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run a program with streaming (`run`), or the terminal tool.

    Raises:
        SystemExit: 2, where the libraries of the terminal tool are missing, with the command for them.
    """
    if sys.argv[1:2] == ["run"]:  # needs no extra
        from temporal_token_interceptor.worker.instrument import run  # noqa: PLC0415 - loads LangChain

        run(sys.argv[2:])
        return
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
