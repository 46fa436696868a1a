"""Every error of the package, sorted by what the caller can do about it.

Nothing in here is ever raised into an activity: capture and delivery report by log line, counter and
`Gap`, never by exception. These errors reach whoever constructs an object or reads a stream.
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
