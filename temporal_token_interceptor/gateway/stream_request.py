"""What one client wants to be streamed, in any format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from starlette.requests import Request

from temporal_token_interceptor.gateway.access import Target
from temporal_token_interceptor.gateway.encoder import Encoder
from temporal_token_interceptor.reader.request import FirstRun, OnRetry

Begin = Literal["state", "start", "now"]
"""Where a client without a cursor begins.

`state`: with all that stands, and then what follows; many clients share one subscription, and one that falls
behind is given the state again (`Encoder.late`). `start`: with the first event, and every change by itself.
`now`: with the next one. The last two have a subscription of their own, and never `late`, unless a cursor is
not found.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRequest:
    """What one client is to be streamed.

    Attributes:
        request: As it came; `authorize` is given it.
        target: The workflow.
        encoder: Made for this connection.
        cursor: What the client has; it goes on right after. None or empty: see `begin`.
        on_retry: `reset`: retries take back what was shown. `hold`: nothing of an attempt before it has
            succeeded, for formats that cannot take back. `annotate`: all, for `is_raw` alone.
        begin: Where a client without a cursor begins.
        nodes: Narrows what `authorize` allows, and never widens it; see `Visible`.
        kinds: As `nodes`.
        comes_again: Whether the client is an EventSource, which reconnects after a stream that ends and never
            after another status than 200: it gets `Encoder.reconnect` where others get 429 or 503.
        is_raw: Whether the client reads the events themselves (`gateway.raw_events`) in place of changes.
        runs: Which run to begin with where none is named; `all` where a client counts from the first one that
            it was shown, and the workflow may have gone on in another since.
        waits: Whether to wait for a workflow that has not been started; otherwise that is a `Problem` (404).
    """

    request: Request
    target: Target
    encoder: Encoder
    cursor: str | None = None
    on_retry: OnRetry = "reset"
    begin: Begin = "state"
    nodes: frozenset[str] | None = None
    kinds: frozenset[str] | None = None
    comes_again: bool = False
    is_raw: bool = False
    runs: FirstRun = "newest"
    waits: bool = True
