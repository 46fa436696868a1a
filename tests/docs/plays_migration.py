"""What docs/migration.md shows."""

import asyncio
import sys

from tests.support.pages import Block
from tests.support.snippets import Stage, play
from tests.support.streams import unique


@play("docs/migration.md", "# by_hand.py")
async def a_handler_of_ones_own_goes_on(stage: Stage, program: Block) -> None:
    """With nothing but the import changed, it publishes and reads."""
    program.save(stage.folder)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "by_hand.py", unique("by-hand")),
        cwd=stage.folder,
        env=stage.program_environment(),
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        printed, _ = await process.communicate()

    assert (process.returncode, printed.decode()) == (0, "As before.")
