"""What telemetry costs where nobody listens, and what it may never do where somebody does."""

import asyncio
import importlib.util
import subprocess
import sys
from datetime import timedelta

import pytest
from opentelemetry.sdk.trace import SpanProcessor

from temporal_token_interceptor import ConfigurationError, MemoryStreamBackend, TokenStreamingInterceptor
from temporal_token_interceptor._guard import Guard
from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.capture.langchain_hooks import is_instrumented
from temporal_token_interceptor.capture.model_observer import Observer, capturing
from temporal_token_interceptor.events import AttemptEnded, Frame, TextRun
from temporal_token_interceptor.protocol.frames import decode, encode
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.telemetry.attempt import NO_TELEMETRY, AttemptTelemetry, attempt_telemetry
from temporal_token_interceptor.telemetry.model_calls import models_reported
from temporal_token_interceptor.telemetry.subscription import subscription_telemetry
from temporal_token_interceptor.testing import ScriptedChatModel
from temporal_token_interceptor.worker.session import Session
from tests.support.frames import a_call, an_origin
from tests.support.telemetry import sdk_installed

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_without_an_sdk_nothing_is_made():
    """Without an SDK an attempt and a subscription report to nobody."""
    budget = Budget(1024)

    assert attempt_telemetry(an_origin(), MemoryStreamBackend(), budget, None) is NO_TELEMETRY
    assert subscription_telemetry("default", "wf", MemoryStreamBackend()) is None


def test_the_package_runs_without_the_sdk():
    """At run time OpenTelemetry's API is enough."""
    code = (
        "import sys; sys.modules['opentelemetry.sdk'] = None\n"
        "import temporal_token_interceptor as package\n"
        "for name in package.__all__: getattr(package, name)\n"
    )

    assert importlib.util.find_spec("opentelemetry.sdk")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)  # noqa: S603 - our own program


class _Broken(SpanProcessor):
    def on_start(self, span, parent_context=None):
        raise RuntimeError("broken on start")

    def on_end(self, span):
        raise RuntimeError("broken on end")


async def test_a_broken_span_processor_costs_no_token(caplog):
    """If the user's telemetry raises, tokens arrive all the same, and the log says it once each."""
    backend, origin = MemoryStreamBackend(), an_origin()
    budget = Budget(1024 * 1024)
    with sdk_installed([_Broken()]):
        telemetry = attempt_telemetry(origin, backend, budget, None)
        async with Session(
            origin, backend, budget=budget, flush_timeout=timedelta(seconds=2), telemetry=telemetry
        ) as session:
            observer = Observer(session.buffer, default_node="n", on_call=telemetry.call_started)
            with capturing(observer), models_reported(genai_spans="on", default_node="n"):
                message = await ScriptedChatModel.saying("all ", "here").ainvoke("?")
            await session.finish("completed_provisional")

    assert message.text == "all here"
    assert session.statistics.undelivered == 0
    async with asyncio.timeout(5):
        batch = await anext(backend.read(StreamKey.of(origin)))
    texts = [event[3] for entry in batch for event in decode(entry.data).events if event[0] == "text"]
    assert "".join(text for run in texts for text in run) == "all here"
    said = [record.name for record in caplog.records if "logged once an attempt" in record.message]
    assert len(said) == len({*said}) == 2  # of the model call, and of its way to the transport


class _Thrown(SpanProcessor):
    def on_start(self, span, parent_context=None):
        raise TimeoutError


def test_what_is_thrown_into_the_thread_is_not_swallowed():
    """A cancellation that Temporal raises in my sync activity while telemetry is at work still arrives."""
    with sdk_installed([_Thrown()]):
        telemetry = attempt_telemetry(
            an_origin(), MemoryStreamBackend(), Budget(1024), None, guard=Guard((TimeoutError,))
        )
        model = ScriptedChatModel.saying("?")

        with pytest.raises(TimeoutError):
            telemetry.call_started(a_call())
        with (
            pytest.raises(TimeoutError),
            models_reported(genai_spans="on", default_node="n", guard=Guard((TimeoutError,))),
        ):
            model.invoke("?")


@pytest.mark.parametrize("outcome", ["worker_shutdown", "reset"])
def test_what_is_merged_dropped_or_left_is_counted(outcome):
    """After an outage the metrics say how much was merged, dropped and not delivered."""
    with sdk_installed() as told:
        budget = Budget(1024)
        telemetry = attempt_telemetry(an_origin(), MemoryStreamBackend(), budget, None)
        assert isinstance(telemetry, AttemptTelemetry)
        telemetry.taken()
        telemetry.stored((TextRun("text", 0, 0, ["three in one"], 3),))
        telemetry.ended(AttemptEnded(outcome=outcome), 7)
        budget.lease(100)

        counted = {
            name: told.total(f"temporal_token_interceptor.{name}")
            for name in ("tokens.published", "tokens.merged", "tokens.superseded", "frames.undelivered")
        }
        assert counted == {
            "tokens.published": 3,
            "tokens.merged": 3,
            "tokens.superseded": 3,
            "frames.undelivered": 7,
        }
        assert told.total("temporal_token_interceptor.buffer.size") == 100


def test_a_call_whose_end_was_not_stored_is_told_as_undelivered():
    """If Redis was away to the end, the `send` span says so."""
    with sdk_installed() as told:
        telemetry = attempt_telemetry(an_origin(), MemoryStreamBackend(), Budget(1024), None)
        telemetry.call_started(a_call())
        telemetry.ended(None, 1)

    [send] = told.spans("send")
    assert send.attributes["error.type"] == "undelivered"


def test_telemetry_in_a_frame_is_optional_and_harmless():
    """A frame may name its trace and the time; what is not as the protocol says is ignored, not refused."""
    origin = an_origin()
    frame = Frame(origin, 0, (), header=True, traceparent=TRACEPARENT, waiting_since=1_700_000_000_000_000)

    packet = decode(encode(frame))
    strange = decode(encode(Frame(origin, 0, (), header=True)).replace(b'"e":[]', b'"e":[],"tp":7,"t":"?"'))

    assert (packet.traceparent, packet.waiting_since) == (TRACEPARENT, 1_700_000_000_000_000)
    assert (strange.traceparent, strange.waiting_since) == (None, None)


def test_genai_spans_takes_three_words():
    """A misspelled option is refused at once, by name."""
    with pytest.raises(ConfigurationError, match="genai_spans"):
        TokenStreamingInterceptor(MemoryStreamBackend(), genai_spans="yes")


@pytest.mark.parametrize(
    ("environment", "instrumented"),
    [
        ({}, False),
        ({"LANGSMITH_TRACING": "true"}, False),
        ({"LANGSMITH_TRACING": "true", "LANGSMITH_OTEL_ENABLED": "true"}, True),
        ({"LANGCHAIN_TRACING_V2": "true", "LANGCHAIN_OTEL_ENABLED": "true"}, True),
        ({"LANGSMITH_OTEL_ENABLED": "true"}, False),
        ({"LANGSMITH_TRACING": "true", "LANGSMITH_TRACING_MODE": "hybrid"}, True),
        (
            {
                "LANGSMITH_TRACING": "true",
                "LANGSMITH_TRACING_MODE": "langsmith",
                "LANGSMITH_OTEL_ENABLED": "true",
            },
            False,
        ),
    ],
)
def test_langsmith_counts_where_it_tells_opentelemetry(monkeypatch, environment, instrumented):
    """LangSmith is another instrumentation only where its environment makes it one."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert is_instrumented() is instrumented
