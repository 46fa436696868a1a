"""What live streaming through Temporal alone promises beside the tokens, such as its costs and bounds."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import Client, DescribeWorkflowInput, OutboundInterceptor, WorkflowExecutionDescription
from temporalio.client import Interceptor as ClientInterceptor
from temporalio.worker import (
    ActivityInboundInterceptor,
    ActivityOutboundInterceptor,
    Interceptor,
    UnsandboxedWorkflowRunner,
    Worker,
)

from temporal_token_interceptor import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    Event,
    Gap,
    StreamEnded,
    TokenEvent,
    TokenStreamingInterceptor,
    TokenStreamingPlugin,
    TokenSubscriber,
)
from temporal_token_interceptor.testing import ScriptedChatModel
from temporal_token_interceptor.transport.heartbeat import RING_BYTES, is_ours
from tests.support.streams import read_all, standing_text, unique
from tests.support.workflows import RunActivity, RunBeating, RunThenWait

WORDS = [f"live{number} " for number in range(12)]
TEXT = "".join(WORDS)
DEADLINE = 30
OFTEN = timedelta(seconds=0.2)


@dataclass
class Kept:
    """A result with a place for what the last heartbeat of a busy machine does not show."""

    custom_data: list[Any] | None = None


def a_worker(client: Client, *activities: Any, **options: Any) -> Worker:
    """A worker as users without Redis have it; with `interceptors`, as they say."""
    if "interceptors" not in options:
        options["plugins"] = [TokenStreamingPlugin()]
    return Worker(
        client,
        task_queue=options.pop("task_queue", unique("live")),
        workflows=[RunActivity, RunBeating, RunThenWait],
        activities=activities,
        workflow_runner=UnsandboxedWorkflowRunner(),
        **options,
    )


async def start(client: Client, queue: str, name: str, *arguments: Any) -> str:
    workflow_id = unique("live")
    await client.start_workflow(RunActivity.run, args=[name, *arguments], id=workflow_id, task_queue=queue)
    return workflow_id


def text_of(events: list[Event]) -> str:
    return "".join(event.token for event in events if isinstance(event, TokenEvent))


# ---------------------------------------------------------------------- viewers


class Counting(ClientInterceptor):
    """Counts how often Temporal is asked to describe a run that is named."""

    def __init__(self) -> None:
        self.describes = 0

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:  # noqa: A002
        return _Counted(next, self)


class _Counted(OutboundInterceptor):
    def __init__(self, rest: OutboundInterceptor, counting: Counting) -> None:
        super().__init__(rest)
        self._counting = counting

    async def describe_workflow(self, input: DescribeWorkflowInput) -> WorkflowExecutionDescription:  # noqa: A002
        self._counting.describes += input.run_id is not None
        return await super().describe_workflow(input)


@pytest.mark.parametrize("of_one_subscriber", [True, False], ids=["one subscriber", "twenty subscribers"])
async def test_twenty_viewers_share_one_poll(client, of_one_subscriber):
    """However many of my users watch a run: one process asks Temporal as often as for one of them."""
    gate = asyncio.Event()

    @activity.defn
    async def talks(argument: Any) -> None:
        await ScriptedChatModel.saying(*WORDS).ainvoke("?")
        await gate.wait()

    counting = Counting()
    viewing = Client(**{**client.config(), "interceptors": [counting]})
    shared = TokenSubscriber(viewing)
    seeing = asyncio.Semaphore(0)

    async def watch(workflow_id: str) -> list[Event]:
        subscriber = shared if of_one_subscriber else TokenSubscriber(viewing)
        events: list[Event] = []
        async for event in subscriber.subscribe(workflow_id):
            events.append(event)
            if isinstance(event, CallEnded):
                seeing.release()
        return events

    async with a_worker(client, talks) as worker, asyncio.timeout(DEADLINE):
        workflow_id = await start(client, worker.task_queue, "talks")
        begun = asyncio.get_running_loop().time()
        watching = [asyncio.ensure_future(watch(workflow_id)) for _ in range(20)]
        for _ in watching:
            await seeing.acquire()
        gate.set()
        found = await asyncio.gather(*watching)
        took = asyncio.get_running_loop().time() - begun

    assert [text_of(events) for events in found] == [TEXT] * 20
    # One poll's pace, at most every 0.1 s, and not twenty: two for what hurries it and for its start.
    assert 1 <= counting.describes <= took / 0.1 + 2, (counting.describes, took)


async def test_a_look_of_one_reader_takes_nothing_from_another(client):
    """While I watch, others ask for snapshots all the time: I miss no token by that."""

    @activity.defn
    async def talks(argument: Any) -> Kept:
        await ScriptedChatModel.saying(*WORDS * 10, delay=0.01).ainvoke("?")
        return Kept()

    async with a_worker(client, talks) as worker, asyncio.timeout(DEADLINE):
        workflow_id = await start(client, worker.task_queue, "talks")
        reading = asyncio.ensure_future(read_all(client, None, workflow_id))
        seen = ""
        while not reading.done():
            seen = max(seen, (await TokenSubscriber(client).snapshot(workflow_id)).text, key=len)
        events = await reading

    assert text_of(events) == TEXT * 10
    assert (TEXT * 10).startswith(seen)
    assert seen
    assert not [event for event in events if isinstance(event, Gap)]


async def test_a_short_answer_after_a_long_wait_is_seen(client):
    """My workflow waited for a while, and the poll is slow by then. An answer of an instant is seen, too."""

    @activity.defn
    async def answer(argument: Any) -> None:
        await ScriptedChatModel.saying(*WORDS).ainvoke("?")

    async with a_worker(client, answer) as worker, asyncio.timeout(DEADLINE):
        workflow_id, begins_later = unique("live"), timedelta(seconds=5)
        handle = await client.start_workflow(
            RunThenWait.run, id=workflow_id, task_queue=worker.task_queue, start_delay=begins_later
        )
        events: list[Event] = []
        async for event in TokenSubscriber(client).subscribe(workflow_id):
            events.append(event)
            if isinstance(event, CallEnded):
                await handle.signal(RunThenWait.go_on)

    assert text_of(events) == TEXT


# ---------------------------------------------------------------------- bounds


@pytest.mark.parametrize("calls", [1, 25], ids=["at once", "in 25 calls"])
async def test_a_long_answer_comes_whole(client, calls):
    """20,000 tokens: each once and in order, though a heartbeat has room for 64 KiB."""
    words = [f"w{number} " for number in range(20_000)]

    @activity.defn
    async def talks(argument: Any) -> Kept:
        size = len(words) // calls
        for place in range(0, len(words), size):
            await ScriptedChatModel.saying(*words[place : place + size]).ainvoke("?")
            await asyncio.sleep(0.1)  # as long as another tool runs
        return Kept()

    wire = Wire()
    streaming = a_worker(
        client,
        talks,
        interceptors=[wire, TokenStreamingInterceptor()],
        max_heartbeat_throttle_interval=OFTEN,
        default_heartbeat_throttle_interval=OFTEN,
    )
    async with streaming as worker, asyncio.timeout(DEADLINE):
        # It blocks the loop, so the heartbeat timeout is long.
        workflow_id = await start(client, worker.task_queue, "talks", None, False, 1, 30)
        events: list[Event] = []
        stored: list[int] = []
        async for event in TokenSubscriber(client).subscribe(workflow_id):
            events.append(event)
            if isinstance(event, TokenEvent) and event.index % 500 == 0:
                described = await client.get_workflow_handle(workflow_id).describe()
                for pending in described.raw_description.pending_activities:
                    stored += [payload.ByteSize() for payload in pending.heartbeat_details.payloads]

    assert not [event for event in events if isinstance(event, Gap)]
    assert text_of(events) == "".join(words)
    # The frames, and the payload's own metadata. Which heartbeats are found stored is a matter of time.
    assert RING_BYTES / 2 < max(wire.sizes) < RING_BYTES + 256
    assert stored
    assert set(stored) <= set(wire.sizes)


# ---------------------------------------------------------------------- Stop


async def test_stop_reaches_an_activity_without_a_heartbeat_timeout(client):
    """I cancel while the model speaks: its call ends, and what it had said stays with the viewer."""
    stopped: list[str] = []

    @activity.defn
    async def endless(number: int) -> None:
        try:
            await ScriptedChatModel.saying(*["again "] * 10_000, delay=0.01).ainvoke("?")
        except asyncio.CancelledError:
            stopped.append("cancelled")
            raise

    async with a_worker(client, endless) as worker, asyncio.timeout(DEADLINE):
        workflow_id = unique("live")
        handle = await client.start_workflow(
            RunBeating.run, args=[["endless"], 0, 1], id=workflow_id, task_queue=worker.task_queue
        )
        events: list[Event] = []
        async for event in TokenSubscriber(client).subscribe(workflow_id):
            if isinstance(event, TokenEvent) and not text_of(events):
                await handle.cancel()
            events.append(event)

    assert stopped == ["cancelled"]
    assert text_of(events).startswith("again ")
    assert [event.unfinished or event.error for event in events if isinstance(event, CallEnded)] != [None]
    assert [event.outcome for event in events if isinstance(event, AttemptEnded)] == ["cancelled"]
    assert isinstance(events[-1], StreamEnded)
    assert events[-1].status == "canceled"


# ---------------------------------------------------------------------- the user's own


class Wire(Interceptor):
    """Stands next to the server, and keeps what passes as heartbeat details."""

    def __init__(self) -> None:
        self.beats: list[list[Any]] = []
        self.sizes: list[int] = []  # of each payload

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        return _WireInbound(next, self)


class _WireInbound(ActivityInboundInterceptor):
    def __init__(self, rest: ActivityInboundInterceptor, wire: Wire) -> None:
        super().__init__(rest)
        self._wire = wire

    def init(self, outbound: ActivityOutboundInterceptor) -> None:
        super().init(_WireOutbound(outbound, self._wire))


class _WireOutbound(ActivityOutboundInterceptor):
    def __init__(self, rest: ActivityOutboundInterceptor, wire: Wire) -> None:
        super().__init__(rest)
        self._wire = wire

    def heartbeat(self, *details: Any) -> None:
        converter = activity.payload_converter()
        payloads = converter.to_payloads(details)
        self._wire.beats.append(converter.from_payloads(payloads))
        self._wire.sizes += [payload.ByteSize() for payload in payloads]
        super().heartbeat(*details)


@pytest.mark.parametrize("is_sync", [False, True], ids=["async", "thread"])
async def test_all_of_my_own_heartbeats_reach_the_server_as_i_sent_them(client, is_sync):
    """I beat fifty times while models speak: fifty of fifty stand first, whole and in order, on the wire."""

    @activity.defn(name="beats")
    async def beats(argument: Any) -> None:
        for number in range(50):
            activity.heartbeat("mine", {"number": number})
            await ScriptedChatModel.saying("word ", delay=0.01).ainvoke("?")

    @activity.defn(name="beats")
    def beats_in_thread(argument: Any) -> None:
        for number in range(50):
            activity.heartbeat("mine", {"number": number})
            ScriptedChatModel.saying("word ", delay=0.01).invoke("?")

    wire = Wire()
    with ThreadPoolExecutor(2) as threads:
        async with a_worker(
            client,
            beats_in_thread if is_sync else beats,
            interceptors=[wire, TokenStreamingInterceptor()],
            activity_executor=threads,
            max_heartbeat_throttle_interval=OFTEN,
            default_heartbeat_throttle_interval=OFTEN,
        ) as worker:
            workflow_id = await start(client, worker.task_queue, "beats", None, False, 1, 30.0)
            events = await read_all(client, None, workflow_id)

    mine = [["mine", {"number": number}] for number in range(50)]
    own = [details[:-1] if details and is_ours(details[-1]) else details for details in wire.beats]
    assert [details for place, details in enumerate(own) if details not in own[:place]] == mine
    assert sorted(own, key=mine.index) == own  # none comes again after a later one
    assert sum(len(details) > 2 for details in wire.beats) > 2  # and the tokens behind them
    assert text_of(events) == "word " * 50


# ---------------------------------------------------------------------- a worker without the interceptor


async def test_a_worker_without_the_interceptor_among_others_breaks_nothing(client):
    """My rollout is half done: attempts run on either kind of worker. I see those that stream."""
    ran: list[tuple[str, int]] = []

    def talks(where: str) -> Any:
        @activity.defn(name="talks")
        async def talks(number: int) -> str:
            info = activity.info()
            ran.append((where, info.attempt))
            answer = await ScriptedChatModel.saying(f"{where} ", f"{info.activity_id} ").ainvoke("?")
            if info.attempt == 1:
                raise RuntimeError("once")
            return str(answer.text)

        return talks

    queue, address = unique("fleet"), client.service_client.config.target_host
    async with (
        a_worker(client, talks("with"), task_queue=queue),
        # One connection serves no two workers of a queue.
        a_worker(await Client.connect(address), talks("without"), task_queue=queue, interceptors=[]),
        asyncio.timeout(DEADLINE),
    ):
        handle = await client.start_workflow(
            RunBeating.run, args=[["talks"] * 12, 0, 2], id=unique("fleet"), task_queue=queue
        )
        events = await read_all(client, None, handle.id)
        results = await handle.result()

    where_it_ended = [result.split()[0] for result in results]
    assert {where for where, _ in ran} == {"with", "without"}
    assert all(where in ("with", "without") for where in where_it_ended)
    # Of an activity whose last attempt streamed I have exactly that attempt's words.
    standing = standing_text(events)
    for result in results:
        assert ("without" in result) or result in standing
    assert "without" not in text_of(events)
    starts = [event for event in events if isinstance(event, AttemptStarted)]
    assert {start.supersedes.attempt for start in starts if start.supersedes} <= {1}
