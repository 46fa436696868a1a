"""Stands in for a provider: a chat model that knows its lines, hangs up once, and looks at the clock.

It streams as any LangChain model does; the agent sees no difference.
"""

import re
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGenerationChunk
from temporalio import activity

from examples.demo import QUESTIONS, WHEN, WHERE
from examples.demo.notes import note
from temporal_token_interceptor.testing import Piece, ScriptedChatModel, tool_call

OPENING = {
    WHERE: "One moment, I am asking the carrier.",
    WHEN: "Let me see how far it has come.",
}
REPORT = "It left Rotterdam on Monday, cleared customs on Tuesday and is out for delivery on Wednesday."
ANSWER = {
    WHERE: "Your books are on their way: they crossed the sea, customs waved them through, and a van brings "
    "them to your door on Wednesday. You need not be at home; a neighbour may sign for them.",
    WHEN: "Yes, with a day to spare: the van comes on Wednesday, and the birthday is on Thursday. There is "
    "even time to wrap it.",
}
# A model seldom says the same twice. If the end of the second attempt were simply appended to this, the
# customer would read nonsense.
CUT_SHORT = "I am afraid that this will be close. A parcel from Rotterdam usually takes until Thurs"


class HungUp(ConnectionError):
    """The provider closed the connection in the middle of an answer."""


class RehearsedModel(ScriptedChatModel):
    """A scripted model that notes when it lets go of each token."""

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        attempt = activity.info()
        async for chunk in super()._astream(messages, stop, run_manager, **kwargs):
            if chunk.text:
                note("made", attempt.workflow_id, attempt.attempt, token=chunk.text, at=time.monotonic())
            yield chunk


def script(messages: Sequence[BaseMessage]) -> list[Piece]:
    """Say what comes next."""
    question = next(message.text for message in messages if isinstance(message, HumanMessage))
    if question not in QUESTIONS:  # the tool wants its log put into a sentence
        return [*tokens(REPORT)]
    if not isinstance(messages[-1], ToolMessage):
        return [*tokens(OPENING[question]), tool_call("track_parcel", '{"order": "1042"}', id="1")]
    if question == WHEN and activity.info().attempt == 1:
        return [*tokens(CUT_SHORT), HungUp("connection reset by provider")]
    return [*tokens(ANSWER[question])]


def tokens(text: str) -> list[str]:
    """Cut a text about as finely as providers do."""
    return re.findall(r" ?[^ ]{1,5}", text)


model = RehearsedModel(script=script, delay=0.03)
