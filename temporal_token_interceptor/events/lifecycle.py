"""How attempts, runs and streams begin and end, and what is missing in between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from temporal_token_interceptor.events.origin import AttemptEvent, Call, EventBase, Origin

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

GapReason = Literal[
    "overflow", "lost", "trimmed", "mismatch", "unreadable", "transport", "unended", "withheld"
]
"""Why something is missing.

`overflow`: the worker's buffer was full. `lost`: frames never arrived. `trimmed`: the stream was cut or
expired before this reader came. `mismatch`: the call has ended, and its text, as read, is not what the
worker sent; or Temporal has the result of another, older attempt than the one that stands here.
`unreadable`: an event that is not what the protocol says. `transport`: the transport lost what it had taken,
such as a restart that emptied Redis; or it, or the history, could not be read to its end; or Temporal has the
result of a later attempt than the one that stands here. `unended`: the reading is over, and the attempt has
not said how it ended: it is still talking, or its worker died, or cannot deliver its last words.
`withheld`: the worker's `transform` failed, and what it had not seen did not leave.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted(AttemptEvent):
    """An activity attempt began to stream.

    Attributes:
        supersedes: The attempt it replaces: clear what that one drew (events whose `origin.attempt_id` is
            the same). None if no earlier attempt of the activity was seen.
        superseded_by: The newer attempt that had appeared before this one. Always None, but for
            `on_retry="annotate"`, which shows such attempts too.
    """

    supersedes: Origin | None = None
    superseded_by: Origin | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnded(AttemptEvent):
    """The worker's word on how an attempt ended. Advisory: only history knows what Temporal recorded.

    Attributes:
        outcome: See `Outcome`.
        will_retry: For `failed`: whether the retry policy allows another attempt; None if unknown.
    """

    outcome: Outcome
    will_retry: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap(EventBase):
    """Something is missing here, and this is all that is known about it.

    Attributes:
        missing: How many tokens (of `overflow`, `mismatch` and `transport`) or frames (else); None if
            that cannot be known.
        reason: See `GapReason`.
        call: The call that misses tokens, where that is known.
        origin: The attempt that misses something; None if the stream as a whole does.
    """

    origin: Origin | None = None
    missing: int | None
    reason: GapReason
    call: Call | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContinued(EventBase):
    """The workflow goes on in another run: continued as new, retried, on a schedule, or reset.

    Attributes:
        run_id: The run that it goes on in.
    """

    origin: None = None
    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEnded(EventBase):
    """The last event of every subscription: how the workflow closed, as Temporal says.

    Attributes:
        status: See `Status`. It is Temporal's word, with its spelling: `canceled`, where an `Outcome` is
            `cancelled`.
    """

    origin: None = None
    status: Status
