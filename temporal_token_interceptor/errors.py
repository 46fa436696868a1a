"""Every error of the package, sorted by what the caller can do about it.

Capture and delivery never raise into an activity: they report by log line, counter and `Gap`. Only
`IncompleteAnswer` is raised there, in place of an answer that would have passed for whole. The others reach
the code that constructs an object or reads a stream.
"""

from __future__ import annotations


class TokenStreamError(Exception):
    """The root: `except TokenStreamError` catches everything this package raises on purpose."""


class ConfigurationError(TokenStreamError, ValueError):
    """An argument cannot be used. Fix the call: trying again will not help."""


class InvalidCursor(ConfigurationError):
    """A cursor that no stream of ours handed out. Start without a cursor."""


class CodecMismatch(ConfigurationError):
    """Sealed frames that the client's data converter cannot open. Give it the worker's codec and keys."""


class StreamNotFound(TokenStreamError):
    """No such workflow or namespace, or none before the deadline. Check the name, or wait longer."""


class TransportUnavailable(TokenStreamError):
    """A server stayed away longer than the bound. Resume later, from the last event's cursor."""


class ProtocolError(TokenStreamError):
    """A stream entry that cannot be read: foreign, broken, or of a version that we do not know."""


class IncompleteAnswer(TokenStreamError, ConnectionError):
    """A model's stream ended without the end that its provider always sends: the answer is cut off.

    Raised inside the activity, by a call that was made to stream, where a plain call would have raised, too;
    the activity fails and Temporal retries it.
    """


class WorkflowNotCompleted(TokenStreamError):
    """The workflow ended otherwise, and the stream with it. Its handle's `result()` raises the reason.

    Attributes:
        status: How, as Temporal says: `failed`, `canceled`, `terminated` or `timed_out`.
        cursor: The end of the stream.
    """

    def __init__(self, status: str, cursor: str) -> None:
        super().__init__(status, cursor)
        self.status = status
        self.cursor = cursor

    def __str__(self) -> str:
        return f"the workflow did not complete: {self.status}; the `result()` of its handle says why"


class TokensMissing(TokenStreamError):
    """The workflow has closed, and not all that it said arrived. Take the answer from its result.

    Attributes:
        reasons: Why, for each gap, as `Gap.reason`; of more than 100 gaps, the last 100.
        cursor: The end of the stream.
    """

    def __init__(self, reasons: tuple[str, ...], cursor: str) -> None:
        super().__init__(reasons, cursor)
        self.reasons = reasons
        self.cursor = cursor

    def __str__(self) -> str:
        why = ", ".join(sorted(set(self.reasons)))
        return f"something is missing in {len(self.reasons)} places of the stream ({why})"


class CallNotCompleted(TokenStreamError):
    """A model's call has no whole message. If its activity is tried again, that makes a call of its own.

    Attributes:
        reason: The exception's class name if the call failed; `unfinished` if it was cut off with its
            attempt, `superseded` if a newer attempt replaces it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the model's call did not complete: {self.reason}"


class SubgraphNotCompleted(TokenStreamError):
    """A subgraph of a run failed, or its attempt ended before it did.

    Attributes:
        reason: The exception's class name if the node that runs it failed; `unfinished` or how its attempt
            ended, `superseded` if a newer attempt replaces it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the subgraph did not complete: {self.reason}"
