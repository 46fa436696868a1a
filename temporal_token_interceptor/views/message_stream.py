"""The loop over LangGraph's messages: the chunks of each event, and what a reader that resumes takes back."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from temporal_token_interceptor.events import AttemptStarted, Event, Origin
from temporal_token_interceptor.protocol.cursor import Cursor
from temporal_token_interceptor.views.langgraph_messages import Chunks, Message

Messages = AsyncGenerator[Message]
"""What `TokenSubscriber.messages` returns."""

Past = Callable[[Origin], AsyncGenerator[list[Event]]]
"""Given an attempt, says again what its run said until now."""


async def messages(
    events: AsyncGenerator[Event],
    past: Past,
    *,
    cursor: str | None = None,
    subgraphs: bool = False,
) -> Messages:
    """Iterate over the chunks of a subscription.

    Args:
        events: The subscription; not with `on_retry="annotate"`. Closed at the end.
        past: Asked only for an attempt that began before the cursor, for the messages that its reader has.
        cursor: Where the subscription began; None for the start, or for now.
        subgraphs: Whether calls within subgraphs are shown.

    Raises:
        WorkflowNotCompleted: at the end: it failed, was canceled or terminated, or timed out.
        TokensMissing: at the end: the workflow completed, but something that it said did not arrive.
    """
    chunks = Chunks(subgraphs=subgraphs, cursor=cursor or "")
    async with aclosing(events):
        async for event in events:
            if isinstance(event, AttemptStarted) and event.supersedes is not None:
                await recall_from(past, chunks, event.supersedes, cursor)
            for message in chunks.read(event):
                yield message
    chunks.end()


async def recall_from(past: Past, chunks: Chunks, before: Origin, cursor: str | None) -> None:
    """Let `chunks` know what a superseded attempt said before the cursor, if it began there.

    Args:
        past: Says it again.
        chunks: What has to take it back.
        before: The attempt.
        cursor: Where the subscription began; None or empty for the start, or for now.
    """
    if not cursor or Cursor.parse(cursor).run_id != before.run_id or chunks.knows_all(before):
        return
    # All that it said was shown: up to the cursor to the reader before, and then to us.
    async with aclosing(past(before)) as batches:
        async for batch in batches:
            for earlier in batch:
                if earlier.origin == before:
                    chunks.recall(earlier)
