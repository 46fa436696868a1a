"""The gateway on a real server, with every format; and a way to it that can be cut."""

import asyncio
import socket
from collections import defaultdict
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import uvicorn

from temporal_token_interceptor import RedisStreamBackend, TokenSubscriber
from temporal_token_interceptor.gateway.access import anyone
from temporal_token_interceptor.gateway.app import gateway
from temporal_token_interceptor.gateway.formats.ag_ui import ag_ui
from temporal_token_interceptor.gateway.formats.ai_sdk import ai_sdk
from temporal_token_interceptor.gateway.formats.langgraph import langgraph
from temporal_token_interceptor.gateway.formats.openai import openai
from tests.support.loopback import serving
from tests.support.streams import unique
from tests.support.workflows import RunActivity


@asynccontextmanager
async def served(client, redis_url, queue, histories=None):
    """A gateway on a real server that starts and cancels workflows, and its URL.

    Args:
        client: Of Temporal.
        redis_url: Of Redis.
        queue: Of the worker.
        histories: What stands in threads before what is asked now; None: nothing is kept.
    """

    async def start(request, body):
        thread = body.get("thread_id") or body.get("threadId") or body.get("id") or unique("chat")
        number = None if histories is None else histories.asked(thread, body)
        arguments = ["answer", number, False, 3]
        await client.start_workflow(RunActivity.run, args=arguments, id=thread, task_queue=queue)
        return thread

    async def cancel(request, target):
        await client.get_workflow_handle(target.workflow_id).cancel()

    async def history(request, thread):
        return [] if histories is None else histories.before[thread]

    async with RedisStreamBackend(redis_url) as backend:
        app = gateway(
            TokenSubscriber(client, backend),
            authorize=anyone,
            start=start,
            cancel=cancel,
            formats=[ai_sdk(), ai_sdk("/ai6", version=6), ag_ui(), langgraph(history=history), openai()],
            keep_alive=timedelta(seconds=1),
            linger=timedelta(seconds=0.1),
        )
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            app.drain()
            server.should_exit = True
            await task
            await app.aclose()


async def wrote(client, redis_url, workflow_id, word):
    """Wait until a workflow wrote a word, whatever is shown of it."""
    async with RedisStreamBackend(redis_url) as backend, asyncio.timeout(30):
        async for event in TokenSubscriber(client, backend).subscribe(workflow_id):
            if word in getattr(event, "token", ""):
                return


class Histories:
    """What a host keeps of LangGraph's threads.

    Attributes:
        before: The messages before the answer of now, by thread.
        answers: Those that are written and belong to no `before` yet; a next question puts them there.
    """

    def __init__(self):
        self.before = defaultdict(list)
        self.answers = []
        self._questions = 0

    def asked(self, thread, body):
        """Take in what a client sent, and return how many questions there were with it."""
        self.before[thread] += [*self.answers, *body.get("input", {}).get("messages", [])]
        self.answers.clear()
        self._questions += 1
        return self._questions


class Way:
    """A TCP connection to a server for each one that comes, until all are cut.

    Attributes:
        url: Where it begins.
        cuts: How many connections were cut.
    """

    def __init__(self, url):
        self._port = int(url.rpartition(":")[2])
        self._ends = set()
        self.url = ""
        self.cuts = 0

    def cut(self):
        """Lose every connection at once, as a network does; new ones work."""
        for end in self._ends:
            end.transport.abort()
        self.cuts += len(self._ends)

    async def carry(self, reader, writer):
        """Carry one connection until one of its ends is gone."""
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._ends.add(writer)
        try:
            with suppress(OSError, ExceptionGroup):
                async with asyncio.TaskGroup() as group:
                    group.create_task(_carry(reader, back))
                    group.create_task(_carry(there, writer))
        finally:
            self._ends.discard(writer)
            back.transport.abort()
            writer.transport.abort()


async def _carry(reader, writer):
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    raise ConnectionResetError  # which ends the other direction, too


@asynccontextmanager
async def way_to(url):
    """A `Way` to a server, as long as the block lasts."""
    way = Way(url)
    async with serving(way.carry) as address:
        way.url = f"http://{address}"
        yield way
