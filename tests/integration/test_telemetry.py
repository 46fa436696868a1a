"""Spans, metrics and links of real runs, as an SDK that the user installed sees them."""

import asyncio
import json
import uuid
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import FakeStreamingListLLM
from langchain_core.messages import AIMessageChunk
from langchain_core.tools import tool
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from temporalio import activity
from temporalio.client import Client, WorkflowFailureError
from temporalio.contrib.opentelemetry import OpenTelemetryPlugin, TracingInterceptor
from temporalio.exceptions import ApplicationError
from temporalio.runtime import MetricBuffer, Runtime, TelemetryConfig

from temporal_token_interceptor import (
    MemoryStreamBackend,
    RedisStreamBackend,
    StreamEnded,
    TokenEvent,
    TokenSubscriber,
)
from temporal_token_interceptor.telemetry.instruments import live_instruments, live_tracer
from temporal_token_interceptor.telemetry.message_content import CONTENT_VARIABLE
from temporal_token_interceptor.telemetry.model_calls import ModelTelemetry
from temporal_token_interceptor.telemetry.names import METRICS, SPANS
from temporal_token_interceptor.testing import ScriptedChatModel, tool_call
from tests.support.streams import read_all, streaming_worker, unique
from tests.support.telemetry import sdk_installed
from tests.support.workflows import RunActivity

SEND = "send {namespace}/{workflow_id}/{run_id}"
RECEIVE = "receive {namespace}/{workflow_id}/{run_id}"
SECRET = "the word that nobody may read"  # noqa: S105 - no password

ANSWER = [
    "Tra",
    "ced",
    AIMessageChunk(
        "",
        usage_metadata={
            "input_tokens": 3,
            "output_tokens": 5,
            "total_tokens": 8,
            "input_token_details": {"cache_read": 2},
            "output_token_details": {"reasoning": 1},
        },
        response_metadata={"finish_reason": "stop", "model_name": "scripted-2026", "id": "chatcmpl-1"},
    ),
]


@activity.defn
async def answer(argument: Any) -> str:
    return (await ScriptedChatModel.saying(*ANSWER).ainvoke(SECRET)).text


@activity.defn
def answer_in_thread(argument: Any) -> str:
    return ScriptedChatModel.saying(*ANSWER).invoke(SECRET).text


@activity.defn
async def fail_once(argument: Any) -> str:
    if activity.info().attempt == 1:
        await ScriptedChatModel.saying("half", ValueError(SECRET)).ainvoke("?")
    return (await ScriptedChatModel.saying(*ANSWER).ainvoke("?")).text


@activity.defn
async def fail_for_good(argument: Any) -> str:
    try:
        await ScriptedChatModel.saying("half", ValueError(SECRET)).ainvoke("?")
    except ValueError as error:
        raise ApplicationError("no", non_retryable=True) from error
    return "?"


@activity.defn
async def never_end(argument: Any) -> str:
    async def beat() -> None:
        while True:
            activity.heartbeat()
            await asyncio.sleep(0.1)

    class Endless(ScriptedChatModel):
        async def _astream(self, *args, **kwargs):
            async for chunk in super()._astream(*args, **kwargs):
                yield chunk
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(beat())
        await Endless.saying("half").ainvoke("?")
    return "?"


@pytest.fixture
def telemetry():
    with sdk_installed() as telemetry:
        yield telemetry


@pytest.fixture(params=["plugin", "interceptor"])
def traced_client(request, client, telemetry):
    """A client with either of the Temporal SDK's ways to trace, all of Temporal's spans included."""
    config = client.config()
    if request.param == "plugin":
        return Client(**{**config, "plugins": [OpenTelemetryPlugin(add_temporal_spans=True)]})
    return Client(**{**config, "interceptors": [TracingInterceptor()]})


async def run(
    client: Client,
    name: str,
    *,
    attempts: int = 1,
    backend: Any = None,
    activities: Any = None,
    **options: Any,
) -> list[Any]:
    """Run an activity in a request, read it in another one; return the events."""
    backend = backend or MemoryStreamBackend()
    tracer = trace.get_tracer("test")
    activities = activities or [answer, answer_in_thread, fail_once, fail_for_good, never_end]
    workflow_id = unique("traced")
    async with streaming_worker(client, backend, activities, **options) as queue:
        with tracer.start_as_current_span("POST /ask"):
            handle = await client.start_workflow(
                RunActivity.run, args=[name, None, False, attempts], id=workflow_id, task_queue=queue
            )
        with tracer.start_as_current_span("GET /stream"):
            events = []
            async for event in TokenSubscriber(client, backend).subscribe(workflow_id):
                events.append(event)
                if name == "never_end" and isinstance(event, TokenEvent):
                    await handle.cancel()
        try:
            await handle.result()
        except WorkflowFailureError:
            assert name in ("fail_for_good", "never_end")
    return events


def the(spans: list[Any]) -> Any:
    """The only one."""
    assert len(spans) == 1
    return spans[0]


def linked(span: Any) -> list[int]:
    """The span ids that a span links to."""
    return [link.context.span_id for link in span.links]


def request_tree(client: Client, name: str, attempts: dict[str, Any]) -> dict[str, Any]:
    """What stands below a request that starts a workflow which runs an activity."""
    start = {f"StartActivity:{name}": attempts}
    if client.config()["plugins"]:
        return {"StartWorkflow:RunActivity": {"RunWorkflow:RunActivity": start}}
    # The older interceptor has no spans that are open across workflow tasks: all of them are siblings.
    return {
        "StartWorkflow:RunActivity": {
            "RunWorkflow:RunActivity": {},
            **start,
            "CompleteWorkflow:RunActivity": {},
        }
    }


@pytest.mark.parametrize("name", ["answer", "answer_in_thread"])
async def test_one_trace_goes_from_the_request_to_the_model_and_is_linked_to_by_the_reader(
    traced_client, telemetry, redis_url, name
):
    """A request's trace shows workflow, activity and model call; the reader's trace links there."""
    async with RedisStreamBackend(redis_url) as backend:
        await run(traced_client, name, backend=backend)

    run_activity = the(telemetry.spans(f"RunActivity:{name}"))
    assert telemetry.tree()["GET /stream"] == {RECEIVE: {}}
    assert telemetry.tree()["POST /ask"] == request_tree(
        traced_client, name, {f"RunActivity:{name}": {"chat scripted": {}, SEND: {}}}
    )
    receive = the(telemetry.spans(RECEIVE))
    assert linked(receive) == [run_activity.context.span_id]
    assert receive.links[0].context.trace_id == the(telemetry.spans("POST /ask")).context.trace_id


async def test_spans_say_all_that_the_conventions_ask_for(client, telemetry):
    """A call's span tells model, provider, usage, finish reason and the wait for the first chunk."""
    await run(client, "answer")

    chat, send, receive = (the(telemetry.spans(name)) for name in ("chat", "send", "receive"))
    first_chunk_after = chat.attributes["gen_ai.response.time_to_first_chunk"]
    assert 0 < first_chunk_after < (chat.end_time - chat.start_time) / 1e9
    assert {**chat.attributes} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "scriptedchatmodel",
        "gen_ai.request.model": "scripted",
        "gen_ai.request.stream": True,
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "scripted-2026",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.time_to_first_chunk": first_chunk_after,
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 2,
        "gen_ai.usage.reasoning.output_tokens": 1,
        "temporal_token_interceptor.node": "answer",
    }
    assert (chat.kind, send.kind, receive.kind) == (SpanKind.CLIENT, SpanKind.PRODUCER, SpanKind.CLIENT)
    assert chat.status.status_code is StatusCode.UNSET
    destination = send.attributes["messaging.destination.name"]
    assert destination.startswith("default/traced-")
    assert {**send.attributes} == {
        "messaging.system": "memory",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": destination,
        "messaging.destination.template": "{namespace}/{workflow_id}/{run_id}",
        "messaging.batch.message_count": send.attributes["messaging.batch.message_count"],
        "temporal_token_interceptor.node": "answer",
        "temporal_token_interceptor.call.id": send.attributes["temporal_token_interceptor.call.id"],
        "temporal_token_interceptor.attempt": 1,
    }
    assert send.attributes["messaging.batch.message_count"] >= 1
    assert receive.attributes["messaging.batch.message_count"] >= 2
    assert receive.attributes["messaging.destination.name"] == destination.rpartition("/")[0]


async def test_without_a_span_around_the_activity_readers_link_to_the_call(client, telemetry):
    """Without Temporal's tracing there is still a link from reader to writer."""
    await run(client, "answer")

    assert telemetry.tree() == {
        "POST /ask": {},
        "GET /stream": {RECEIVE: {}},
        "chat scripted": {},
        SEND: {},
    }
    assert linked(the(telemetry.spans(RECEIVE))) == [the(telemetry.spans(SEND)).context.span_id]


async def test_with_the_plugin_alone_calls_hang_below_the_request(client, telemetry):
    """With the plugin's defaults there are no Temporal spans; the call is a child of my request's span."""
    await run(Client(**{**client.config(), "plugins": [OpenTelemetryPlugin()]}), "answer")

    assert telemetry.tree() == {
        "POST /ask": {"chat scripted": {}, SEND: {}},
        "GET /stream": {RECEIVE: {}},
    }
    assert linked(the(telemetry.spans(RECEIVE))) == [the(telemetry.spans("POST /ask")).context.span_id]


async def test_with_tracing_after_ours_readers_still_find_the_trace(client, telemetry):
    """In the wrong order of interceptors calls still hang below the activity, and readers link there."""
    await run(client, "answer", interceptors=[TracingInterceptor()])

    send = the(telemetry.spans(SEND))
    assert send.parent.span_id == the(telemetry.spans("RunActivity:answer")).context.span_id
    assert linked(the(telemetry.spans(RECEIVE))) == [send.context.span_id]


async def test_a_retry_shows_both_attempts(traced_client, telemetry):
    """A retried activity is two attempts in one trace, and the reader links to both."""
    await run(traced_client, "fail_once", attempts=2)

    first, second = telemetry.spans("RunActivity:fail_once")
    attempt = {"chat scripted": {}, SEND: {}}
    assert telemetry.tree()["POST /ask"] == request_tree(
        traced_client, "fail_once", {"RunActivity:fail_once": attempt, "RunActivity:fail_once #2": attempt}
    )
    assert linked(the(telemetry.spans(RECEIVE))) == [first.context.span_id, second.context.span_id]
    failed, fine = telemetry.spans("chat")
    assert failed.attributes["error.type"] == "ValueError"
    assert failed.status.status_code is StatusCode.ERROR
    assert "error.type" not in fine.attributes
    assert [send.attributes["temporal_token_interceptor.attempt"] for send in telemetry.spans("send")] == [
        1,
        2,
    ]
    assert telemetry.total("temporal_token_interceptor.tokens.superseded") == 1
    assert telemetry.total("temporal_token_interceptor.reader.tokens.superseded") == 1


async def test_an_error_is_named_and_not_quoted(traced_client, telemetry):
    """A failed call names the class of its error; the message, which may hold content, is nowhere."""
    await run(traced_client, "fail_for_good")

    chat = the(telemetry.spans("chat"))
    assert chat.attributes["error.type"] == "ValueError"
    assert (chat.status.status_code, chat.status.description) == (StatusCode.ERROR, None)
    assert not chat.events
    assert telemetry.spans("RunActivity:fail_for_good")[0].status.status_code is StatusCode.ERROR
    [duration] = telemetry.points("gen_ai.client.operation.duration")
    assert duration.attributes["error.type"] == "ValueError"
    assert telemetry.total("temporal_token_interceptor.tokens.superseded") == 0
    for span in (chat, *telemetry.spans("send"), *telemetry.spans("receive")):
        assert SECRET not in span.to_json()


async def test_a_cancelled_call_ends_its_spans(traced_client, telemetry):
    """Cancelled in mid-sentence, a call's span ends as cancelled; what was said is counted."""
    events = await run(traced_client, "never_end")

    chat, send = the(telemetry.spans("chat")), the(telemetry.spans("send"))
    assert events[-1] == StreamEnded(status="canceled", cursor=events[-1].cursor)
    assert chat.attributes["error.type"] == "cancelled"
    assert chat.status.status_code is StatusCode.ERROR
    assert "error.type" not in send.attributes  # all that was said has been stored
    assert telemetry.tree()["POST /ask"] == request_tree(
        traced_client, "never_end", {"RunActivity:never_end": {"chat scripted": {}, SEND: {}}}
    )
    assert telemetry.total("temporal_token_interceptor.tokens.published") == 1


async def test_a_text_model_is_told_as_text_completion(client, telemetry):
    """A model without messages has its span too."""

    @activity.defn
    async def complete(argument: Any) -> str:
        return await FakeStreamingListLLM(responses=["ok"]).ainvoke(SECRET)

    await run(client, "complete", activities=[complete])

    span = the(telemetry.spans("text_completion"))
    assert span.attributes["gen_ai.operation.name"] == "text_completion"
    assert SECRET not in span.to_json()


async def test_a_model_that_speaks_in_events_has_its_chunks_counted_once(telemetry):
    """Of a model that reports each chunk as an event and as a token, each chunk is counted once."""
    run_id = uuid.uuid4()
    handler = ModelTelemetry(
        default_node="n", tracer=live_tracer(), instruments=live_instruments(), content=False
    )
    handler.on_chat_model_start({}, [[]], run_id=run_id, metadata={"ls_model_name": "m"})

    for _ in range(3):
        handler.on_stream_event({"event": "content-block-delta"}, run_id=run_id)
        handler.on_llm_new_token("piece", run_id=run_id)
    handler.close()

    assert telemetry.total("gen_ai.client.operation.time_to_first_chunk") == 1
    assert telemetry.total("gen_ai.client.operation.time_per_output_chunk") == 2


async def test_an_agents_tools_have_spans_beside_its_calls(client, telemetry, monkeypatch):
    """Each tool run is a span that names tool and tool call; what went in and out only if asked for."""

    @tool
    def look_up(query: str) -> str:
        """Look it up."""
        return SECRET

    def script(messages):
        done = any(message.type == "tool" for message in messages)
        return ["Found."] if done else [tool_call("look_up", json.dumps({"query": SECRET}), id="call-1")]

    agent = create_agent(ScriptedChatModel(script=script), tools=[look_up])

    @activity.defn
    async def ask_agent(argument: Any) -> str:
        state = await agent.ainvoke({"messages": [("user", SECRET)]})
        return str(state["messages"][-1].text)

    await run(client, "ask_agent", activities=[ask_agent])
    span = the(telemetry.spans("execute_tool"))
    quiet = {**span.attributes}
    no_secrets = not any(SECRET in span.to_json() for span in telemetry.spans())
    names = [span.name for span in telemetry.spans() if "/" not in span.name]
    telemetry.exporter.clear()
    monkeypatch.setenv(CONTENT_VARIABLE, "SPAN_ONLY")
    await run(client, "ask_agent", activities=[ask_agent])
    loud = the(telemetry.spans("execute_tool")).attributes

    assert names == ["chat scripted", "execute_tool look_up", "chat scripted"]
    assert span.kind is SpanKind.INTERNAL
    assert quiet == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "look_up",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": "call-1",
        "temporal_token_interceptor.node": "tools",
    }
    assert no_secrets
    assert SECRET in loud["gen_ai.tool.call.arguments"]
    assert loud["gen_ai.tool.call.result"] == SECRET


@pytest.mark.parametrize(("value", "told"), [("", False), ("NO_CONTENT", False), ("SPAN_ONLY", True)])
async def test_content_is_told_only_if_it_is_asked_for(client, telemetry, monkeypatch, value, told):
    """Prompts and answers are in telemetry if OpenTelemetry's own switch says so, and else nowhere."""
    monkeypatch.setenv(CONTENT_VARIABLE, value)

    await run(client, "answer")

    chat = the(telemetry.spans("chat"))
    assert (SECRET in chat.to_json(), "Traced" in chat.to_json()) == (told, told)
    if told:
        assert json.loads(chat.attributes["gen_ai.input.messages"]) == [
            {"role": "user", "parts": [{"type": "text", "content": SECRET}]}
        ]
        assert json.loads(chat.attributes["gen_ai.output.messages"]) == [
            {"role": "assistant", "parts": [{"type": "text", "content": "Traced"}]}
        ]


async def test_metrics_count_what_was_published_and_how_long_it_took(client, telemetry):
    """The numbers are those of the run: chunks, frames, usage, delays; no id is an attribute."""
    await run(client, "answer")

    assert telemetry.total("temporal_token_interceptor.tokens.published") == 2
    assert telemetry.total("temporal_token_interceptor.frames.published") == telemetry.total(
        "temporal_token_interceptor.flush.duration"
    )
    usage = telemetry.points("gen_ai.client.token.usage")
    assert {point.attributes["gen_ai.token.type"]: point.sum for point in usage} == {"input": 3, "output": 5}
    assert telemetry.total("gen_ai.client.operation.duration") == 1
    assert telemetry.total("gen_ai.client.operation.time_to_first_chunk") == 1
    assert telemetry.total("gen_ai.client.operation.time_per_output_chunk") == 2
    assert telemetry.total("temporal_token_interceptor.buffer.size") == 0
    [first_chunk] = telemetry.points("gen_ai.client.operation.time_to_first_chunk")
    assert first_chunk.explicit_bounds[:3] == (0.01, 0.02, 0.04)
    assert usage[0].explicit_bounds[:3] == (1, 4, 16)
    [delay] = telemetry.points("temporal_token_interceptor.delivery.delay")
    assert 0 <= delay.min <= delay.max < 30


async def test_nothing_is_told_that_the_tables_do_not_list(traced_client, telemetry):
    """What docs/telemetry.md lists is all there is: names, kinds and attributes."""
    await run(traced_client, "fail_once", attempts=2)

    kinds = {span.name.partition(" ")[0]: span for span in SPANS}
    ours = [span for span in telemetry.spans() if span.name.partition(" ")[0] in kinds]
    assert len(ours) == 5
    for span in ours:
        kind = kinds[span.name.partition(" ")[0]]
        assert span.kind.name == kind.kind
        assert {*span.attributes} <= {*kind.attributes}
    listed = {metric.name: metric for metric in METRICS}
    assert telemetry.metric_names() <= {*listed}
    for name in telemetry.metric_names():
        for point in telemetry.points(name):
            assert {*point.attributes} <= {*listed[name].attributes}


async def test_counters_show_in_temporals_own_metrics(temporal_env, telemetry):
    """Whoever scrapes Temporal's runtime metrics finds our counters there, with Temporal's labels."""
    buffer = MetricBuffer(10_000)
    runtime = Runtime(telemetry=TelemetryConfig(metrics=buffer))
    target = temporal_env.client.service_client.config.target_host
    client = await Client.connect(target, runtime=runtime)

    await run(client, "answer")

    counted = {
        update.metric.name: update
        for update in buffer.retrieve_updates()
        if update.metric.name.startswith("temporal_token_interceptor")
    }
    published = counted["temporal_token_interceptor_tokens_published"]
    assert published.value == 2
    assert published.attributes["activity_type"] == "answer"
    assert "temporal_token_interceptor_frames_published" in counted


async def test_the_two_ways_to_read_have_the_same_span(client, telemetry):
    """`text()` is a subscription too."""
    backend = MemoryStreamBackend()
    workflow_id = unique("text")
    async with streaming_worker(client, backend, [answer]) as queue:
        await client.start_workflow(RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue)
        text = await TokenSubscriber(client, backend).text(workflow_id)

    assert text == "Traced"
    assert the(telemetry.spans("receive")).status.status_code is StatusCode.UNSET


async def test_leaving_early_is_no_error_and_ends_the_span(client, telemetry):
    """Whoever closes a subscription has its span ended, and not as failed."""
    backend = MemoryStreamBackend()
    workflow_id = unique("early")
    async with streaming_worker(client, backend, [answer]) as queue:
        handle = await client.start_workflow(
            RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue
        )
        events = TokenSubscriber(client, backend).subscribe(workflow_id)
        await anext(events)
        await events.aclose()
        await handle.result()

    assert the(telemetry.spans("receive")).status.status_code is StatusCode.UNSET


async def test_without_an_sdk_nothing_is_told_on_the_wire(client):
    """Without an SDK frames carry nothing for telemetry."""
    written: list[bytes] = []

    class Recording(MemoryStreamBackend):
        async def write(self, stream, data):
            written.append(data)
            await super().write(stream, data)

    backend = Recording()
    workflow_id = unique("silent")
    async with streaming_worker(client, backend, [answer]) as queue:
        await client.execute_workflow(RunActivity.run, args=["answer"], id=workflow_id, task_queue=queue)
        await read_all(client, backend, workflow_id)

    assert written
    assert all({"tp", "t"}.isdisjoint(json.loads(data)) for data in written)
