"""Which calls say only what a call within them has said: a model that calls a model returns its message.

A message has the id of the call that made it. One that comes a second time is left out, unless the outer
model has changed it: what a call says is what its own message says.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from langchain_core.messages import AIMessage

from temporal_token_interceptor.capture.call_records import LiveCall
from temporal_token_interceptor.capture.message_parts import json_of, tool_calls_of
from temporal_token_interceptor.capture.text_path import digest_of

_MOST: Final = 1_000
_PARSED: Final = 65_536  # characters of arguments; what is longer is compared as it is

_Said = tuple[int, int, int, tuple[tuple[object, ...], ...]]


@dataclass(slots=True)
class _Sender:
    """The first call that sent a message.

    Attributes:
        ordinal: Its ordinal.
        around: The calls that it is within.
        said: What its message said, or that of the last call that changed it; None before its end.
    """

    ordinal: int
    around: tuple[int, ...]
    said: _Said | None = None


class Echoes:
    """Remembers who sent which message, of one attempt."""

    def __init__(self) -> None:
        self._senders: dict[str, _Sender] = {}

    def may_be_one(self, live: LiveCall, message: object) -> bool:
        """Whether a call that begins to stream a message may repeat that of a call within it."""
        sender = self._sender(live, message)
        return sender is not None and self._is_within(live, sender)

    def is_one(self, live: LiveCall, message: AIMessage | None, *, is_alone: bool) -> bool:
        """Whether a call, now at its end, has said what a call within it did, and nothing else.

        Args:
            live: The call.
            message: Its message.
            is_alone: Whether no other call runs: then no other repeats this one.
        """
        sender = self._sender(live, message)
        if sender is None or message is None:
            return live.is_echo
        if not (live.is_echo or (not live.streamed and self._is_within(live, sender))):
            if not is_alone and sender.ordinal == live.call.ordinal:
                sender.said = _said_by(message)
            self._forget()
            return False
        said = _said_by(message)
        is_same = sender.said == said
        sender.said = said
        return is_same

    def was_not_sent(self, message: AIMessage) -> None:
        """Note that readers do not have what a message says: a call around it sends it all."""
        if message.id is not None and (sender := self._senders.get(message.id)) is not None:
            sender.said = None

    def _sender(self, live: LiveCall, message: object) -> _Sender | None:
        name = getattr(message, "id", None)
        if not isinstance(name, str):
            return None
        sender = self._senders.get(name)
        if sender is None:
            sender = self._senders[name] = _Sender(live.call.ordinal, live.around)
        return sender

    @staticmethod
    def _is_within(live: LiveCall, sender: _Sender) -> bool:
        """Whether a message came from within a call.

        A call within began later. Any other call with the same message is what a cache hit repeats: a hit
        never streams, and of a call that does not stream, all calls within are known.
        """
        ordinal = live.call.ordinal
        return sender.ordinal > ordinal and (live.streamed or ordinal in sender.around)

    def _forget(self) -> None:
        while len(self._senders) > _MOST:
            del self._senders[next(iter(self._senders))]


def _said_by(message: AIMessage) -> _Said:
    """Return what distinguishes two messages; a digest, because a program may change a message in place."""
    text, content = message.text, message.content
    calls = tuple(
        (one.get("id"), one.get("name"), _arguments(one.get("args"))) for one in tool_calls_of(message)
    )
    return len(text), digest_of(text), 0 if isinstance(content, str) else len(content), calls


def _arguments(args: object) -> object:
    """Return the arguments of a tool call as a text; chunks have them as the provider wrote them."""
    if isinstance(args, str):
        if len(args) > _PARSED:
            return digest_of(args)
        try:
            args = json.loads(args)
        except ValueError:
            return args
    return json_of(args)
