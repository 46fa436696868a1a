"""The real clients show what stands: 250 streams each, with retries, at the end and after each retraction."""

import json
from collections import Counter
from dataclasses import replace
from functools import partial
from random import Random
from struct import iter_unpack
from typing import Any

import pytest

from temporal_token_interceptor.gateway.formats.ag_ui_events import AgUiEncoder
from temporal_token_interceptor.gateway.formats.ai_sdk_chunks import AiSdkEncoder
from temporal_token_interceptor.gateway.formats.langgraph_events import LangGraphEncoder, values_of
from temporal_token_interceptor.gateway.formats.openai_events import ResponsesEncoder, response_facts
from temporal_token_interceptor.views.changes import whole_characters
from temporal_token_interceptor.views.projector import Projector
from tests.clients.corpus import Case, cases, resumed
from tests.support.format_clients import data_of
from tests.support.held import a_held_stream
from tests.support.projected import a_stream, flat, projected

pytestmark = pytest.mark.timeout(300)  # a corpus is thousands of streams

USER = {"id": "user", "role": "user", "content": "hi"}
HUMAN = {"type": "human", "id": "user", "content": "hi"}
FACTS = response_facts("resp_1", model="workflow", created_at=1)


def judged(made, answers, is_right, least=100):
    """Count what is right, and name what is not."""
    counts, wrong = Counter(), []
    for number, (case, answer) in enumerate(zip(made, answers, strict=True)):
        pairs = [("end", case.end, answer["shown"])]
        pairs += [("mark", want, got) for (_, want), got in zip(case.marks, answer["marked"], strict=True)]
        for where, want, got in pairs:
            counts[where] += 1
            if not is_right(want, got):
                wrong.append((number, where, want, got))
    print(dict(counts), "wrong:", len(wrong))
    assert not wrong, "\n".join(map(str, wrong[:3]))
    assert counts["end"] >= least
    return counts


def takes_nothing_back(changes, _):
    """Whether a held stream is one that 6 can show: no workflow was reset in it."""
    return not any(change.op == "remove" for change in changes)


def ended(want, got):
    """Whether a client reports an error only of a workflow that did not complete."""
    return got.get("error") is None or want.status not in {None, "completed"}


@pytest.mark.parametrize("package", ["ai7", "ai"])
def test_ai_sdk(run, package):
    """7 takes back with `reset-step`; 6 is shown what is held until it stands."""

    def is_right(want, got):
        return (
            ended(want, got)
            and (got["text"], got["reasoning"], got["gaps"]) == (want.text, want.reasoning, want.gaps)
            and called(want, got)
        )

    def called(want, got):
        calls = zip(got["tool_call"], got["results"], want.tool_call, want.results, strict=True)
        return all(as_called(*call) for call in calls)

    def as_called(seen, result, arguments, wanted):
        if seen is None:  # it is being written
            return not result and not wanted
        try:
            is_same = seen == json.loads(arguments or "{}")
        except ValueError:  # what is no JSON is an error, unless its tool ran all the same
            is_same, wanted = seen == arguments, wanted or "error"
        return is_same and result == wanted

    if package == "ai7":
        made = list(cases(AiSdkEncoder))
    else:
        six = partial(AiSdkEncoder, version=6)
        made = list(cases(six, made=a_held_stream, is_wanted=takes_nothing_back))
    counts = judged(made, run("ai_sdk.mjs", made, package), is_right)
    assert (counts["mark"] > 200) == (package == "ai7")


QUESTION = {"id": "user", "role": "user", "parts": [{"type": "text", "text": "hi"}]}


@pytest.mark.parametrize("how", ["question", "output", "resume"])
@pytest.mark.parametrize("package", ["ai7", "ai"])
def test_a_chat_that_has_messages(run, package, how):
    """Of the AI SDK: an answer is added to what the page's own tool is in, and nothing is there twice."""
    tool = {"type": "dynamic-tool", "toolName": "ask", "toolCallId": "t", "input": {}}
    tools = {
        "question": [],
        "output": [{**tool, "state": "output-available", "output": "yes"}],
        "resume": [{**tool, "state": "input-streaming"}],
    }
    parts = [{"type": "step-start"}, {"type": "text", "text": "before", "state": "done"}, *tools[how]]

    def is_right(want, got):
        def shown(before, texts):
            return {"question": [before, texts], "output": [before + texts], "resume": [texts]}[how]

        texts, thoughts = shown(["before"], want.text), shown([], want.reasoning)
        return ended(want, got) and (got["text"], got["reasoning"]) == (texts, thoughts)

    def had(one):
        named = one.frames[0]["messageId"] if how == "resume" else "earlier"
        return [QUESTION, {"id": named, "role": "assistant", "parts": parts}]

    held = {} if package == "ai7" else {"made": a_held_stream, "is_wanted": takes_nothing_back}
    version, goes_on = 7 if package == "ai7" else 6, "earlier" if how == "output" else ""
    encoder = partial(AiSdkEncoder, version=version, goes_on=goes_on)
    some = [one for one in cases(encoder, late=False, **held) if one.frames]
    made = [replace(one, marks=[], messages=had(one)) for one in some]
    judged(made, run("ai_sdk_chat.mjs", made, package, how), is_right)


BEFORE = {"id": "m:0:0/text", "role": "assistant", "content": "before"}
CALL = {"id": "m:0:0/call.0", "type": "function", "function": {"name": "ask", "arguments": "{}"}}
ASKED = {"id": "message:m:0:0/call.0", "role": "assistant", "toolCalls": [CALL]}
HISTORIES: dict[str, list[dict[str, Any]]] = {
    "user": [USER],
    "nothing": [],
    "turns": [{**USER, "id": "first"}, BEFORE, USER],
    "tool": [USER, BEFORE, ASKED, {"id": "own", "role": "tool", "toolCallId": CALL["id"], "content": "yes"}],
}


@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize("package", ["agui1", "agui0"])
def test_ag_ui(run, package, history):
    """1.0, and 0.0.59, which CopilotKit and assistant-ui have; what the client had of other runs stays."""
    before = HISTORIES[history]
    had = {"text": ["before"] * (BEFORE in before), "tool_call": ["{}"] * (ASKED in before), "reasoning": []}

    def is_right(want, got):
        if not want.reasoning or want.status is None:
            # Where none is left, an empty one takes its place, until another is whole.
            got["reasoning"] = _filled(got["reasoning"])
        kinds = ("text", "reasoning", "tool_call")
        same = all(sorted(got[kind]) == sorted(had[kind] + getattr(want, kind)) for kind in kinds)
        users = [one["content"] for one in before if one["role"] == "user"]
        return same and got["users"] == users and ended(want, got)

    made = list(cases(lambda: AgUiEncoder("thread", "run", before), messages=before))
    counts = judged(made, run("ag_ui.mjs", made, package), is_right)
    assert counts["mark"] > 200


def is_right_in_tanstack(want, got):
    """It joins and orders texts otherwise, and leaves out blank ones: the halves of characters count."""

    def characters(texts):
        halves = "".join(texts).encode("utf-16-le", "surrogatepass")
        return sorted(one for (one,) in iter_unpack("<H", halves) if not chr(one).isspace())

    kinds = ("text", "reasoning", "tool_call")
    return ended(want, got) and all(
        characters(got[kind]) == characters(getattr(want, kind)) for kind in kinds
    )


def test_tanstack_ai(run):
    """On one connection."""
    made = [replace(one, marks=[]) for one in cases(lambda: AgUiEncoder("thread", "run", [USER]))]
    judged(made, run("tanstack.mjs", made), is_right_in_tanstack)


def test_tanstack_ai_comes_again(run):
    """Its connection drops, up to four times: each time it is shown what stands, and loses nothing."""

    def encoder(number):
        return AgUiEncoder("thread", "run", [USER], connection=f"wf/{number}-", is_unsure=number > 0)

    made = list(resumed(encoder))
    judged(made, run("tanstack_resumed.mjs", made), is_right_in_tanstack)


def test_responses(run):
    """At the end; and before it, where what was taken back is empty."""

    def is_right(want, got):
        texts = ("text", "reasoning", "tool_call")
        if want.status is None:  # what was taken back is there, and empty
            return all(_filled(got[kind]) == _filled(getattr(want, kind)) for kind in texts)
        status = {"completed": "completed", "canceled": "cancelled"}.get(want.status, "failed")
        return got["status"] == status and all(got[kind] == getattr(want, kind) for kind in texts)

    made = list(cases(lambda: ResponsesEncoder(FACTS)))
    counts = judged(made, run("responses.mjs", made), is_right)
    assert counts["mark"] > 200


def _filled(texts):
    return [text for text in texts if text]


@pytest.mark.parametrize("before", [[HUMAN], []], ids=["history", "no-history"])
def test_langgraph(run, before):
    """40 streams with retries, each in a page of `useStream`, and again without the state at their end."""
    wanted = []

    def is_wanted(changes, view):
        is_one = (
            view.status == "completed" and len(changes) > 30 and any(one.op == "remove" for one in changes)
        )
        wanted.extend([view] if is_one else [])
        return is_one and len(wanted) <= 40

    def encoder():
        return LangGraphEncoder(LANGGRAPH, messages=before)

    some = [replace(one, marks=[]) for one in cases(encoder, is_wanted=is_wanted, late=False)]
    some += [replace(one, frames=_without_last(one.frames, "values")) for one in some]
    judged(
        [replace(one, end=_messages(one.view)) for one in some],
        run("langgraph.mjs", some),
        is_thread([HUMAN]),
        least=80,
    )


LANGGRAPH = {"messages", "values", "tools", "custom", "lifecycle"}


@pytest.mark.parametrize("before", [[HUMAN], []], ids=["history", "no-history"])
def test_a_reloaded_thread(run, before):
    """LangGraph: the page has a state of some moment, and is sent all from the start."""

    def is_wanted(changes, view):
        return view.status == "completed" and any(one.op == "remove" for one in changes)

    made = []
    for number, one in enumerate(
        cases(partial(LangGraphEncoder, LANGGRAPH, messages=before), is_wanted=is_wanted, late=False)
    ):
        state = [frame["params"]["data"]["messages"] for frame in one.frames if frame["method"] == "values"]
        if some := [message for message in state[number % len(state)] if message["type"] != "remove"]:
            made.append(replace(one, marks=[], messages=some, end=_messages(one.view)))
    judged(made, run("langgraph.mjs", made), is_thread(before), least=30)


def is_thread(before):
    def is_right(want, got):
        return got["users"] == len(before) and got.get("error") is None and got["messages"] == want

    return is_right


def test_a_second_question(run):
    """LangGraph: another run of the same thread, with the first one's answer as its history."""
    made = []
    for seed in range(200):
        (first, before), (second, after) = (
            projected(a_stream(Random(seed), turn=turn), Projector) for turn in range(2)
        )
        if before.status == after.status == "completed" and any(one.op == "remove" for one in flat(second)):
            histories = [HUMAN], [HUMAN, *values_of(before)["messages"], {**HUMAN, "id": "user1"}]
            frames = [
                data_of(LangGraphEncoder(LANGGRAPH, messages=history).encode(flat(changes)))
                for history, changes in zip(histories, (first, second), strict=True)
            ]
            made.append(Case(frames, _messages(before) | _messages(after)))
    judged(made[:16], run("langgraph.mjs", made[:16]), is_thread([HUMAN]), least=16)


def _without_last(frames, method):
    last = max(place for place, frame in enumerate(frames) if frame["method"] == method)
    return [*frames[:last], *frames[last + 1 :]]


def _messages(view):
    def joined(message, kind):
        parts = [one.text for one in view.items.values() if (one.parent, one.kind) == (message.id, kind)]
        return whole_characters("".join(parts))

    return {
        message.id: [joined(message, "text"), joined(message, "reasoning")]
        for message in view.items.values()
        if message.kind == "message"
    }
