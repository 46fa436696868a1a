"""Origins and calls for tests that write frames by hand."""

from datetime import UTC, datetime, timedelta
from typing import Any

from temporal_token_interceptor.events import Call, Origin
from temporal_token_interceptor.protocol.stream_key import StreamKey

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def an_origin(**changes: Any) -> Origin:
    """An attempt; `started` is in seconds after noon."""
    started = timedelta(seconds=changes.pop("started", 0))
    facts = {
        "namespace": "default",
        "workflow_id": "wf",
        "workflow_type": "Chat",
        "run_id": "run",
        "activity_id": "1",
        "activity_type": "answer",
        "attempt": 1,
        "attempt_id": "00000000000000aa",
        "started_time": NOON + started,
    }
    return Origin(**(facts | changes))


def of_stream(stream: StreamKey, **changes: Any) -> Origin:
    """An attempt that writes to a stream; other frames are none there."""
    return an_origin(**stream._asdict(), **changes)


def a_call(**changes: Any) -> Call:
    """A model call; by default the first of its attempt."""
    return Call(**({"ordinal": 0, "node_name": "answer", "run_id": "lc"} | changes))
