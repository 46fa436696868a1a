"""Changes as events of LangGraph's agent protocol, v3: what `useStream` of `@langchain/react` reads.

Two rules of its clients are kept here. The browser's puts deltas together by namespace and node, not by
message, so each message has a node of its own, `<node>#<message>`; the true name is in its metadata. And it
removes a message only if a state had it and the next one has not: what a retry takes back goes with two
states, before and after. Of a state without any message it removes none: `_NOTHING` stands there, also at the
beginning, until the next message begins.

A client comes again for all events and leaves out those whose ids it knows, or it names the number of the
last one that it has. So each change is encoded by itself, from the start of the stream. It does that over all
runs of a thread: ids name the run, and numbers grow from one run to the next (`views.sequence`). The first
events therefore wait for the first change.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from temporal_token_interceptor.gateway.encoder import json_text
from temporal_token_interceptor.gateway.formats.frames import PARTS, Frame, NumberedEncoder, call_of, name_of
from temporal_token_interceptor.views.changes import Change, Item, View, whole_characters

_NOTHING: Final = {"type": "remove", "id": "nothing-stands", "content": ""}
"""A message that pages do not draw."""


class LangGraphEncoder(NumberedEncoder):
    """Encodes for `threads.stream` and `useStream`.

    Args:
        channels: What the client asked for, such as `messages` or `custom:progress`.
        messages: What stands in the thread before: what the user wrote.
        since: The number of the last event that the client has.
    """

    name = "langgraph"

    def __init__(
        self,
        channels: Collection[str],
        *,
        messages: Sequence[Frame] = (),
        since: int = -1,
    ) -> None:
        super().__init__(since, first=1)
        self._channels = frozenset(channels)
        self._messages = list(messages)
        self._time = 0  # when the newest attempt began, in milliseconds since 1970
        self._blocks: dict[str, int] = {}  # the place of a part in its message
        self._sizes: dict[str, int] = {}  # how many parts a message has had
        self._halves: dict[str, str] = {}  # the first half of a character, by part
        self._tools: dict[str, str] = {}  # under which id a run of a tool is shown
        self._is_nothing = False  # whether the newest state says that nothing stands
        self._has_begun = False

    def first(self) -> Iterable[Frame]:
        """Return nothing: the run is not known yet."""
        return []

    def frames(self, change: Change) -> Iterable[Frame]:
        """Fold a change and return its events, without their numbers; before all, that the run goes on."""
        if change.op == "remove":
            return self._remove(change)
        self.view.fold(change)
        return [*self._begun(), *self._of(change)]

    def _begun(self) -> list[Frame]:
        """Return, once, that the run goes on, and what stood before it."""
        if self._has_begun:
            return []
        self._has_begun = True
        # A page that was reloaded has the state that stood then: it would show what failed beside that.
        return [_frame("lifecycle", {"event": "running"}), self._standing(View())]

    def _of(self, change: Change) -> Iterable[Frame]:
        match change.kind:
            case "attempt" if change.op == "open" and "started" in change.data:
                self._time = int(datetime.fromisoformat(change.data["started"]).timestamp() * 1_000)
                return []
            case "message":
                return self._message(change)
            case "tool":
                return self._tool(change)
            case kind if kind in PARTS:
                return self._part(self.view.items[change.id], change)
            case "" if change.op == "end":
                return self._end(change.data)
            case "" if "custom" in change.data:
                custom = change.data["custom"]
                return [_frame("custom", {"name": custom["name"], "payload": custom.get("data")})]
            case _:
                return []  # attempts, nodes and blocks have no event of their own

    def failed(self, status: int, detail: str) -> Iterable[Frame]:  # noqa: ARG002 - it has no place for it
        """Return that the run failed."""
        return [*self._begun(), _frame("lifecycle", {"event": "failed", "error": detail})]

    def event(self, frame: Frame) -> bytes:
        """Return an event with its number, unless the client has it or did not ask for its channel."""
        number = self.next_number()
        name = frame["method"]
        channels = {name, f"custom:{frame['params']['data']['name']}"} if name == "custom" else {name}
        if number is None or self._channels.isdisjoint(channels):
            return b""
        frame["params"]["timestamp"] = self._time
        numbered = {"type": "event", "event_id": f"{self.view.run}:{number}", "seq": number, **frame}
        return f"event: {name}\ndata: {whole_json(numbered)}\n\n".encode("ascii")

    def _message(self, change: Change) -> list[Frame]:
        named = {"id": change.id, "role": "ai"}
        if change.op == "open":
            self._sizes[change.id] = 0
            node = self.view.items[change.id].data.get("node", "")
            about = {"langgraph_node": node, "run_id": change.id}
            begun = self._of_message(change.id, {"event": "message-start", **named, "metadata": about})
            if not self._is_nothing:
                return [begun]
            self._is_nothing = False
            return [begun, self._values(self.view)]
        if "superseded" in change.data or "error" in change.data:
            return [self._of_message(change.id, {"event": "error", "id": change.id, "message": "taken back"})]
        usage = {"usage": _usage(change.data["usage"])} if "usage" in change.data else {}
        return [self._of_message(change.id, {"event": "message-finish", "id": change.id, **usage})]

    def _part(self, item: Item, change: Change) -> list[Frame]:
        message = item.parent
        if change.op == "open":
            self._blocks[item.id] = self._sizes[message]
            self._sizes[message] += 1
        where = {"id": message, "index": self._blocks[item.id]}
        match change.op:
            case "open":
                content = {"content": _begun(item, "")}
                return [self._of_message(message, {"event": "content-block-start", **where, **content})]
            case "grow":
                if not (text := self._whole_characters(item.id, change.data)):
                    return []
                more = _more(item, text)
                return [self._of_message(message, {"event": "content-block-delta", **where, "delta": more})]
            case _:
                finish = {"event": "content-block-finish", **where, "content": _whole(item)}
                frames = [self._of_message(message, finish)]
                if half := self._halves.pop(item.id, ""):  # who joins deltas has it, too
                    last = {"event": "content-block-delta", **where, "delta": _more(item, half)}
                    frames.insert(0, self._of_message(message, last))
                return frames

    def _whole_characters(self, part: str, text: str) -> str:
        """Return what can be sent of a growth: the first half of a character waits for the second."""
        text = self._halves.pop(part, "") + text
        if "\ud800" <= text[-1:] <= "\udbff":
            self._halves[part] = text[-1]
            return text[:-1]
        return text

    def _of_message(self, message: str, data: Frame) -> Frame:
        node = self.view.items[message].data.get("node", "")
        return _frame("messages", data, node=f"{node}#{message}")

    def _tool(self, change: Change) -> list[Frame]:
        tool = self.view.items[change.id]
        if change.op == "open":
            asked = call_of(self.view, tool)
            taken = asked is None or asked.id in self._tools.values()
            self._tools[tool.id] = tool.id if asked is None or taken else asked.id
            started = {"tool_name": tool.data.get("name", "unknown"), "input": tool.data.get("input")}
            return [_frame("tools", {"event": "tool-started", **self._of_tool(tool), **started})]
        if "output" in change.data and "superseded" not in change.data:
            output = {"output": change.data["output"]}
            return [_frame("tools", {"event": "tool-finished", **self._of_tool(tool), **output})]
        message = change.data.get("error") or "the tool did not end"
        return [_frame("tools", {"event": "tool-error", **self._of_tool(tool), "message": message})]

    def _of_tool(self, tool: Item) -> Frame:
        return {"tool_call_id": self._tools[tool.id]}

    def _remove(self, change: Change) -> list[Frame]:
        before = self._values(self.view)
        if "message" not in self.taken_back(change):
            return []
        return [before, self._standing(self.view)]

    def _end(self, status: str) -> Iterator[Frame]:
        yield self._values(self.view)
        if status == "completed":
            yield _frame("lifecycle", {"event": "completed"})
        else:
            yield _frame("lifecycle", {"event": "failed", "error": f"the workflow ended: {status}"})

    def _standing(self, view: View) -> Frame:
        """Return a state that its client reads, also where it has no messages."""
        values = values_of(view, self._messages)
        self._is_nothing = not values["messages"]
        return _frame("values", {"messages": [_NOTHING]} if self._is_nothing else values)

    def _values(self, view: View) -> Frame:
        return _frame("values", values_of(view, self._messages))


def values_of(view: View, messages: Sequence[Frame] = ()) -> dict[str, Any]:
    """Return the state of a thread: its messages.

    Args:
        view: What stands.
        messages: What stood before.
    """
    parts: dict[str, list[Item]] = {}
    for item in view.items.values():
        parts.setdefault(item.parent, []).append(item)
    made = [_ai(item, parts.get(item.id, ())) for item in view.items.values() if item.kind == "message"]
    return {"messages": [*messages, *made]}


def whole_json(value: Any) -> str:
    """Return JSON without halves of characters, which JSON may have: the client for Python hangs on them."""
    text = json_text(value)
    if "\\ud" not in text:
        return text
    return json_text(json.loads(whole_characters(json.dumps(value, ensure_ascii=False))))


def _frame(method: str, data: Frame, *, node: str = "") -> Frame:
    named = {"node": node} if node else {}
    return {"method": method, "params": {"namespace": [], **named, "data": data}}


def _ai(message: Item, parts: Iterable[Item]) -> Frame:
    content: list[Frame] = []
    calls: dict[str, list[Frame]] = {"tool_call": [], "invalid_tool_call": []}
    for part in parts:
        if part.kind in {"text", "reasoning"}:
            content.append(_begun(part, part.text))
        elif part.kind == "tool_call":
            call = _whole(part)
            calls[call["type"]].append(call)
    called = {"tool_calls": calls["tool_call"], "invalid_tool_calls": calls["invalid_tool_call"]}
    return {"type": "ai", "id": message.id, "content": content, **called}


def _usage(used: Mapping[str, Any]) -> Frame:
    """Return what a call used, whole: the client for Python refuses a message without all three counts."""

    def count(value: object) -> int:
        return value if isinstance(value, int) else 0

    read, written = count(used.get("input_tokens")), count(used.get("output_tokens"))
    whole: Frame = {"input_tokens": read, "output_tokens": written}
    whole["total_tokens"] = count(used.get("total_tokens")) or read + written
    for name in ("input_token_details", "output_token_details"):
        details = used.get(name)
        if isinstance(details, Mapping):
            whole[name] = {key: value for key, value in details.items() if isinstance(value, int)}
    return whole


def _begun(item: Item, text: str) -> Frame:
    match item.kind:
        case "text":
            return {"type": "text", "text": text}
        case "reasoning":
            return {"type": "reasoning", "reasoning": text}
        case _:
            return {"type": "tool_call_chunk", "id": item.id, "name": name_of(item), "args": text}


def _more(item: Item, text: str) -> Frame:
    match item.kind:
        case "text":
            return {"type": "text-delta", "text": text}
        case "reasoning":
            return {"type": "reasoning-delta", "reasoning": text}
        case _:
            # Of arguments the protocol wants all so far, each time.
            return {"type": "block-delta", "fields": _begun(item, item.text)}


def _whole(item: Item) -> Frame:
    if item.kind != "tool_call":
        return _begun(item, item.text)
    named: Mapping[str, Any] = {"id": item.id, "name": name_of(item)}
    try:
        return {"type": "tool_call", **named, "args": json.loads(item.text or "{}")}
    except ValueError:
        wrong = {"args": item.text, "error": "the arguments are not whole"}
        return {"type": "invalid_tool_call", **named, **wrong}
