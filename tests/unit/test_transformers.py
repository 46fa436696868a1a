"""A reader's own transformers: LangGraph's class, or what has the same methods, over the events of a run."""

import asyncio
import logging
from typing import Any, ClassVar

import pytest
from langgraph.stream import (
    CheckpointsTransformer,
    CustomTransformer,
    DebugTransformer,
    LifecycleTransformer,
    StreamChannel,
    StreamTransformer,
    SubgraphTransformer,
    TasksTransformer,
    UpdatesTransformer,
)

from temporal_token_interceptor import (
    ConfigurationError,
    MemoryStreamBackend,
    TokenSubscriber,
    WorkflowNotCompleted,
)
from temporal_token_interceptor.events import (
    CallEnded,
    ContentBlock,
    Event,
    GraphEvent,
    NodeEnded,
    NodeStarted,
    StreamEnded,
    TokenEvent,
)
from temporal_token_interceptor.views.workflow_run import WorkflowRun
from tests.support.frames import a_call, an_origin

FIRST = an_origin(attempt_id="a1")
DONE = StreamEnded(status="completed")
SAID: list[Event] = [
    TokenEvent("secret ", "answer", 0, call=a_call(), origin=FIRST),
    TokenEvent("tea", "answer", 1, call=a_call(), origin=FIRST),
    CallEnded(call=a_call(), origin=FIRST),
]


async def no_result() -> None:
    raise AssertionError("it is not asked for")


def a_run(*events: Event | Exception, transformers: Any = (), **options: Any) -> WorkflowRun:
    async def source() -> Any:
        for event in events:
            if isinstance(event, Exception):
                raise event
            yield event

    return WorkflowRun(source(), no_result, transformers=transformers, **options)


async def all_of(items: Any) -> list[Any]:
    return [item async for item in items]


class Methods(StreamTransformer):
    """Shows the methods of all events, in a channel that is forwarded."""

    def __init__(self, scope: tuple[str, ...] = ()) -> None:
        super().__init__(scope)
        self.log: list[Any] = []
        self.channel: StreamChannel[str] = StreamChannel("methods")

    def init(self) -> dict[str, Any]:
        return {"methods": self.channel, "log": self.log}

    def process(self, event: Any) -> bool:
        self.channel.push(event["method"])
        return True

    def finalize(self) -> None:
        self.log.append("finalize")

    def fail(self, err: BaseException) -> None:
        self.log.append(type(err).__name__)


async def test_what_a_transformer_shows_is_in_extensions():
    """A channel is a projection, whose items are also raw events before those that they come from."""
    async with a_run(*SAID, DONE, transformers=[Methods]) as run:
        raw = aiter(run)
        methods = await all_of(run.extensions["methods"])

        assert methods == ["messages"] * 6 + ["custom:temporal"]
        events = await all_of(raw)
        assert [event["method"] for event in events][:4] == ["custom:methods", "messages"] * 2
        numbers = [event["seq"] for event in events]
        assert numbers == sorted(set(numbers))
        assert run.extensions["log"] == ["finalize"]
        with pytest.raises(AttributeError):
            run.methods  # noqa: B018 - it is no native one


async def test_a_transformer_may_end_a_channel_itself():
    """Well or with an error, before the run ends."""

    class Ending(StreamTransformer):
        def init(self) -> dict[str, Any]:
            self.well: StreamChannel[int] = StreamChannel()
            self.ill: StreamChannel[int] = StreamChannel()
            return {"well": self.well, "ill": self.ill}

        def process(self, event: Any) -> bool:
            self.well.push(1)
            self.well.close()
            self.ill.fail(KeyError("no more"))
            return False

    state = GraphEvent(mode="values", data=1, origin=FIRST)
    async with a_run(state, state, transformers=[Ending]) as run:
        assert await anext(run.extensions["well"]) == 1
        with pytest.raises(KeyError, match="no more"):
            await anext(run.extensions["ill"])


async def test_a_native_transformer_shows_attributes():
    class Native(Methods):
        _native = True

    async with a_run(*SAID, DONE, transformers=[Native]) as run:
        raw = aiter(run)
        assert len(await all_of(run.methods)) == 7
        assert (await anext(raw))["method"] == "methods"


async def test_a_transformer_before_the_builtins_changes_what_they_show():
    """And nothing else: other readers of the process have the same objects of the decoded stream."""
    block = {"type": "image", "url": "secret"}
    state = {"nested": ["secret"]}
    events = [
        ContentBlock(block=block, call=a_call(), origin=FIRST),
        *SAID,
        GraphEvent(mode="values", data=state, origin=FIRST),
        DONE,
    ]

    class Redacting(StreamTransformer):
        before_builtins: ClassVar[bool] = True

        def init(self) -> dict[str, Any]:
            return {}

        def process(self, event: Any) -> bool:
            data = event["params"]["data"]
            if event["method"] == "values":
                data["nested"][0] = "***"
            elif event["method"] == "messages":
                said = data[0]
                for part in (said.get("content", {}), said.get("delta", {})):
                    for name in ("text", "url"):
                        if name in part:
                            part[name] = part[name].replace("secret", "***")
            return True

    async with a_run(*events, transformers=[Redacting]) as run:
        [call] = await all_of(run.messages)
        message = await call.output
        assert await call.text == "*** tea"
        assert await all_of(run.values) == [{"nested": ["***"]}]

    assert "secret" not in str(message.content)
    assert (block["url"], state["nested"]) == ("secret", ["secret"])


async def test_a_transformer_may_leave_events_out_of_the_raw_ones():
    """Projections have them all the same, as in LangGraph; numbers have no hole for them."""

    class Quiet(StreamTransformer):
        def init(self) -> dict[str, Any]:
            return {}

        async def aprocess(self, event: Any) -> bool:
            await asyncio.sleep(0)
            return bool(event["method"] != "messages")

    async with a_run(*SAID, DONE, transformers=[Quiet]) as run:
        raw = aiter(run)
        assert [await call.text async for call in run.messages] == ["secret tea"]
        assert [event["method"] async for event in raw] == ["custom:temporal"]


async def test_one_event_goes_through_all_transformers_before_the_next():
    order: list[Any] = []

    def noting(name: str, *, before: bool) -> Any:
        class Noting(StreamTransformer):
            before_builtins: ClassVar[bool] = before

            def init(self) -> dict[str, Any]:
                return {}

            async def aprocess(self, event: Any) -> bool:
                await asyncio.sleep(0)
                order.append((name, event["params"]["data"]))
                return True

        return Noting

    states = [GraphEvent(mode="values", data=n, origin=FIRST) for n in range(2)]
    given = [noting("last", before=False), noting("first", before=True)]
    async with a_run(*states, transformers=given) as run:
        await all_of(run.values)

    assert order == [("first", 0), ("last", 0), ("first", 1), ("last", 1)]


async def test_what_is_scheduled_is_waited_for_at_the_end():
    """Its results are there before the channel ends; `finalize` comes after it."""
    done = asyncio.Event()

    class Judging(StreamTransformer):
        def __init__(self, scope: tuple[str, ...] = ()) -> None:
            super().__init__(scope)
            self.verdicts: StreamChannel[str] = StreamChannel()

        def init(self) -> dict[str, Any]:
            return {"verdicts": self.verdicts}

        def process(self, event: Any) -> bool:
            if event["method"] == "values":
                self.schedule(self.judge())
            return True

        async def judge(self) -> None:
            await done.wait()
            self.verdicts.push("fine")

        def finalize(self) -> None:
            self.verdicts.push("all")

    async with a_run(GraphEvent(mode="values", origin=FIRST), DONE, transformers=[Judging]) as run:
        reading = asyncio.ensure_future(all_of(run.extensions["verdicts"]))
        assert await anext(run.values) is None  # the run goes on meanwhile
        assert isinstance(await anext(run.temporal), StreamEnded)
        assert not reading.done()
        done.set()
        assert await reading == ["fine", "all"]


@pytest.mark.parametrize("on_error", ["log", "raise"])
async def test_what_a_scheduled_task_raises_is_logged_or_ends_the_run(on_error, caplog):
    class Breaking(StreamTransformer):
        def init(self) -> dict[str, Any]:
            return {}

        def process(self, event: Any) -> bool:
            if event["method"] == "values":
                self.schedule(self.breaks(), on_error=on_error)
            return True

        async def breaks(self) -> None:
            raise KeyError("service")

    async with a_run(GraphEvent(mode="values", origin=FIRST), DONE, transformers=[Breaking]) as run:
        with caplog.at_level(logging.ERROR):
            if on_error == "raise":
                with pytest.raises(KeyError, match="service"):
                    await all_of(run.messages)
            else:
                assert await all_of(run.messages) == []
    assert ("the run goes on" in caplog.text) is (on_error == "log")


@pytest.mark.parametrize(
    ("last", "error"),
    [(StreamEnded(status="failed"), WorkflowNotCompleted), (ConnectionError("gone"), ConnectionError)],
)
async def test_a_run_that_fails_fails_its_transformers(last, error):
    """What they had scheduled is cancelled; what they raise then is only logged."""
    tasks: list[asyncio.Task[Any]] = []

    class Waiting(Methods):
        def process(self, event: Any) -> bool:
            if event["method"] == "values":
                tasks.append(self.schedule(asyncio.Event().wait()))
            return True

        def fail(self, err: BaseException) -> None:
            super().fail(err)
            raise ValueError("in fail")

    async with a_run(GraphEvent(mode="values", origin=FIRST), last, transformers=[Waiting]) as run:
        with pytest.raises(error):
            await all_of(run.extensions["methods"])

    assert run.extensions["log"] == [error.__name__]
    assert [task.cancelled() for task in tasks] == [True]


async def test_an_error_of_a_transformer_ends_the_run_for_all():
    class Breaking(Methods):
        def process(self, event: Any) -> bool:
            raise KeyError("bug")

    async with a_run(*SAID, DONE, transformers=[Breaking]) as run:
        for reader in (run.messages, run.temporal, run.extensions["methods"]):
            with pytest.raises(KeyError, match="bug"):
                await all_of(reader)
    assert run.extensions["log"] == ["KeyError"]


async def test_a_run_that_is_left_leaves_no_task_of_a_transformer():
    class Waiting(Methods):
        def process(self, event: Any) -> bool:
            self.schedule(asyncio.Event().wait())
            return True

    before = asyncio.all_tasks()
    async with a_run(*SAID, DONE, transformers=[Waiting]) as run:
        await anext(run.messages)

    assert asyncio.all_tasks() == before


async def test_each_subgraph_has_transformers_of_its_own():
    """That of the run sees all events, as in LangGraph; that of a handle those of its namespace."""
    outer = NodeStarted(node_name="outer", run_id="1", task_id="t", origin=FIRST)
    inner = NodeStarted(node_name="inner", run_id="2", path=("outer",), node_run_id="1", origin=FIRST)
    within = GraphEvent(mode="values", path=("outer:t",), data=1, origin=FIRST)
    end = NodeEnded(node_name="outer", run_id="1", task_id="t", origin=FIRST)
    made: list[tuple[str, ...]] = []

    def factory(scope: tuple[str, ...]) -> Methods:
        made.append(scope)
        return Methods(scope)

    async with a_run(outer, inner, within, end, DONE, transformers=[factory]) as run:
        [handle] = await all_of(run.subgraphs)
        assert await all_of(handle.extensions["methods"]) == ["values"]
        assert await all_of(run.extensions["methods"]) == [
            "lifecycle",
            "values",
            "lifecycle",
            "custom:temporal",
        ]

    assert made == [(), ("outer:t",)]
    assert handle.extensions["log"] == ["finalize"]


async def test_a_transformer_need_not_be_langgraphs():
    """A class with `init` and `process`, and a channel with `push`: a process may have no LangGraph."""

    class Channel:
        def push(self, item: Any) -> None:
            raise AssertionError("it is replaced")

    class Plain:
        def __init__(self, scope: tuple[str, ...]) -> None:
            self.channel = Channel()

        def init(self) -> dict[str, Any]:
            return {"states": self.channel}

        def process(self, event: Any) -> bool:
            if event["method"] == "values":
                self.channel.push(event["params"]["data"])
            return True

    async with a_run(GraphEvent(mode="values", data=1, origin=FIRST), DONE, transformers=[Plain]) as run:
        assert await all_of(run.extensions["states"]) == [1]


async def test_langgraphs_own_transformers_are_accepted_for_what_the_run_has():
    """I pass what I passed to `astream_events`: nothing changes by it."""
    own = [
        CheckpointsTransformer,
        CustomTransformer,
        DebugTransformer,
        LifecycleTransformer,
        SubgraphTransformer,
        TasksTransformer,
        UpdatesTransformer,
    ]
    events = [GraphEvent(mode="updates", data={"n": 1}, origin=FIRST), DONE]
    async with a_run(*events, transformers=own) as run:
        assert await all_of(run.updates) == [{"n": 1}]


async def test_what_is_no_factory_or_shows_a_name_twice_is_refused():
    subscriber = TokenSubscriber(None, MemoryStreamBackend())
    until: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    class Wrong(Methods):
        def init(self) -> Any:
            return None

    class Taken(Methods):
        def init(self) -> dict[str, Any]:
            return {"messages": self.channel}

    for given, why in [
        ([Methods()], "each subgraph has its own"),
        ([7], "each subgraph has its own"),
        ([Methods, Methods], r"shows \['log', 'methods'\], which something else shows"),
        ([Taken], r"shows \['messages'\]"),
        ([Wrong], "init must return a dict"),
    ]:
        with pytest.raises(ConfigurationError, match=why):
            subscriber.run("wf", until=until, transformers=given)
