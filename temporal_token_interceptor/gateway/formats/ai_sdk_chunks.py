"""Changes as chunks of the AI SDK's UI message stream, versions 7 and 6: what `useChat` reads.

A whole workflow is one message and one step. What a retry takes back goes with `reset-step`, which drops all
parts of the step; what stands is sent again. Version 6 does not know `reset-step`: it is read with
`on_retry="hold"`, where nothing is taken back but by a reset of the workflow.

The client may count chunks and resume by their number (`WorkflowChatTransport`), so each change is encoded by
itself, from the start of the stream.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from temporal_token_interceptor.gateway.formats.frames import (
    PARTS,
    Frame,
    FrameEncoder,
    call_of,
    name_of,
    tools_of,
)
from temporal_token_interceptor.views.changes import Change, Item, View

_LOST = "text that was shown has been taken back, which AI SDK 6 cannot do: load the messages again"


class AiSdkEncoder(FrameEncoder):
    """Encodes for `ai`, the AI SDK.

    The id of the message is that of the workflow's run: the same for every client and after every reload,
    because a client replaces a message of the same id. So the first chunk waits for the first change.

    A client whose last message is an answer, to which the page added what a tool returned, goes on with that
    message, whatever the new chunks call it: under another id it would show what was in it twice.

    Args:
        version: The major version of the client's `ai` package.
        skip: How many chunks the client has.
        goes_on: The id of the client's message that the answer is to be added to; empty for one of its own.
    """

    name = "ai-sdk"

    def __init__(self, *, version: Literal[6, 7] = 7, skip: int = 0, goes_on: str = "") -> None:
        super().__init__()
        self._goes_on = goes_on
        self._has_begun = False
        self._version = version
        self._skip = skip

    def first(self) -> Iterable[Frame]:
        """Return nothing: the message has no id yet."""
        return []

    def frames(self, change: Change) -> Iterable[Frame]:
        """Fold a change and return its chunks; before all others, the beginning of the message."""
        if change.op == "remove":
            return self._remove(change)
        self.view.fold(change)
        return [*self._begun(), *(_end(change.data) if change.op == "end" else self._of(change))]

    def _begun(self) -> list[Frame]:
        if self._has_begun:
            return []
        self._has_begun = True
        message_id = self._goes_on or self.view.run or "message"
        return [{"type": "start", "messageId": message_id}, {"type": "start-step"}]

    def failed(self, status: int, detail: str) -> Iterable[Frame]:  # noqa: ARG002 - it has no place for it
        """Return an error, which ends a message."""
        return [{"type": "error", "errorText": detail}, {"type": "finish", "finishReason": "error"}]

    def event(self, frame: Frame) -> bytes:
        """Return a chunk, unless the client has it; after the last one, the protocol's own end."""
        if self._skip:
            self._skip -= 1
            return b""
        done = b"data: [DONE]\n\n" if frame["type"] == "finish" else b""
        return super().event(frame) + done

    def _remove(self, change: Change) -> Iterable[Frame]:
        gaps = sum("gap" in note.data for note in self.view.notes)
        has_lost_text = not self.taken_back(change).isdisjoint(PARTS | {"block"})
        if has_lost_text and self._version < 7:
            return self.failed(409, _LOST)
        has_lost_gap = gaps != sum("gap" in note.data for note in self.view.notes)
        return self._again() if has_lost_text or (has_lost_gap and self._version >= 7) else []

    def _again(self) -> Iterator[Frame]:
        yield {"type": "reset-step"}
        stands, self.view = self.view.reopen(), View()
        for change in stands:
            self.view.fold(change)
            yield from [] if change.op == "end" else self._of(change)

    def _of(self, change: Change) -> Iterable[Frame]:
        match change.kind:
            case "text" | "reasoning":
                return [_text(change)]
            case "tool_call":
                return self._tool_call(change)
            case "tool" if change.op == "close":
                asked = call_of(self.view, self.view.items[change.id])
                return [] if asked is None or asked.open else self._output(asked)
            case "block" if change.op == "open":
                return _file(change.data)
            case "" if change.op == "note" and "gap" in change.data:
                return [{"type": "data-gap", "id": f"gap:{change.at}", "data": change.data["gap"]}]
            case _:
                return []  # attempts, messages and nodes have no part of their own

    def _tool_call(self, change: Change) -> Iterator[Frame]:
        call = self.view.items[change.id]
        match change.op:
            case "open":
                yield {"type": "tool-input-start", **_named(call)}
            case "grow":
                yield {"type": "tool-input-delta", "toolCallId": call.id, "inputTextDelta": change.data}
            case _:
                yield _input(call)
                # Of what is sent again, tools are closed before the calls that asked for them.
                yield from self._output(call)

    def _output(self, call: Item) -> Iterator[Frame]:
        """Return the result of a tool call: where its tool ran more than once, of the last run."""
        for tool in tools_of(self.view, call)[-1:]:
            ended: Frame = {"toolCallId": call.id, "dynamic": True}
            if (error := tool.facts.get("error")) or "output" not in tool.facts:
                yield {"type": "tool-output-error", **ended, "errorText": error or "the tool did not end"}
            else:
                yield {"type": "tool-output-available", **ended, "output": tool.facts["output"]}


def _text(change: Change) -> Frame:
    match change.op:
        case "open":
            return {"type": f"{change.kind}-start", "id": change.id}
        case "grow":
            return {"type": f"{change.kind}-delta", "id": change.id, "delta": change.data}
        case _:
            return {"type": f"{change.kind}-end", "id": change.id}


def _named(call: Item) -> Frame:
    # The id is ours: those of providers come again in other attempts.
    return {"toolCallId": call.id, "toolName": name_of(call), "dynamic": True}


def _input(call: Item) -> Frame:
    try:
        arguments = json.loads(call.text or "{}")
    except ValueError:
        wrong = {"input": call.text, "errorText": "the arguments are not whole"}
        return {"type": "tool-input-error", **_named(call), **wrong}
    return {"type": "tool-input-available", **_named(call), "input": arguments}


def _file(block: Mapping[str, Any]) -> Iterator[Frame]:
    """Return a content block as a file, if it is one; other kinds have no part in this protocol."""
    media_type = block.get("mime_type", "application/octet-stream")
    if url := block.get("url"):
        yield {"type": "file", "url": url, "mediaType": media_type}
    elif data := block.get("base64"):
        yield {"type": "file", "url": f"data:{media_type};base64,{data}", "mediaType": media_type}


def _end(status: str) -> list[Frame]:
    if status == "completed":
        return [{"type": "finish-step"}, {"type": "finish", "finishReason": "stop"}]
    # `WorkflowChatTransport` asks for more until it has a `finish`, also after an error.
    return [
        {"type": "error", "errorText": f"the workflow ended: {status}"},
        {"type": "finish", "finishReason": "error"},
    ]
