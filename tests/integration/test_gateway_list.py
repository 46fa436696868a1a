"""`GET /v1/workflows`: what a client may know of, and how it narrows that; it can never widen it."""

import asyncio
from datetime import UTC, datetime

import pytest
from starlette.requests import Request

from temporal_token_interceptor import ConfigurationError, RedisStreamBackend
from temporal_token_interceptor.gateway.access import Allow, Deny
from temporal_token_interceptor.gateway.tokens import StreamTokens
from temporal_token_interceptor.reader.temporal.run_list import Run, RunList
from tests.support.gateways import served
from tests.support.streams import unique

SECRET = "s" * 40


@pytest.fixture(scope="module")
async def backend(redis_url):
    async with RedisStreamBackend(redis_url) as backend:
        yield backend


@pytest.fixture(scope="module")
async def two(client):
    """The ids of two workflows that Temporal lists; no worker runs them."""
    started = [
        await client.start_workflow("Answers", id=unique("listed"), task_queue="no worker") for _ in range(2)
    ]
    async with asyncio.timeout(20):
        for one in started:
            query = f"WorkflowId = '{one.id}'"
            while not [_ async for _ in client.list_workflows(query)]:  # noqa: ASYNC110 - it is some time behind
                await asyncio.sleep(0.05)
    yield [one.id for one in started]
    for one in started:
        await one.terminate()


def ids(response):
    assert response.status_code == 200, response.text
    return [run["workflow"] for run in response.json()["runs"]]


async def test_a_query_narrows_what_is_listed(client, backend, two):
    """By Temporal's own filters, within the host's; runs that I may not read are left out."""
    one, other = two
    asked = []

    async def may(request, target):
        asked.append((target.workflow_id, target.action))
        return Deny() if target.workflow_id == other else Allow()

    both = RunList(client, f"WorkflowId = '{one}' OR WorkflowId = '{other}'", narrowed=True)
    async with served(client, backend, may, list_runs=both) as (_, http):
        everything = await http.get("/v1/workflows")
        narrowed = await http.get("/v1/workflows", params={"query": f"WorkflowId != '{one}'"})
        of_none = await http.get("/v1/workflows", params={"query": "WorkflowType = 'Nothing (here)'"})
        wrong = await http.get("/v1/workflows", params={"query": "no filter"})

    assert ids(everything) == [one]
    assert everything.json()["runs"][0]["status"] == "running"
    assert ids(narrowed) == ids(of_none) == []
    assert asked[0] == ("", "list")
    assert {*asked[1:3]} == {(one, "read"), (other, "read")}
    assert (wrong.status_code, wrong.json()["detail"]) == (
        400,
        "Temporal refused `query`: see its list filters",
    )


@pytest.mark.parametrize(
    "query",
    [
        "WorkflowId = 'x') OR (WorkflowId != 'x'",
        "WorkflowId = 'x' OR WorkflowId != 'x') --",
        "WorkflowId = 'x\\') OR (WorkflowId != \\'x'",
        "WorkflowId = 'x' /*",
        "WorkflowId = `x`",
        "WorkflowId = \"x') OR (WorkflowId != 'x",
        "WorkflowId = 'x' #",
        "WorkflowId\n= 'x'",
        "(" * 2_000,
    ],
)
async def test_a_query_never_widens_what_is_listed(client, backend, two, query):
    """The host's filter stands before mine, and nothing of mine ends it."""
    one, _ = two
    async with served(client, backend, list_runs=RunList(client, f"WorkflowId = '{one}'", narrowed=True)) as (
        _,
        http,
    ):
        refused = await http.get("/v1/workflows", params={"query": query})
        also = await http.get("/v1/workflows", params={"query": "WorkflowId != 'x' OR WorkflowId = 'x'"})

    assert refused.status_code == 400
    assert ids(also) == [one]


@pytest.mark.parametrize("query", ["?query=x", "?limit=0", "?limit=201", "?limit=many", "?limit=%D9%A1"])
async def test_what_a_list_does_not_take_is_refused(client, backend, query):
    """A host that takes no query says so, in place of ignoring it."""
    async with served(client, backend, list_runs=RunList(client)) as (_, http):
        refused = await http.get(f"/v1/workflows{query}")

    assert refused.status_code == 400
    assert query[1:6] in refused.json()["detail"]


async def test_who_may_not_list_gets_nothing(client, backend, caplog):
    """A stream token reads what it names; a host's failure is its own; without a list there is no route."""
    lists = []

    async def runs(request: Request, limit: int):
        lists.append(limit)
        if limit == 7:
            raise RuntimeError("secret words")
        return [Run("mine", "Type", "running", datetime.now(UTC), None)]

    async def may(request, target):
        return Deny() if target.action == "list" and "key" not in request.headers else Allow()

    tokens = StreamTokens(SECRET)
    async with served(client, backend, may, list_runs=runs, tokens=tokens) as (_, http):
        token = tokens.make({"mine": Allow()})["token"]
        refused = [await http.get("/v1/workflows"), await http.get("/v1/workflows", params={"token": token})]
        mine = await http.get("/v1/workflows?limit=3", headers={"key": "1"})
        failed = await http.get("/v1/workflows?limit=7", headers={"key": "1"})
    async with served(client, backend) as (_, http):
        absent = await http.get("/v1/workflows")

    assert [one.status_code for one in refused] == [403, 403]
    assert ids(mine) == ["mine"]
    assert lists == [3, 7]
    assert (failed.status_code, "secret" in failed.text) == (503, False)
    assert "secret words" in caplog.text
    assert absent.status_code == 404


async def test_a_query_of_the_host_that_temporal_refuses_is_an_error_of_the_host(client):
    """It names the query; a client is not shown it."""
    request = Request({"type": "http", "query_string": b""})

    with pytest.raises(ConfigurationError, match="no filter"):
        await RunList(client, "no filter")(request, 10)
