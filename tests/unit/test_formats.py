"""Encoders of foreign protocols: what their clients make of any stream is what stands."""

import json
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from temporal_token_interceptor.gateway.formats.ag_ui_events import AgUiEncoder
from temporal_token_interceptor.gateway.formats.ai_sdk_chunks import AiSdkEncoder
from temporal_token_interceptor.gateway.formats.langgraph_events import LangGraphEncoder, values_of
from temporal_token_interceptor.gateway.formats.openai_chunks import ChatCompletionsEncoder
from temporal_token_interceptor.gateway.formats.openai_events import (
    ResponsesEncoder,
    response,
    response_facts,
)
from temporal_token_interceptor.views.changes import Change, View, joined_halves, whole_characters
from temporal_token_interceptor.views.difference import difference
from temporal_token_interceptor.views.projector import Projector
from tests.support import format_clients as clients
from tests.support.held import a_held_stream
from tests.support.projected import a_stream, flat, folded, projected

HUMAN = {"type": "human", "id": "user", "content": "hi"}
CHANNELS = {"messages", "values", "tools", "custom", "lifecycle"}
FACTS = response_facts("resp_1", model="workflow", created_at=1)


def ai_sdk(skip=0):
    return AiSdkEncoder(skip=skip)


def ag_ui(messages=()):
    return AgUiEncoder("thread", "run", messages)


def responses(starting_after=-1):
    return ResponsesEncoder(FACTS, starting_after=starting_after)


def chat():
    return ChatCompletionsEncoder("chatcmpl-1", model="workflow", created=1)


def langgraph(since=-1):
    return LangGraphEncoder(CHANNELS, since=since)


FORMATS: dict[str, Any] = {
    "ai_sdk": (ai_sdk, clients.ai_sdk),
    "ag_ui": (ag_ui, clients.ag_ui),
    "responses": (responses, clients.responses),
    "langgraph": (langgraph, clients.langgraph),
}


def comparable(shown, name):
    """Without what a format does not have: its name of a bad end, order among messages, tools' results."""
    calls = sorted(map(_whole, shown.tool_call))
    results = (shown.results, shown.gaps) if name == "ai_sdk" else ()
    if name == "langgraph":  # half a character waits for the other half, and alone it is U+FFFD
        shown = replace(shown, text=_without_halves(shown.text), reasoning=_without_halves(shown.reasoning))
        calls = sorted(_without_halves(calls))
    if name in {"ag_ui", "langgraph"}:  # where items are, a client orders by the message
        shown = replace(shown, text=sorted(shown.text), reasoning=sorted(shown.reasoning))
    if name == "responses":  # as long as a response goes on, what is empty may be taken back
        calls = [one for one in calls if one != "{}"]
    ended = None if shown.status is None else shown.status == "completed"
    return [one for one in shown.text if one], [one for one in shown.reasoning if one], calls, results, ended


def _without_halves(texts):
    return [whole_characters(text).replace("\ufffd", "") for text in texts]


def _whole(arguments):
    try:
        return json.dumps(json.loads(arguments or "{}"))
    except ValueError:
        return arguments


def stream(seed, made=a_stream):
    """A stream's changes, the state that they lead to, and chance."""
    random = Random(seed)
    changes, view = projected(made(random), Projector)
    return flat(changes), view, random


def law(test):
    """A test of any stream, which a failure names by its seed."""
    few = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
    return few(given(seed=st.integers(0, 2**32))(test))


@pytest.mark.parametrize("name", FORMATS)
@law
def test_a_client_shows_what_stands(name, seed):
    """At the end of a stream, and at any moment before; nothing that a retry has taken back."""
    encoder, client = FORMATS[name]
    changes, view, random = stream(seed)
    cut = random.randint(0, len(changes))
    for some, standing in ((changes, view), (changes[:cut], folded(changes[:cut]))):
        made = encoder()
        shown = client(clients.data_of(made.begin() + made.encode(some)))

        assert comparable(shown, name) == comparable(clients.expected(standing), name)


@pytest.mark.parametrize("name", FORMATS)
@law
def test_a_late_client_shows_the_same(name, seed):
    """One that joins late, or that fell behind and is shown the state in place of what it missed."""
    encoder, client = FORMATS[name]
    changes, view, random = stream(seed)
    first = random.choice([0, random.randint(0, len(changes))])
    second = random.randint(first, len(changes))
    made = encoder()
    body = made.begin() + made.encode(changes[:first])
    body += made.late(folded(changes[:second]), "c") + made.encode(changes[second:])

    assert comparable(client(clients.data_of(body)), name) == comparable(clients.expected(view), name)


@law
def test_what_a_client_missed_is_a_difference(seed):
    """It leads from any state to any later one, and what both have is not in it."""
    changes, _, random = stream(seed)
    first, second = sorted(random.randint(0, len(changes)) for _ in range(2))
    before, after = folded(changes[:first]), folded(changes[:second])
    missed = difference(before, after, "c")

    assert folded(missed, before).to_json() == after.to_json()
    assert not difference(after, after)
    assert [change.cursor for change in missed if change.cursor] == ["c"][: len(missed)]
    assert difference(View(), after) == after.reopen()


@law
def test_a_client_that_counts_gets_the_exact_rest(seed):
    """By the number of chunks, or by the number of the last event; in any batching."""
    changes, _, random = stream(seed)
    cut = random.randint(0, len(changes))

    def whole(encoder):
        return encoder.begin() + encoder.encode(changes[:cut]) + encoder.encode(changes[cut:])

    chunks = clients.data_of(whole(ai_sdk()))
    has = random.randint(0, len(chunks))
    assert clients.data_of(whole(ai_sdk(skip=has))) == chunks[has:]
    for made, number in ((responses, "sequence_number"), (langgraph, "seq")):
        events = clients.data_of(whole(made()))
        last = random.choice([-1, *(one[number] for one in events)])  # of a stream without events it has none
        assert clients.data_of(whole(made(last))) == [one for one in events if one[number] > last]
        assert all(one[number] < 2**53 for one in events)


@law
def test_a_thread_shows_each_of_its_runs(seed):
    """A second question in the same page: the client knows no event of the answer, by its id or number."""
    changes, before, _ = stream(seed)
    ends = Change("end", data="completed", seq=changes[-1].seq if changes else 0)
    changes = [*(one for one in changes if one.op != "end"), ends]
    before.status = "completed"
    more, view, _ = stream(seed + 1, partial(a_stream, turn=1))
    assume(more and more[0].seq > ends.seq)  # before its first entry it has no time
    history = values_of(before)["messages"]
    last = LangGraphEncoder(CHANNELS, messages=history)
    had = clients.data_of(langgraph().encode(changes))
    events = clients.data_of(last.encode(more))
    resumed = LangGraphEncoder(CHANNELS, messages=history, since=had[-1]["seq"])

    assert clients.data_of(resumed.encode(more)) == events
    shown, whole = clients.langgraph(had + events), clients.expected(before)
    for kind in ("text", "reasoning", "tool_call"):
        getattr(whole, kind).extend(getattr(clients.expected(view), kind))
    whole.status = view.status
    assert comparable(shown, "langgraph") == comparable(whole, "langgraph")


@pytest.mark.parametrize("history", [[], [HUMAN]], ids=["no-history", "history"])
@law
def test_a_reloaded_thread_shows_no_text_that_was_taken_back(history, seed):
    """It has a state, and is sent all from the start: what failed once is never beside what stands since."""
    changes, _, random = stream(seed)
    state = values_of(folded(changes[: random.randint(0, len(changes))]), history)["messages"]
    made = LangGraphEncoder(CHANNELS, messages=history)
    events: list[Any] = []
    standing = View()
    for change in changes:
        events += clients.data_of(made.encode([change]))
        standing.fold(change)
        shown = clients.langgraph(events, state)
        assert comparable(shown, "langgraph") == comparable(clients.expected(standing), "langgraph")


@law
def test_numbers_survive_that_a_stream_is_trimmed(seed):
    """What is left of a stream has higher numbers than what was cut off: no client leaves it out."""
    events = a_stream(Random(seed))
    times = [int(event.cursor.split("~")[2].partition("-")[0] or 0) for event in events]
    cuts = [one for one in range(1, len(events)) if max(times[:one]) < min(times[one:])]
    for made, number in ((responses, "sequence_number"), (langgraph, "seq")):
        for cut in cuts[:1]:
            before, rest = (flat(projected(some, Projector)[0]) for some in (events[:cut], events[cut:]))
            had = clients.data_of(made().encode(before))
            last = had[-1][number] if had else -1

            assert clients.data_of(made(last).encode(rest)) == clients.data_of(made().encode(rest))


@example(seed=510509)  # two tool calls without arguments were sent, and taken back by a reset
@law
def test_chat_completions_show_what_stands(seed):
    """Of a stream that is held back: models that write side by side are sent one after the other."""
    changes, view, _ = stream(seed, a_held_stream)
    encoder = chat()
    shown = clients.chat_completions(clients.data_of(encoder.begin() + encoder.encode(changes)))
    expected = clients.expected(view)
    if view.status is None or (shown.status == "failed" and any(change.op == "remove" for change in changes)):
        return  # it goes on; or the workflow was reset, and what was shown has gone

    assert shown.text == [joined_halves("".join(expected.text))]
    assert shown.reasoning == [joined_halves("".join(expected.reasoning))]
    assert shown.tool_call == expected.tool_call
    assert shown.status == ("completed" if view.status == "completed" else "failed")


@law
def test_ai_sdk_6_shows_what_stands(seed):
    """Of a stream that is held back; of one that is not, it gets an error in place of `reset-step`."""
    held, view, _ = stream(seed, a_held_stream)
    plain, _, _ = stream(seed)
    bodies = []
    for changes in (held, plain):
        encoder = AiSdkEncoder(version=6)
        bodies.append(clients.data_of(encoder.begin() + encoder.encode(changes)))

    assert not any(chunk["type"] == "reset-step" for body in bodies for chunk in body)
    if not any(change.op == "remove" for change in held):
        shown = clients.ai_sdk(bodies[0])
        assert comparable(shown, "ai_sdk") == comparable(clients.expected(view), "ai_sdk")
    assert any("taken back" in chunk.get("errorText", "") for chunk in bodies[1]) == loses_parts(plain)


def loses_parts(changes):
    """Whether something is taken back that was drawn as a part; a gap is a mark, which may stay."""
    view, kinds = View(), set()
    for change in changes:
        if change.op == "remove":
            kinds |= {view.items[one].kind for one in change.data}
        view.fold(change)
    return not kinds.isdisjoint({"text", "reasoning", "tool_call", "block"})


# ------------------------------------------------------------------ single cases

MESSAGE = [
    Change("open", "a:1", "attempt", stable="s", data={}),
    Change("open", "m:1:0", "message", "a:1", "s:0", {"node": "agent"}),
]
TEXT = [
    Change("open", "m:1:0/text", "text", "m:1:0", "s:0/text", {}),
    Change("grow", "m:1:0/text", "text", "m:1:0", data="Paris"),
    Change("close", "m:1:0/text", "text", "m:1:0", data={}),
]
CALL = [
    Change("open", "m:1:0/call.0", "tool_call", "m:1:0", data={"name": "search", "tool_call_id": "x"}),
    Change("grow", "m:1:0/call.0", "tool_call", "m:1:0", data='{"q":1}'),
    Change("close", "m:1:0/call.0", "tool_call", "m:1:0", data={}),
]


def a_tool(name, output=None):
    opened = Change("open", name, "tool", "a:1", data={"name": "search", "tool_call_id": "x"})
    return [opened, Change("close", name, "tool", "a:1", data={"output": output} if output else {})]


def test_a_tool_that_ran_twice_has_its_last_result():
    """Also for a client that comes late, which is shown the runs in another order."""
    changes = [*MESSAGE, *CALL, *a_tool("t:1", "first"), *a_tool("t:2", "second")]
    for show in (lambda made: made.encode(changes), lambda made: made.late(folded(changes), "")):
        encoder = ai_sdk()

        assert clients.ai_sdk(clients.data_of(encoder.begin() + show(encoder))).results == ["second"]


def test_an_id_that_a_provider_uses_again_is_that_of_the_last_call():
    """Two calls of one id in one attempt: each has the result of the run that came after it."""
    again = [change._replace(id=change.id + "+1") for change in CALL]
    changes = [*MESSAGE, *CALL, *a_tool("t:1", "first"), *again, *a_tool("t:2", "second")]
    encoder = ai_sdk()

    shown = clients.ai_sdk(clients.data_of(encoder.begin() + encoder.encode(changes)))
    assert shown.results == ["first", "second"]


def test_arguments_that_are_no_json_are_an_error_and_not_lost():
    """As a model leaves them that stopped in the middle."""
    changes = [*MESSAGE, CALL[0], CALL[1]._replace(data='{"q'), CALL[2]]
    encoder = ai_sdk()

    [wrong] = [one for one in clients.data_of(encoder.encode(changes)) if one["type"] == "tool-input-error"]
    assert wrong["input"] == '{"q'


@pytest.mark.parametrize("made", [ai_sdk, ag_ui, responses, langgraph, chat])
def test_a_stream_that_cannot_go_on_ends_with_an_error(made):
    """In the words of the protocol, also in the middle of a text; and what asks to come again is no event."""
    encoder = made()
    encoder.encode([*MESSAGE, *TEXT[:2]])

    assert "sealed" in json.dumps(clients.data_of(encoder.problem(500, "the stream is sealed")))
    assert not clients.data_of(encoder.reconnect(100, "draining") + encoder.ping())


def test_files_reach_the_ai_sdk():
    """A block with data or an address is a file; another has no part there."""
    blocks = [
        {"type": "image", "base64": "AAAA", "mime_type": "image/png"},
        {"type": "image", "url": "https://example.org/a.png"},
        {"type": "citation"},
    ]
    changes = [
        *MESSAGE,
        *(Change("open", f"b{n}", "block", "m:1:0", data=block) for n, block in enumerate(blocks)),
    ]

    assert clients.data_of(ai_sdk().encode(changes))[2:] == [
        {"type": "file", "url": "data:image/png;base64,AAAA", "mediaType": "image/png"},
        {"type": "file", "url": "https://example.org/a.png", "mediaType": "application/octet-stream"},
    ]


def test_ag_ui_keeps_the_messages_of_the_client_in_their_places():
    """A snapshot is all that a client has: what the user wrote, and answers of earlier turns, stay."""
    earlier = [
        {"id": "u1", "role": "user", "content": "Hi"},
        {"id": "m:0:0/text", "role": "assistant", "content": "Hello"},
        {"id": "u2", "role": "user", "content": "Where?"},
        {"id": "m:0:1/text", "role": "assistant", "content": "Pari"},  # it was taken back while we were away
        {"id": "m:1:0/text", "role": "assistant", "content": "P"},
        {"id": "hint", "role": "assistant", "content": "of the page's own"},
    ]
    encoder = ag_ui(earlier)
    events = clients.data_of(encoder.begin() + encoder.late(folded([*MESSAGE, *TEXT]), "c"))

    assert [one["type"] for one in events] == ["RUN_STARTED", "MESSAGES_SNAPSHOT"]
    shown = [(one["id"], one["content"]) for one in events[1]["messages"]]
    assert shown == [
        ("u1", "Hi"),
        ("m:0:0/text", "Hello"),
        ("u2", "Where?"),
        ("m:1:0/text", "Paris"),
        ("hint", "of the page's own"),
    ]


@pytest.mark.parametrize(("tool", "stays"), [("own", True), ("t:0:x", False)])
def test_ag_ui_keeps_what_stood_before_a_tool_of_the_page(tool, stays):
    """The page runs a tool and asks again: what it has is of an earlier run, and no retry takes that back."""
    earlier = [
        {"id": "u1", "role": "user", "content": "Hi"},
        {"id": "m:0:0/text", "role": "assistant", "content": "I ask."},
        {"id": tool, "role": "tool", "toolCallId": "m:0:0/call.0", "content": "yes"},
    ]
    encoder = ag_ui(earlier)
    events = clients.data_of(encoder.begin() + encoder.late(folded([*MESSAGE, *TEXT]), "c"))

    assert clients.ag_ui(events, earlier).text == ["I ask."] * stays + ["Paris"]


def test_ag_ui_takes_the_last_reasoning_back():
    """Clients keep all reasoning where a snapshot has none, so it names an empty one."""
    thought = [
        Change("open", "m:1:0/reasoning", "reasoning", "m:1:0", data={}),
        Change("grow", "m:1:0/reasoning", "reasoning", "m:1:0", data="hm"),
        Change("close", "m:1:0/reasoning", "reasoning", "m:1:0", data={"superseded": True}),
    ]
    gone = Change("remove", data=("a:1", "m:1:0", "m:1:0/reasoning"), by={}, node=("", "", ""))
    encoder = ag_ui()
    events = clients.data_of(encoder.begin() + encoder.encode([*MESSAGE, *thought, gone]))

    assert clients.ag_ui(events).reasoning == [""]


def test_ag_ui_joins_neighbouring_growths():
    """They are one event."""
    grown = [TEXT[1]._replace(cursor="c1"), TEXT[1]._replace(data="!", at=5, cursor="c2")]
    body = ag_ui().encode([*MESSAGE, TEXT[0], *grown])

    assert clients.data_of(body)[-1]["delta"] == "Paris!"


@pytest.mark.parametrize("seed", range(10))
def test_ag_ui_events_have_ids_of_their_own(seed):
    """Also those of one change, and of one state: TanStack AI drops an event whose id it has seen."""
    changes = flat(projected(a_stream(Random(seed)), Projector)[0])
    half = len(changes) // 2
    encoder = AgUiEncoder("thread", "run", connection="wf/1-")
    events = encoder.begin() + encoder.late(folded(changes[:half]), "c") + encoder.encode(changes[half:])

    ids = [line for line in events.decode().splitlines() if line.startswith("id: wf/1-")]
    assert len(ids) == len(set(ids)) == events.count(b"data: ")


@pytest.mark.parametrize(("status", "shown"), [("failed", "failed"), ("canceled", "cancelled")])
def test_a_response_names_how_its_workflow_ended(status, shown):
    """With an error, where it failed; what the models wrote is there all the same."""
    changes = [*MESSAGE, *TEXT, Change("end", data=status)]

    last = clients.data_of(responses().encode(changes))[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["status"] == shown == response(FACTS, folded(changes))["status"]
    assert (last["response"]["error"] is not None) == (status == "failed")
    assert last["response"]["output"][0]["content"][0]["text"] == "Paris"


def test_what_has_a_gap_is_incomplete():
    """An output item is `completed` only if nothing is missing in it."""
    gap = Change("note", "m:1:0", data={"gap": {"missing": 2, "reason": "lost"}})
    whole, cut = folded([*MESSAGE, *TEXT]), folded([*MESSAGE, *TEXT, gap])

    assert response(FACTS, whole)["output"][0]["status"] == "completed"
    assert response(FACTS, cut)["output"][0]["status"] == "incomplete"
    assert response(FACTS, whole)["status"] == "in_progress"


def test_usage_is_that_of_the_calls_that_stand():
    """Added up; the chat protocol reports it only to a client that asks, in a chunk of its own."""
    used = {
        "input_tokens": 3,
        "output_tokens": 2,
        "total_tokens": 5,
        "input_token_details": {"cache_read": 1},
    }
    ended = Change("close", "m:1:0", "message", "a:1", data={"usage": used})
    changes = [*MESSAGE, *TEXT, ended, Change("end", data="completed")]

    assert response(FACTS, folded(changes))["usage"]["input_tokens_details"] == {"cached_tokens": 1}
    asked = ChatCompletionsEncoder("c", model="m", created=1, with_usage=True).encode(changes)
    assert clients.data_of(asked)[-1]["usage"]["total_tokens"] == 5
    assert asked.endswith(b"data: [DONE]\n\n")
    plain = chat().encode(changes)
    assert b"usage" not in plain
    assert plain.endswith(b"data: [DONE]\n\n")
    assert asked.count(b"[DONE]") == plain.count(b"[DONE]") == 1


def test_langgraph_sends_what_a_client_asked_for():
    """Numbers are the same whatever that is, so that two streams of one page know each other's events."""
    changes = [*MESSAGE, *TEXT, Change("note", "a:1", data={"custom": {"name": "progress", "data": 1}})]
    every = clients.data_of(langgraph().encode(changes))
    some = clients.data_of(LangGraphEncoder({"custom:progress"}).encode(changes))

    assert some == [one for one in every if one["method"] == "custom"]
    assert some[0]["params"]["data"] == {"name": "progress", "payload": 1}
    nodes = {one["params"]["node"] for one in every if one["method"] == "messages"}
    assert nodes == {"agent#m:1:0"}


def test_langgraph_ends_a_text_with_half_a_character_as_it_ends_the_block():
    """Who joins deltas has what who takes the whole text has; the half waited for the other one."""
    half = TEXT[1]._replace(data="Paris \ud83d")
    every = clients.data_of(langgraph().encode([*MESSAGE, TEXT[0], half, TEXT[2]]))
    data = [one["params"]["data"] for one in every if one["method"] == "messages"]

    deltas = [one["delta"]["text"] for one in data if one["event"] == "content-block-delta"]
    assert "".join(deltas) == data[-1]["content"]["text"] == "Paris \ufffd"


def test_langgraph_says_that_nothing_stands_in_a_state_that_its_client_reads():
    """Of a state without messages `useStream` removes nothing; what says so is gone once a message begins."""
    taken_back = Change("remove", data=("m:1:0", "m:1:0/text"))
    again = Change("open", "m:1:1", "message", "a:1", "s:1", {"node": "agent"})
    every = clients.data_of(langgraph().encode([*MESSAGE, *TEXT, taken_back, again]))
    states = [one["params"]["data"]["messages"] for one in every if one["method"] == "values"]

    assert [[one["type"] for one in messages] for messages in states] == [
        *(["remove"], ["ai"]),
        *(["ai"], ["remove"], ["ai"]),
    ]
