"""The words that events use: how an attempt ends, how a workflow closes, why something is missing."""

from __future__ import annotations

from typing import Literal

Outcome = Literal[
    "completed_provisional",
    "failed",
    "cancelled",
    "paused",
    "reset",
    "timed_out",
    "abandoned",
    "worker_shutdown",
    "async_pending",
]
"""How a worker says that an attempt ended. Provisional: what Temporal records is the truth.

`abandoned`: Temporal no longer waits for this attempt and does not say why. It timed out, the activity was
reset, or its workflow has closed.
"""

Status = Literal["completed", "failed", "canceled", "terminated", "timed_out", "unknown"]
"""How a workflow closed, by Temporal's own names; `unknown` where no Temporal client was there to ask."""

GapReason = Literal["overflow", "lost", "trimmed", "mismatch", "unreadable", "transport", "unended"]
"""Why something is missing.

`overflow`: the worker's buffer was full. `lost`: frames never arrived. `trimmed`: the stream was cut or
expired before this reader came. `mismatch`: the call has ended, and its text, as read, is not what the
worker sent. `unreadable`: an event that is not what the protocol says. `transport`: the transport lost what
it had taken, such as a restart that emptied Redis; or it, or the history, could not be read to its end.
`unended`: the reading is over, and the attempt has not said how it ended: it is still talking, or its worker
died, or cannot deliver its last words.
"""
