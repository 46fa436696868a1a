"""The native surface: forms, beginnings, many workflows, tokens, actions, limits; and what bad input gets."""

import asyncio
import json
import time
import uuid
from contextlib import AsyncExitStack, aclosing
from datetime import timedelta
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount
from temporalio import activity

from temporal_token_interceptor import ConfigurationError, RedisStreamBackend, TokenSubscriber
from temporal_token_interceptor.gateway.access import Allow, Deny, Target, anyone
from temporal_token_interceptor.gateway.app import gateway
from temporal_token_interceptor.gateway.limits import Limits
from temporal_token_interceptor.gateway.openapi import openapi
from temporal_token_interceptor.gateway.problem import Problem
from temporal_token_interceptor.gateway.tokens import StreamTokens
from temporal_token_interceptor.protocol.cursor import Cursor
from temporal_token_interceptor.testing import ScriptedChatModel
from temporal_token_interceptor.views.projector import Projector
from tests.support.gateways import (
    EVENT_SOURCE,
    TEXT,
    Listener,
    answered,
    events_of,
    finished,
    folded,
    half_answered,
    lines_of,
    of_workflow,
    served,
    text_of,
    view_of,
)
from tests.support.streams import streaming_worker, unique
from tests.support.workflows import RunActivity, Waiting

SECRET = "s" * 40
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
async def backend(redis_url):
    async with RedisStreamBackend(redis_url) as backend:
        yield backend


@pytest.fixture(scope="module")
async def one(client, backend):
    async with finished(client, backend) as workflow_id:
        yield workflow_id


@pytest.fixture(scope="module")
async def other(client, backend):
    async with finished(client, backend) as workflow_id:
        yield workflow_id


@pytest.fixture
async def http(client, backend):
    async with served(client, backend) as (_, http):
        yield http


def problem(response, status):
    """The detail of a problem document."""
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert (response.status_code, body["status"]) == (status, status)
    assert set(body) == {"type", "title", "status", "detail", "instance"}
    return body["detail"]


# ---------------------------------------------------------------------- forms and beginnings


async def test_lines_of_json_lead_to_the_same_state(http, one):
    """NDJSON is what programs without an SSE parser read; a cursor resumes there, too."""
    events = await http.get(f"/v1/workflows/{one}/events")
    lines = await http.get(f"/v1/workflows/{one}/events", headers={"accept": "application/x-ndjson"})
    assert lines.headers["content-type"].startswith("application/x-ndjson")
    assert folded(lines_of(lines.text)).to_json() == folded(events_of(events.text)).to_json()
    assert text_of(folded(lines_of(lines.text))) == TEXT


async def test_no_other_form_is_made(http, one):
    """A client that accepts neither gets an answer that names both."""
    response = await http.get(f"/v1/workflows/{one}/events", headers={"accept": "image/png"})

    assert "text/event-stream" in problem(response, 406)


async def test_a_snapshot_is_what_stands(http, one):
    """Its cursor resumes right after it; who has it already is not sent it again."""
    response = await http.get(f"/v1/workflows/{one}/snapshot")
    same = await http.get("/v1/snapshot", params={"workflow": one})
    again = await http.get(
        f"/v1/workflows/{one}/snapshot", headers={"if-none-match": response.headers["etag"]}
    )
    rest = await http.get(f"/v1/workflows/{one}/events", params={"cursor": response.json()["cursor"]})

    assert (text_of(view_of(response.json())), response.json()["status"]) == (TEXT, "completed")
    assert response.headers["cache-control"] == "private, no-cache"
    assert same.json() == response.json()
    assert (again.status_code, again.content) == (304, b"")
    assert rest.status_code == 204


async def test_a_snapshot_of_what_runs_waits_for_nothing(client, backend, http):
    """It says that the workflow is open; the stream goes on from there."""
    async with half_answered(client, backend) as (workflow_id, release):
        state: dict[str, Any] = {"items": []}
        async with asyncio.timeout(20):
            while not any(item["text"] for item in state["items"]):
                state = (await http.get(f"/v1/workflows/{workflow_id}/snapshot")).json()
        assert (text_of(view_of(state)), state["status"]) == ("first ", None)
        assert [item["open"] for item in state["items"] if item["kind"] == "attempt"] == [True]

        release.set()
        rest = await http.get(f"/v1/workflows/{workflow_id}/events", params={"cursor": state["cursor"]})

    events = events_of(rest.text)
    assert "snapshot" not in [name for name, _, _ in events]
    assert text_of(folded(events, view_of(state))) == "first last"


@pytest.mark.parametrize(("query", "names"), [({"from": "start"}, True), ({}, False)])
async def test_a_replay_from_the_start_shows_what_was_taken_back(client, backend, one, query, names):
    """With `from=start` every change comes, also where the hub has the state by now."""
    async with served(client, backend, linger=timedelta(seconds=5)) as (_, http):
        await http.get(f"/v1/workflows/{one}/events")
        events = events_of((await http.get(f"/v1/workflows/{one}/events", params=query)).text)

    assert ("remove" in [name for name, _, _ in events]) is names
    assert text_of(folded(events)) == TEXT


async def test_from_now_leaves_out_what_was_said(client, backend):
    """What was said before does not come, and what follows does, as changes and as events."""
    words: asyncio.Queue[str] = asyncio.Queue()

    @activity.defn
    async def says(argument: Any) -> None:
        while word := await words.get():
            await ScriptedChatModel.saying(word).ainvoke("?")

    async with streaming_worker(client, backend, [says]) as queue, served(client, backend) as (app, _):
        workflow_id = unique("now")
        handle = await client.start_workflow(RunActivity.run, args=["says"], id=workflow_id, task_queue=queue)
        words.put_nowait("before")
        async with aclosing(TokenSubscriber(client, backend).subscribe(workflow_id)) as read:
            while getattr(await anext(read), "token", "") != "before":
                pass
        path = f"/v1/workflows/{workflow_id}/events"
        async with (
            Listener(app, path, "from=now") as changes,
            Listener(app, path, "from=now&view=events") as events,
        ):
            # Nothing shows when a subscription has begun, so words are said until one has come to both.
            async with asyncio.timeout(20):
                while "after" not in changes.text or "after" not in events.text:
                    words.put_nowait("after")
                    await asyncio.sleep(0.05)
            words.put_nowait("")
            await handle.result()
            seen = [await changes.end(), await events.end()]

    assert "before" not in changes.text + events.text
    assert set(text_of(folded(seen[0])).split("after")) == {""}
    assert {data["data"]["token"] for _, _, data in seen[1] if data["data"]["type"] == "token"} == {"after"}


async def test_hold_never_shows_what_failed(http, one):
    """And needs no other client: nothing is ever taken back."""
    response = await http.get(f"/v1/workflows/{one}/events", params={"on_retry": "hold", "from": "start"})
    live = await http.get(f"/v1/workflows/{one}/events", params={"from": "start"})

    names = [name for name, _, _ in events_of(response.text)]
    grown = "".join(data["data"] for name, _, data in events_of(response.text) if name == "grow")
    assert "remove" not in names
    assert grown == TEXT
    assert "remove" in [name for name, _, _ in events_of(live.text)]


async def test_events_come_as_they_are(client, backend, http, one):
    """For programs: `view=events` is `subscribe`, with all its attempts if asked for, and its cursors."""
    read = [event.to_json() async for event in TokenSubscriber(client, backend).subscribe(one)]
    response = await http.get(f"/v1/workflows/{one}/events", params={"view": "events"})
    events = events_of(response.text)
    assert [data["data"] for _, _, data in events] == read

    half = len(events) // 2
    rest = await http.get(
        f"/v1/workflows/{one}/events", params={"view": "events", "cursor": events[half - 1][1]}
    )
    both = await http.get(f"/v1/workflows/{one}/events", params={"view": "events", "on_retry": "annotate"})
    few = await http.get(f"/v1/workflows/{one}/events", params={"view": "events", "kinds": "reasoning"})
    assert events_of(rest.text) == events[half:]
    assert sum(data["data"]["type"] == "token" for _, _, data in events_of(both.text)) == 6
    assert {"token", "attempt_ended", "stream_ended"} - {
        data["data"]["type"] for _, _, data in events_of(few.text)
    } == {"token"}


async def test_a_client_narrows_what_it_sees(http, one):
    """By kind or node; what it may see is never widened by that."""
    none = await http.get(f"/v1/workflows/{one}/events", params={"kinds": ["tool", "reasoning"]})
    node = await http.get(f"/v1/workflows/{one}/snapshot", params={"nodes": "elsewhere"})

    assert {item.kind for item in folded(events_of(none.text)).items.values()} == {"attempt", "message"}
    assert {item["kind"] for item in node.json()["items"]} == {"attempt"}


async def test_a_cursor_that_is_not_there_is_answered_soon(client, backend):
    """With the state, and not after a keep-alive: it was trimmed away, or is of elsewhere, or made up."""
    async with (
        half_answered(client, backend) as (workflow_id, release),
        served(client, backend, keep_alive=timedelta(seconds=60)) as (app, _),
        AsyncExitStack() as stack,
    ):
        run_id = (await client.get_workflow_handle(workflow_id).describe()).run_id
        queries = [
            f"cursor={Cursor(run, entry, 3)}&from={begin}"
            for begin in ("snapshot", "start")
            for entry in (
                "1700000000000-0",
                "9700000000000-0",
                "h000000000000007",
                "1700000000000-0.h000000000000007",
            )
            for run in (run_id, str(uuid.uuid4()))
        ]
        path = f"/v1/workflows/{workflow_id}/events"
        listeners = [await stack.enter_async_context(Listener(app, path, query)) for query in queries]
        for listener in listeners:
            await listener.until("snapshot")
        release.set()
        ends = [await listener.end() for listener in listeners]

    assert len(ends) == 16
    for events in ends:
        assert [name for name, _, _ in events].count("snapshot") == 1
        assert text_of(folded(events)) == "first last"


# ---------------------------------------------------------------------- many workflows


@pytest.mark.parametrize("view", ["changes", "events"])
async def test_the_end_of_another_run_is_not_the_end(client, backend, http, other, view):
    """Of another workflow, and of the run before: who comes with such a cursor is shown what there is."""

    async def read(workflow_id, cursor=None):
        given = {} if cursor is None else {"cursor": cursor}
        return await http.get("/v1/events", params={"workflow": workflow_id, "view": view, **given})

    workflow_id = unique("again")
    async with answered(client, backend, workflow_id):
        first = (await http.get("/v1/snapshot", params={"workflow": workflow_id})).json()
    foreign = (await http.get("/v1/snapshot", params={"workflow": other})).json()
    ended = await read(workflow_id, first["cursor"])
    async with answered(client, backend, workflow_id):
        whole = await read(workflow_id)
        stale = [await read(workflow_id, one["cursor"]) for one in (first, foreign)]
        again = await http.get(
            f"/v1/workflows/{workflow_id}/events", params={"run": first["run"], "cursor": first["cursor"]}
        )
        last = (await http.get("/v1/snapshot", params={"workflow": workflow_id})).json()
        over = await read(workflow_id, last["cursor"])

    assert last["run"] != first["run"]
    assert (ended.status_code, again.status_code, over.status_code) == (204, 204, 204)
    assert [one.status_code for one in stale] == [200, 200]
    if view == "events":
        assert [one.text for one in stale] == [whole.text] * 2
    else:
        states = [folded(of_workflow(events_of(one.text), workflow_id)) for one in stale]
        assert [(one.run, text_of(one)) for one in states] == [(last["run"], TEXT)] * 2


async def test_many_workflows_come_on_one_connection(http, one, other):
    """Each event names its workflow; one that is not there does not end the others."""
    params = {"workflow": [one, other, unique("nowhere")], "wait": "0"}
    response = await http.get("/v1/events", params=params)
    events = events_of(response.text)

    assert text_of(folded(of_workflow(events, one))) == TEXT
    assert text_of(folded(of_workflow(events, other))) == TEXT
    [(_, _, missing)] = [event for event in events if event[0] == "problem"]
    assert (missing["status"], missing["workflow"]) == (404, params["workflow"][2])


async def test_a_connection_with_many_has_one_cursor(http, one, other):
    """Which a browser sends by itself; at the end of all there is nothing more."""
    first = await http.get("/v1/events", params={"workflow": [one, other]})
    ids = [line[4:] for line in first.text.splitlines() if line.startswith("id: ")]
    again = await http.get(
        "/v1/events", params={"workflow": [one, other]}, headers={"last-event-id": ids[-1]}
    )
    fewer = await http.get("/v1/events", params={"workflow": one}, headers={"last-event-id": ids[-1]})

    assert again.status_code == 204
    assert text_of(folded(of_workflow(events_of(fewer.text), one))) == TEXT

    ended, _ = ids[-1].split(";")
    half = await http.get(
        "/v1/events", params={"workflow": [one, other]}, headers={"last-event-id": f"{ended};"}
    )
    assert not of_workflow(events_of(half.text), one)
    assert text_of(folded(of_workflow(events_of(half.text), other))) == TEXT
    assert [line[4:] for line in half.text.splitlines() if line.startswith("id: ")][-1] == ids[-1]


async def test_many_workflows_each_go_on_from_their_own_cursor(client, backend, http, one, other):
    """A client that keeps cursors posts them."""
    seen = Projector()
    read = TokenSubscriber(client, backend).subscribe(one)
    cursors = [(event.cursor, seen.read(event)) async for event in read]
    half = len(cursors) // 2
    body = {"workflows": {one: {"cursor": cursors[half][0]}, other: {}}}
    response = await http.post("/v1/events", json=body)
    events = events_of(response.text)

    expected = [change.op for _, made in cursors[half + 1 :] for change in made if change.op != "grow"]
    mine = [name for name, _, _ in of_workflow(events, one) if name != "grow"]
    assert mine == expected
    assert text_of(folded(of_workflow(events, other))) == TEXT


async def test_each_of_many_workflows_is_asked_for(client, backend, one, other):
    """Who may read one of two is shown one, and who may read none is refused."""

    async def authorize(request, target):
        return Allow() if target.workflow_id == one else Deny()

    async with served(client, backend, authorize) as (_, http):
        both = await http.get("/v1/events", params={"workflow": [one, other]})
        none = await http.get("/v1/events", params={"workflow": [other, unique("any")]})

    events = events_of(both.text)
    assert text_of(folded(of_workflow(events, one))) == TEXT
    assert [name for name, _, _ in of_workflow(events, other)] == ["problem"]
    assert none.status_code == 403


# ---------------------------------------------------------------------- tokens and access


async def test_a_token_stands_for_a_session_that_may_read(client, backend, one, other):
    """It shows what its owner may see, of the workflows it was made for, and no more."""

    async def authorize(request, target):
        return Allow(content=False) if request.headers.get("cookie") == "session=1" else Deny(401)

    cookie = {"cookie": "session=1"}
    tokens = StreamTokens(SECRET)
    async with served(client, backend, authorize, tokens=tokens, cancel=asyncio.sleep) as (_, http):
        refused = await http.post("/v1/tokens", json={"workflows": [one]})
        made = await http.post("/v1/tokens", json={"workflows": [one]}, headers=cookie)
        token = made.json()["token"]
        read = await http.get(f"/v1/workflows/{one}/events", params={"token": token})
        elsewhere = await http.get(f"/v1/workflows/{other}/events", params={"token": token})
        more = await http.post("/v1/tokens", json={"workflows": [one]}, params={"token": token})
        stop = await http.post(f"/v1/workflows/{one}/cancel", params={"token": token})

    assert (refused.status_code, made.status_code) == (401, 201)
    assert made.json().keys() == {"token", "expires_in", "resume_within"}
    assert folded(events_of(read.text)).status == "completed"
    assert "million" not in read.text
    assert [one.status_code for one in (elsewhere, more, stop)] == [403, 403, 403]


async def test_a_forged_or_expired_token_is_refused(client, backend, one, monkeypatch):
    """With a cursor, a token is good for longer: the URL of an EventSource cannot be renewed."""
    tokens = StreamTokens(SECRET)
    ours = tokens.make({one: Allow()})["token"]
    theirs = StreamTokens("b" * 40).make({one: Allow()})["token"]
    now = time.time
    url = f"/v1/workflows/{one}/events"
    async with served(client, backend, tokens=tokens) as (_, http):
        answers = [
            (await http.get(url, params={"token": token})).status_code
            for token in (theirs, ours[:-2] + "xx", "", "x" * 50_000, ours)
        ]
        events = events_of((await http.get(url, params={"from": "start"})).text)
        cursor = next(cursor for _, cursor, _ in events if cursor)
        monkeypatch.setattr(time, "time", lambda: now() + 100)
        late = await http.get(url, params={"token": ours})
        resumed = await http.get(url, params={"token": ours, "cursor": cursor})
        monkeypatch.setattr(time, "time", lambda: now() + 4_000)
        too_late = await http.get(url, params={"token": ours, "cursor": cursor})

    assert answers == [401, 401, 401, 401, 200]
    assert "expired" in problem(late, 401)
    assert resumed.status_code == 200
    assert "expired" in problem(too_late, 401)


async def test_a_stream_lives_as_long_as_its_token(client, backend):
    """Then its client has to come again; a token that was read stays good until then."""
    tokens = StreamTokens(SECRET, connect_within=timedelta(seconds=1), resume_within=timedelta(seconds=2))
    async with (
        half_answered(client, backend) as (workflow_id, _),
        served(client, backend, tokens=tokens, recheck=timedelta(seconds=0.2)) as (_, http),
    ):
        token = tokens.make({workflow_id: Allow()})["token"]
        body = (await http.get(f"/v1/workflows/{workflow_id}/events", params={"token": token})).text

    assert events_of(body)[-1][0] == "reconnect"
    assert events_of(body)[-1][2]["reason"] == "token"
    assert text_of(folded(events_of(body))) == "first "


@pytest.mark.parametrize("answer", [None, True, {"allow": True}, Allow, RuntimeError("secret of a session")])
async def test_what_is_no_answer_allows_nothing(client, backend, one, answer, caplog):
    """An `authorize` that fails, or returns something else, is a mistake of the host: its log has it."""

    async def authorize(request, target):
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with served(client, backend, authorize) as (_, http):
        for path in (f"/v1/workflows/{one}/events", f"/v1/workflows/{one}/snapshot"):
            assert "secret" not in problem(await http.get(path), 500)

    assert "the gateway's authorize function" in caplog.text


async def test_what_is_no_longer_allowed_ends(client, backend):
    """`authorize` is asked again while a stream lives."""
    asked = []

    async def authorize(request, target):
        asked.append(target)
        return Allow() if len(asked) < 3 else Deny()

    async with (
        half_answered(client, backend) as (workflow_id, _),
        served(client, backend, authorize, recheck=timedelta(seconds=0.2)) as (_, http),
    ):
        body = (await http.get(f"/v1/workflows/{workflow_id}/events")).text

    assert len(asked) == 3
    assert events_of(body)[-1][2] == {"after": 0, "reason": "authorization"}


@pytest.mark.parametrize("secret", ["short", "", [], ["x" * 32, "short"]])
def test_a_secret_has_to_be_long(secret):
    """A token that can be guessed is none."""
    with pytest.raises(ConfigurationError, match="32"):
        StreamTokens(secret)


async def test_pages_of_other_origins_are_refused(client, backend, one):
    """Unless they are named; a page of the same origin, and what is no page, is not concerned."""
    wrong, right = {"origin": "https://evil.example"}, {"origin": "https://app.example"}
    ask = {**right, "access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    url = f"/v1/workflows/{one}/snapshot"
    async with served(client, backend) as (_, http):
        closed = [await http.get(url, headers=one) for one in (wrong, right)]
        same = await http.get(url, headers={"origin": "http://gateway"})
        proxied = await http.get(url, headers={**right, "sec-fetch-site": "same-origin"})
    async with served(client, backend, allow_origins=["https://app.example"]) as (_, http):
        refused = await http.get(url, headers=wrong)
        named = await http.get(url, headers=right)
        before = await http.options("/v1/events", headers=ask)

    assert ["allow_origins" in problem(response, 403) for response in [*closed, refused]] == [True] * 3
    assert (same.status_code, proxied.status_code, named.status_code) == (200, 200, 200)
    assert "access-control-allow-origin" not in same.headers
    assert named.headers["access-control-allow-origin"] == "https://app.example"
    assert named.headers["access-control-allow-credentials"] == "true"
    assert before.status_code == 200
    assert "POST" in before.headers["access-control-allow-methods"]


@pytest.mark.parametrize("origins", ["https://app.example", ["app.example"], ["https://app.example/"]])
def test_an_origin_has_to_be_one(client, backend, origins):
    """One that a browser never sends would allow nothing."""
    with pytest.raises(ConfigurationError, match="origin"):
        gateway(TokenSubscriber(client, backend), authorize=anyone, allow_origins=origins)


async def test_every_answer_says_what_browsers_may_do_with_it(http, one):
    """No sniffing, no referrer with a token in it; streams and states are stored nowhere."""
    for path in (f"/v1/workflows/{one}/events", f"/v1/workflows/{one}/snapshot", "/tti.js", "/nowhere"):
        headers = (await http.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


# ---------------------------------------------------------------------- actions


async def test_a_client_starts_and_cancels_by_functions_of_the_host(client, backend):
    """Each is asked for by its own action; leaving a stream is neither."""
    asked = []

    async def authorize(request, target):
        asked.append((target.action, target.workflow_id))
        return Allow()

    async with streaming_worker(client, backend, []) as queue:
        workflow_id = unique("started/by a page")

        async def start(request: Request, arguments: Any) -> str:
            assert arguments == {"question": "?"}
            await client.start_workflow(Waiting.run, "any", id=workflow_id, task_queue=queue)
            return workflow_id

        async def cancel(request: Request, target: Target) -> None:
            await client.get_workflow_handle(target.workflow_id).cancel()

        async with served(client, backend, authorize, start=start, cancel=cancel) as (_, http):
            started = await http.post("/v1/workflows", json={"question": "?"})
            assert started.json() == {"workflow": workflow_id}
            reading = asyncio.create_task(http.get(started.headers["location"]))
            cancelled = await http.post(f"/v1/workflows/{workflow_id}/cancel")
            events = events_of((await reading).text)

    assert (started.status_code, cancelled.status_code) == (201, 202)
    assert folded(events).status == "canceled"
    assert set(asked) == {("start", ""), ("read", workflow_id), ("cancel", workflow_id)}


async def test_what_a_function_of_the_host_raises_is_not_sent(client, backend, caplog):
    """It may hold anything; the log has it. A `Problem` is what it is."""

    async def start(request, arguments):
        raise Problem(422, "no question") if not arguments else ValueError("secret of a prompt")

    async with served(client, backend, start=start) as (_, http):
        failed = await http.post("/v1/workflows", json={"question": "?"})
        refused = await http.post("/v1/workflows", json={})
        unknown = await http.post("/v1/workflows/any/cancel")

    assert "secret" not in problem(failed, 500)
    assert problem(refused, 422) == "no question"
    assert problem(unknown, 404)
    assert "the gateway's start function failed" in caplog.text


async def test_it_mounts_below_a_path(client, backend, one):
    """With a subscriber that the host makes when it starts; what is sent names the whole path."""
    made: list[TokenSubscriber] = []

    async def start(request, arguments):
        return one

    app = Starlette(routes=[Mount("/streams", gateway(lambda: made[0], authorize=anyone, start=start))])
    made.append(TokenSubscriber(client, backend))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http:
        started = await http.post("/streams/v1/workflows", json={})
        read = await http.get(started.headers["location"])
        nowhere = await http.get("/streams/nowhere")

    assert started.headers["location"].startswith("/streams/v1/workflows/")
    assert text_of(folded(events_of(read.text))) == TEXT
    assert problem(nowhere, 404)


# ---------------------------------------------------------------------- limits


async def test_what_is_too_many_is_refused(client, backend):
    """Per process, workflow and principal; an EventSource, which 429 would end, is sent away."""

    async def authorize(request, target):
        return Allow(principal=request.headers.get("x-user"))

    for limits, headers in (
        (Limits(connections=1), {}),
        (Limits(connections_per_workflow=1), {}),
        (Limits(connections_per_principal=1), {"x-user": "ann"}),
    ):
        async with (
            half_answered(client, backend) as (workflow_id, release),
            served(client, backend, authorize, limits=limits) as (app, http),
        ):
            url = f"/v1/workflows/{workflow_id}/events"
            first = asyncio.create_task(http.get(url, headers=headers))
            async with asyncio.timeout(20):
                while not app._streams.connections.count:  # noqa: ASYNC110 - nothing else shows it
                    await asyncio.sleep(0.01)
            refused = await http.get(url, headers=headers)
            browser = await http.get(url, headers={**headers, **EVENT_SOURCE})
            release.set()
            await first
            after = await http.get(url, headers=headers)

        assert "too many" in problem(refused, 429)
        assert refused.headers["retry-after"] == "5"
        assert browser.status_code == 200
        assert [(name, data["reason"]) for name, _, data in events_of(browser.text)] == [
            ("reconnect", "limit")
        ]
        assert browser.text.startswith("retry: ")
        assert after.status_code == 200
        assert not app._streams.connections._workflows


@pytest.mark.parametrize("wrong", [{"connections": 0}, {"body_bytes": -1}, {"write_timeout": 3}])
def test_a_limit_has_to_be_one(wrong):
    """The message names it."""
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Limits(**wrong)


async def test_a_client_that_accepts_nothing_is_left(client, backend, one):
    """Its connection is closed after the time for a write, and nothing of it stays."""
    app = gateway(
        TokenSubscriber(client, backend),
        authorize=anyone,
        limits=Limits(write_timeout=timedelta(seconds=0.2)),
        linger=timedelta(0),
    )
    sent = []

    class Deaf(Listener):
        async def _send(self, message):
            sent.append(message["type"])
            if len(sent) > 1:
                await asyncio.Event().wait()

    async with Deaf(app, f"/v1/workflows/{one}/events") as listener:
        await listener.end()
    await app.aclose()

    assert sent == ["http.response.start", "http.response.body"]
    assert not app._streams.connections.count


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("/v1/workflows/any/events?from=yesterday", "from can be snapshot, start, now"),
        ("/v1/workflows/any/events?view=pictures", "view can be"),
        ("/v1/workflows/any/events?on_retry=guess", "on_retry can be"),
        ("/v1/workflows/any/events?on_retry=annotate", "view=events"),
        ("/v1/workflows/any/events?kinds=texts", "kinds can be"),
        ("/v1/workflows/any/events?wait=yes", "wait can be"),
        ("/v1/workflows/any/events?cursor=forged", "cursor"),
        ("/v1/workflows/any/events?cursor=" + "1" * 10_000, "cursor"),
        ("/v1/workflows/any/events?run=" + "r" * 100, "run"),
        ("/v1/workflows/%00/events", "control characters"),
        ("/v1/workflows/" + "w" * 1_001 + "/events", "1000 bytes"),
        ("/v1/events", "name 1 to 64 workflows"),
        ("/v1/events?" + "&".join(f"workflow={n}" for n in range(65)), "name 1 to 64 workflows"),
        ("/v1/events?workflow=a&run=b", "one workflow"),
        ("/v1/snapshot", "workflow id"),
    ],
)
async def test_a_wrong_query_is_answered_with_what_is_right(http, path, detail):
    """Before anything is read, and also to a browser: it would ask the same again."""
    response = await http.get(path, headers=EVENT_SOURCE)

    assert detail in problem(response, 400)
    assert len(response.content) < 1_000


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{}", {}, 415),
        (b"{}", {"content-type": "text/plain"}, 415),
        (b"x" * 3_000, JSON, 413),
        (b"{", JSON, 400),
        (b"[]", JSON, 400),
        (b"[" * 2_000, JSON, 400),
        (b'"\xff"', JSON, 400),
        (b'{"workflows": []}', JSON, 400),
        (b'{"workflows": {}}', JSON, 400),
        (b'{"workflows": {"a": {"cursor": 1}}}', JSON, 400),
        (b'{"workflows": {"a": {"cursor": "forged"}}}', JSON, 400),
        (b'{"workflows": {"": {}}}', JSON, 400),
    ],
)
async def test_a_wrong_body_is_refused(client, backend, body, headers, status):
    """Also one that has no length and goes on without end."""

    async def pieces():
        for at in range(0, len(body), 100):
            yield body[at : at + 100]

    async with served(client, backend, limits=Limits(body_bytes=2_048)) as (_, http):
        whole = await http.post("/v1/events", content=body, headers=headers)
        in_pieces = await http.post("/v1/events", content=pieces(), headers=headers)

    assert problem(whole, status) == problem(in_pieces, status)


async def test_a_workflow_that_is_not_there(client, backend):
    """404 to those who do not wait; a `problem` in the stream to those who have waited."""
    subscriber = TokenSubscriber(client, backend, start_timeout=timedelta(seconds=0.3))
    app = gateway(subscriber, authorize=anyone)
    url = f"/v1/workflows/{unique('nowhere')}"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http:
        soon = await http.get(f"{url}/events", params={"wait": "0"})
        state = await http.get(f"{url}/snapshot")
        waited = await http.get(f"{url}/events")
        run = await http.get(f"{url}/snapshot", params={"run": str(uuid.uuid4())})
    await app.aclose()

    assert problem(soon, 404) == problem(state, 404) == problem(run, 404)
    assert waited.status_code == 200
    [(name, _, data)] = events_of(waited.text)[-1:]
    assert (name, data["status"]) == ("problem", 404)
    assert "retry: 60000" in waited.text


async def test_unknown_paths_and_methods_are_problems(http, one):
    """Also those that Starlette refuses by itself. HEAD asks for headers, and waits for no workflow."""
    head = await http.head(f"/v1/workflows/{unique('nowhere')}/events")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"].startswith("text/event-stream")
    assert problem(await http.get("/v1/nowhere"), 404)
    assert problem(await http.post("/v1/workflows/any/events"), 405)


# ---------------------------------------------------------------------- the document


def test_the_document_has_every_route_and_no_other(client, backend):
    """`/openapi.json` is what a client generator reads."""
    app = gateway(
        TokenSubscriber(client, backend),
        authorize=anyone,
        start=anyone,
        cancel=anyone,
        list_runs=anyone,
        tokens=StreamTokens(SECRET),
    )
    starlette = app._app
    while not hasattr(starlette, "routes"):
        [starlette] = [
            cell.cell_contents for cell in starlette.__closure__ if hasattr(cell.cell_contents, "routes")
        ]
    routes = {
        (route.path.replace(":path", ""), method.lower())
        for route in starlette.routes
        if hasattr(route, "methods") and not route.path.startswith("/tti.")
        for method in route.methods - {"HEAD"}
    }
    document = openapi()
    described = {(path, method) for path, methods in document["paths"].items() for method in methods}

    assert described == routes
    assert json.loads(json.dumps(document)) == document
    assert not {
        reference
        for reference in _references(document)
        if reference.rpartition("/")[2] not in document["components"]["schemas"]
    }


def _references(value):
    if isinstance(value, dict):
        yield from ([value["$ref"]] if "$ref" in value else [])
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _references(part)


async def test_the_document_is_served_and_so_is_the_health(http):
    """For generators, and for what watches the process."""
    assert (await http.get("/openapi.json")).json() == openapi()
    assert (await http.get("/healthz")).status_code == 204
