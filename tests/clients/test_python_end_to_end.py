"""Python's SDKs on real servers: a worker is killed in mid-sentence, and connections are lost."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from openai import APIConnectionError, AsyncOpenAI

from tests.clients.serving import served, way_to, wrote
from tests.support.killable_worker import RIGHT
from tests.support.processes import program
from tests.support.streams import unique

pytestmark = pytest.mark.timeout(120)

ANSWER = "".join(RIGHT)


@asynccontextmanager
async def to_be_killed(client, redis_url):
    """A way to a gateway whose worker runs, and what kills that worker and starts the next."""
    queue = unique("python")
    worker = [
        "-m",
        "tests.support.killable_worker",
        client.service_client.config.target_host,
        redis_url,
        queue,
    ]
    async with (
        served(client, redis_url, queue) as url,
        way_to(url) as way,
        program(*worker) as first,
        AsyncExitStack() as stack,
    ):

        async def kill():
            first.process.kill()
            await stack.enter_async_context(program(*worker))

        yield way, kill


# ---------------------------------------------------------------------- OpenAI: Responses


def openai_of(way):
    return AsyncOpenAI(base_url=f"{way.url}/openai/v1", api_key="none", max_retries=0)


class Shown:
    """What a program shows that keeps a text for each item.

    Attributes:
        events: All that came.
        lost: How many connections were.
    """

    def __init__(self):
        self.events = []
        self.lost = 0
        self._texts = {}

    @property
    def text(self):
        return "".join(self._texts.values())

    @property
    def last(self):
        return self.events[-1].sequence_number

    async def read(self, stream, until):
        """Read until a text is shown, or the end, or the connection is lost."""
        try:
            async for event in stream:
                self.events.append(event)
                if event.type == "response.output_text.delta":
                    self._texts[event.output_index] = self._texts.get(event.output_index, "") + event.delta
                elif event.type == "response.output_item.done":
                    self._texts[event.output_index] = event.item.content[0].text
                if until in self.text:
                    return
        except APIConnectionError:
            self.lost += 1


@pytest.mark.parametrize("lost_in", ["the failed text", "the retry", "both"])
async def test_a_response_in_the_background_is_resumed(client, redis_url, lost_in):
    """By `starting_after`, wherever the connection was lost: each event comes once, failed text is gone."""
    shown, never = Shown(), "no such word"
    async with to_be_killed(client, redis_url) as (way, kill), openai_of(way) as openai:
        body = {"model": "workflow", "input": "How many?", "extra_body": {"id": unique("response")}}
        stream = await openai.responses.create(**body, background=True, stream=True)
        await shown.read(stream, "2.4")
        name = shown.events[0].response.id
        wrong = shown.text
        if lost_in != "the retry":
            way.cut()
            await shown.read(stream, never)
        await kill()
        if shown.lost:
            stream = await openai.responses.retrieve(name, stream=True, starting_after=shown.last)
        await shown.read(stream, "2.1")
        if lost_in != "the failed text":
            way.cut()
            await shown.read(stream, never)
            stream = await openai.responses.retrieve(name, stream=True, starting_after=shown.last)
        await shown.read(stream, never)
        async with openai.responses.stream(response_id=name, starting_after=shown.last // 2) as helper:
            helped = await helper.get_final_response()
        found = await openai.responses.retrieve(name)

    assert "2.4" in wrong
    assert shown.lost == way.cuts == (2 if lost_in == "both" else 1)
    numbers = [event.sequence_number for event in shown.events]
    assert numbers == sorted(set(numbers))
    assert [event.type for event in shown.events].count("response.completed") == 1
    assert shown.text == ANSWER
    assert [one.output_text for one in (shown.events[-1].response, helped, found)] == [ANSWER] * 3
    assert found.status == "completed"


async def test_a_response_that_is_waited_for_has_the_answer(client, redis_url):
    """Without a stream: one answer, in which nothing of the failed attempt is."""
    name = unique("response")
    async with to_be_killed(client, redis_url) as (way, kill), openai_of(way) as openai:
        asked = openai.responses.create(model="workflow", input="How many?", extra_body={"id": name})
        waiting = asyncio.create_task(asked)
        await wrote(client, redis_url, name, "2.4")
        await kill()
        response = await waiting

    assert (response.status, response.output_text) == ("completed", ANSWER)


# ---------------------------------------------------------------------- OpenAI: chat completions


CHAT = {"model": "workflow", "messages": [{"role": "user", "content": "How many?"}]}


async def test_chat_completions_show_what_stands(client, redis_url):
    """Nothing of the attempt that was killed is ever shown, in deltas or in one piece."""
    name = unique("chat")
    async with to_be_killed(client, redis_url) as (way, kill), openai_of(way) as openai:
        stream = await openai.chat.completions.create(**CHAT, stream=True, extra_body={"id": name})
        await wrote(client, redis_url, name, "2.4")
        await kill()
        chunks = [chunk async for chunk in stream]
        again = {"extra_query": {"workflow": name}}
        whole = await openai.chat.completions.create(**CHAT, **again)
        async with openai.chat.completions.stream(**CHAT, **again) as helper:
            helped = await helper.get_final_completion()

    choices = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == ANSWER
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["stop"]
    assert [one.choices[0].message.content for one in (whole, helped)] == [ANSWER] * 2


async def test_chat_completions_that_were_cut_are_asked_for_again(client, redis_url):
    """They cannot resume: the same workflow, asked for again, is whole."""
    name = unique("chat")
    async with to_be_killed(client, redis_url) as (way, kill), openai_of(way) as openai:
        first = await openai.chat.completions.create(**CHAT, stream=True, extra_body={"id": name})
        await wrote(client, redis_url, name, "2.4")
        way.cut()
        with pytest.raises(APIConnectionError):
            [chunk async for chunk in first]
        await kill()
        again = await openai.chat.completions.create(**CHAT, stream=True, extra_query={"workflow": name})
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in again if chunk.choices])

    assert text == ANSWER


# ---------------------------------------------------------------------- LangGraph


class Thread:
    """What a program has that reads each message of a thread in a task of its own.

    Attributes:
        texts: By message; those that were taken back are `taken_back`.
        changed: Set at each token.
    """

    def __init__(self, thread):
        self.texts = {}
        self.taken_back = {}
        self._changed = asyncio.Event()
        self.whole = asyncio.create_task(self._read(thread))

    async def until(self, word):
        """Wait until a word stands."""
        async with asyncio.timeout(60):
            while word not in "".join(self.texts.values()):
                self._changed.clear()
                await self._changed.wait()

    async def _read(self, thread):
        async with asyncio.TaskGroup() as group:
            async for message in thread.messages:
                group.create_task(self._one(message))

    async def _one(self, message):
        self.texts[message.message_id] = ""
        try:
            async for piece in message.text:
                self.texts[message.message_id] += piece
                self._changed.set()
            await message.output
        except Exception:  # noqa: BLE001 - the SDK raises what the server reports
            self.taken_back[message.message_id] = self.texts.pop(message.message_id)


@asynccontextmanager
async def attached(way, name):
    """A thread that may run already, and its `Thread`."""
    async with (
        httpx.AsyncClient(base_url=f"{way.url}/langgraph", timeout=60) as http,
        LangGraphClient(http).threads.stream(thread_id=name, assistant_id="chat") as stream,
    ):
        yield stream, Thread


@pytest.mark.parametrize("lost_in", ["nothing", "the failed text", "the retry"])
async def test_a_thread_of_langgraph(client, redis_url, lost_in):
    """The SDK itself resumes a lost connection; another program attaches later; both have the answer."""
    name = unique("thread")
    async with to_be_killed(client, redis_url) as (way, kill), attached(way, name) as (stream, read):
        await stream.run.start(input={})
        first = read(stream)
        await first.until("2.4")
        if lost_in == "the failed text":
            way.cut()
        await kill()
        await first.until("2.1")
        if lost_in == "the retry":
            way.cut()
        async with attached(way, name) as (other, _):
            second = read(other)
            outputs = [await stream.output, await other.output]
            await asyncio.gather(first.whole, second.whole)

    assert [[one["content"] for one in output["messages"]] for output in outputs] == [
        [[{"type": "text", "text": ANSWER}]]
    ] * 2
    assert list(first.texts.values()) == list(second.texts.values()) == [ANSWER]
    assert [text[: len("Paris has 2.4 ")] for text in first.taken_back.values()] == ["Paris has 2.4 "]
    assert second.taken_back.keys() <= first.taken_back.keys()
    assert (way.cuts > 0) == (lost_in != "nothing")
