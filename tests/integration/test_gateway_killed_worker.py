"""Many viewers of one run whose worker's process is killed in mid-answer: each ends with the answer, once."""

import asyncio
import os
from collections import Counter
from random import Random
from signal import SIGKILL
from urllib.parse import quote

import httpx
import pytest

from temporal_token_interceptor import RedisStreamBackend, TokenSubscriber
from temporal_token_interceptor.gateway.limits import Limits
from temporal_token_interceptor.views.changes import View
from tests.support.gateway_site import site
from tests.support.gateways import events_of, folded, text_of
from tests.support.processes import program
from tests.support.streams import unique
from tests.support.workflows import RunActivity

pytestmark = pytest.mark.timeout(120)

VIEWERS = int(os.environ.get("TTI_TEST_KILLED_VIEWERS", "24"))  # `make viewers`: 200
QUERIES = {"stays": "", "comes again": "", "from the start": "?from=start", "holds": "?on_retry=hold"}
KINDS = [*QUERIES, "joins when it is killed", "joins the retry"]
WRONG, RIGHT = "Paris has 2.4 ", "Paris has 2.1 million people."
TIMES = 6


class Viewer:
    """One connection after another, of which each goes on where the one before was lost.

    Attributes:
        view: What is shown.
        connections: How many there were.
        changes: How often each event came.
        texts: What was shown after each event that changed it.
    """

    def __init__(self, http, kind, path, seed):
        self.view = View()
        self.connections = 0
        self.changes = Counter()
        self.texts = []
        self.kind = kind
        self._http = http
        self._path = path + QUERIES.get(kind, "")
        self._random = Random(seed)
        self._cursor = ""
        self._changed = asyncio.Event()

    async def watch(self):
        """Read until the workflow has ended."""
        while self.view.status is None:
            self.connections += 1
            rest = self._random.randrange(1, 8) if self.kind == "comes again" else 1 << 30
            headers = {"last-event-id": self._cursor} if self._cursor else {}
            async with self._http.stream("GET", self._path, headers=headers) as response:
                assert response.status_code == 200
                part = ""
                async for piece in response.aiter_text():
                    whole, _, part = (part + piece).rpartition("\n\n")
                    for block in whole.split("\n\n"):
                        self._read(block)
                    rest -= 1
                    if rest == 0:  # the connection is lost, with what was on its way
                        break

    async def until(self, text):
        """Wait until a text is shown."""
        while text not in text_of(self.view):
            self._changed.clear()
            await self._changed.wait()

    def _read(self, block):
        for line in block.splitlines():
            if line.startswith("id: "):
                self._cursor = line.removeprefix("id: ")
        for name, _, data in events_of(f"{block}\n\n"):
            assert name not in {"problem", "reconnect"}, data
            if name == "grow" and (item := self.view.items.get(data["id"])) is not None:
                assert data["at"] <= len(item.text.encode("utf-16-le")) // 2  # nothing is lost before it
            self.view = folded([(name, "", data)], self.view)
            self.changes[name] += 1
            if text_of(self.view) != (self.texts or [""])[-1]:
                self.texts.append(text_of(self.view))
            self._changed.set()


@pytest.fixture
async def workers(client, redis_url):
    """The task queue of two worker processes."""
    queue = unique("killed")
    command = ["-m", "tests.support.killable_worker", client.service_client.config.target_host]
    async with program(*command, redis_url, queue) as one, program(*command, redis_url, queue) as two:
        yield queue, [one, two]


async def first_of(workers):
    """Wait until one of the processes runs the first attempt; return it, and the other."""
    lines = {asyncio.create_task(one.line()): one for one in workers}
    done, waiting = await asyncio.wait(lines, return_when=asyncio.FIRST_COMPLETED)
    for line in waiting:
        line.cancel()
    await asyncio.wait(lines)
    [line] = done
    assert line.result() == "1\n"
    return lines.pop(line), *lines.values()


async def test_every_viewer_ends_with_the_answer(client, redis_url, workers):
    """Failed text is shown and taken back; another process answers: nothing is lost or comes twice."""
    queue, processes = workers
    workflow_id = unique("killed/with a slash")
    arguments = ["answer", [0.02, TIMES], False, 10, 2.0]  # the other process takes over after 2 s
    async with RedisStreamBackend(redis_url) as backend:
        limits = Limits(connections_per_principal=VIEWERS + 10)
        async with (
            site(TokenSubscriber(client, backend), limits=limits, live=False) as served,
            httpx.AsyncClient(
                base_url=served.url, timeout=60, limits=httpx.Limits(max_connections=None)
            ) as http,
            asyncio.timeout(100),
            asyncio.TaskGroup() as group,
        ):
            path = f"/v1/workflows/{quote(workflow_id, safe='')}/events"
            viewers = [Viewer(http, KINDS[n % len(KINDS)], path, n) for n in range(VIEWERS)]
            handle = await client.start_workflow(
                RunActivity.run, args=arguments, id=workflow_id, task_queue=queue
            )

            def begin(kinds):
                some = [one for one in viewers if one.kind in kinds]
                for one in some:
                    group.create_task(one.watch())
                return some

            begun = begin(QUERIES)
            killed, other = await first_of(processes)
            for one in begun:
                await (one.until(WRONG) if one.kind != "holds" else asyncio.sleep(0))
            killed.process.kill()
            begin(["joins when it is killed"])
            assert await killed.process.wait() == -SIGKILL
            assert await other.line() == "2\n"
            await begun[0].until(RIGHT)
            begin(["joins the retry"])
            result = await handle.result()

    assert result == RIGHT * TIMES
    assert Counter(text_of(one.view) for one in viewers) == {result: VIEWERS}
    assert {one.view.status for one in viewers} == {"completed"}
    of = {kind: [one for one in viewers if one.kind == kind] for kind in KINDS}
    for one in of["stays"] + of["from the start"]:
        assert one.connections == 1
        assert one.changes["remove"] >= 1
        shown = one.texts
        assert "" in shown  # where the failed text was taken back
        assert all(text.startswith(WRONG[: len(text)]) for text in shown[: shown.index("")])
        assert all(result.startswith(text) for text in shown[shown.index("") :])
    for one in of["holds"] + of["joins the retry"]:
        assert all(result.startswith(text) for text in one.texts)
    connections = {kind: sum(one.connections for one in of[kind]) for kind in KINDS}
    print(connections)  # noqa: T201 - `make viewers` shows it
    assert connections["comes again"] > 2 * len(of["comes again"])
