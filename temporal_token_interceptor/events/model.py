"""What a model call reports: its text, reasoning, tool calls and blocks, its start and its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from temporal_token_interceptor.events.origin import NO_CALL, AttemptEvent, Call
from temporal_token_interceptor.events.quick_init import quick_init


@quick_init
@dataclass(frozen=True, slots=True)
class TokenEvent(AttemptEvent):
    """A piece of an answer's text. The tokens of one call, joined, are exactly its message's text.

    Field names and `to_dict` are those of `deepagent-temporal`, so that its clients keep working.

    Attributes:
        token: The text; one model chunk, or several if they were merged during an outage.
        node_name: The graph node that produced it.
        index: The position of `token` among the text chunks of its call, from 0. Merged chunks take
            the position of the first.
        is_final: Always False in a subscription (`CallEnded` ends a call); True on the empty closing
            event of `TokenCapturingHandler`.
        attempt: The activity attempt, from 1.
        call: The call that the text belongs to.
        block: Which text block of its message the text belongs to: 0 where the content is a string, as in
            most; the blocks of a list are counted from 1.
    """

    token: str
    node_name: str
    index: int
    is_final: bool = False
    attempt: int = 1
    call: Call = field(default=NO_CALL, kw_only=True)
    block: int = field(default=0, kw_only=True)

    def to_dict(self) -> dict[str, str | int]:
        """Return the flat form that `XADD` accepts: strings and integers only, booleans as 1 and 0."""
        return {
            "type": "token",
            "token": self.token,
            "node_name": self.node_name,
            "index": self.index,
            "is_final": "1" if self.is_final else "0",
            "attempt": self.attempt,
        }


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningEvent(AttemptEvent):
    """A piece of a model's reasoning; never part of the answer's text.

    Attributes:
        token: The text.
        index: Its position among the reasoning chunks of its call, from 0.
        call: The model call.
        block: Which reasoning block of its message the text belongs to: 0 for reasoning beside the content;
            the blocks of a list are counted from 1.
    """

    token: str
    index: int
    call: Call
    block: int = 0


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallChunk(AttemptEvent):
    """A fragment of a tool call that a model is writing.

    Attributes:
        index: Which tool call of the message; fragments with the same index belong together.
        id: The tool call's id; usually only in its first fragment.
        name: The tool's name; usually only in its first fragment.
        args: A fragment of the JSON of the arguments.
        invalid: Whether LangChain or the provider called the tool call invalid, whatever its arguments; only
            of one that came whole.
        call: The model call.
    """

    index: int | str | None
    id: str | None
    name: str | None
    args: str
    invalid: bool = False
    call: Call


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentBlock(AttemptEvent):
    """A block of an answer that is neither text, reasoning nor a tool call, as LangChain's v1 block.

    Images, audio, video and files come as references: type, `mime_type`, `id`, `url`, and `size` in bytes in
    place of the bytes, which are sent only if the worker is configured so (`capture={"media"}`).

    What a text or reasoning says beside its text (annotations, a signature, an id, a phase) comes as a block
    of the same type that has no text. Its `index` is the `block` of the text that it belongs to.

    Attributes:
        block: The block.
        call: The model call.
    """

    block: Mapping[str, Any]
    call: Call


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStarted(AttemptEvent):
    """A model call began.

    Attributes:
        call: The call: its node, path, model, tags.
    """

    call: Call


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnded(AttemptEvent):
    """A model call ended.

    Attributes:
        call: The call.
        usage: LangChain's `usage_metadata`, where the provider reported it.
        finish_reason: The provider's word for why the model stopped.
        error: The exception's class name if the call failed; never its message, which may hold content.
        message_id: The id of the message that the model returned.
        streamed: Whether the text arrived in pieces; False for a cache hit or a model that cannot
            stream, whose text was sent whole.
        unfinished: Whether the call was cut off: its attempt was cancelled or ended before it, or the user's
            code left its stream early. Its text stands as far as it came.
        additional_kwargs: What the message has of the provider's own beside its content, such as `refusal` or
            `citations`; at most 64 KiB of JSON.
    """

    call: Call
    usage: Mapping[str, Any] | None = None
    finish_reason: str | None = None
    error: str | None = None
    message_id: str | None = None
    streamed: bool = True
    unfinished: bool = False
    additional_kwargs: Mapping[str, Any] | None = None
