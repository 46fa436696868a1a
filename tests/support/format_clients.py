"""What clients of foreign protocols make of a stream: their rules, as small as they can be written.

`tests/clients` holds the same streams against the real packages; these here are for every run of the tests.
Each returns what stands in the client: its texts, reasonings and arguments of tool calls, the results of
tools, and how the stream ended. What its real counterpart refuses is an assertion here.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from temporal_token_interceptor.gateway.formats.frames import tools_of
from temporal_token_interceptor.views.changes import View, joined_halves


@dataclass
class Shown:
    """What stands, by kind, in the order in which it is shown; a result for each call, empty for none.

    Gaps are counted, where a client shows them with the text.
    """

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    tool_call: list[str] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    gaps: int = 0
    status: str | None = None


def expected(view: View) -> Shown:
    """What a state shows in any client."""
    shown = Shown(status=view.status, gaps=sum("gap" in note.data for note in view.notes))
    for item in view.items.values():
        if item.kind in {"text", "reasoning", "tool_call"}:
            getattr(shown, item.kind).append(item.text)
        if item.kind == "tool_call":
            tools = [] if item.open else tools_of(view, item)
            shown.results.append(_result(tools[-1].facts) if tools else "")
    return shown


def _result(facts: Any) -> str:
    return str(facts["output"]) if "output" in facts and not facts.get("error") else "error"


def data_of(body: bytes) -> list[Any]:
    """The data of server-sent events; `[DONE]` is left out."""
    lines = [line for line in body.decode("ascii").split("\n") if line.startswith("data: ")]
    return [json.loads(line[6:]) for line in lines if line != "data: [DONE]"]


def ai_sdk(chunks: list[Any]) -> Shown:
    """The AI SDK, 7: parts of one message, which `reset-step` takes back."""
    parts: dict[str, dict[str, Any]] = {}
    status = None
    assert [chunk["type"] for chunk in chunks[:2]] == ["start", "start-step"][: len(chunks)]
    for chunk in chunks[2:]:
        kind, _, what = chunk["type"].rpartition("-")
        assert status is None or (status == "failed" and chunk["type"] == "finish")
        match kind, what:
            case "text" | "reasoning", "start":
                assert chunk["id"] not in parts
                parts[chunk["id"]] = {"kind": kind, "text": "", "open": True}
            case "text" | "reasoning", "delta":
                assert parts[chunk["id"]]["open"]
                parts[chunk["id"]]["text"] += chunk["delta"]
            case "text" | "reasoning", "end":
                parts[chunk["id"]]["open"] = False
            case "tool-input", "start":
                assert chunk["toolCallId"] not in parts
                parts[chunk["toolCallId"]] = {"kind": "tool_call", "text": "", "open": True}
            case "tool-input", "delta":
                assert parts[chunk["toolCallId"]]["open"]
                parts[chunk["toolCallId"]]["text"] += chunk["inputTextDelta"]
            case "tool-input", "available" | "error":
                parts[chunk["toolCallId"]]["open"] = False
            case "tool-output", "available" | "error":
                assert not parts[chunk["toolCallId"]]["open"]
                result = str(chunk["output"]) if what == "available" else "error"
                parts[chunk["toolCallId"]]["result"] = result
            case "data", "gap":
                parts[chunk["id"]] = {"kind": "gap", "open": False}
            case "reset", "step":
                parts.clear()
            case "", "finish" | "error":
                assert what == "error" or not any(part["open"] for part in parts.values())
                status = "completed" if status is None and what == "finish" else "failed"
            case _:
                assert chunk["type"] in {"finish-step", "file"}
    shown = Shown(status=status)
    for part in parts.values():
        if part["kind"] == "gap":
            shown.gaps += 1
            continue
        getattr(shown, part["kind"]).append(joined_halves(part["text"]))
        if part["kind"] == "tool_call":
            shown.results.append(part.get("result", ""))
    return shown


def ag_ui(events: list[Any], messages: list[Any] | None = None) -> Shown:
    """AG-UI: messages by id, which a snapshot replaces; reasoning stays where a snapshot has none."""
    shown: dict[str, dict[str, Any]] = {one["id"]: dict(one) for one in messages or []}
    writing: set[str] = set()
    status = None
    assert events[0]["type"] == "RUN_STARTED"
    for event in events[1:]:
        assert status is None
        name = event.get("messageId") or event.get("toolCallId")
        match event["type"]:
            case "TEXT_MESSAGE_START" | "REASONING_MESSAGE_START":
                assert name not in writing
                writing.add(name)
                shown.setdefault(name, {"id": name, "role": event["role"], "content": ""})
            case "TEXT_MESSAGE_CONTENT" | "REASONING_MESSAGE_CONTENT":
                assert name in writing
                assert event["delta"]
                shown[name]["content"] += event["delta"]
            case "TEXT_MESSAGE_END" | "REASONING_MESSAGE_END" | "TOOL_CALL_END":
                writing.remove(name)
            case "TOOL_CALL_START":
                writing.add(name)
                call = {"id": name, "function": {"name": event["toolCallName"], "arguments": ""}}
                of = event["parentMessageId"]
                shown.setdefault(of, {"id": of, "role": "assistant", "toolCalls": [call]})
            case "TOOL_CALL_ARGS":
                assert name in writing
                _call(shown, name)["arguments"] += event["delta"]
            case "TOOL_CALL_RESULT":
                assert event["toolCallId"] not in writing
                shown[name] = {"id": name, "role": "tool", "content": event["content"]}
            case "MESSAGES_SNAPSHOT":
                keeps = not any(one["role"] == "reasoning" for one in event["messages"])
                kept = [one for one in shown.values() if keeps and one["role"] == "reasoning"]
                shown = {one["id"]: json.loads(json.dumps(one)) for one in [*event["messages"], *kept]}
            case "RUN_FINISHED" | "RUN_ERROR":
                assert not writing or event["type"] == "RUN_ERROR"
                status = "completed" if event["type"] == "RUN_FINISHED" else event["code"]
            case other:
                assert other in {"CUSTOM", "REASONING_START", "REASONING_END"}
    found = Shown(status=status)
    for message in shown.values():
        match message["role"]:
            case "tool":
                found.results.append(message["content"])
            case "reasoning":
                found.reasoning += [joined_halves(message["content"])]
            case "assistant" if "toolCalls" in message:
                found.tool_call += [one["function"]["arguments"] for one in message["toolCalls"]]
            case "assistant":
                found.text.append(joined_halves(message["content"]))
            case _:
                pass
    return found


def _call(shown: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    calls = [call for message in shown.values() for call in message.get("toolCalls", ())]
    return next(call["function"] for call in calls if call["id"] == name)


def responses(events: list[Any]) -> Shown:
    """The Responses API: items by their index; the final response is the truth."""
    items: dict[int, dict[str, Any]] = {}
    final: dict[str, Any] | None = None
    numbers = [event["sequence_number"] for event in events]
    assert numbers == sorted(set(numbers))
    assert events[0]["type"] == "response.created"
    for event in events[2:]:
        assert final is None
        index, kind = event.get("output_index"), event["type"].removeprefix("response.")
        match kind.rpartition("."):
            case "output_item", _, "added":
                assert index == len(items)
                items[index] = {**event["item"], "written": ""}
            case "output_item", _, "done":
                assert items[index]["id"] == event["item"]["id"]
                items[index] = {**event["item"], "written": _text(event["item"])}
            case _, _, "delta":
                assert items[index]["id"] == event["item_id"]
                items[index]["written"] += event["delta"]
            case "", _, "completed" | "failed":
                final = event["response"]
                assert final["id"] == events[0]["response"]["id"]
                assert all(item["status"] != "in_progress" for item in items.values())
            case name, _, what:
                assert what in {"added", "done"}
                assert name in {
                    "content_part",
                    "output_text",
                    "reasoning_text",
                    "function_call_arguments",
                }
    shown = Shown(status=final["status"] if final else None)
    kinds = {"message": "text", "reasoning": "reasoning", "function_call": "tool_call"}
    for item in final["output"] if final else items.values():
        # What was taken back is empty and incomplete, as long as the response goes on.
        text = _text(item) if final else item["written"]
        if final or text or item["status"] != "incomplete":
            getattr(shown, kinds[item["type"]]).append(joined_halves(text))
    return shown


def _text(item: dict[str, Any]) -> str:
    return str(item.get("arguments", "")) or "".join(part["text"] for part in item.get("content", ()))


def chat_completions(chunks: list[Any]) -> Shown:
    """Chat completions: everything is appended."""
    shown = Shown(text=[""], reasoning=[""])
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    for chunk in chunks:
        assert shown.status is None
        if "error" in chunk:
            shown.status = "failed"
            break
        [choice] = chunk["choices"]
        delta = choice["delta"]
        shown.text[0] += delta.get("content", "")
        shown.reasoning[0] += delta.get("reasoning_content", "")
        for call in delta.get("tool_calls", ()):
            if "id" in call:
                assert call["index"] == len(shown.tool_call)
                shown.tool_call.append("")
            shown.tool_call[call["index"]] += call["function"]["arguments"]
        if choice["finish_reason"] is not None:
            shown.status = "completed"
    shown.text, shown.reasoning = (
        list(map(joined_halves, shown.text)),
        list(map(joined_halves, shown.reasoning)),
    )
    return shown


def langgraph(events: list[Any], state: list[Any] | None = None) -> Shown:
    """The browser's `useStream`: deltas go together by node; a state removes what the one before had.

    Unless it has no messages: of such a state, nothing is read. Events of any run of the thread whose ids it
    knows are left out. A page that was reloaded begins with the messages of the thread's `state`.
    """
    written: dict[str, dict[int, dict[str, Any]]] = {}  # by node, what deltas go to
    messages: dict[str, list[dict[str, Any]]] = {}
    had: set[str] = set()
    tools: dict[str, str | None] = {}
    shown = Shown()
    numbers = [event["seq"] for event in events]
    assert numbers == sorted(set(numbers))
    known: set[str] = set()
    begun = {"event_id": "", "method": "values", "params": {"data": {"messages": state or []}}}
    for event in [begun, *events]:
        if event["event_id"] in known:
            continue
        known.add(event["event_id"])
        data = event["params"]["data"]
        if event["method"] == "lifecycle" and data["event"] == "running":
            shown.status = None
        assert shown.status is None
        match event["method"]:
            case "messages":
                messages[data["id"]] = list(_written(written, event["params"]["node"], data).values())
            case "values" if data["messages"]:
                now = {one["id"]: one for one in data["messages"] if one["type"] == "ai"}
                for gone in had - now.keys():
                    messages.pop(gone, None)
                for name, message in now.items():
                    calls = [*message["tool_calls"], *message["invalid_tool_calls"]]
                    messages[name] = [*message["content"], *calls]
                had = {one["id"] for one in data["messages"]}
            case "tools":
                name = data["tool_call_id"]
                assert (data["event"] == "tool-started") == (name not in tools or tools[name] is not None)
                tools[name] = None if data["event"] == "tool-started" else data["event"]
            case "lifecycle" if data["event"] != "running":
                shown.status = data["event"]
            case _:
                pass
    for blocks in messages.values():
        for block in blocks:
            match block["type"]:
                case "text" | "reasoning" as kind:
                    getattr(shown, kind).append(joined_halves(block[kind]))
                case _:
                    is_whole = block["type"] == "tool_call"
                    shown.tool_call.append(json.dumps(block["args"]) if is_whole else block["args"])
    return shown


def _written(
    written: dict[str, dict[int, dict[str, Any]]], node: str, data: dict[str, Any]
) -> dict[int, dict[str, Any]]:
    """The blocks that a node writes, with an event of its message."""
    if data["event"] == "message-start":
        assert node not in written
        written[node] = {}
    blocks = written[node]
    match data["event"]:
        case "content-block-start":
            assert data["index"] == len(blocks)
            blocks[data["index"]] = dict(data["content"])
        case "content-block-delta":
            match data["delta"]["type"]:
                case "text-delta":
                    blocks[data["index"]]["text"] += data["delta"]["text"]
                case "reasoning-delta":
                    blocks[data["index"]]["reasoning"] += data["delta"]["reasoning"]
                case _:
                    blocks[data["index"]] |= data["delta"]["fields"]
        case "content-block-finish":
            blocks[data["index"]] = data["content"]
        case _:
            assert data["event"] in {"message-start", "message-finish", "error"}
    return blocks
