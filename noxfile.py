"""The matrix of CI, on a laptop as well: `nox`, or one of `nox --list`. Needs nox, and uv for `lowest`.

The session of an interpreter that is not installed is skipped; with CI set, it fails.
"""

import nox

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
QUICK = ("tests/unit", "tests/contract")

nox.options.sessions = [
    "check",
    *(f"tests-{python}" for python in PYTHONS),
    "lowest",
    "newest",
    "providers",
    "peers",
    "docs",
]


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the unit and contract tests with the versions of constraints.txt."""
    session.install("-e", ".[test]", "-c", "constraints.txt")
    session.run("pytest", *(session.posargs or QUICK))


@nox.session(python="3.11", venv_backend="uv")
def lowest(session: nox.Session) -> None:
    """Run the unit and contract tests with the oldest dependencies that pyproject.toml allows."""
    session.install("--resolution", "lowest-direct", "-e", ".[test]")
    session.run("pytest", *(session.posargs or QUICK))


@nox.session(python="3.11", venv_backend="uv")
def newest(session: nox.Session) -> None:
    """Run the unit, contract and docs tests with the newest release of everything."""
    session.install("-e", ".[dev]")
    session.run("pytest", *(session.posargs or (*QUICK, "tests/docs")))


@nox.session(python="3.11")
def providers(session: nox.Session) -> None:
    """Run real packages of providers against a server on loopback."""
    session.install("-e", ".[test,providers]", "-c", "constraints.txt")
    session.run("pytest", "-n", "0", *(session.posargs or ("tests/providers",)))


@nox.session(python="3.11")
def peers(session: nox.Session) -> None:
    """Run the suites of LangChain and LangGraph under capture."""
    session.install("-e", ".[test,peers]", "-c", "constraints.txt")
    session.run("python", "-m", "tests.peers", *session.posargs)


@nox.session(python="3.11")
def docs(session: nox.Session) -> None:
    """Build the site; a broken link is an error."""
    session.install("-e", ".[docs]", "-c", "constraints.txt")
    session.run("mkdocs", "build", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session(python="3.11")
def check(session: nox.Session) -> None:
    """Run what `make check` runs."""
    session.run("make", "check", external=True)
