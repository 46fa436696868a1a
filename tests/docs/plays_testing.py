"""What docs/testing.md shows: tests, run by pytest as their readers would."""

import asyncio
import sys
from typing import Any

import pytest
from langchain_core.messages import HumanMessage, ToolMessage

from temporal_token_interceptor.testing import TRANSPORT_LAWS
from tests.support.pages import Block
from tests.support.snippets import Stage, play, snippets

PAGE = "docs/testing.md"

# The page lets Temporal's SDK download its dev server; here it comes from where all tests have it.
CONFTEST = """
import temporalio.testing

from devservers import temporal_server


class Local:
    @staticmethod
    async def start_local():
        return temporal_server()


temporalio.testing.WorkflowEnvironment = Local
"""

SETTINGS = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""


async def pytest_says(stage: Stage) -> str:
    """Run pytest in the stage's folder; return its last line."""
    (stage.folder / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    (stage.folder / "pytest.ini").write_text(SETTINGS, encoding="utf-8")
    # Of what else is installed here, pytest would load the plugins, too: that takes longer than the tests.
    plugins = ("--disable-plugin-autoload", "-p", "asyncio")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugins),
        cwd=stage.folder,
        env=stage.program_environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(50):
        printed, _ = await process.communicate()
    assert process.returncode == 0, printed.decode()
    return printed.decode().splitlines()[-1]


@play(PAGE, "from langchain_core.messages import AIMessageChunk")
async def scripted_models_say_what_they_are_told(stage: Stage, block: Block) -> None:
    """Each of the models does what the page says of it."""
    models: dict[str, Any] = await block.run()

    assert [chunk.text async for chunk in models["hello"].astream("?") if chunk.text] == ["Hel", "lo"]
    chunks = models["breaks"].astream("?")
    assert (await anext(chunks)).text == "Hel"
    with pytest.raises(ConnectionError, match="hung up"):
        await anext(chunks)
    answer = await models["thinks"].ainvoke("?")
    assert [block["type"] for block in answer.content_blocks] == ["reasoning", "text"]
    asked = await models["agent_model"].ainvoke([HumanMessage("?")])
    assert asked.tool_calls[0]["name"] == "search"
    told = await models["agent_model"].ainvoke(
        [HumanMessage("?"), asked, ToolMessage("rain", tool_call_id="call-1")]
    )
    assert told.text == "It rains."


@play(PAGE, "# test_answer.py", "# test_retry.py", "# test_my_transport.py")
async def tests_that_need_no_server_pass(stage: Stage, *files: Block) -> None:
    """I copy the tests, and they pass: one, one, and one for each law."""
    for file in files:
        file.save(stage.folder)

    assert f"{2 + len(TRANSPORT_LAWS)} passed" in await pytest_says(stage)


@play(PAGE, "# test_chat.py")
async def the_test_of_worker_and_client_passes(stage: Stage, test: Block) -> None:
    """I copy the test beside the README's agent.py and chat.py, and it passes."""
    for block in snippets():
        if block.page == "README.md" and block.file_name in ("agent.py", "chat.py"):
            block.save(stage.folder)
    test.save(stage.folder)

    assert "1 passed" in await pytest_says(stage)
