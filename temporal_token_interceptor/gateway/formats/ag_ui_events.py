"""Changes as events of AG-UI: what `HttpAgent`, CopilotKit and TanStack AI read.

What a retry takes back goes with a snapshot of all messages that stand, those of the client among them, in
the places where the client has them. A client keeps all its reasoning where a snapshot has none: an empty one
is named then.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from temporal_token_interceptor.gateway.formats.frames import (
    PARTS,
    Frame,
    FrameEncoder,
    call_of,
    name_of,
    tools_of,
)
from temporal_token_interceptor.views.changes import Change, Item, View, change_of, coalesced
from temporal_token_interceptor.views.difference import difference


class AgUiEncoder(FrameEncoder):
    """Encodes for `@ag-ui/client`, 1.0 and 0.0.59.

    Args:
        thread_id: The thread of the client's request.
        run_id: The run of the client's request.
        messages: The client's own messages, as it sent them: a snapshot without them would remove them.
        connection: What the ids of events begin with; of one connection alone. Without it they have none.
        is_unsure: Whether the client may have other messages than these: its first state is a snapshot.
    """

    name = "ag-ui"

    def __init__(
        self,
        thread_id: str,
        run_id: str,
        messages: Sequence[Frame] = (),
        *,
        connection: str = "",
        is_unsure: bool = False,
    ) -> None:
        super().__init__()
        self._connection = connection
        self._ids = count()
        self._names = {"threadId": thread_id, "runId": run_id}
        self._messages = list(messages)
        self._gone = set(_unsure(messages))  # of what the client has, what is left out unless it stands
        self._is_unsure = bool(self._gone) or is_unsure
        # One that the client has: a snapshot without any would leave it there.
        self._reasoning = next((one["id"] for one in messages if one.get("role") == "reasoning"), "")
        self._has_empty = False  # whether the client shows one that is there for this reason alone

    def late(self, view: View, cursor: str) -> bytes:
        """Return one snapshot of what is whole, and then the beginning and the text of what is open."""
        missed = difference(self.view, view, cursor)
        is_shown = any(change.kind in _SHOWN or change.op == "remove" for change in missed)
        if not is_shown and not self._is_unsure:
            return self.encode(missed)
        open_before = [item for item in reversed(self.view.items.values()) if item.open]
        frames = [frame for item in open_before for frame in self._of(change_of(item, "close", {}))]
        for change in missed:
            self.view.fold(change)
        frames.append(self._snapshot(is_late=True))
        for item in self.view.items.values():
            if item.open:
                frames += self._of(change_of(item, "open", item.data))
                if item.length:
                    frames += self._of(change_of(item, "grow", item.text))
        for change in missed:
            if change.op in {"note", "end"}:
                frames += self._of(change)
        return self._written(frames)

    def encode(self, changes: Sequence[Change]) -> bytes:
        """Return the events of changes; neighbouring growths of one text are one."""
        return super().encode(coalesced(changes))

    def first(self) -> Iterable[Frame]:
        """Return the beginning of a run."""
        return [{"type": "RUN_STARTED", **self._names}]

    def frames(self, change: Change) -> Iterable[Frame]:
        """Fold a change and return its events."""
        if change.op == "remove":
            self._gone |= {_message_of(one) for one in change.data} | set(change.data)
            return [] if self.taken_back(change).isdisjoint(_SHOWN) else [self._snapshot()]
        self.view.fold(change)
        return self._of(change)

    def failed(self, status: int, detail: str) -> Iterable[Frame]:
        """Return the error that ends a run."""
        return [{"type": "RUN_ERROR", "message": detail, "code": str(status)}]

    def event(self, frame: Frame) -> bytes:
        """Return an event, with an id with which TanStack AI comes again; it says where, and not how far.

        TanStack AI drops an event whose id it has seen, also on an earlier connection. So a cursor would not
        do: all events of a state, and of a change that takes something back, have the same.
        """
        own = f"id: {self._connection}{next(self._ids)}\n".encode() if self._connection else b""
        return own + super().event(frame)

    def _of(self, change: Change) -> Iterable[Frame]:
        match change.kind:
            case "text":
                return [_text(change)]
            case "reasoning":
                return self._think(change)
            case "tool_call":
                return self._tool_call(change)
            case "tool" if change.op == "close" and "superseded" not in change.data:
                return self._result(self.view.items[change.id])
            case "" if change.op == "note":
                return _custom(change.data)
            case "" if change.op == "end":
                return [self._end(change.data)]
            case _:
                return []  # attempts, nodes and blocks have no event of their own

    def _think(self, change: Change) -> list[Frame]:
        self._reasoning = change.id
        done = change.op == "close" and self._has_empty
        return _reasoning(change) + ([self._snapshot()] if done else [])

    def _tool_call(self, change: Change) -> Iterator[Frame]:
        name = change.id
        match change.op:
            case "open":
                call = {"toolCallId": name, "toolCallName": name_of(self.view.items[name])}
                yield {"type": "TOOL_CALL_START", **call, "parentMessageId": _message_of(name)}
            case "grow":
                yield {"type": "TOOL_CALL_ARGS", "toolCallId": name, "delta": change.data}
            case _:
                yield {"type": "TOOL_CALL_END", "toolCallId": name}
                for tool in tools_of(self.view, self.view.items[name]):
                    yield from self._result(tool)

    def _result(self, tool: Item) -> Iterator[Frame]:
        asked = call_of(self.view, tool)
        if asked is not None and not asked.open:
            yield {"type": "TOOL_CALL_RESULT", "messageId": tool.id, **_content(asked, tool)}

    def _end(self, status: str) -> Frame:
        if status == "completed":
            return {"type": "RUN_FINISHED", **self._names}
        return {"type": "RUN_ERROR", "message": f"the workflow ended: {status}", "code": status}

    def _snapshot(self, *, is_late: bool = False) -> Frame:
        """Return all messages that stand.

        Args:
            is_late: Whether to leave out what is open: its beginning and its text follow. TanStack AI shows a
                text twice that a snapshot has empty beside open reasoning.
        """
        self._is_unsure = False
        stand = {message["id"]: message for message in self._standing(is_late=is_late)}
        messages: list[Frame] = []
        for message in self._messages:
            if (mine := stand.pop(message.get("id", ""), None)) is not None:
                messages.append(mine)
            elif message.get("id") not in self._gone:
                messages.append(message)
        messages += stand.values()
        has_some = any(message.get("role") == "reasoning" for message in messages)
        self._has_empty = bool(self._reasoning) and not has_some
        if self._has_empty:
            messages.append({"id": self._reasoning, "role": "reasoning", "content": ""})
        return {"type": "MESSAGES_SNAPSHOT", "messages": messages}

    def _standing(self, *, is_late: bool) -> Iterator[Frame]:
        for item in self.view.items.values():
            if is_late and item.open:
                continue
            match item.kind:
                case "text":
                    yield {"id": item.id, "role": "assistant", "content": item.text}
                case "reasoning":
                    self._reasoning = item.id
                    yield {"id": item.id, "role": "reasoning", "content": item.text}
                case "tool_call":
                    function = {"name": name_of(item), "arguments": item.text}
                    call = {"id": item.id, "type": "function", "function": function}
                    yield {"id": _message_of(item.id), "role": "assistant", "toolCalls": [call]}
                case "tool" if not item.open and (asked := call_of(self.view, item)) is not None:
                    yield {"id": item.id, **_content(asked, item)}
                case _:
                    pass


_SHOWN = PARTS | {"tool"}


def _text(change: Change) -> Frame:
    match change.op:
        case "open":
            return {"type": "TEXT_MESSAGE_START", "messageId": change.id, "role": "assistant"}
        case "grow":
            return {"type": "TEXT_MESSAGE_CONTENT", "messageId": change.id, "delta": change.data}
        case _:
            return {"type": "TEXT_MESSAGE_END", "messageId": change.id}


def _reasoning(change: Change) -> list[Frame]:
    name = {"messageId": change.id}
    match change.op:
        case "open":
            return [
                {"type": "REASONING_START", **name},
                {"type": "REASONING_MESSAGE_START", **name, "role": "reasoning"},
            ]
        case "grow":
            return [{"type": "REASONING_MESSAGE_CONTENT", **name, "delta": change.data}]
        case _:
            return [{"type": "REASONING_MESSAGE_END", **name}, {"type": "REASONING_END", **name}]


def _message_of(tool_call: str) -> str:
    return f"message:{tool_call}"


def _unsure(messages: Sequence[Frame]) -> Iterator[str]:
    """Yield the ids of what a gateway has sent in answer to the client: it may be taken back since.

    The answer follows the user's last message, or the result of a tool that the page itself ran: what stands
    before that is of an earlier run, which has ended.
    """
    for message in reversed(messages):
        is_ours = str(message.get("id", "")).startswith(("m:", "t:", "message:m:"))
        if message.get("role") == "user" or (message.get("role") == "tool" and not is_ours):
            return
        if is_ours:
            yield message["id"]


def _content(call: Item, tool: Item) -> Frame:
    found: Any = tool.facts.get("output", tool.facts.get("error", ""))
    content = found if isinstance(found, str) else json.dumps(found)
    return {"role": "tool", "toolCallId": call.id, "content": content}


def _custom(note: Mapping[str, Any]) -> Iterator[Frame]:
    if "gap" in note:
        yield {"type": "CUSTOM", "name": "gap", "value": note["gap"]}
    elif "custom" in note:
        custom = note["custom"]
        yield {"type": "CUSTOM", "name": custom["name"], "value": custom.get("data")}
