"""Changes as events of OpenAI's Responses API: what `client.responses` of the OpenAI SDKs reads.

Every text, reasoning and tool call is an output item, numbered in the order in which they were opened; a
number is never used again. What a retry takes back is reported `done` again, empty and `incomplete`, and is
not in the output of the final response, which is the truth.

A client resumes by the number of an event, so each change is encoded by itself, from the start of the stream.
The numbers are those of changes (`views.sequence`), so they survive that the stream is trimmed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from temporal_token_interceptor.gateway.formats.frames import PARTS, Frame, NumberedEncoder, name_of
from temporal_token_interceptor.gateway.formats.openai_usage import usage_of
from temporal_token_interceptor.views.changes import Change, Item, View


class ResponsesEncoder(NumberedEncoder):
    """Encodes for `responses.retrieve(..., stream=True)` and its like.

    Args:
        facts: What the client is shown of the response; see `response_facts`.
        starting_after: The number of the last event that the client has; -1 for none.
    """

    name = "responses"

    def __init__(self, facts: Mapping[str, Any], *, starting_after: int = -1) -> None:
        super().__init__(starting_after, first=0)
        self._facts = facts
        self._indexes: dict[str, int] = {}

    def first(self) -> Iterable[Frame]:
        """Return the beginning of a response, twice: waiting, and begun."""
        queued, begun = (response(self._facts, View(), status) for status in ("queued", "in_progress"))
        return [
            {"type": "response.created", "response": queued},
            {"type": "response.in_progress", "response": begun},
        ]

    def frames(self, change: Change) -> Iterable[Frame]:
        """Fold a change and return its events, without their numbers."""
        if change.op == "remove":
            return self._remove(change)
        self.view.fold(change)
        if change.op == "end":
            return [self._end(change.data)]
        if change.kind not in PARTS:
            return []
        item = self.view.items[change.id]
        match change.op:
            case "open":
                return self._open(item)
            case "grow":
                return [self._grow(item, change.data)]
            case _:
                return self._close(item)

    def failed(self, status: int, detail: str) -> Iterable[Frame]:
        """Return an error, which clients raise."""
        return [{"type": "error", "code": str(status), "message": detail, "param": None}]

    def event(self, frame: Frame) -> bytes:
        """Return an event with its number, unless the client has it."""
        if (number := self.next_number()) is None:
            return b""
        numbered = super().event({**frame, "sequence_number": number})
        return f"event: {frame['type']}\n".encode() + numbered

    def _remove(self, change: Change) -> list[Frame]:
        gone = [self.view.items[one] for one in change.data if one in self.view.items]
        self.view.fold(change)
        return [
            {
                "type": "response.output_item.done",
                "output_index": self._indexes[item.id],
                "item": _output(item, "incomplete", ""),
            }
            for item in gone
            if item.kind in PARTS
        ]

    def _end(self, status: str) -> Frame:
        is_whole = status == "completed"
        name = "response.completed" if is_whole else "response.failed"
        return {"type": name, "response": response(self._facts, self.view, _STATUSES.get(status, "failed"))}

    def _open(self, item: Item) -> Iterator[Frame]:
        index = self._indexes[item.id] = len(self._indexes)
        yield {
            "type": "response.output_item.added",
            "output_index": index,
            "item": _output(item, "in_progress", None),
        }
        if item.kind != "tool_call":
            yield {"type": "response.content_part.added", **self._part_of(item), "part": _part(item, "")}

    def _grow(self, item: Item, text: str) -> Frame:
        match item.kind:
            case "text":
                more: Frame = {"content_index": 0, "logprobs": []}
                name = "output_text"
            case "reasoning":
                more, name = {"content_index": 0}, "reasoning_text"
            case _:
                more, name = {}, "function_call_arguments"
        return {"type": f"response.{name}.delta", **self._place(item), **more, "delta": text}

    def _close(self, item: Item) -> Iterator[Frame]:
        text = item.text
        match item.kind:
            case "text":
                whole = {**self._part_of(item), "text": text, "logprobs": []}
                yield {"type": "response.output_text.done", **whole}
                yield {"type": "response.content_part.done", **self._part_of(item), "part": _part(item, text)}
            case "reasoning":
                yield {"type": "response.reasoning_text.done", **self._part_of(item), "text": text}
            case _:
                called = {**self._place(item), "name": name_of(item), "arguments": text}
                yield {"type": "response.function_call_arguments.done", **called}
        yield {
            "type": "response.output_item.done",
            "output_index": self._indexes[item.id],
            "item": _whole(self.view, item),
        }

    def _place(self, item: Item) -> Frame:
        return {"item_id": item.id, "output_index": self._indexes[item.id]}

    def _part_of(self, item: Item) -> Frame:
        return {**self._place(item), "content_index": 0}


_STATUSES = {"completed": "completed", "canceled": "cancelled"}


def response_facts(response_id: str, *, model: str, created_at: int) -> dict[str, Any]:
    """Return what a client is shown of a response in each of its states.

    Args:
        response_id: The id of the response.
        model: What the client is shown as the model.
        created_at: Seconds since 1970.
    """
    return {
        "id": response_id,
        "object": "response",
        "created_at": created_at,
        "model": model,
        "background": True,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
    }


def response(facts: Mapping[str, Any], view: View, status: str | None = None) -> dict[str, Any]:
    """Return a response as it stands.

    Args:
        facts: See `response_facts`.
        view: What it consists of.
        status: As of the API: `queued`, `in_progress`, `completed`, `failed` or `cancelled`. None for that of
            the state.
    """
    if status is None:
        status = "in_progress" if view.status is None else _STATUSES.get(view.status, "failed")
    used = usage_of(view)
    whole: dict[str, Any] = {
        **facts,
        "status": status,
        "output": [_whole(view, item) for item in view.items.values() if item.kind in PARTS],
        "usage": used.as_response() if used is not None else None,
    }
    if status == "failed":
        whole["error"] = {"code": "server_error", "message": f"the workflow ended: {view.status}"}
    return whole


def _whole(view: View, item: Item) -> Frame:
    """Return an item with its text; what is missing in it, or was cut off, makes it `incomplete`."""
    around = {item.id, item.parent, view.items[item.parent].parent}
    has_gap = any(note.id in around and "gap" in note.data for note in view.notes)
    is_cut = has_gap or not {"error", "unfinished", "superseded"}.isdisjoint(item.facts)
    status = "in_progress" if item.open else "incomplete" if is_cut else "completed"
    return _output(item, status, item.text)


def _output(item: Item, status: str, text: str | None) -> Frame:
    """Return an output item; a text of None leaves out its content."""
    named = {"id": item.id, "status": status}
    content = [] if text is None else [_part(item, text)]
    match item.kind:
        case "text":
            return {"type": "message", **named, "role": "assistant", "content": content}
        case "reasoning":
            return {"type": "reasoning", **named, "summary": [], "content": content}
        case _:
            called = {"call_id": item.id, "name": name_of(item), "arguments": text or ""}
            return {"type": "function_call", **named, **called}


def _part(item: Item, text: str) -> Frame:
    if item.kind == "text":
        return {"type": "output_text", "text": text, "annotations": []}
    return {"type": "reasoning_text", "text": text}
