"""`tti serve` as a process: what it does not start with, and how clients get from one process to the next."""

import asyncio
import json
import re
import signal
import sys
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.responses import PlainTextResponse
from temporalio import activity

from temporal_token_interceptor import ConfigurationError, RedisStreamBackend
from temporal_token_interceptor.cli.serve import authorize_named, for_this_machine, listening
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.node import SCRIPT, find_node
from tests.support.pages import ROOT
from tests.support.processes import program
from tests.support.streams import streaming_worker, unique
from tests.support.workflows import RunActivity

ANYONE = "temporal_token_interceptor.gateway.access:anyone"
PAGES = 20


@pytest.fixture
def environ(client, redis_url):
    return {
        "TEMPORAL_ADDRESS": client.service_client.config.target_host,
        "TEMPORAL_NAMESPACE": client.namespace,
        "REDIS_URL": redis_url,
    }


def tti_serve(*arguments, environ=None, **options):
    return program(
        "-m", "temporal_token_interceptor", "serve", "--port", "0", *arguments, environ=environ, **options
    )


@asynccontextmanager
async def following(url):
    """`PAGES` clients with tti.js, in one process."""
    node = await asyncio.create_subprocess_exec(
        find_node(),
        str(ROOT / "tests" / "integration" / "follow.mjs"),
        str(SCRIPT),
        url,
        str(PAGES),
        stdout=asyncio.subprocess.PIPE,
        limit=2**24,
    )
    try:
        yield node.stdout
    finally:
        if node.returncode is None:
            node.kill()
        await node.wait()


async def test_a_process_that_stops_hands_its_clients_to_the_next(client, redis_url, environ):
    """SIGTERM while twenty pages read: all come back to the next process, nothing is lost or comes twice."""
    released = asyncio.Event()

    @activity.defn
    async def counts(argument: object) -> str:
        text, number = "", 0
        while not released.is_set():
            words = [f"{number + place} " for place in range(10)]
            await ScriptedChatModel.saying(*words, delay=0.01).ainvoke("?")
            text, number = text + "".join(words), number + 10
        return text

    async with (
        RedisStreamBackend(redis_url) as backend,
        streaming_worker(client, backend, [counts]) as queue,
        asyncio.timeout(50),
    ):
        workflow_id = unique("drain")
        handle = await client.start_workflow(
            RunActivity.run, args=["counts", None, False, 1, 20.0], id=workflow_id, task_queue=queue
        )
        try:
            async with tti_serve("--authorize", ANYONE, environ=environ) as first:
                [site] = re.findall(r"http://\S+:\d+", await first.line())
                async with following(f"{site}/v1/workflows/{workflow_id}/events") as pages:
                    assert await pages.readline() == b"reading\n"
                    first.process.send_signal(signal.SIGTERM)
                    code, _, errors = await first.ended(within=10)
                    port = site.rpartition(":")[2]
                    async with tti_serve("--authorize", ANYONE, "--port", port, environ=environ) as second:
                        assert site in await second.line()
                        assert await pages.readline() == b"again\n"
                        released.set()
                        seen = json.loads(await pages.readline())
        finally:
            released.set()
        text = await handle.result()

    assert (code, errors) == (0, "")
    assert len(seen) == PAGES
    for page in seen:
        assert page["text"] == page["folded"] == text
        assert page["status"] == "completed"


AUTHORIZE = """
from temporal_token_interceptor.gateway.access import Allow, Deny

async def allows(request, target):
    return Allow() if request.headers.get("authorization") == "Bearer me" else Deny(401)

def plain(request, target):
    return Allow()

async def short(request):
    return Allow()

class Rule:
    async def __call__(self, request, target):
        return Allow()

rule = Rule()
number = 1
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where I am, with a module of mine."""
    (tmp_path / "mine.py").write_text(AUTHORIZE)
    (tmp_path / "broken.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("mine", None)


async def test_my_own_function_decides(folder, environ):
    """It is found in the folder that I am in. Only this machine reaches it; Ctrl-C ends it without a word."""
    async with tti_serve("--authorize", "mine:allows", cwd=folder, environ=environ) as server:
        [site] = re.findall(r"http://127\.0\.0\.1:\d+", await server.line())
        async with httpx.AsyncClient(base_url=site) as http:
            refused = await http.get("/v1/workflows/any/events")
            script = await http.get("/tti.js")
        server.process.send_signal(signal.SIGINT)
        ended = await server.ended(within=10)

    assert (refused.status_code, script.content) == (401, SCRIPT.read_bytes())
    assert ended == (0, "", "")


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:8000", 200), ("127.0.0.1:8000", 200), ("[::1]:8000", 200), ("rebound.example:8000", 400)],
)
async def test_where_anyone_may_read_only_this_machines_names_are_answered(host, status):
    """A page of another site, whose name leads here by now, reads nothing."""
    app = for_this_machine(PlainTextResponse("tokens"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as http:
        answer = await http.get("/", headers={"host": host})

    assert answer.status_code == status
    assert ("tokens" in answer.text) is (status == 200)


async def test_it_does_not_start_without_a_decision():
    """One line that names the mistake, and code 2; there is no Temporal here, and it is not asked for."""
    async with tti_serve() as server:
        code, out, errors = await server.ended(within=20)

    assert (code, out) == (2, "")
    assert re.fullmatch(
        r"tti: --authorize is missing: .*Allow or Deny.*access:anyone lets everything be read\n", errors
    )


@pytest.mark.parametrize(
    ("name", "error"),
    [
        (None, r"--authorize is missing: module:function .*access:anyone"),
        ("mine", "--authorize must be module:name, .*not 'mine'"),
        ("no_such:thing", "'no_such:thing' cannot be imported: ModuleNotFoundError"),
        ("mine:missing", "'mine:missing' cannot be imported: AttributeError"),
        ("broken:it", "'broken:it' cannot be imported: ZeroDivisionError"),
        ("mine:number", "'mine:number' is a int, not a function"),
        ("mine:plain", "'mine:plain' is not async: write `async def`"),
        ("mine:short", r"'mine:short' has to take \(request, target\): too many"),
    ],
)
def test_what_cannot_decide_is_refused(folder, name, error):
    """Before anything is connected, and by its name."""
    with pytest.raises(ConfigurationError, match=error):
        authorize_named(name)


@pytest.mark.parametrize("name", [ANYONE, "mine:allows", "mine:rule"])
def test_async_functions_and_objects_decide(folder, name):
    assert callable(authorize_named(name))


async def test_an_address_that_is_taken_is_named():
    """So that I choose another port, and do not look for a mistake elsewhere."""
    with listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        error = pytest.raises(ConfigurationError, match=rf"cannot listen at 127.0.0.1, port {port}")
        with error, listening("127.0.0.1", port):
            pass
