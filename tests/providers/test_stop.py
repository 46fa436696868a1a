"""Stop: the activity is cancelled in mid-answer, and the connection to the provider is closed."""

import asyncio
import gc
import ssl
import sys
import time
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler

from temporal_token_interceptor.testing import StreamingActivityEnvironment
from tests.providers.answers import TEXT
from tests.providers.failures import hanging
from tests.providers.play import QUESTION


async def test_stop_hangs_up_on_the_provider(provider, wire):
    """No more tokens are paid for."""
    wire.reset()
    wire.answer = lambda request: hanging(provider, request)
    environment, model, shown = StreamingActivityEnvironment(), provider.model(), Shown()

    async def activity() -> None:
        await model.ainvoke(QUESTION, {"callbacks": [shown]})

    running = asyncio.ensure_future(environment.run(activity))
    assert await asyncio.to_thread(wire.hangs.wait, 10)
    if not provider.stops:
        body = b"".join(hanging(provider, wire.requests[0]).pieces)
        text = "".join(piece for piece in TEXT.text if piece.encode() in body)
        assert await asyncio.to_thread(_waits_on_a_thread, shown, text)
    # Again until it ends: langchain-openai waits for chunks by `asyncio.wait_for`, which in Python 3.11
    # loses a cancellation that comes together with a chunk. Not soon, because a second one would cut off
    # the client while it hangs up for the first.
    for _ in range(4):
        running.cancel()
        await asyncio.wait({running}, timeout=3)
        if running.done():
            break
    with pytest.raises(asyncio.CancelledError):
        await running
    # LiteLLM's connection is at times part of a cycle, with us (2 of 16) as without (3 of 24): it hangs up
    # once garbage is collected.
    del running
    gc.collect()

    closed = await asyncio.to_thread(wire.hung_up.wait, 5)
    wire.reset()

    assert closed is provider.stops
    assert "".join(TEXT.text).startswith(environment.text)


class Shown(BaseCallbackHandler):
    """What was streamed."""

    def __init__(self) -> None:
        self.text = ""

    def on_llm_new_token(self, token: Any, *, chunk: Any = None, **_: Any) -> None:
        """Add it."""
        self.text += chunk.text


def _waits_on_a_thread(shown: Shown, text: str) -> bool:
    """Wait until a text was shown, and a thread reads from the connection: what it waits for never comes.

    One that still reads a piece of the text hands it over, finds no reader, and hangs up.
    """
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if shown.text == text and any(frame.f_code is _READ for frame in sys._current_frames().values()):
            return True
        time.sleep(0.01)
    return False


_READ = ssl.SSLSocket.read.__code__
