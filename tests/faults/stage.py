"""Where faults happen: servers, workers and viewers, and the runs that are judged at their end."""

import asyncio
import random
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

from redis.crc import key_slot
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle

from devservers import RedisServer
from temporal_token_interceptor import (
    AttemptStarted,
    Event,
    Gap,
    RedisStreamBackend,
    StreamEnded,
    TokenEvent,
    TokenStreamingInterceptor,
    TokenSubscriber,
)
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.transport.redis.keys import Keys
from tests.faults.play import Play, Script
from tests.faults.verdict import Verdict, judge
from tests.faults.worker import serving, serving_unseen
from tests.support.cluster import Cluster, Node

DEADLINE = 90.0  # seconds from the start of a run to its end at the viewer; beyond, it hangs

ROOT = Path(__file__).parents[2]


class Viewer:
    """Reads one workflow's stream in a task of its own, and remembers when it heard what.

    Args:
        backend: The viewer's own: it shares nothing with the worker.
        pause: Seconds that it takes over each event until `hurry` is called: a slow reader.
        killed_every: It is killed after so many events, and resumed from its last cursor; 0 for never.
        fallback: What it looks at while Redis delivers nothing.
    """

    def __init__(
        self,
        client: Client | None,
        backend: RedisStreamBackend | None,
        workflow_id: str,
        *,
        pause: float = 0.0,
        killed_every: int = 0,
        fallback: Literal["off", "heartbeats"] = "off",
    ) -> None:
        self.events: list[Event] = []
        self.heard_at: list[float] = []
        self._subscriber = TokenSubscriber(client, backend, fallback=fallback)
        self._workflow_id = workflow_id
        self._pause = pause
        self._killed_every = killed_every
        self._pieces = 0
        self._changed = asyncio.Condition()
        self._task = asyncio.ensure_future(self._read())

    async def heard(self, pieces: int) -> None:
        """Wait until so many pieces were heard, or the stream has ended."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._pieces >= pieces or self._task.done())

    def hurry(self) -> None:
        """Be slow no longer."""
        self._pause = 0.0

    async def ended(self, deadline: float) -> bool:
        """Wait for the end; return whether it came in time.

        Raises:
            Exception: whatever the subscription raised.
        """
        done, _ = await asyncio.wait({self._task}, timeout=deadline)
        if not done:
            return False
        self._task.result()
        return True

    async def close(self) -> None:
        """Stop reading."""
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _read(self) -> None:
        while not self.events or not isinstance(self.events[-1], StreamEnded):
            cursor = self.events[-1].cursor if self.events else None
            read = 0
            async with aclosing(self._subscriber.subscribe(self._workflow_id, cursor=cursor)) as events:
                async for event in events:
                    await self._note(event)
                    read += 1
                    if read == self._killed_every:
                        break
                    if self._pause:
                        await asyncio.sleep(self._pause)

    async def _note(self, event: Event) -> None:
        self.events.append(event)
        self.heard_at.append(asyncio.get_running_loop().time())
        self._pieces += isinstance(event, TokenEvent)
        async with self._changed:
            self._changed.notify_all()


@dataclass
class Run:
    """One workflow with its viewer; `finished` judges it."""

    client: Client
    handle: WorkflowHandle[Any, Any]
    viewer: Viewer
    script: Script
    verdict: Verdict = field(default_factory=Verdict)
    recovery: float = 0.0
    _lifted_at: float | None = None

    async def heard_some(self, rng: random.Random, within: float = 0.6) -> None:
        """Wait for a random point within the run: after some piece of its first part."""
        pieces = self.script.speech.tokens * self.script.speech.calls
        await self.viewer.heard(rng.randrange(1, max(2, int(pieces * within))))

    def lifted(self) -> None:
        """Note that the fault is over: recovery is measured from here."""
        self._lifted_at = asyncio.get_running_loop().time()

    async def finished(self, status: str = "completed", *, may_lose: bool = False) -> None:
        """Wait for the viewer's end, and judge what it holds."""
        if not await self.viewer.ended(DEADLINE):
            description = await self.handle.describe()
            waiting_for = [
                f"attempt {pending.attempt} after {pending.last_failure.message!r}"
                for pending in description.raw_description.pending_activities
            ]
            assert description.status is not WorkflowExecutionStatus.RUNNING, (
                f"the workflow did not close: {waiting_for}"
            )
            self.verdict.hung += 1
            return
        # The viewer learnt of the end from Temporal, so the result is there.
        truth = await self.handle.result() if status == "completed" else None
        self.verdict += judge(self.viewer.events, truth, status, may_lose=may_lose)
        if self._lifted_at is not None:
            after = [self._lifted_at, *(at for at in self.viewer.heard_at if at > self._lifted_at)]
            self.recovery = max((later - at for at, later in pairwise(after)), default=0.0)


class Stage:
    """The servers of one fault, and what is started on them; all of it ends with the block.

    Args:
        client: Of a Temporal server.
        rng: Where every random choice comes from.
        width: How many runs suffer each strike, each at a random point of its own.
        long: Whether faults last as long as the issue wants, or as short as shows the same.
        cluster: Carries the tokens, instead of a Redis of the stage's own.
        has_redis: Whether something carries the tokens beside Temporal; else they go through heartbeats, and
            results have a place for what those do not show.
    """

    def __init__(
        self,
        client: Client,
        rng: random.Random,
        *,
        width: int,
        long: bool,
        cluster: Cluster | None = None,
        has_redis: bool = True,
    ) -> None:
        self.client = client
        self.has_redis = has_redis
        self.rng = rng
        self.width = width
        self.long = long
        self.redis = RedisServer()
        self._cluster = cluster
        self.queue = f"faults-{uuid.uuid4().hex[:8]}"
        self.runs: list[Run] = []
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Self:
        if self.has_redis and self._cluster is None:
            await self.redis.start()
            self._exits.push_async_callback(self.redis.stop)
        await self.view_through(None)
        self._admin = self._viewers._client if self.has_redis else None
        return self

    async def __aexit__(self, *_: object) -> None:
        for run in self.runs:
            await run.viewer.close()
        await self._exits.aclose()

    async def view_through(self, redis_url: str | None, client: Client | None = None) -> None:
        """Let viewers that come from now on read over this address, or as this client."""
        # No outage here may end a patience: one of 60 s would end the default one or not, by the millisecond.
        self._viewers = await self._exits.enter_async_context(
            self._backend(redis_url, patience=timedelta(seconds=2 * DEADLINE))
        )
        self._viewing_client = client or self.client

    @property
    def address(self) -> str:
        """Temporal's."""
        return self.client.service_client.config.target_host

    @property
    def redis_client(self) -> Any:
        """For words with the server itself."""
        return self._admin

    @property
    def viewing_redis(self) -> Any:
        """For words with the server that viewers read from."""
        return self._viewers._client

    async def close_viewers(self) -> None:
        """End the viewers and what they read over, before the way to it ends."""
        for run in self.runs:
            await run.viewer.close()
        await self._viewers.close()

    def slot_of(self, run: Run) -> int:
        """Return the slot of a run's stream in a cluster."""
        return key_slot(self._key_of(run).encode())

    @property
    def cluster(self) -> Cluster:
        """The one that carries the tokens."""
        assert self._cluster is not None, "only a fault with cluster=True has one"
        return self._cluster

    @asynccontextmanager
    async def worker(
        self,
        redis_url: str | None = None,
        *,
        stream_maxlen: int = 10_000,
        stream_ttl_seconds: int = 3_600,
        **options: Any,
    ) -> AsyncIterator[TokenStreamingInterceptor]:
        """Run a worker in this process as long as the block lasts."""
        # Over a connection of its own: one connection serves no two workers of a queue.
        client = await Client.connect(self.address)
        async with (
            self._backend(
                redis_url, stream_maxlen=stream_maxlen, stream_ttl_seconds=stream_ttl_seconds
            ) as backend,
            serving(client, backend, self.queue, **options) as interceptor,
        ):
            yield interceptor

    @asynccontextmanager
    async def unseen_worker(self) -> AsyncIterator[None]:
        """Run a worker without the interceptor beside the others as long as the block lasts."""
        async with serving_unseen(await Client.connect(self.address), self.queue):
            yield

    async def worker_process(self, *, skew: float = 0.0) -> asyncio.subprocess.Process:
        """Start a worker of its own process, and return once it serves. It ends with the stage."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.faults.worker",
            self.address, self.redis.url if self.has_redis else "", self.queue, "--skew", str(skew),
            cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        self._exits.push_async_callback(end, process)
        assert process.stdout is not None
        async with asyncio.timeout(60):
            assert await process.stdout.readline() == b"serving\n"
        return process

    async def start(self, script: Script | None = None, *, first_viewer: bool = False, **viewer: Any) -> Run:
        """Start a workflow and a viewer of it."""
        script = script or Script()
        script.speech.has_place = not self.has_redis
        workflow_id = f"fault-{uuid.uuid4().hex[:12]}"
        options = {key: viewer.pop(key) for key in ("execution_timeout",) if key in viewer}
        watching = (
            Viewer(self._viewing_client, self._viewers, workflow_id, **viewer) if first_viewer else None
        )
        if watching:
            await asyncio.sleep(self.rng.uniform(0.0, 0.2))
        handle: WorkflowHandle[Any, Any] = await self.client.start_workflow(
            Play.run, script, id=workflow_id, task_queue=self.queue, **options
        )
        watching = watching or Viewer(self._viewing_client, self._viewers, workflow_id, **viewer)
        run = Run(self.client, handle, watching, script)
        self.runs.append(run)
        return run

    async def start_all(self, script_of: Any = Script, **viewer: Any) -> Sequence[Run]:
        """Start `width` runs."""
        return await asyncio.gather(*(self.start(script_of(), **viewer) for _ in range(self.width)))

    async def at_random_points(self, runs: Sequence[Run], within: float = 0.6) -> None:
        """Wait until all runs speak and one is at a random point; the others are then at theirs."""
        await asyncio.gather(*(run.viewer.heard(1) for run in runs))
        await self.rng.choice(runs).heard_some(self.rng, within)

    async def all_finished(self, status: str = "completed", *, may_lose: bool = False) -> None:
        """Judge all runs."""
        await asyncio.gather(*(run.finished(status, may_lose=may_lose) for run in self.runs))

    def lifted(self) -> None:
        """Note for all runs that the fault is over."""
        for run in self.runs:
            run.lifted()

    async def node_of(self, run: Run) -> Node:
        """Return the node of the cluster that has a run's stream."""
        return await self.cluster.master_of(self._key_of(run))

    def _key_of(self, run: Run) -> str:
        stream = StreamKey(self.client.namespace, run.handle.id, str(run.handle.first_execution_run_id))
        return Keys("tti:v1:").stream(stream)

    def assert_retried(self) -> None:
        """Make sure that the fault struck while there was something to strike."""
        events = [event for run in self.runs for event in run.viewer.events]
        assert any(isinstance(event, AttemptStarted) and event.supersedes for event in events), (
            "no attempt was superseded"
        )

    def assert_no_gaps(self) -> None:
        """Make sure that nothing is reported missing where nothing was."""
        gaps = [event for run in self.runs for event in run.viewer.events if isinstance(event, Gap)]
        assert not gaps, gaps[:3]

    async def verdict(self) -> Verdict:
        """Everything that was judged, and what is left in Redis."""
        total = Verdict()
        if self.has_redis:
            async for key in self.redis_client.scan_iter():
                total.immortal += await self.redis_client.ttl(key) < 0
        for run in self.runs:
            total += run.verdict
        return total

    @asynccontextmanager
    async def _backend(self, redis_url: str | None = None, **options: Any) -> AsyncIterator[Any]:
        """A backend of one's own, for what carries the tokens; None where Temporal does."""
        if not self.has_redis:
            yield None
            return
        async with AsyncExitStack() as stack:
            if self._cluster is None:
                backend = RedisStreamBackend(redis_url or self.redis.url, **options)
            else:
                client = await stack.enter_async_context(self._cluster.client())
                backend = RedisStreamBackend(client=client, **options)
            yield await stack.enter_async_context(backend)


async def end(process: asyncio.subprocess.Process) -> None:
    """Kill a process that may be gone."""
    if process.returncode is None:
        process.kill()
    await process.wait()
    if process.stdin is not None:
        process.stdin.close()
