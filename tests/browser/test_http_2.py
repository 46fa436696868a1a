"""A real Chromium over HTTP/2: its limit of six connections to a site is none for streams there."""

import json
import os
import socket
from contextlib import asynccontextmanager
from datetime import timedelta
from urllib.parse import quote

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from temporal_token_interceptor import RedisStreamBackend, TokenSubscriber
from temporal_token_interceptor.gateway.access import anyone
from temporal_token_interceptor.gateway.app import gateway
from tests.support.asgi_servers import (
    made_certificate,
    nginx,
    on_granian,
    on_hypercorn,
    on_uvicorn,
    serves,
)
from tests.support.live_runs import RIGHT, WRONG, running

RUNS = 20
SERVERS = os.environ.get("TTI_TEST_HTTP_2", "hypercorn").split()  # `make live-page`: all that can
ROWS = "[...document.querySelectorAll('#runs li')]"
STATUS = "document.querySelector('#status').innerText"

# A stream of each run for itself, folded by the gateway's own script; `shown` has the text of each.
LISTEN = """
(async () => {
  const { empty, fold, messages } = await import(BASE + '/tti.js')
  window.shown = {}
  window.ended = {}
  window.sources = WORKFLOWS.map(id => {
    const source = new EventSource(`${BASE}/v1/workflows/${encodeURIComponent(id)}/events`)
    let state = empty()
    for (const op of ['snapshot', 'open', 'grow', 'close', 'remove', 'note', 'run', 'end']) {
      source.addEventListener(op, event => {
        if (event.data === undefined) return // the browser's own `open`
        state = fold(state, { op, ...JSON.parse(event.data) })
        shown[id] = messages(state).map(message => message.text).join('')
        if (op === 'end') { ended[id] = state.status; source.close() }
      })
    }
    return source
  })
  await new Promise(done => setTimeout(done))
  return sources.length
})()
"""


class Noted:
    """An app that notes how each of its requests came.

    Attributes:
        versions: Of HTTP, by path.
        addresses: The ends of the connections.
    """

    def __init__(self, app):
        self._app = app
        self.versions = {}
        self.addresses = set()

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http" and not scope["path"].endswith("/healthz"):
            self.versions[scope["path"]] = scope["http_version"]
            self.addresses.add(tuple(scope["client"]))
        await self._app(scope, receive, send)


@asynccontextmanager
async def spoken_by(name, app, folder):
    """The address of an app that is served over HTTP/2."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if name == "nginx":
            site = f"http://127.0.0.1:{port}/streams"
            async with on_uvicorn(app, listener):
                await serves(f"{site}/healthz")
                async with nginx(folder, site) as (_, proxied):
                    yield proxied
        else:
            certificate = await made_certificate(folder)
            site = f"https://127.0.0.1:{port}/streams"
            on = {"hypercorn": on_hypercorn, "granian": on_granian}[name]
            async with on(app, listener, certificate):
                await serves(f"{site}/healthz", verify=False)
                yield site


@pytest.mark.parametrize("server", SERVERS)
async def test_twenty_runs_and_twenty_streams(client, redis_url, chromium_browser, tmp_path, server):
    """On one page, on one connection; a reload leaves them all, Stop works, and all end with the answer."""

    async def cancel(request, target):
        await client.get_workflow_handle(target.workflow_id).cancel()

    async with RedisStreamBackend(redis_url) as backend, running(client, redis_url) as runs:
        app = gateway(
            TokenSubscriber(client, backend),
            authorize=anyone,
            cancel=cancel,
            live=True,
            linger=timedelta(seconds=0.1),
        )
        noted = Noted(app)
        handles = [await runs.start("waits", attempts=1), *[await runs.start() for _ in range(RUNS - 1)]]
        names = [one.id for one in handles]
        query = "&".join(f"workflow={quote(name)}" for name in names)
        listen = LISTEN.replace("WORKFLOWS", json.dumps(names))
        async with (
            spoken_by(server, Starlette(routes=[Mount("/streams", noted)]), tmp_path) as url,
            chromium_browser.tab() as tab,
        ):
            try:
                await tab.trust()
                await tab.watch()
                await tab.open(f"{url}/live/{quote(names[0], safe='')}?{query}")
                for _ in range(2):  # the second time after a reload
                    assert await tab.until(f"{ROWS}.length") == RUNS
                    await tab.until("document.querySelector('#conversation').innerText.includes('It waits')")
                    assert await tab.evaluate(listen.replace("BASE", json.dumps(url))) == RUNS
                    await tab.until(f"{ROWS}.length && Object.keys(shown).length === {RUNS}")
                    await tab.until(f"Object.values(shown).filter(one => one === {WRONG!r}).length === 19")
                    states = await tab.evaluate("sources.map(source => source.readyState)")
                    open_at_once = app._streams.connections.count
                    await tab.reload()
                    await tab.until(f"!window.sources && {ROWS}.length")
                await tab.evaluate(listen.replace("BASE", json.dumps(url)))
                await tab.until(f"Object.keys(shown).length === {RUNS}")
                await tab.evaluate("document.querySelector('#stop').click()")
                for handle in handles[1:]:
                    runs.release(handle)
                await tab.until(f"{STATUS} === 'canceled' && Object.keys(ended).length === {RUNS}")
                await tab.until(f"{ROWS}.filter(row => row.className === 'completed').length === {RUNS - 1}")
                shown, ended = await tab.evaluate("[shown, ended]")
                hop = await tab.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol")
                policy = await tab.evaluate("noted")
            finally:
                await tab.open("about:blank")
                app.drain()
                for handle in handles:
                    runs.release(handle)
        await app.aclose()

    assert hop == "h2"
    assert states == [1] * RUNS
    assert open_at_once == RUNS + 1
    assert [shown[name] for name in names[1:]] == ["".join(RIGHT)] * (RUNS - 1)
    assert [ended[name] for name in names] == ["canceled", *["completed"] * (RUNS - 1)]
    assert policy == []
    if server != "nginx":  # which speaks HTTP/1.1 to the gateway, on a connection for each stream
        assert set(noted.versions.values()) == {"2"}
        assert len(noted.addresses) == 1
