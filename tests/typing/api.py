"""What a user writes, and what must be refused, held to strict mypy and strict pyright; never run."""

# pyright: reportUnnecessaryTypeIgnoreComment=true
# mypy: enable-error-code="arg-type, call-arg, call-overload, union-attr, var-annotated"

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Any, Literal, assert_never, assert_type

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.chat_model_stream import AsyncChatModelStream
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.content import ContentBlock as ContentBlockOfLangChain
from langgraph.graph.state import CompiledStateGraph
from redis.asyncio import Redis, RedisCluster
from temporalio.client import Client
from temporalio.client import Plugin as ClientPlugin
from temporalio.worker import Interceptor, Worker
from temporalio.worker import Plugin as WorkerPlugin

from temporal_token_interceptor import (
    AttemptEnded,
    AttemptStarted,
    AttemptState,
    BlockingGraphStream,
    BlockingMany,
    BlockingModelCall,
    BlockingProjection,
    BlockingRun,
    BlockingStream,
    BlockingSubgraph,
    BlockingSubscriber,
    BlockingToolCall,
    BlockingTree,
    Call,
    CallEnded,
    CallNotCompleted,
    CallStarted,
    CallText,
    CodecMismatch,
    ConfigurationError,
    ContentBlock,
    CustomEvent,
    Entry,
    Event,
    Gap,
    GapReason,
    GraphEvent,
    GraphStream,
    IncompleteAnswer,
    InvalidCursor,
    ManyWorkflows,
    MemoryStreamBackend,
    ModelCall,
    NodeEnded,
    NodeStarted,
    NodeState,
    OnRetry,
    Origin,
    Outcome,
    PositionStore,
    Projection,
    ProtocolError,
    ReaderStatistics,
    ReasoningEvent,
    RedisStreamBackend,
    RetrieverEnded,
    RetrieverStarted,
    RetrieverState,
    RunContinued,
    Snapshot,
    Status,
    StreamEnded,
    StreamFailed,
    StreamKey,
    StreamNotFound,
    SubgraphNotCompleted,
    SubgraphRun,
    TextTransform,
    TokenCapturingHandler,
    TokenEvent,
    TokenSink,
    TokensMissing,
    TokenSource,
    TokenStreamError,
    TokenStreamingInterceptor,
    TokenStreamingPlugin,
    TokenSubscriber,
    ToolCallChunk,
    ToolCallStream,
    ToolCallText,
    ToolEnded,
    ToolStarted,
    ToolState,
    Transformer,
    TransportUnavailable,
    WorkflowNotCompleted,
    WorkflowRun,
    WorkflowTree,
    create_token_handler,
    event_from_json,
    events_schema,
    instrument,
    stream_graph,
    summary_events,
    uninstrument,
)
from temporal_token_interceptor.testing import (
    TRANSPORT_LAWS,
    Law,
    Piece,
    ScriptedChatModel,
    StreamingActivityEnvironment,
    check_transport,
    tool_call,
)
from temporal_token_interceptor.testing import Transport as BothHalves

# ------------------------------------------------------------------ a worker


async def work(client: Client) -> None:
    async with RedisStreamBackend("redis://localhost:6379", stream_ttl_seconds=600) as backend:
        assert_type(backend, RedisStreamBackend)
        interceptor: Interceptor = TokenStreamingInterceptor(backend)
        await Worker(client, task_queue="queue", activities=[], interceptors=[interceptor]).run()


class Redacting:
    def feed(self, text: str) -> str:
        return text

    def flush(self) -> str:
        return ""


def redacting(call: Call) -> TextTransform | None:
    return Redacting() if call.tags else None


def every_option(redis: Redis) -> list[TokenStreamingInterceptor]:
    return [
        TokenStreamingInterceptor(
            RedisStreamBackend(client=redis),
            nodes={"planner"},
            activities=["answer"],
            tags=("public",),
            kinds=["text", "tool_call"],
            capture={"tool_output", "media"},
            metadata_keys=["tenant"],
            retrievers=True,
            hold_calls=["draft"],
            transform=redacting,
            genai_spans="off",
            force_streaming="auto",
            heartbeat="auto",
            stall_timeout=timedelta(minutes=5),
            summary="off",
            flush_timeout=timedelta(seconds=1),
            max_buffered_bytes=1024,
        ),
        TokenStreamingInterceptor(heartbeat=timedelta(seconds=5)),
        TokenStreamingInterceptor(heartbeat=5),  # type: ignore[arg-type]
        TokenStreamingInterceptor(MemoryStreamBackend(stream_maxlen=10), force_streaming=False),
        TokenStreamingInterceptor("redis://localhost"),  # type: ignore[arg-type]
        TokenStreamingInterceptor(kinds=["texts"]),  # type: ignore[list-item]
        TokenStreamingInterceptor(capture=["tool_inputs"]),  # type: ignore[list-item]
        TokenStreamingInterceptor(None, ["planner"]),  # type: ignore[call-arg]
        TokenStreamingInterceptor(node=["planner"]),  # type: ignore[call-arg]
        TokenStreamingInterceptor(flush_timeout=2),  # type: ignore[arg-type]
        TokenStreamingInterceptor(transform=str.upper),  # type: ignore[arg-type]
        TokenStreamingInterceptor(summary=False),  # type: ignore[arg-type]
        TokenStreamingInterceptor(MemoryStreamBackend(), force_streaming="always"),  # type: ignore[arg-type]
    ]


async def connect(url: str) -> tuple[ClientPlugin, WorkerPlugin]:
    plugin = TokenStreamingPlugin(lambda: RedisStreamBackend(url), nodes=["planner"])
    assert_type(TokenStreamingPlugin.from_environment(), TokenStreamingPlugin)
    assert_type(TokenStreamingPlugin.from_environment({"REDIS_URL": url}, tags=["a"]), TokenStreamingPlugin)
    TokenStreamingPlugin(url)  # type: ignore[arg-type]
    TokenStreamingPlugin(MemoryStreamBackend(), node=["planner"])  # type: ignore[call-arg]
    TokenStreamingPlugin(MemoryStreamBackend(), kinds="text")  # type: ignore[arg-type]
    await Client.connect("localhost:7233", plugins=[plugin])
    return plugin, plugin


def stores() -> list[PositionStore]:
    return [RedisStreamBackend(), MemoryStreamBackend()]


def redis_of_every_kind(redis: Redis, cluster: RedisCluster) -> list[RedisStreamBackend]:
    return [
        RedisStreamBackend(),
        RedisStreamBackend.from_environment(),
        RedisStreamBackend("redis://localhost", "mine:", 1_000, 60, patience=timedelta(seconds=1)),
        RedisStreamBackend(client=redis),
        RedisStreamBackend(client=cluster),
        RedisStreamBackend(redis),  # type: ignore[arg-type]
        RedisStreamBackend(patience=60),  # type: ignore[arg-type]
        RedisStreamBackend(stream_ttl_seconds=timedelta(hours=1)),  # type: ignore[arg-type]
    ]


async def forward_modes(graph: "CompiledStateGraph[Any, Any, Any, Any]") -> None:
    result = await stream_graph(graph, {"messages": []}, modes=["custom", "updates"], durability="exit")
    assert_type(result, Any)
    await stream_graph(graph, {}, modes=["messages"])  # type: ignore[list-item]
    await stream_graph(graph.ainvoke, {})  # type: ignore[arg-type]


# ------------------------------------------------------------------ a reader


def without_redis(client: Client, item: object) -> TokenSubscriber:
    assert_type(summary_events(item), list[Event])
    return TokenSubscriber(client)


async def read(client: Client, backend: TokenSource) -> None:
    subscriber = TokenSubscriber(client, backend, start_timeout=timedelta(seconds=5))
    async for event in subscriber.subscribe("workflow", cursor="1~run~5~0"):
        assert_type(event.cursor, str)
        assert_type(event.origin, Origin | None)
        if not isinstance(event, Gap | RunContinued | StreamEnded):
            assert_type(event.origin, Origin)
        show(event)
    async for token in subscriber.tokens("workflow", run_id="run"):
        assert_type(token, TokenEvent)
    assert_type(await subscriber.text("workflow"), str)
    await read_as_in_langgraph(subscriber)
    async with TokenSubscriber(client, backend):  # type: ignore[attr-defined]
        pass


async def every_way_to_read(subscriber: TokenSubscriber, stop: Awaitable[None]) -> None:
    assert_type(subscriber.subscribe("workflow", start="now", on_retry="hold"), AsyncGenerator[Event])
    assert_type(subscriber.subscribe("workflow", "run", "1~run~5~0", until=stop), AsyncGenerator[Event])
    assert_type(subscriber.subscribe_activity("activity", until=stop), AsyncGenerator[Event])
    assert_type(subscriber.subscribe_batches("workflow", start="now"), AsyncGenerator[list[Event]])
    subscriber.subscribe("workflow", start="end")  # type: ignore[call-overload]
    subscriber.subscribe("workflow", on_retry="ignore")  # type: ignore[call-overload]
    subscriber.subscribe("workflow", until=5)  # type: ignore[call-overload]
    subscriber.subscribe()  # type: ignore[call-overload]
    await subscriber.subscribe("workflow")  # type: ignore[misc]
    assert_type(subscriber.statistics, ReaderStatistics)
    assert_type(subscriber.statistics.gaps, int)
    subscriber.subscribe("workflow", cursor="", start_timeout=timedelta(0))
    subscriber.subscribe("workflow", start_timeout=5)  # type: ignore[call-overload]


def the_words_have_names(gap: Gap, ended: AttemptEnded, end: StreamEnded, policy: OnRetry) -> None:
    assert_type(gap.reason, GapReason)
    assert_type(ended.outcome, Outcome)
    assert_type(end.status, Status)
    assert_type(policy, Literal["reset", "hold", "annotate"])


async def many_workflows(
    subscriber: TokenSubscriber, stop: Awaitable[None], ids: AsyncGenerator[str]
) -> None:
    assert_type(subscriber.subscribe_many(ids, until=stop, on_retry="hold"), ManyWorkflows)
    subscriber.subscribe_many([1])  # type: ignore[list-item]
    async with subscriber.subscribe_many({"one", "two"}, query=None, keep_open=True) as many:
        async for workflow_id, event in many:
            assert_type(workflow_id, str)
            assert_type(event, Event | StreamFailed)
            if isinstance(event, StreamFailed):
                assert_type(event.error, Exception)
        many.add("three", cursor="1~run~5~0")
        many.remove("one")
        assert_type(many.workflows, frozenset[str])
        assert_type(many.cursor, str)
        assert_type(await many.short_cursor(), str)


async def a_tree(subscriber: TokenSubscriber) -> None:
    tree = subscriber.subscribe("workflow", children=True)
    assert_type(tree, WorkflowTree)
    async for event in tree:
        assert_type(event, Event)
        if event.origin is not None:
            assert_type(event.origin.parent, str | None)
    assert_type(tree.cursor, str)
    assert_type(await tree.short_cursor(), str)
    await tree.aclose()


def without_asyncio(subscriber: BlockingSubscriber) -> None:
    events = subscriber.subscribe("workflow", cursor="", on_retry="hold", start_timeout=timedelta(0))
    assert_type(events, BlockingStream[Event])
    for event in events:
        assert_type(event, Event)
    assert_type(events.wait(timedelta(seconds=1)), bool)
    for token in subscriber.tokens("workflow"):
        assert_type(token, TokenEvent)
    assert_type(subscriber.text("workflow", runs="all"), str)
    assert_type(subscriber.snapshot("workflow"), Snapshot)
    tree = subscriber.subscribe("workflow", children=True)
    assert_type(tree, BlockingTree)
    assert_type(tree.cursor, str)
    assert_type(tree.short_cursor(), str)
    stream = subscriber.stream("workflow", stream_mode=["values", "messages"])
    assert_type(stream, BlockingGraphStream)
    assert_type(stream.cursor, str)
    assert_type(stream.origin, Origin | None)
    assert_type(subscriber.events_v2("workflow", include_types=["tool"]), BlockingStream[dict[str, Any]])
    assert_type(subscriber.protocol_events("workflow", since=3), BlockingStream[dict[str, Any]])
    with subscriber.run("workflow", result_type=str) as run:
        assert_type(run, BlockingRun)
        assert_type(run.values, BlockingProjection)
        assert_type(run.messages.tee(2), tuple[BlockingProjection, ...])
        assert_type(run.interrupted, bool)
        assert_type(run.interleave("messages"), Iterator[tuple[str, Any]])
        for call in run.messages:
            assert isinstance(call, BlockingModelCall)
            assert_type(call.output, AIMessage)
            assert_type(call.superseded, bool)
        for graph in run.subgraphs:
            assert isinstance(graph, BlockingSubgraph)
            assert_type(graph.status, str)
        for tool in run.tool_calls:
            assert isinstance(tool, BlockingToolCall)
            assert_type(tool.completed, bool)
    subscriber.text()  # type: ignore[call-arg]
    subscriber.stream("workflow", stream_mode="tools")  # type: ignore[arg-type]
    subscriber.subscribe("workflow", on_retry="ignore")  # type: ignore[call-overload]
    with subscriber.subscribe_many(["one"]) as many:
        assert_type(many, BlockingMany)
        for workflow_id, _ in many:
            assert_type(workflow_id, str)


async def stream_modes(subscriber: TokenSubscriber) -> None:
    stream = subscriber.astream("workflow", stream_mode=["values", "messages"], subgraphs=True, cursor="")
    assert_type(stream, GraphStream)
    async for item in stream:
        assert_type(item, Any)
        assert_type(stream.cursor, str)
        assert_type(stream.origin, Origin | None)
    await stream.aclose()
    subscriber.astream("workflow", stream_mode="tools")  # type: ignore[arg-type]


async def events_of_langchain(subscriber: TokenSubscriber) -> None:
    events = subscriber.events_v2("workflow", include_types=["tool"], exclude_tags={"private"})
    assert_type(events, AsyncGenerator[dict[str, Any]])
    subscriber.events_v2("workflow", on_retry="annotate")  # type: ignore[arg-type]


async def what_stands(subscriber: TokenSubscriber) -> str:
    snapshot = await subscriber.snapshot("workflow")
    assert_type(snapshot, Snapshot)
    assert_type(snapshot.calls, tuple[CallText, ...])
    assert_type(snapshot.gaps, tuple[Gap, ...])
    texts = [call.text + call.reasoning for call in snapshot.calls if call.ended]
    tool_calls: list[ToolCallText] = [one for call in snapshot.calls for one in call.tool_calls]
    texts += [one.args for one in tool_calls]
    assert_type(snapshot.attempts, tuple[AttemptState, ...])
    assert_type(snapshot.retrievers, tuple[RetrieverState, ...])
    assert_type(snapshot.tools, tuple[ToolState, ...])
    assert_type(snapshot.nodes, tuple[NodeState, ...])
    texts += [failed.error or "" for failed in snapshot.errors]
    snapshot.text = ""  # type: ignore[misc]
    return snapshot.text or snapshot.cursor or "".join(texts)


def as_langchain_has_it(stream: AsyncChatModelStream) -> None:
    assert_type(stream, AsyncChatModelStream)


async def read_as_in_langgraph(subscriber: TokenSubscriber) -> None:
    async for chunk, metadata in subscriber.messages("workflow", cursor="1~run~5~0", subgraphs=True):
        assert_type(chunk, BaseMessage)
        assert_type(metadata, dict[str, Any])
        assert_type(chunk.content_blocks, list[ContentBlockOfLangChain])
    subscriber.messages("workflow", on_retry="annotate")  # type: ignore[arg-type]
    try:
        async with subscriber.run("workflow", result_type=str) as run:
            assert_type(run, WorkflowRun)
            async for call in run.messages:
                assert_type(call, ModelCall)
                as_langchain_has_it(call)
                assert_type(call.origin, Origin)
                assert_type(call.call, Call | None)
                async for text in call.text:
                    assert_type(text, str)
            await read_projections(run)
    except WorkflowNotCompleted as ended:
        assert_type(ended.status, str)
    except TokensMissing as missing:
        assert_type(missing.reasons, tuple[str, ...])
    except (CallNotCompleted, SubgraphNotCompleted) as broken:
        assert_type(broken.reason, str)


async def read_projections(run: WorkflowRun) -> None:
    async for tool in run.tool_calls:
        assert_type(tool, ToolCallStream)
    async for update in run.updates:
        assert_type(update, dict[str, Any])
    async for subgraph in run.subgraphs:
        assert_type(subgraph, SubgraphRun)
        async for inner in subgraph.messages:
            assert_type(inner, ModelCall)
    async for name, _ in run.interleave("messages", "temporal"):
        assert_type(name, str)
    one, _ = run.custom.tee(2)
    assert_type(one, Projection[Any])


class Counting:
    """A transformer that shows how many events it got."""

    def __init__(self, scope: tuple[str, ...]) -> None:
        self.count = 0

    def init(self) -> dict[str, Any]:
        return {"counting": self}

    def process(self, event: Any) -> bool:
        self.count += 1
        return True


counting: Transformer = Counting(())


def read_with_transformers(subscriber: TokenSubscriber) -> None:
    subscriber.run("workflow", transformers=[Counting], subgraphs=True)
    subscriber.run("workflow", transformers=[Counting(())])  # type: ignore[list-item]


def show(event: Event) -> str | int | None:  # noqa: C901, PLR0912 - one case a kind
    """Every kind of event is known, and no other: else `assert_never` does not type-check."""
    match event:
        case TokenEvent():
            assert_type(event.token, str)
            assert_type(event.call, Call)
            assert_type(event.to_dict(), dict[str, str | int])
            return event.node_name
        case ReasoningEvent():
            assert_type(event.index, int)
            return event.token
        case ToolCallChunk():
            assert_type(event.index, int | str | None)
            return event.args
        case ContentBlock():
            assert_type(event.block, Mapping[str, Any])
            return None
        case CallStarted():
            assert_type(event.call.path, tuple[str, ...])
            return event.call.ordinal
        case CallEnded():
            assert_type(event.usage, Mapping[str, Any] | None)
            return event.error or event.finish_reason
        case ToolStarted() | ToolEnded():
            assert_type(event.tool_call_id, str | None)
            return event.name
        case RetrieverStarted() | RetrieverEnded():
            assert_type(event.name, str)
            return event.document_count if isinstance(event, RetrieverEnded) else event.input
        case NodeStarted() | NodeEnded():
            assert_type(event.step, int | None)
            return event.node_name
        case CustomEvent():
            assert_type(event.truncated, bool)
            return event.name
        case GraphEvent():
            assert_type(event.path, tuple[str, ...])
            return event.mode
        case AttemptStarted():
            return event.supersedes.attempt_id if event.supersedes else None
        case AttemptEnded():
            assert_type(event.will_retry, bool | None)
            return event.outcome
        case Gap():
            return event.missing if event.reason == "overflow" else None
        case RunContinued():
            return event.run_id
        case StreamEnded():
            assert_type(
                event.status,
                Literal["completed", "failed", "canceled", "terminated", "timed_out", "unknown"],
            )
            return event.status
        case _:
            assert_never(event)


async def resume(subscriber: TokenSubscriber, cursor: str | None) -> str:
    try:
        async for event in subscriber.subscribe("workflow", cursor=cursor):
            cursor = event.cursor
    except IncompleteAnswer as cut:
        network: ConnectionError = cut
        raise network from None
    except InvalidCursor:
        return ""
    except CodecMismatch as error:
        wrong_key: ConfigurationError = error
        raise wrong_key from None
    except (StreamNotFound, TransportUnavailable, ProtocolError, ConfigurationError) as error:
        problem: TokenStreamError = error
        raise RuntimeError("no answer") from problem
    return cursor or ""


# ------------------------------------------------------------------ another transport


class Transport:
    """Somebody's sink and source, by structure alone."""

    def __init__(self) -> None:
        self.keep_interval = timedelta(minutes=1)

    async def write(self, stream: StreamKey, data: bytes) -> None: ...

    def keep(self, stream: StreamKey) -> None: ...

    async def read(self, stream: StreamKey, after: str = "") -> AsyncGenerator[Sequence[Entry]]:
        yield [Entry(id="1", data=b"")]

    async def last_id(self, stream: StreamKey) -> str:
        return stream.name

    async def first_id(self, stream: StreamKey) -> str:
        return stream.name

    async def newest_run(self, namespace: str, workflow_id: str) -> str | None:
        return None

    async def close(self) -> None: ...


def use(client: Client | None) -> tuple[TokenSink, TokenSource, TokenStreamingInterceptor, TokenSubscriber]:
    transport = Transport()
    return transport, transport, TokenStreamingInterceptor(transport), TokenSubscriber(client, transport)


class HalfATransport:
    """What is missing is found before it runs."""

    keep_interval = timedelta(minutes=1)

    async def write(self, stream: StreamKey, data: bytes) -> None: ...


def refuse(client: Client) -> None:
    TokenStreamingInterceptor(HalfATransport())  # type: ignore[arg-type]
    TokenSubscriber(client, HalfATransport())  # type: ignore[arg-type]
    TokenSubscriber()  # type: ignore[call-arg]
    TokenSubscriber("localhost:7233")  # type: ignore[arg-type]


# ------------------------------------------------------------------ tests of one's own


def models() -> list[BaseChatModel]:
    piece: Piece = tool_call("search", '{"q": 1}', id="t-1")
    assert_type(tool_call("search", "{}", id="t-1", index=1), AIMessageChunk)
    assert_type(ScriptedChatModel.saying("a", piece, ValueError(), delay=0.1), ScriptedChatModel)
    ScriptedChatModel.saying(1)  # type: ignore[arg-type]
    tool_call("search", {}, id="t-1")  # type: ignore[arg-type]
    return [ScriptedChatModel(script=lambda messages: [str(len(messages))])]


async def without_a_server(activity: Callable[[str], Awaitable[str]]) -> list[Event]:
    environment = StreamingActivityEnvironment(nodes=["agent"], force_streaming=False)
    assert_type(await environment.run(activity, "?"), Any)
    assert_type(environment.tokens, list[str])
    StreamingActivityEnvironment(node=["agent"])  # type: ignore[call-arg]
    environment.text = ""  # type: ignore[misc]
    return environment.events


async def conformance(make: Callable[[], AbstractAsyncContextManager[BothHalves]]) -> None:
    laws: Mapping[str, Law] = TRANSPORT_LAWS
    await check_transport(make, laws=list(laws), deadline=timedelta(seconds=5))
    await check_transport(Transport)  # type: ignore[arg-type]


# ------------------------------------------------------------------ code written for deepagent-temporal


def by_hand(publish: Callable[[TokenEvent], None], beat: Callable[..., None]) -> int:
    handler = TokenCapturingHandler("node", publish, heartbeat_fn=beat, heartbeat_interval=10, attempt=2)
    assert_type(create_token_handler("node", publish, heartbeat_fn=None), TokenCapturingHandler)
    attached: BaseCallbackHandler = handler
    TokenCapturingHandler("node")  # type: ignore[call-arg]
    create_token_handler("node", print, attempt="2")  # type: ignore[arg-type]
    return handler.token_count + len(attached.__class__.__name__)


def events_by_hand(started: datetime) -> tuple[TokenEvent, Origin]:
    origin = Origin(
        namespace="default",
        workflow_id="workflow",
        run_id="run",
        activity_id="1",
        attempt_id="a",
        started_time=started,
    )
    origin.attempt = 2  # type: ignore[misc]
    return TokenEvent("token", "node", 0, True, 2), origin


def of_a_framework(url: str) -> None:
    instrument()
    instrument(lambda: TokenStreamingPlugin(lambda: RedisStreamBackend(url)))
    instrument(url)  # type: ignore[arg-type]
    uninstrument()


# ------------------------------------------------------------------ JSON


def through_json(event: Event) -> Event:
    form = event.to_json()
    assert_type(form, dict[str, Any])
    assert_type(events_schema(), dict[str, Any])
    event_from_json("token")  # type: ignore[arg-type]
    return event_from_json(form)
