"""Every block of every page is run, or compared with what is true; none is left to hope."""

import json
import re
from contextlib import AsyncExitStack
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import pytest

from devservers import find_redis, find_temporal
from temporal_token_interceptor import environment
from temporal_token_interceptor.protocol.frames import decode
from tests.support.pages import ROOT, blocks
from tests.support.snippets import PLAYED_AS_A_WHOLE, PLAYS, Stage, other_blocks, snippets

for _file in sorted(Path(__file__).parent.glob("plays_*.py")):
    import_module(f"tests.docs.{_file.stem}")

# Blocks that hold nothing to run, by page and how they begin, and what they are.
DRAWINGS = {
    ("docs/reading.md", " worker process"): "a drawing",
    ("docs/design.md", "Worker(client, ..., interceptors="): "the shape of the public surface, in one glance",
    (
        "docs/gateway.md",
        "import { messages, subscribe }",
    ): "tests/browser/test_tutorial_page.py runs the same",
    ("docs/protocol.md", "workflow run 1"): "a drawing",
    ("docs/telemetry.md", "POST /ask"): "a drawing",
    ("docs/terminal.md", "answer\nParis"): "a screen; test_terminal_tool.py compares it with a real one",
    ("docs/terminal.md", "┏━━━━━━━━━━┳━━━━━━┳"): "the same",
    ("docs/terminal.md", "workflow chat-43"): "the same",
    ("docs/terminal.md", "┏━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┳"): "the same",
    ("clients/typescript/README.md", "import { subscribe }"): "tests/clients/test_typescript.py runs it",
}
# What docs/protocol.md tells of each frame; tests/contract reads them.
_TOLD = re.compile(r"(\d+  [A-Z]\w+.*\n)*")


@pytest.fixture
async def stage(client, redis_url, tmp_path, monkeypatch):
    async with AsyncExitStack() as exits:
        stage = Stage(client, redis_url, tmp_path, exits)
        for name, value in stage.environment.items():
            monkeypatch.setenv(name, value)
        yield stage


@pytest.mark.parametrize("block", snippets(), ids=str)
def test_a_snippet_has_one_play(block):
    """Python that stands in a page is run by exactly one of the plays in `plays_*.py`."""
    assert [str(play) for play in PLAYS if play.claims(block)] != []
    assert len([play for play in PLAYS if play.claims(block)]) == 1


@pytest.mark.parametrize("page", PLAYED_AS_A_WHOLE)
def test_a_page_that_is_played_as_a_whole_has_its_test(page):
    """Such a page exists, and so does the test that stands for all of its blocks."""
    file, _, name = PLAYED_AS_A_WHOLE[page].partition("::")

    assert (ROOT / page).exists()
    assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("play", PLAYS, ids=str)
async def test_a_snippet_does_what_its_page_says(play, stage):
    """I copy it, and it works."""
    claimed = play.blocks()

    await play.perform(stage, *claimed)

    assert [str(block) for block in claimed if not block.ran] == []


def drawing(block):
    """The entry of `DRAWINGS` that stands for a block."""
    return next((key for key in DRAWINGS if key[0] == block.page and block.code.startswith(key[1])), None)


@pytest.mark.parametrize("block", [block for block in other_blocks() if not drawing(block)], ids=str)
async def test_what_is_no_python_is_true_as_well(block, redis_client):
    """JSON parses, and is a frame where it looks like one; commands exist; Redis takes its lines."""
    match block.language:
        case "json":
            value = json.loads(block.code)
            if isinstance(value, dict) and "v" in value:
                assert decode(block.code.encode()).seq == value["n"]
        case "text" if block.page == "docs/protocol.md":
            assert _TOLD.fullmatch(block.code)
        case "js":
            shown = [path.read_text(encoding="utf-8") for path in (ROOT / "examples").rglob("*.mjs")]
            assert any(block.code in text for text in shown), "show a piece of an example, which a test runs"
        case "" | "sh" | "shell" | "bash":
            for line in filter(None, block.code.splitlines()):
                await check_command(line, redis_client)
        case _:
            pytest.fail(f"nobody knows how to check a block of {block.language!r}; add it here")


async def check_command(line, redis_client):  # noqa: C901, PLR0912 - one case a command
    """A line that users type: it can be typed."""
    words = line.partition("#")[0].split()
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):  # the environment of one command
        del words[0]
    match words:
        case []:
            return
        case ["make", *targets]:
            makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
            assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets), line
        case ["python" | ".venv/bin/python", "-m", module, *_]:
            assert find_spec(module), line
        case ["python" | ".venv/bin/python", file, *_]:
            assert (ROOT / file).is_file(), line
        case ["pip", "install", *names]:
            requirements = metadata.requires("temporal-token-interceptor") or ()
            known = {re.split(r"[^\w-]", requirement)[0] for requirement in requirements}
            assert {name.partition("[")[0] for name in names} <= {"temporal-token-interceptor", *known}, line
        case ["tti", "serve", "--authorize", name]:  # test_serve.py runs it with functions of its own
            assert re.fullmatch(r"[\w.]+:\w+", name), line
        case ["curl", "-N", url]:
            assert re.fullmatch(r"http://127\.0\.0\.1:8080/v1/workflows/[\w-]+/events", url), line
        case ["temporal", "server", "start-dev"]:
            assert find_temporal(), line
        case ["redis-server"]:
            assert Path(find_redis()).name == "redis-server", line
        case ["export", *assignments]:
            variables = {assignment.partition("=")[0] for assignment in assignments}
            assert variables <= {"TEMPORAL_ADDRESS", *environment.REDIS}, line
        case ["ACL", "SETUSER", name, *rights]:
            user = f"{name}-{uuid4().hex[:8]}"
            try:
                filled = [">secret" if word == ">..." else word for word in rights]
                await redis_client.execute_command("ACL", "SETUSER", user, *filled)
            finally:
                await redis_client.execute_command("ACL", "DELUSER", user)
        case _:
            pytest.fail(f"nobody knows how to check {line!r}; add it here, or to DRAWINGS with its reason")


@pytest.mark.parametrize("key", DRAWINGS, ids=str)
def test_a_drawing_is_still_there(key):
    """What is excused from being run exists, once: an excuse does not outlive its block."""
    assert len([block for block in other_blocks() if drawing(block) == key]) == 1


def test_a_block_that_nobody_runs_is_found(tmp_path, monkeypatch):
    """The check can fail: a new snippet has no play until somebody writes one."""
    page = tmp_path / "new.md"
    page.write_text("Look:\n\n```python\nprint('untested')\n```\n", encoding="utf-8")
    monkeypatch.setattr("tests.support.pages.ROOT", tmp_path)

    [block] = blocks(page)

    assert not any(play.claims(block) for play in PLAYS)
