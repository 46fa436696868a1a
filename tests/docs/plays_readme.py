"""What the README shows."""

import asyncio
import re
import sys

from temporal_token_interceptor import MemoryStreamBackend, TokenStreamingInterceptor
from temporal_token_interceptor.testing import ScriptedChatModel, StreamingActivityEnvironment
from tests.support.pages import Block
from tests.support.snippets import Stage, play
from tests.support.streams import unique


@play("README.md", "# agent.py", "# chat.py", "# worker.py", "# viewer.py")
async def four_files_stream(stage: Stage, *programs: Block) -> None:
    """I copy four files, start the worker, run the viewer, and see tokens."""
    for program in programs:
        program.save(stage.folder)

    async def start(*arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            cwd=stage.folder,
            env={**stage.program_environment(), "REDIS_URL": ""},  # as the first user's: Temporal alone
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    worker = await start("worker.py")
    try:
        viewer = await start("viewer.py", unique("readme"))
        async with asyncio.timeout(30):
            printed = await viewer.communicate()
    finally:
        worker.terminate()
        told = await worker.communicate()

    assert printed == (b"Durable and alive.\ncompleted\n", b"")
    assert told == (b"", b""), told


@play("docs/reading.md", "TokenStreamingInterceptor(\n    backend,\n    nodes=")
async def every_filter_is_an_option(stage: Stage, block: Block) -> None:
    """Each of the filters is one that the interceptor takes."""
    await block.run(TokenStreamingInterceptor=TokenStreamingInterceptor, backend=MemoryStreamBackend())


@play("docs/reading.md", "class Redacted:")
async def a_card_number_does_not_leave(stage: Stage, block: Block) -> None:
    """The transform of the page blanks a number that comes in pieces, and holds the drafts."""
    kept = await block.run(
        TokenStreamingInterceptor=TokenStreamingInterceptor, backend=MemoryStreamBackend(), re=re
    )
    environment = StreamingActivityEnvironment(transform=lambda call: kept["Redacted"]())

    async def activity() -> None:
        await ScriptedChatModel.saying("Card 4111 or 41111", "11111111111 now").ainvoke("?")

    await environment.run(activity)

    assert environment.text == "Card 4111 or [card] now"
