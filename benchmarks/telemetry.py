"""What telemetry costs a streaming model call, per token, over capture alone.

`api`: no SDK is installed, so that only OpenTelemetry's API is there. `sdk`: an SDK that samples every
span, with a batch processor and a metric reader. All variants run the same model, one after another within
each round; a ratio is the median of the rounds' ratios. What is counted is CPU time, of all threads: what is
looked for is smaller than the noise of a machine that has other things to do.
"""

from __future__ import annotations

import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from statistics import median
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Tracer

from benchmarks.capture import TOKENS, Model, NullSink
from benchmarks.measure import Figure, Size, origin
from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.capture.langchain_hooks import also_observed_by
from temporal_token_interceptor.capture.model_observer import Observer, capturing
from temporal_token_interceptor.telemetry.attempt import (
    NO_TELEMETRY,
    AttemptTelemetry,
    NoTelemetry,
    attempt_telemetry,
)
from temporal_token_interceptor.telemetry.instruments import Instruments
from temporal_token_interceptor.telemetry.model_calls import ModelTelemetry, models_reported
from temporal_token_interceptor.worker.fetched_session import session_to

ROUNDS = 25
RATIO = 1.02


async def figures(size: Size) -> AsyncIterator[Figure]:
    spans = TracerProvider(shutdown_on_exit=False)
    spans.add_span_processor(BatchSpanProcessor(_Discard()))
    meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    sdk = partial(_with_sdk, spans.get_tracer("bench"), Instruments(meters.get_meter("bench")))
    tokens, rounds = size.count(TOKENS, 2), size.count(ROUNDS)
    models = {"ainvoke": Model(tokens=tokens), "ainvoke_yielding": Model(tokens=tokens, yielding=True)}
    try:
        for name, model in models.items():
            async for figure in _compare(f"telemetry.{name}", model, sdk, rounds):
                yield figure
    finally:
        spans.shutdown()
        meters.shutdown()


async def _compare(
    name: str, model: Model, sdk: Callable[[Model], Awaitable[None]], rounds: int
) -> AsyncIterator[Figure]:
    variants = {"capture": _capture_alone, "api": _with_api, "sdk": sdk}
    taken: dict[str, list[float]] = {variant: [] for variant in variants}
    for round_ in range(rounds + 1):
        order = list(variants)[round_ % 3 :] + list(variants)[: round_ % 3]
        for variant in order:
            gc.collect()
            start = time.process_time()
            await variants[variant](model)
            if round_:  # the first one warms up
                taken[variant].append((time.process_time() - start) / model.tokens * 1e6)
    for variant, values in taken.items():
        yield Figure(f"{name}.{variant}", median(values), "us/token")
    for variant, budget in (("api", RATIO), ("sdk", None)):
        ratios = [ours / alone for ours, alone in zip(taken[variant], taken["capture"], strict=True)]
        yield Figure.of_rounds(f"{name}.{variant}.ratio", ratios, "x", budget)


async def _capture_alone(model: Model) -> None:
    await _stream(model, lambda _budget: NO_TELEMETRY, ExitStack())


async def _with_api(model: Model) -> None:
    context = ExitStack()
    context.enter_context(models_reported(genai_spans="auto", default_node="bench"))
    await _stream(model, lambda budget: attempt_telemetry(origin(), NullSink(), budget, None), context)


async def _with_sdk(tracer: Tracer, instruments: Instruments, model: Model) -> None:
    handler = ModelTelemetry(default_node="bench", tracer=tracer, instruments=instruments, content=False)
    context = ExitStack()
    context.enter_context(also_observed_by(handler))
    await _stream(
        model, lambda _budget: AttemptTelemetry(origin(), "null", tracer, instruments, None), context
    )


async def _stream(model: Model, telemetry_of: Callable[[Budget], NoTelemetry], context: ExitStack) -> None:
    """Run all that an activity's attempt runs, but for the transport; its start and end included."""
    budget = Budget(32 * 1024 * 1024)
    telemetry = telemetry_of(budget)
    session = session_to(
        origin(), NullSink(), budget=budget, flush_timeout=timedelta(seconds=2), telemetry=telemetry
    )
    async with session:
        observer = Observer(session.buffer, default_node="bench", on_call=telemetry.call_started)
        with capturing(observer), context:
            await model.ainvoke("hi")
        await session.finish("completed_provisional")
    if session.statistics.undelivered or budget.dropped or not session.statistics.frames:
        raise RuntimeError(f"the benchmark measured a session that lost tokens: {session!r}")


class _Discard(SpanExporter):
    def export(self, _spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS
