"""Streams over HTTP, from real Temporal and Redis: retries, reloads, refusals and a server that stops."""

from contextlib import aclosing
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.routing import Route
from temporalio import activity

from temporal_token_interceptor import ConfigurationError, RedisStreamBackend, TokenSubscriber
from temporal_token_interceptor.gateway.access import Allow, Deny, Target, anyone
from temporal_token_interceptor.gateway.app import gateway
from temporal_token_interceptor.gateway.streaming import StreamRequest
from temporal_token_interceptor.testing import ScriptedChatModel
from temporal_token_interceptor.views.projector import Projector
from tests.support.gateways import EVENT_SOURCE, WORDS, events_of, finished, folded, served, text_of
from tests.support.streams import streaming_worker, unique
from tests.support.workflows import RunActivity


@pytest.fixture
async def backend(redis_url):
    async with RedisStreamBackend(redis_url) as backend:
        yield backend


async def test_a_retry_is_taken_back_and_a_reload_goes_on(client, backend):
    """The screen has the answer once; a browser that comes again, with any id, arrives at the same."""
    async with finished(client, backend) as workflow_id:
        async with served(client, backend) as (_, http):
            first = await http.get(f"/v1/workflows/{workflow_id}/events")
        events = events_of(first.text)

        assert first.headers["cache-control"] == "no-store, no-transform"
        assert first.headers["content-type"].startswith("text/event-stream")
        assert (text_of(folded(events)), folded(events).status) == ("".join(WORDS), "completed")
        # What was taken back is not shown to who comes later.
        assert [name for name, _, _ in events] == ["snapshot", "end"]

        read = [event async for event in TokenSubscriber(client, backend).subscribe(workflow_id)]
        # Another process: its hub has to find the place in the stream.
        async with served(client, backend) as (_, http):
            seen, place = Projector(), len(read) // 2
            for event in read[:place]:
                seen.read(event)
            rest = await http.get(
                f"/v1/workflows/{workflow_id}/events", headers={"last-event-id": read[place - 1].cursor}
            )
            from_end = await http.get(
                f"/v1/workflows/{workflow_id}/events", headers={"last-event-id": events[-1][1]}
            )
        assert "snapshot" not in [name for name, _, _ in events_of(rest.text)]
        assert text_of(folded(events_of(rest.text), seen.view)) == "".join(WORDS)
        assert from_end.status_code == 204


@pytest.mark.parametrize("cursor", ["", "1~another~1700000000000-0~2"], ids=["new", "with a foreign cursor"])
async def test_who_comes_late_is_shown_what_stands(client, backend, cursor):
    """And not what stood once, however many pages the stream has of a failed attempt."""

    @activity.defn
    async def flaky(argument: Any) -> str:
        attempt = activity.info().attempt
        for number in range(60):
            await ScriptedChatModel.saying(f"{attempt}.{number} ").ainvoke("?")
        if attempt == 1:
            raise RuntimeError("lost")
        return ""

    workflow_id = unique("stands")
    async with streaming_worker(client, backend, [flaky]) as queue, served(client, backend) as (_, http):
        await client.execute_workflow(
            RunActivity.run, args=["flaky", None, False, 2], id=workflow_id, task_queue=queue
        )
        answer = await http.get(f"/v1/workflows/{workflow_id}/events", params={"cursor": cursor})

    events = events_of(answer.text)
    assert [name for name, _, _ in events if name != "end"] == ["snapshot"]
    assert folded(events).status == "completed"
    assert text_of(folded(events)) == "".join(f"2.{number} " for number in range(60))
    assert "1.59 " not in answer.text


async def test_a_cursor_is_no_right_and_has_to_be_one(client, backend):
    """With the cursor of another workflow a client is shown the whole of its own, and no more."""
    async with (
        finished(client, backend) as one,
        finished(client, backend) as other,
        served(client, backend) as (_, http),
    ):
        cursors = [event.cursor async for event in TokenSubscriber(client, backend).subscribe(one)]
        foreign = await http.get(f"/v1/workflows/{other}/events", params={"cursor": cursors[2]})
        broken = await http.get(f"/v1/workflows/{other}/events", params={"cursor": "forged"})

    assert text_of(folded(events_of(foreign.text))) == "".join(WORDS)
    assert cursors[2].split("~")[1] not in foreign.text
    assert broken.status_code == 400
    assert broken.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(("answer", "status"), [(Deny(), 403), (Deny(401), 401), (Deny(hide=True), 404)])
async def test_who_may_not_read_is_refused(client, backend, answer, status):
    """Before anything is read; a hidden workflow looks like none."""

    async def authorize(request, target):
        assert (target.workflow_id, target.action) == ("any", "read")
        return answer

    async with served(client, backend, authorize) as (_, http):
        response = await http.get("/v1/workflows/any/events")

    assert response.status_code == status
    assert response.json()["status"] == status


async def test_a_client_sees_what_it_is_allowed_to(client, backend):
    """Without content there are messages, and no text."""

    async def authorize(request, target):
        return Allow(content=False)

    async with finished(client, backend) as workflow_id, served(client, backend, authorize) as (_, http):
        body = (await http.get(f"/v1/workflows/{workflow_id}/events")).text

    assert "message" in body
    assert "million" not in body


async def test_a_server_that_stops_sends_its_clients_away(client, backend):
    """An EventSource never comes back after another status than 200, so it gets that, and a time."""
    async with served(client, backend) as (app, http):
        assert (await http.get("/readyz")).status_code == 204
        app.drain()
        ready = await http.get("/readyz")
        response = await http.get("/v1/workflows/any/events", headers=EVENT_SOURCE)

    assert ready.status_code == 503
    assert response.status_code == 200
    assert [name for name, _, _ in events_of(response.text)] == ["reconnect"]


class Shouted:
    """A format that cannot take back: capital letters, a number for each change, and the end."""

    media_type, name = "text/plain", "shouted"

    def begin(self):
        return b"begin\n"

    def late(self, view, cursor):
        raise AssertionError("a subscription of its own is never late")

    def encode(self, changes):
        assert len(changes) > 0
        return "".join(
            f"{change.op} {str(change.data).upper() if change.op == 'grow' else ''}\n" for change in changes
        ).encode()

    def ping(self):
        return b""

    def reconnect(self, after, reason):
        return f"again {reason}\n".encode()

    def problem(self, status, detail):
        return f"problem {status}\n".encode()


def shouted(streams):
    async def stream(request):
        target = Target(request.query_params["workflow"], None, "read")
        asked = StreamRequest(
            request=request, target=target, encoder=Shouted(), on_retry="hold", begin="start"
        )
        return await streams.serve(asked)

    return [Route("/shouted", stream)]


async def test_a_format_is_an_encoder_and_its_routes(client, backend):
    """All else is the gateway's: who may read, retries held back, and a server that stops."""
    async with finished(client, backend) as workflow_id:
        app = gateway(TokenSubscriber(client, backend), authorize=anyone, formats=[shouted])
        async with (
            aclosing(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http,
        ):
            body = (await http.get("/shouted", params={"workflow": workflow_id})).text
            app.drain()
            refused = await http.get("/shouted", params={"workflow": workflow_id})

    assert [line[5:] for line in body.splitlines() if line.startswith("grow ")] == [w.upper() for w in WORDS]
    assert "remove" not in body
    assert body.endswith("end \n")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")


async def test_the_script_for_browsers_is_served(client, backend):
    """Under its name, and always under one that changes with its content; and its types, for editors."""
    folder = Path(gateway.__code__.co_filename).parent
    script, types = (folder / "tti.js").read_bytes(), (folder / "tti.d.ts").read_bytes()
    async with served(client, backend) as (_, http):
        newest = await http.get("/tti.js")
        kept = await http.get(f"/tti.{sha256(script).hexdigest()[:12]}.js")
        typed = await http.get("/tti.d.ts")

    assert (newest.content, kept.content, typed.content) == (script, script, types)
    assert newest.headers["content-type"].startswith("text/javascript")
    assert "immutable" in kept.headers["cache-control"]


def test_authorize_is_required(client, backend):
    """Whom a stream is for has to be written out."""
    with pytest.raises(ConfigurationError, match="authorize"):
        gateway(TokenSubscriber(client, backend), authorize=None)
