"""The commands of `tti`, their options, and what they exit with."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from temporal_token_interceptor.cli import doctor as checks
from temporal_token_interceptor.cli.connections import Connections, at_once, connected, run_and_rest
from temporal_token_interceptor.cli.overview import report_on, running, status_of, table_of_running, tables_of
from temporal_token_interceptor.cli.tail import print_json, print_live
from temporal_token_interceptor.errors import ConfigurationError, TokenStreamError
from temporal_token_interceptor.events import Event
from temporal_token_interceptor.reader.request import Start

app = typer.Typer(
    name="tti",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its frames show local variables, and those hold content
    help="Tokens of LangChain and LangGraph in Temporal, in a terminal. "
    "Connects by TEMPORAL_*, REDIS_URL and TTI_*, like your workers.",
)

_Workflow = Annotated[str, typer.Argument(help="The workflow's id.")]
_RunId = Annotated[str | None, typer.Option("--run-id", help="The run; by default the newest.")]
_Converter = Annotated[
    str | None,
    typer.Option(
        "--data-converter",
        envvar="TTI_DATA_CONVERTER",
        help="module:name of the data converter of your workers' clients; opens what they encrypt.",
    ),
]


@app.command()
def tail(
    workflow: _Workflow,
    run_id: _RunId = None,
    start: Annotated[
        str, typer.Option("--from", help="start, now, or the cursor of an event.", metavar="PLACE")
    ] = "start",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One event a line, as JSON.")] = False,
    follow_children: Annotated[
        bool, typer.Option("--follow-children", help="Also what the workflow's child workflows say.")
    ] = False,
    data_converter: _Converter = None,
) -> None:
    """Show a workflow's tokens live, per call, until it ends; what a retry replaces is struck out."""

    async def work(with_: Connections) -> int:
        events = _from(with_, workflow, run_id, start, children=follow_children)
        status = await (print_json(events) if as_json else print_live(events, Console()))
        return 0 if status == "completed" else 1

    _run(work, data_converter)


@app.command("list")
def list_(
    query: Annotated[str, typer.Option(help="A list filter of Temporal: WorkflowType = 'Chat'.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many workflows.")] = 50,
    window: Annotated[float, typer.Option(min=0.1, max=60, help="Seconds to count tokens for.")] = 2.0,
    data_converter: _Converter = None,
) -> None:
    """List running workflows: since when, which activities on which workers, tokens a second."""

    async def work(with_: Connections) -> int:
        span = timedelta(seconds=window)
        runs = await running(with_, query, limit, span)
        if runs:
            Console().print(table_of_running(runs, span, datetime.now(UTC)))
        else:
            Console().print("no workflow is running" + (" that matches the query" if query else ""))
        return 0

    _run(work, data_converter)


@app.command()
def show(workflow: _Workflow, run_id: _RunId = None, data_converter: _Converter = None) -> None:
    """Print a workflow's attempts, model calls with their usage, and gaps, so far."""

    async def work(with_: Connections) -> int:
        status = await status_of(with_.client, workflow, run_id)
        events = with_.subscriber.subscribe(workflow, run_id, on_retry="annotate", until=at_once())
        report = await report_on(events)
        console = Console()
        console.print(f"workflow {workflow}: {status}", highlight=False, markup=False)
        for table in tables_of(report):
            console.print(table)
        if not report.calls:
            console.print("no model call has streamed; `tti doctor WORKFLOW` looks for the cause")
        return 0

    _run(work, data_converter)


@app.command()
def doctor(
    workflow: Annotated[str | None, typer.Argument(help="A workflow whose tokens you miss.")] = None,
    data_converter: _Converter = None,
) -> None:
    """Check Temporal, Redis, rights, prefix, codec, workers and heartbeats; name the fix of what is wrong.

    Exits with 1 if something is wrong.
    """
    findings = run_and_rest(checks.examine(workflow, data_converter))
    Console().print(checks.table_of(findings))
    raise typer.Exit(1 if any(finding.verdict is checks.Verdict.WRONG for finding in findings) else 0)


@app.command()
def serve(
    authorize: Annotated[
        str | None,
        typer.Option(
            envvar="TTI_AUTHORIZE",
            help="module:function that decides who may read what; async, (request, target) -> Allow or Deny.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 for any that is free.")] = 8080,
    *,
    live: Annotated[bool, typer.Option("--live", help="Serve the live page, as /live.")] = False,
    allow_cancel: Annotated[
        bool,
        typer.Option("--allow-cancel", help="Let clients cancel workflows, where --authorize allows it."),
    ] = False,
    data_converter: _Converter = None,
) -> None:
    """Serve the gateway: streams for browsers. On SIGTERM it sends its clients to the next process."""
    try:
        from temporal_token_interceptor.cli import serve as serving  # noqa: PLC0415 - needs an extra
    except ModuleNotFoundError as missing:
        if missing.name not in {"itsdangerous", "starlette", "uvicorn"}:
            raise
        sys.stderr.write("tti serve needs its libraries: pip install 'temporal-token-interceptor[serve]'\n")
        raise typer.Exit(2) from None

    async def check_and_serve() -> int:
        function = serving.authorize_named(authorize)
        async with connected(data_converter) as with_:
            return await serving.serve(with_, function, host, port, live=live, allow_cancel=allow_cancel)

    _exit_with(check_and_serve())


def _from(
    with_: Connections, workflow: str, run_id: str | None, place: str, *, children: bool
) -> AsyncGenerator[Event]:
    start: Start = "now" if place == "now" else "beginning"
    cursor = None if place in ("start", "now") else place
    if children:
        return with_.subscriber.subscribe(workflow, run_id, cursor, start=start, children=True)
    return with_.subscriber.subscribe(workflow, run_id, cursor, start=start)


def _run(work: Any, data_converter: str | None) -> None:
    """Connect and work."""

    async def connect_and_work() -> int:
        async with connected(data_converter) as with_:
            coroutine: Coroutine[Any, Any, int] = work(with_)
            return await coroutine

    _exit_with(connect_and_work())


def _exit_with(work: Coroutine[Any, Any, int]) -> NoReturn:
    """Exit with what the work returns, with 2 and one line for an error of ours, with 130 for Ctrl-C."""
    try:
        code = run_and_rest(work)
    except (TokenStreamError, ConfigurationError) as error:
        sys.stderr.write(f"tti: {error}\n")
        code = 2
    except KeyboardInterrupt:
        code = 130
    raise typer.Exit(code)
