"""The examples, as their users meet them: `python -m examples.NAME`."""

import os
import re
import signal
from pathlib import Path

import httpx
import pytest

from tests.support.processes import program

EXAMPLES = Path(__file__).parents[2] / "examples"

# What a reader has to see, in this order.
POINTS = {
    "chat_model": [
        r"^\[answer, scripted\] A \|durable \|answer, \|shown \|while \|it \|is \|made\.\|$",
        "^-- completed, says Temporal --$",
        "^result: A durable answer, shown while it is made.$",
    ],
    "agent_with_tools": [
        "^Let me look at both. $",
        r'^  -> weather \{"city": "Lisbon"\}$',
        r'^  -> weather \{"city": "Bergen"\}$',
        "^  call-1 runs weather$",
        "^  call-2 runs weather$",
        "^  call-1 returns '21 degrees, clear'$",
        "^  call-2 returns '6 degrees, rain'$",
        "^Take the coat for Bergen, and leave it in Lisbon.$",
        "^-- completed, says Temporal --$",
    ],
    "langgraph_nodes": [
        r"^activity article\.plan, node plan: First the tides, then the moon\.$",
        r"^activity article\.write, node write: Twice a day the sea comes back\.$",
        "^-- completed, says Temporal --$",
        "^result: Twice a day the sea comes back.$",
    ],
    "deep_agent": [
        r'^ +call-1  task\(\{"description": "prices", "subagent_type": "accountant"\}\)$',
        r"^ +accountant, for call-1: The \n +clerk, for call-2: It ",
        "^-- completed, says Temporal --$",
        "^ +main agent: I ask two others. Take the night train: both agree.$",
        "^ +accountant, for call-1: The train costs half.$",
        "^ +clerk, for call-2: It leaves at nine.$",
    ],
    "resume": [
        "^The ferry was late, so the keeper ",
        r"^-- viewer \d+ was killed; its last cursor was \S+ --$",
        "fog. $",
        r"^-- viewer \d+ has come to the end --$",
        "^Both parts, joined, are the story: nothing is missing, and nothing is there twice.$",
    ],
    "without_redis": [
        r"^after \d\.\d s, find: Three \|boats, \|one \|harbour\.\|$",
        r"^after \d\.\d s, write: They \|sail \|at \|dawn\.\|$",
        "^-- completed, says Temporal --$",
    ],
    "encryption": [
        "^A viewer with the key reads:\nThe vault opens at noon.$",
        r"^tti:v1:\{default/secret-1/.* has \d+ entries",
        "binary/encrypted",
        "^The word 'vault' is in there: False$",
        "^A viewer without the key reads:\nCodecMismatch: ",
    ],
    "telemetry": [
        "  chat scripted  ",
        "  RunActivity:answer  ",
        "  chat scripted  ",
        "  RunActivity:answer  ",
        r"  receive \{.*-> .*-> ",
        r"temporal_token_interceptor\.tokens\.superseded  2 \{token\}",
    ],
}
# What an example logs on purpose.
LOGGED = {
    "encryption": r"skipping entry \S+ of stream .*this reader's data converter has no payload codec.*\n"
    # On a busy machine all tokens are one frame: then the reader looks in the history, too.
    r"(skipping the result of activity .* cannot be decoded \(KeyError\).*\n)?"
}

# `transformers` by tests/integration/test_transformers.py; `web_clients` by `make clients`: it needs npm.
TESTED_ELSEWHERE = {"demo", "transformers", "web", "web_clients"}


@pytest.mark.parametrize("name", POINTS)
async def test_an_example_shows_its_point(name):
    """I run it, see what its first lines promise, and nothing is left behind."""
    async with program("-m", f"examples.{name}") as example:
        code, out, err = await example.ended(within=50)
    skip_without_servers(code, err)

    assert code == 0, err
    assert re.fullmatch(LOGGED.get(name, ""), err)
    place = 0
    for point in POINTS[name]:
        found = re.compile(point, re.MULTILINE).search(out, place)
        assert found, f"{point!r} is not in, or not after what should precede it:\n{out}"
        place = found.end()
    assert example.left() == []


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM], ids=lambda stop: stop.name)
async def test_the_web_example_stops_in_mid_sentence(stop):
    """A tab is open when I stop it. The tab is told no false end, and nothing is left behind."""
    async with program("-m", "examples.web", "0") as example:
        line = await example.line()
        if not line:
            skip_without_servers(*(await example.ended(within=20))[::2])
        [url] = re.findall(r"http://\S+", line)
        async with httpx.AsyncClient(base_url=url, timeout=20) as browser:
            chat = (await browser.post("/chats", json={"text": "When?"})).json()["id"]
            async with browser.stream("GET", f"/streams/v1/workflows/{chat}/events") as stream:
                lines = stream.aiter_lines()
                while "grow" not in await anext(lines):
                    pass
                example.process.send_signal(stop)
                rest = [line async for line in lines]
        code, _, err = await example.ended(within=20)

    assert (code, err) == (0, "")
    assert "event: reconnect" in rest
    assert "event: end" not in rest
    assert example.left() == []


def test_every_example_is_listed_and_run():
    """Whatever lies in examples/ can be found from its README, and a test runs it."""
    names = {path.stem for path in EXAMPLES.iterdir() if path.name[0] not in "_." and path.suffix != ".md"}
    names -= {"servers"}  # no example, but what starts them
    names -= {"without_asyncio"}  # apps of frameworks, which tests/frameworks runs
    readme = (EXAMPLES / "README.md").read_text()

    assert names == POINTS.keys() | TESTED_ELSEWHERE
    assert {name for name in names if f"-m examples.{name}`" not in readme} == set()


def skip_without_servers(code, told):
    if code and "ServerUnavailable" in told and not os.environ.get("CI"):
        pytest.skip(told.strip().rpartition("\n")[2])
