"""The tutorial, done as it says: its files are written, its commands run, and its output is what it shows."""

import asyncio
import re
import shlex
from importlib import metadata
from pathlib import Path

import pytest

from tests.support.processes import Program, program

PAGE = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text()
FILES = dict(
    re.findall(r"```(?:python|html)\n(?:# |<!-- )(\w+\.\w+)(?: -->)?\n(.*?)```", PAGE, re.DOTALL),
)
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
OUTPUTS = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
INSTALL, _, _, ADDRESSES, WORKER, ASK, APP = COMMANDS


@pytest.fixture
def start(tmp_path, client, redis_url):
    """Run a command of the tutorial where its files are; Temporal and Redis are those of the tests."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    environ = {"TEMPORAL_ADDRESS": client.service_client.config.target_host, "REDIS_URL": redis_url}

    def start(command: str, *more: str):
        words = shlex.split(command)
        arguments = words[1:] if words[0] == "python" else ["-m", *words]
        return program(*arguments, *more, cwd=tmp_path, environ=environ)

    return start


def test_all_that_is_printed_is_run_here():
    """No file and no output stands there that is not used below; what it installs, we test with."""
    assert FILES.keys() == {"agent.py", "worker.py", "ask.py", "app.py", "page.html"}
    assert len(re.findall(r"```(?:python|html)\n", PAGE)) == len(FILES)
    assert [command.split()[0] for command in COMMANDS] == [
        *("pip", "temporal", "redis-server", "export", "python", "python", "uvicorn")
    ]
    for requirement in shlex.split(INSTALL)[2:]:
        metadata.version(requirement.partition("[")[0])
    assert set(re.findall(r"(\w+)=", ADDRESSES)) == {"TEMPORAL_ADDRESS", "REDIS_URL"}
    assert len(OUTPUTS) == 2


async def test_tokens_in_the_terminal(start):
    """Steps 1 and 2: a worker, a question, and its answer, word for word as printed."""
    async with start(WORKER), start(ASK) as viewer:
        code, out, err = await viewer.ended(within=40)

    assert (code, err) == (0, "")
    assert out == OUTPUTS[0]


async def test_a_killed_worker_is_taken_back(start):
    """Step 3: I kill the worker in mid-answer and start it again."""
    shown, _, rest = OUTPUTS[1].partition("\n")

    async with start(WORKER) as worker, start(ASK) as viewer:
        said = await said_so_far(viewer, shown)
        worker.process.kill()
        async with start(WORKER):
            code, out, err = await viewer.ended(within=40)

    assert (code, err) == (0, "")
    half, mark, whole = (said + out).partition("\n-- attempt 1 died, and is taken back --\n")
    answer, status = whole.splitlines()
    assert half.strip()
    assert answer.startswith(half)
    assert mark + whole == "\n" + rest
    assert status == "-- completed --"


async def said_so_far(viewer: Program, text: str) -> str:
    said = ""
    async with asyncio.timeout(30):
        while len(said) < len(text):
            said += (await viewer.process.stdout.read(1)).decode()
    return said


async def address(site: Program) -> str:
    """Where uvicorn says that it listens."""
    async with asyncio.timeout(30):
        while True:
            line = (await site.process.stderr.readline()).decode()
            assert line, "it ended early"
            if found := re.search(r"http://\S+", line):
                return found[0]
