"""Turns the events of a subscription into changes of a screen, once for all formats.

The events are those of `subscribe` with `on_retry="reset"` or `"hold"`, from the start of a run, in order.
Nothing else goes in: no clock, no randomness. So the same events give the same changes, ids and numbers in
every process, and a client may be served by one and resumed by another.

Ids: `a:<attempt>`, `m:<attempt>:<ordinal>` for a model call, `<message>/text`, `/reasoning`, `/call.<index>`,
`/block` for its parts, `t:<attempt>:<tool call, or run>` and `n:<attempt>:<run>`; `+1`, `+2` and so on where
the same comes again. They are new in every attempt, for clients that need a new id for a new text. `stable`
is the same in every attempt: it begins with the activity's place, which an attempt inherits from the one that
it supersedes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from temporal_token_interceptor.events import (
    AttemptEnded,
    AttemptEvent,
    AttemptStarted,
    Call,
    CallEnded,
    CallStarted,
    ContentBlock,
    CustomEvent,
    Event,
    Gap,
    GraphEvent,
    NodeEnded,
    NodeStarted,
    Origin,
    ReasoningEvent,
    RunContinued,
    StreamEnded,
    TokenEvent,
    ToolCallChunk,
    ToolEnded,
    ToolStarted,
)
from temporal_token_interceptor.protocol.cursor import Cursor
from temporal_token_interceptor.views.changes import Change, Item, Kind, View
from temporal_token_interceptor.views.projected import (
    Attempt,
    ChangeWriter,
    Message,
    ToolCall,
    end_around,
    end_of_call,
    facts_around,
    facts_of_call,
    forget,
    is_for_programs,
    run_of,
    slot_of,
    without_none,
)

_FORGOTTEN = 1_000  # superseded attempts that are remembered, as the reader does (`protocol.attempts`)


class Projector:
    """Reads events and returns changes; `view` is the state that these lead to.

    Costs a few microseconds a token, and the memory of what stands.
    """

    def __init__(self) -> None:
        self._write = ChangeWriter()
        self._attempts: dict[str, Attempt] = {}  # those that stand, by attempt id
        self._superseded: dict[str, None] = {}  # by attempt id, the oldest first
        self._messages: dict[tuple[str, int], Message] = {}  # those that are open, by attempt and ordinal

    @property
    def view(self) -> View:
        """What stands. Only to be read."""
        return self._write.view

    def read(self, event: Event) -> list[Change]:
        """Return what the event changes; mostly one change, sometimes none."""
        write = self._write
        write.sequence.reach(event.cursor)
        if not write.view.run and event.cursor:
            write.add(Change("run", data=Cursor.parse(event.cursor).run_id))
        match event:
            case TokenEvent():
                self._text(event, "text")
            case ReasoningEvent():
                self._text(event, "reasoning")
            case ToolCallChunk() | ContentBlock() | CallStarted() | CallEnded():
                self._of_call(event)
            case AttemptStarted():
                self._begin(event)
            case Gap():
                self._gap(event)
            case RunContinued(run_id=run_id):
                self._close_all()
                write.add(Change("run", data=run_id))
            case StreamEnded(status=status):
                self._close_all()
                write.add(Change("end", data=status))
            case _:
                self._around(event)
        return write.take(event.cursor)

    def forget(self, most: int, runs: Collection[str]) -> None:
        """Forget the oldest attempts of other runs, until so many items are left; no change comes of it."""
        forget(self.view, self._attempts, most, runs)

    # ------------------------------------------------------------------ model calls

    def _text(self, event: TokenEvent | ReasoningEvent, kind: Kind) -> None:
        message = self._messages.get((event.origin.attempt_id, event.call.ordinal))
        item = message.writing if message is not None else None
        if message is None or item is None or item.kind != kind or message.block != event.block:
            message = message or self._message(event.origin, event.call)
            if message is None or not event.token:
                return
            if item is not None:
                self._write.close(item, {})
            item = message.writing = self._part(message, kind, kind, {})
            message.block = event.block
        if event.token:
            self._write.grow(item, event.token)

    def _of_call(self, event: ToolCallChunk | ContentBlock | CallStarted | CallEnded) -> None:
        message = self._message(event.origin, event.call)
        if message is None:
            return
        match event:
            case ToolCallChunk():
                self._tool_call(message, event)
            case ContentBlock(block=block):
                if not is_for_programs(block):
                    self._write.close(self._part(message, "block", "block", dict(block)), {})
            case CallEnded(error=error):
                self._close_message(message, end_of_call(event), {"error": error} if error else {})
                if error is not None:
                    # The graph tried again, or fell back to another model, within the attempt: what the call
                    # wrote does not stand, as in `text()` and `messages()`.
                    by = {"attempt": event.origin.attempt_id, "error": error}
                    ids = [message.item.id, *(item.id for item in message.parts)]
                    self._write.remove(message.attempt, ids, by)
            case CallStarted():
                pass

    def _message(self, origin: Origin, call: Call) -> Message | None:
        """Return the open message of a call, opened if it has to be; None of a superseded attempt."""
        message = self._messages.get((origin.attempt_id, call.ordinal))
        if message is None and (attempt := self._attempt(origin)) is not None:
            item = self._write.open(
                attempt,
                "message",
                f"m:{attempt.attempt_id}:{call.ordinal}",
                f"{attempt.slot}:{call.ordinal}",
                facts_of_call(call),
                parent=attempt.item.id,
                node=call.node_name,
            )
            message = self._messages[origin.attempt_id, call.ordinal] = Message(attempt, call.ordinal, item)
        return message

    def _part(self, message: Message, kind: Kind, name: str, data: Mapping[str, Any]) -> Item:
        of = message.item
        item = self._write.open(
            message.attempt,
            kind,
            f"{of.id}/{name}",
            f"{of.stable}/{name}",
            data,
            parent=of.id,
            node=of.node,
        )
        message.parts.append(item)
        return item

    def _tool_call(self, message: Message, event: ToolCallChunk) -> None:
        call = message.tool_call(event)
        if call.item is None and call.name:
            self._open_tool_call(message, call)
        elif call.item is not None and event.args:
            self._write.grow(call.item, event.args)

    def _open_tool_call(self, message: Message, call: ToolCall) -> None:
        data = {"name": call.name, "tool_call_id": call.id, "index": call.index}
        name = "call" if call.index is None else f"call.{call.index}"
        call.item = self._part(message, "tool_call", name, without_none(data))
        call.shown_id = call.id
        if args := "".join(call.args):
            self._write.grow(call.item, args)
        call.args = []

    def _close_message(self, message: Message, facts: Mapping[str, Any], parts: Mapping[str, Any]) -> None:
        """Close a message, its parts first; a tool call that never got a name is shown before."""
        for call in message.tool_calls:
            if call.item is None:
                self._open_tool_call(message, call)
        late = {
            call.item.id: call.id for call in message.tool_calls if call.item and call.id != call.shown_id
        }
        for item in reversed(message.parts):
            more = {"tool_call_id": late[item.id]} if item.id in late else {}
            self._write.close(item, {**parts, **more})
        self._write.close(message.item, facts)
        del self._messages[message.attempt.attempt_id, message.ordinal]

    # ------------------------------------------------------------------ tools, nodes, notes

    def _around(self, event: AttemptEvent) -> None:
        if isinstance(event, AttemptEnded):
            self._end(event)
            return
        attempt = self._attempt(event.origin)
        if attempt is None:
            return
        match event:
            case ToolStarted() | NodeStarted():
                self._start(attempt, event)
            case ToolEnded() | NodeEnded():
                item = attempt.running.pop(run_of(event), None) or self._open_around(attempt, event)
                self._write.close(item, end_around(event))
            case CustomEvent():
                custom = {"name": event.name, "data": event.data, "truncated": event.truncated or None}
                self._write.note(attempt.item.id, {"custom": without_none(custom)}, event.node_name)
            case GraphEvent():
                graph = {"mode": event.mode, "path": list(event.path), "data": event.data}
                if event.truncated:
                    graph["truncated"] = True
                self._write.note(attempt.item.id, {"graph": graph})
            case _:
                pass  # a kind of event that no screen shows

    def _start(self, attempt: Attempt, event: ToolStarted | NodeStarted) -> None:
        key = run_of(event)
        if (same := attempt.running.pop(key, None)) is not None:
            self._write.close(same, {"unfinished": True})  # its end was lost
        attempt.running[key] = self._open_around(attempt, event)

    def _open_around(
        self, attempt: Attempt, event: ToolStarted | ToolEnded | NodeStarted | NodeEnded
    ) -> Item:
        kind: Kind = "node" if isinstance(event, NodeStarted | NodeEnded) else "tool"
        name = event.run_id
        if isinstance(event, ToolStarted | ToolEnded):
            name = event.tool_call_id or name
        return self._write.open(
            attempt,
            kind,
            f"{kind[0]}:{attempt.attempt_id}:{name}",
            f"{attempt.slot}:{kind}:{name}",
            facts_around(event),
            parent=attempt.item.id,
            node=event.node_name,
        )

    def _gap(self, event: Gap) -> None:
        gap = {"gap": {"missing": event.missing, "reason": event.reason}}
        if event.origin is None:
            self._write.note("", gap)
        elif (attempt_id := event.origin.attempt_id) not in self._superseded:
            call, attempt = event.call, self._attempts.get(attempt_id) or self._attempt(event.origin)
            message = self._messages.get((attempt_id, call.ordinal)) if call is not None else None
            item = message.item if message is not None else attempt.item if attempt is not None else None
            self._write.note(item.id if item else "", gap, call.node_name if call else "")

    # ------------------------------------------------------------------ attempts

    def _begin(self, event: AttemptStarted) -> None:
        attempt_id, older = event.origin.attempt_id, event.supersedes
        known = self._attempts.get(attempt_id)
        if attempt_id in self._superseded:
            return
        if older is not None and older.attempt_id == attempt_id:
            # It is sent again from its start, because a reader without a transport came back.
            if known is not None:
                self._retract(known, attempt_id)
                self._open_attempt(Attempt(event.origin, known.slot, used=known.used))
                return
            older = None
        replaced = self._attempts.pop(older.attempt_id, None) if older is not None else None
        if replaced is not None:
            self._retract(replaced, attempt_id)
        if older is not None:
            self._superseded[older.attempt_id] = None
            if len(self._superseded) > _FORGOTTEN:
                del self._superseded[next(iter(self._superseded))]
        if known is None:
            taken = self._attempts.values()
            slot = replaced.slot if replaced is not None else slot_of(older or event.origin, taken)
            self._open_attempt(Attempt(event.origin, slot))

    def _attempt(self, origin: Origin) -> Attempt | None:
        """Return an attempt, which is opened if it has to be; None if it is superseded.

        It was not opened if its start was trimmed away; it is opened again if it goes on after its end.
        """
        attempt = self._attempts.get(origin.attempt_id)
        if attempt is None:
            if origin.attempt_id in self._superseded:
                return None
            attempt = self._open_attempt(Attempt(origin, slot_of(origin, self._attempts.values())))
        elif not attempt.item.open:
            self._open_attempt(attempt)
        return attempt

    def _open_attempt(self, attempt: Attempt) -> Attempt:
        origin = attempt.origin
        self._attempts[origin.attempt_id] = attempt
        data = {
            "activity": origin.activity_id,
            "type": origin.activity_type,
            "attempt": origin.attempt,
            "started": origin.started_time.isoformat(),
        }
        attempt.item = self._write.open(attempt, "attempt", f"a:{origin.attempt_id}", attempt.slot, data)
        return attempt

    def _end(self, event: AttemptEnded) -> None:
        if event.origin.attempt_id in self._superseded:
            return
        attempt = self._attempts.get(event.origin.attempt_id) or self._attempt(event.origin)
        if attempt is not None and attempt.item.open:
            ended = {"outcome": event.outcome, "will_retry": event.will_retry}
            self._close_attempt(attempt, without_none(ended), {"unfinished": True})

    def _close_attempt(self, attempt: Attempt, facts: Mapping[str, Any], rest: Mapping[str, Any]) -> None:
        """Close an attempt, and before it what is open within it."""
        for message in [one for one in self._messages.values() if one.attempt is attempt]:
            self._close_message(message, rest, rest)
        for item in attempt.running.values():
            self._write.close(item, rest)
        attempt.running.clear()
        self._write.close(attempt.item, facts)

    def _close_all(self) -> None:
        unfinished = {"unfinished": True}
        for attempt in self._attempts.values():
            self._close_attempt(attempt, unfinished, unfinished)

    def _retract(self, attempt: Attempt, superseded_by: str) -> None:
        superseded = {"superseded": True}
        self._close_attempt(attempt, superseded, superseded)
        by = {"attempt": attempt.attempt_id, "superseded_by": superseded_by}
        self._write.remove(attempt, list(attempt.ids), by)
