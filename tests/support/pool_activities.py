"""Activities for process pools: at the top level of a module that a child process can import."""

import multiprocessing
import time
from pathlib import Path
from typing import Any

from temporalio import activity

from temporal_token_interceptor.testing import ScriptedChatModel

WORDS = ["To", "kens ", "travel", " light", ".", " ☂"]


@activity.defn
def answer_in_process(argument: Any) -> str:
    """Answers in a child process; a path as the argument: goes on after the first word once it exists."""
    assert multiprocessing.parent_process() is not None
    text = ""
    for chunk in ScriptedChatModel.saying(*WORDS).stream("?"):
        text += chunk.text
        deadline = time.monotonic() + 20
        while argument and not Path(argument).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    return text


@activity.defn
def fail_in_process(argument: Any) -> str:
    """Speaks, then raises."""
    ScriptedChatModel.saying("half").invoke("?")
    raise ValueError("as told")
