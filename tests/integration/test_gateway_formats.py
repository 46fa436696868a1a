"""The formats' routes on real Temporal and Redis: each client's own calls, and what they get wrong.

`tests/clients` runs the real clients; here are the same calls by plain HTTP, for every run of the tests.
"""

from contextlib import asynccontextmanager

import pytest
from temporalio import activity

from temporal_token_interceptor import ConfigurationError, RedisStreamBackend
from temporal_token_interceptor.gateway.access import Allow, Deny, anyone
from temporal_token_interceptor.gateway.formats.ag_ui import ag_ui
from temporal_token_interceptor.gateway.formats.ai_sdk import ai_sdk
from temporal_token_interceptor.gateway.formats.langgraph import langgraph
from temporal_token_interceptor.gateway.formats.openai import openai, response_id
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support import format_clients as clients
from tests.support.gateways import TEXT, finished, served
from tests.support.streams import streaming_worker, unique
from tests.support.workflows import Continuing

USER = {"id": "u", "role": "user", "content": "hi"}
HUMAN = {"type": "human", "id": "u", "content": "hi"}
CHANNELS = ["messages", "values", "tools", "lifecycle"]


@pytest.fixture(scope="module")
async def backend(redis_url):
    async with RedisStreamBackend(redis_url) as backend:
        yield backend


@pytest.fixture(scope="module")
async def workflow(client, backend):
    """A finished workflow whose first attempt died in mid-sentence."""
    async with finished(client, backend) as workflow_id:
        yield workflow_id


@asynccontextmanager
async def formats(client, backend, authorize=anyone, **hooks):
    async def history(request, workflow_id):
        return [USER]

    async def humans(request, workflow_id):
        return [HUMAN]

    every = [ai_sdk(), ai_sdk("/ai6", version=6), ag_ui(history=history), langgraph(history=humans), openai()]
    async with served(client, backend, authorize, formats=every, **hooks) as (_, http):
        yield http


@pytest.fixture
async def http(client, backend):
    """A client of a gateway that starts nothing: what is asked for has to be there."""
    async with formats(client, backend) as http:
        yield http


async def test_the_ai_sdk_reads_a_workflow(http, workflow):
    """By a POST of a chat of its id, by a reload, and from a chunk on; 6 gets nothing to take back."""
    posted = await http.post("/ai", json={"id": workflow, "messages": []})
    again = await http.get(f"/ai/{workflow}/stream")
    chunks = clients.data_of(posted.content)
    rest = await http.get(f"/ai/{workflow}/stream", params={"startIndex": 3})
    six = await http.get(f"/ai6/{workflow}/stream")

    assert clients.ai_sdk(chunks).text == clients.ai_sdk(clients.data_of(six.content)).text == [TEXT]
    assert {"type": "reset-step"} in chunks
    assert {"type": "reset-step"} not in clients.data_of(six.content)
    assert clients.data_of(again.content) == chunks
    assert clients.data_of(rest.content) == chunks[3:]
    assert posted.headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert posted.headers["x-workflow-run-id"] == workflow
    assert posted.content.endswith(b"data: [DONE]\n\n")


async def test_ag_ui_reads_a_workflow(http, workflow):
    """Run, connect with what stood before, and a client that comes again with the id of an event."""
    run = {"threadId": workflow, "runId": "r", "messages": [USER]}
    posted = await http.post("/agui", json=run)
    connected = await http.post("/agui/agent/workflow/connect", json={**run, "messages": []})
    place = [line[4:] for line in posted.text.splitlines() if line.startswith("id: ")][-1]
    other = {**run, "threadId": "of the page's own"}
    resumed = await http.post("/agui", json=other, headers={"last-event-id": place})
    info = (await http.get("/agui/info")).json()

    for response in (posted, connected, resumed):
        assert clients.ag_ui(clients.data_of(response.content), [USER]).text == [TEXT]
        assert clients.data_of(response.content)[-1]["type"] == "RUN_FINISHED"
    snapshots = [one for one in clients.data_of(connected.content) if one["type"] == "MESSAGES_SNAPSHOT"]
    assert snapshots[0]["messages"][0] == USER
    assert list(info["agents"]) == ["workflow"]


async def test_langgraph_reads_a_workflow(http, workflow):
    """State, history and events; from an event on, exactly the rest."""
    path = f"/langgraph/threads/{workflow}"
    state = (await http.get(f"{path}/state")).json()
    states = (await http.post(f"{path}/history", json={"limit": 20})).json()
    events = clients.data_of((await http.post(f"{path}/stream/events", json={"channels": CHANNELS})).content)
    since = events[len(events) // 2]["seq"]
    body = {"channels": CHANNELS, "since": since}
    rest = clients.data_of((await http.post(f"{path}/stream/events", json=body)).content)

    assert states == [state]
    assert state["next"] == []
    assert [one["content"] for one in state["values"]["messages"]] == ["hi", [{"type": "text", "text": TEXT}]]
    assert clients.langgraph(events).text == [TEXT]
    assert rest == [one for one in events if one["seq"] > since]
    assert all(one["params"]["timestamp"] > 1e12 for one in events if one["method"] == "messages")


async def test_openai_reads_a_workflow(http, workflow):
    """A response as it stands, its stream from any event on, and a completion, whole and in chunks."""
    path = f"/openai/v1/responses/{response_id(workflow)}"
    whole = (await http.get(path)).json()
    events = clients.data_of((await http.get(path, params={"stream": "true"})).content)
    after = events[4]["sequence_number"]
    rest = await http.get(path, params={"stream": "true", "starting_after": after})
    chat = {"model": "workflow", "messages": [], "workflow": workflow}
    completion = (await http.post("/openai/v1/chat/completions", json=chat)).json()
    chunks = await http.post("/openai/v1/chat/completions", json={**chat, "stream": True})
    models = (await http.get("/openai/v1/models")).json()

    assert whole["output"] == events[-1]["response"]["output"]
    assert (whole["id"], whole["status"]) == (response_id(workflow), "completed")
    assert clients.responses(events).text == [TEXT]
    assert clients.data_of(rest.content) == [one for one in events if one["sequence_number"] > after]
    assert completion["choices"][0]["message"]["content"] == TEXT
    assert clients.chat_completions(clients.data_of(chunks.content)).text == [TEXT]
    assert [model["id"] for model in models["data"]] == ["workflow"]


async def test_each_format_starts_workflows_and_cancels_them(client, backend, workflow):
    """By the host's functions, which are given what the client sent; the workflow's id finds it again."""
    asked, cancelled = [], []

    async def start(request, body):
        asked.append(body)
        return workflow

    async def cancel(request, target):
        cancelled.append(target.workflow_id)

    name = response_id(workflow)
    async with formats(client, backend, start=start, cancel=cancel) as http:
        chat = await http.post("/ai", content=b'{"messages":[]}', headers={"content-type": "text/plain"})
        answers = [{"id": "x", "role": "user"}, {"id": "y", "role": "assistant"}]
        goes_on = await http.post("/ai", json={"messages": answers})
        run = await http.post("/agui", json={"threadId": "t", "runId": "r", "messages": [USER]})
        queued = await http.post("/openai/v1/responses", json={"input": "hi", "background": True})
        waited = await http.post("/openai/v1/responses", json={"input": "hi"})
        path = f"/langgraph/threads/{workflow}/commands"
        command = {"id": 1, "method": "run.start", "params": {"assistant_id": "a", "input": {}}}
        started = await http.post(path, json=command)
        elsewhere = await http.post(path.replace(workflow, "other"), json=command)
        stopped = await http.post(f"/agui/agent/workflow/stop/{workflow}")
        found = await http.post(f"/openai/v1/responses/{name}/cancel")

    assert clients.ai_sdk(clients.data_of(chat.content)).text == [TEXT]
    assert clients.data_of(goes_on.content) == [
        {"type": "start", "messageId": "y"},
        *clients.data_of(chat.content)[1:],
    ]
    assert clients.ag_ui(clients.data_of(run.content), [USER]).text == [TEXT]
    assert (queued.json()["id"], queued.json()["status"]) == (name, "queued")
    assert waited.json()["output"][0]["content"][0]["text"] == TEXT
    assert started.json() == {"type": "success", "id": 1, "result": {"run_id": workflow}, "meta": {}}
    assert elsewhere.json()["error"] == "not_supported"
    assert stopped.json() == {"stopped": True}
    assert found.json()["status"] == "completed"
    assert cancelled == [workflow, workflow]
    assert [one.get("input") for one in asked] == [None, None, None, "hi", "hi", {}, {}]


async def test_a_client_that_counts_goes_on_over_runs(client, backend, http):
    """It counts from the run that it was shown first, and the workflow has continued as new since."""

    @activity.defn
    async def answers(countdown: int) -> str:
        return (await ScriptedChatModel.saying(f"{countdown} ", "to go. ").ainvoke("?")).text

    workflow_id = unique("continuing")
    async with streaming_worker(client, backend, [answers]) as queue:
        await client.execute_workflow(Continuing.run, args=["answers", 1], id=workflow_id, task_queue=queue)
    path = f"/openai/v1/responses/{response_id(workflow_id)}"

    async def events(after):
        asked = {"stream": "true", "starting_after": after}
        return clients.data_of((await http.get(path, params=asked)).content)

    async def chunks(prefix, begin):
        answer = await http.get(f"{prefix}/{workflow_id}/stream", params={"startIndex": begin})
        return clients.data_of(answer.content)

    every = await events(0)
    assert [item["content"][0]["text"] for item in every[-1]["response"]["output"]] == [
        "1 to go. ",
        "0 to go. ",
    ]
    for one in every[::3]:
        after = one["sequence_number"]
        assert await events(after) == [more for more in every if more["sequence_number"] > after]
    for prefix in ("/ai", "/ai6"):
        whole = await chunks(prefix, 0)
        assert clients.ai_sdk(whole).text == ["1 to go. ", "0 to go. "]
        for begin in range(1, len(whole), 3):
            assert await chunks(prefix, begin) == whole[begin:]


async def test_what_is_not_there_is_an_end_and_no_hang(http):
    """A page that resumes what never was is answered at once, in its protocol's words."""
    missing = unique("missing")
    resumed = await http.get(f"/ai/{missing}/stream")
    run = {"threadId": missing, "runId": "r", "messages": []}
    connected = await http.post("/agui/agent/workflow/connect", json=run)
    state = (await http.get(f"/langgraph/threads/{missing}/state")).json()
    states = (await http.post(f"/langgraph/threads/{missing}/history", json={})).json()
    retrieved = await http.get(f"/openai/v1/responses/{response_id(missing)}")

    assert (resumed.status_code, resumed.content) == (204, b"")
    events = [one["type"] for one in clients.data_of(connected.content)]
    assert events == ["RUN_STARTED", "RUN_FINISHED"]
    assert (state["values"], state["next"], states) == ({}, [], [])
    assert retrieved.status_code == 404
    assert retrieved.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/ai/x/stream?startIndex=-1", None, 400),
        ("GET", "/ai/x/stream?startIndex=\u0663", None, 400),
        ("GET", f"/ai/{'x' * 2_000}/stream", None, 400),
        ("POST", "/ai", {}, 400),
        ("POST", "/ai", {"id": ["x"]}, 400),
        ("POST", "/ai", [], 400),
        ("POST", "/agui", {"threadId": "x", "messages": "hi"}, 400),
        ("POST", "/agui", {"threadId": "x", "messages": [{"role": "user"}]}, 400),
        ("POST", "/agui", {"threadId": "x", "messages": [{"role": "user", "id": [1]}]}, 400),
        ("POST", "/agui/agent/workflow/stop/x", {}, 404),
        ("POST", "/agui/agent/another/run", {"threadId": "x"}, 404),
        ("POST", "/langgraph/threads/x/stream/events", {}, 400),
        ("POST", "/langgraph/threads/x/stream/events", {"channels": [1]}, 400),
        ("POST", "/langgraph/threads/x/stream/events", {"channels": [], "since": "1"}, 400),
        ("GET", "/openai/v1/responses/resp_!", None, 404),
        ("GET", "/openai/v1/responses/resp_", None, 400),
        ("GET", "/openai/v1/responses/eA", None, 404),
        ("GET", "/openai/v1/responses/resp_eA?stream=true&starting_after=x", None, 400),
        ("POST", "/openai/v1/responses/resp_eA/cancel", {}, 404),
        ("POST", "/openai/v1/chat/completions", {"model": "workflow"}, 400),
        ("PUT", "/ai", {}, 405),
    ],
)
async def test_what_makes_no_sense_is_refused(http, method, path, body, status):
    """At once, with a reason."""
    response = await http.request(method, path, json=body)

    assert response.status_code == status, response.text
    assert response.text


async def test_commands_that_are_not_supported_are_refused_in_the_protocol(http):
    """With status 200, as LangGraph's clients read errors."""
    body = {"id": 2, "method": "input.respond", "params": {}}
    answer = await http.post("/langgraph/threads/x/commands", json=body)

    assert answer.status_code == 200
    assert (answer.json()["type"], answer.json()["id"]) == ("error", 2)


async def test_who_may_not_read_gets_nothing_in_any_format(client, backend, workflow):
    """Neither a stream, nor a state, nor what the host knows of what stood before."""

    async def deny(request, target):
        return Deny()

    name = response_id(workflow)
    async with formats(client, backend, deny) as http:
        answers = [
            await http.post("/ai", json={"id": workflow}),
            await http.get(f"/ai/{workflow}/stream"),
            await http.post("/agui", json={"threadId": workflow, "messages": []}),
            await http.post("/agui/agent/workflow/connect", json={"threadId": workflow, "messages": []}),
            await http.get(f"/langgraph/threads/{workflow}/state"),
            await http.post(f"/langgraph/threads/{workflow}/history", json={}),
            await http.post(f"/langgraph/threads/{workflow}/stream/events", json={"channels": CHANNELS}),
            await http.get(f"/openai/v1/responses/{name}"),
            await http.get(f"/openai/v1/responses/{name}", params={"stream": "true"}),
            await http.post("/openai/v1/chat/completions", json={"workflow": workflow}),
        ]

    assert [answer.status_code for answer in answers] == [403] * len(answers)
    assert not any(TEXT in answer.text for answer in answers)


async def test_who_may_see_no_content_sees_none_in_any_format(client, backend, workflow):
    """Neither what models wrote, nor what the user did before."""

    async def bare(request, target):
        return Allow(content=False)

    name = response_id(workflow)
    async with formats(client, backend, bare) as http:
        answers = [
            await http.post("/ai", json={"id": workflow}),
            await http.post("/agui/agent/workflow/connect", json={"threadId": workflow, "messages": []}),
            await http.get(f"/langgraph/threads/{workflow}/state"),
            await http.post(f"/langgraph/threads/{workflow}/stream/events", json={"channels": CHANNELS}),
            await http.get(f"/openai/v1/responses/{name}", params={"stream": "true"}),
            await http.post("/openai/v1/chat/completions", json={"workflow": workflow}),
        ]

    assert [answer.status_code for answer in answers] == [200] * len(answers)
    assert not any(word in answer.text for answer in answers for word in ('"hi"', "Paris", "million"))


@pytest.mark.parametrize("made", [ai_sdk, ag_ui, langgraph, openai])
def test_a_prefix_is_a_path(made):
    """Where it is none, that is an error at once, and not a route that nothing reaches."""
    for wrong in ("chat", "/chat/", ""):
        with pytest.raises(ConfigurationError, match="prefix"):
            made(wrong)


def test_there_are_two_versions_of_the_ai_sdk():
    """Another is an error at once."""
    with pytest.raises(ConfigurationError, match="6 or 7"):
        ai_sdk(version=5)
