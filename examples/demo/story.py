"""The whole story in one command: two servers, a worker, a viewer, and what was measured."""

import asyncio
import os
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, NoReturn

from devservers import ServerUnavailable, redis_server, temporal_server
from examples.demo import QUESTIONS
from examples.demo.notes import NOTES_FD, Report, add_up, delay
from examples.demo.page import Brush
from examples.demo.viewer import READER_LEFT
from examples.demo.web import ask_again_and_again, live_page, open_in_browser

Story = Callable[[str, str, IO[bytes], IO[bytes]], Coroutine[Any, Any, int]]

DEADLINE = timedelta(seconds=60)  # several times what it takes


class Failed(Exception):
    """The story did not go as it should."""


def run(*, in_browser: bool = False) -> NoReturn:
    """Run the story, and exit: 0 if it went as it should. In a browser it goes on until Ctrl-C."""
    try:
        sys.exit(asyncio.run(_main(_show_in_browser if in_browser else _tell)))
    except ServerUnavailable as missing:
        sys.exit(f"The demo needs a server: {missing}")
    except BrokenPipeError:
        os._exit(READER_LEFT)  # an orderly exit would try to write the rest


async def _main(play: Story) -> int:
    stopped: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, _stop, stopped, number)
    _introduce()
    # Neither file has a name, so there is nothing to clean up, whatever happens.
    with tempfile.TemporaryFile() as notes, tempfile.TemporaryFile() as errors:
        async with AsyncExitStack() as servers:
            # A signal does not interrupt a start: a server that is half started could not be stopped.
            try:
                redis_url = await servers.enter_async_context(redis_server())
                with _quiet(errors):
                    temporal = await servers.enter_async_context(temporal_server())
            except RuntimeError:
                if not stopped.done():  # Ctrl-C has reached the server, too
                    _show(errors)
                    raise
            else:
                address = temporal.client.service_client.config.target_host
                story = asyncio.create_task(play(address, redis_url, notes, errors))
                await asyncio.wait([story, stopped], return_when=asyncio.FIRST_COMPLETED)
                if story.done():
                    return story.result()
                story.cancel()
                await asyncio.wait([story])
        print("\n  Stopped.")
        return 128 + stopped.result()


def _stop(stopped: asyncio.Future[int], number: int) -> None:
    if not stopped.done():
        stopped.set_result(number)


@contextmanager
def _quiet(errors: IO[bytes]) -> Iterator[None]:
    """Let what starts here keep its banner to itself, and file its errors with those of the others."""
    sys.stdout.flush()
    stdout, stderr = os.dup(1), os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(errors.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        for descriptor in (stdout, stderr, null):
            os.close(descriptor)


async def _tell(temporal_address: str, redis_url: str, notes: IO[bytes], errors: IO[bytes]) -> int:
    try:
        async with asyncio.timeout(DEADLINE.total_seconds()):
            await _play(temporal_address, redis_url, notes, errors)
        report = add_up(notes, QUESTIONS)
        problems = report.problems
    except TimeoutError:
        problems = [f"not over after {DEADLINE.total_seconds():g} s"]
    except Failed as failure:
        problems = [str(failure)]
    if problems:
        print()  # the viewer may have been stopped in the middle of a line
    else:
        _conclude(report)
    _show(errors)  # also warnings that did no harm
    if problems:
        print("The demo failed:", "; ".join(problems), file=sys.stderr)
    return 1 if problems else 0


async def _show_in_browser(temporal_address: str, redis_url: str, notes: IO[bytes], errors: IO[bytes]) -> int:
    async with (
        _worker(temporal_address, redis_url, notes, errors) as worker,
        live_page(temporal_address, redis_url) as url,
    ):
        print(f"  Two customers ask, again and again: {url}\n  Ctrl-C ends it.", flush=True)
        open_in_browser(url)
        asking = asyncio.create_task(ask_again_and_again(temporal_address))
        ended = asyncio.create_task(worker.wait())
        try:
            await asyncio.wait({asking, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asking.cancel()
            ended.cancel()
            await asyncio.wait({asking, ended})
    _show(errors)
    return 1  # only Ctrl-C ends it as it should


async def _play(temporal_address: str, redis_url: str, notes: IO[bytes], errors: IO[bytes]) -> None:
    async with (
        _worker(temporal_address, redis_url, notes, errors) as worker,
        live_page(temporal_address, redis_url) as url,
    ):
        arguments = (temporal_address, redis_url, *QUESTIONS)
        async with _process("viewer", *arguments, notes=notes, errors=errors) as viewer:
            _show_processes(worker, viewer, url)
            ends = {asyncio.create_task(process.wait()): process for process in (worker, viewer)}
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for end in ends:
                    end.cancel()
        if viewer.returncode == READER_LEFT:
            raise BrokenPipeError
        if worker.returncode is not None:
            raise Failed(f"the worker ended too early, with code {worker.returncode}")
        if viewer.returncode != 0:
            raise Failed(f"the viewer ended with code {viewer.returncode}")
        worker.terminate()
        if code := await worker.wait():
            raise Failed(f"the worker ended with code {code}")


@asynccontextmanager
async def _worker(
    temporal_address: str, redis_url: str, notes: IO[bytes], errors: IO[bytes]
) -> AsyncIterator[Process]:
    """Run the worker, and wait until it works."""
    async with _process("worker", temporal_address, redis_url, notes=notes, errors=errors) as worker:
        assert worker.stdout is not None  # noqa: S101 - for mypy: it is a pipe
        if await worker.stdout.readline() != b"ready\n":
            raise Failed("the worker did not come up")
        yield worker


@asynccontextmanager
async def _process(role: str, *arguments: str, notes: IO[bytes], errors: IO[bytes]) -> AsyncIterator[Process]:
    """Run a module of the demo; kill it if it is still there at the end of the block."""
    # Ctrl-C reaches every process of the terminal. Only this one shall answer it, and end the others: they
    # inherit that the signal is blocked.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"examples.demo.{role}",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE if role == "worker" else None,
            stderr=errors,
            env={**os.environ, NOTES_FD: str(notes.fileno())},
            pass_fds=[notes.fileno()],
        )
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


# ---------------------------------------------------------------------- words


def _introduce() -> None:
    brush = Brush.suits(sys.stdout)
    print(f"\n  {brush('Tokens out of a Temporal activity, live', 'bold')}\n")
    print(
        "  A LangGraph agent runs in an ordinary activity: agent.ainvoke(...), and nothing about streaming."
    )
    print("  These three lines of its worker are new:\n")
    source = Path(__file__).with_name("worker.py").read_text(encoding="utf-8")
    for line in source.splitlines():
        if line.endswith("  # new"):
            print(brush(f"    + {line.removesuffix('  # new').strip()}", "green"))
    print(flush=True)


def _show_processes(worker: Process, viewer: Process, url: str) -> None:
    brush = Brush.suits(sys.stdout)
    line = f"The worker is process {worker.pid}; what follows is drawn by process {viewer.pid}."
    print(f"  {brush(line, 'dim')}")
    print(
        f"  {brush(f'The same in a browser, while it lasts: {url} (make demo-web: for longer)', 'dim')}\n",
        flush=True,
    )


def _conclude(report: Report) -> None:
    brush = Brush.suits(sys.stdout)
    first = " and ".join(f"{seconds * 1000:.0f} ms" for seconds in report.first_tokens)
    p50, p99 = (f"{delay(report.delays, percentile) * 1000:.1f} ms" for percentile in (50, 99))
    beats = [f"{delay(report.delays_without_redis, percentile) * 1000:.0f} ms" for percentile in (50, 99)]
    print(f"  {brush('Measured', 'bold')}\n")
    count = len(report.delays)
    print(f"    first token      {brush(first, 'bold')} after the question")
    print(f"    model to screen  p50 {brush(p50, 'bold')}, p99 {brush(p99, 'bold')}, from process to process")
    print(f"    without Redis    p50 {brush(beats[0], 'bold')}, p99 {beats[1]}, once more, by heartbeats")
    print(f"    tokens           {count} made, {count} drawn, in order; {report.taken_back[0]} taken back")
    print(flush=True)


def _show(errors: IO[bytes]) -> None:
    sys.stdout.flush()
    errors.seek(0)
    sys.stderr.write(errors.read().decode(errors="replace"))
