"""What `tti` prints in a real terminal, for docs/terminal.md; `python -m tests.support.captures` renews it.

What differs from run to run (times, ids, rates, versions) is replaced by as many other characters.
"""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from devservers import redis_server, temporal_server
from temporal_token_interceptor import RedisStreamBackend, TokenStreamingPlugin, TokenSubscriber
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.terminal import terminal

PAGE = Path(__file__).parents[2] / "docs/terminal.md"
COMMANDS = ("list", "show", "doctor")
_ENDED = "-- ended --"
WORKFLOW, ENDED = "chat-42", "chat-43"

_MARKED = re.compile(r"(<!-- capture: (\w+) -->\n```text\n).*?(```\n)", re.DOTALL)

_VARYING = {
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}": "2026-11-26T09:30:00.000",
    r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}": "01a215e0-6c55-7d0f-b6c9-00035c19c5d1",
    r"version [0-9.]+ *": "version 8.2.3",
    r"server [0-9.]+": "server 1.32.0",
    r"│ \d:\d\d  ": "│ 0:01  ",
    r"│ \d+ +│$": "│ 50       │",
}


class Play:
    """A chat whose model is cut off once, answers, and goes on as long as it may."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()

    @activity.defn
    async def answer(self, question: str) -> str:
        if activity.info().attempt == 1:
            await ScriptedChatModel.saying("Paris ", "has ", "WRONG").ainvoke(question)
            raise ConnectionError
        text = (await ScriptedChatModel.saying("Paris ", "has ", "two million").ainvoke(question)).text
        while not self.may_end.is_set():
            await ScriptedChatModel.saying("more ").ainvoke(question)
            await asyncio.sleep(0.02)
        return str(text)


@workflow.defn
class Chat:
    """Asks once."""

    @workflow.run
    async def run(self, question: str) -> str:
        return await workflow.execute_activity_method(
            Play.answer,
            question,
            start_to_close_timeout=timedelta(minutes=5),
            heartbeat_timeout=timedelta(seconds=10),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=50)),
        )


@asynccontextmanager
async def chatting(address: str, redis_url: str) -> AsyncIterator[Play]:
    """A worker with a chat that streams now."""
    client = await Client.connect(address, identity="4711@worker-1")
    play = Play()
    async with Worker(
        client,
        task_queue="chat",
        workflows=[Chat],
        activities=[play.answer],
        workflow_runner=UnsandboxedWorkflowRunner(),
        plugins=[TokenStreamingPlugin(lambda: RedisStreamBackend(redis_url))],
    ):
        await client.start_workflow(Chat.run, "How many live in Paris?", id=WORKFLOW, task_queue="chat")
        yield play


async def captured(address: str, redis_url: str) -> Mapping[str, str]:
    """Return what each command prints, by its name."""
    environment = {
        "TEMPORAL_ADDRESS": address,
        "REDIS_URL": redis_url,
        "PYTHONPATH": str(PAGE.parents[1]),
        "TERM": "xterm-256color",
    }
    found: dict[str, str] = {}

    async def capture(command: str, *arguments: str) -> None:
        tti = [sys.executable, "-m", "temporal_token_interceptor", command, *arguments]
        # A shell says that the tool has ended: tmux does not always show that a pane is dead.
        async with terminal(
            ["sh", "-c", f'"$@"; echo {_ENDED}; sleep 60', "sh", *tti], environment
        ) as screen:
            lines = (await screen.until(_ENDED)).splitlines()
        shown = [_fixed(line.rstrip()) for line in lines if line.strip() and _ENDED not in line]
        found[command] = "".join(f"{line}\n" for line in shown)

    async with chatting(address, redis_url) as play, RedisStreamBackend(redis_url) as backend:
        client = await Client.connect(address)
        events = TokenSubscriber(client, backend).subscribe(WORKFLOW)
        async for event in events:
            if "million" in getattr(event, "token", ""):
                break
        await events.aclose()
        query = f"WorkflowId = '{WORKFLOW}'"
        while WORKFLOW not in found.get("list", ""):  # until the server lists it
            await capture("list", "--query", query)
        await capture("doctor", WORKFLOW)
        play.may_end.set()
        await client.get_workflow_handle(WORKFLOW).result()
        await client.execute_workflow(Chat.run, "And in Rome?", id=ENDED, task_queue="chat")
        await capture("show", ENDED)
    return found


def page(text: str, captures: Mapping[str, str]) -> str:
    """Return the page with captures between its marks."""
    return _MARKED.sub(lambda found: f"{found[1]}{captures[found[2]]}{found[3]}", text)


def _fixed(line: str) -> str:
    for pattern, stand_in in _VARYING.items():
        if found := re.search(pattern, line):
            line = line.replace(found[0], stand_in.ljust(len(found[0])))
    return line


async def _renew() -> None:
    async with temporal_server() as temporal, redis_server() as redis_url:
        captures = await captured(temporal.client.service_client.config.target_host, redis_url)
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), captures), encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(_renew())
