"""The summary in `custom_data`: on every kind of result that has the place, never at the workflow's cost."""

import dataclasses
import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pydantic
import pytest
from langchain_core.messages import AIMessageChunk
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter, DefaultPayloadConverter
from temporalio.worker import UnsandboxedWorkflowRunner, Worker
from typing_extensions import TypedDict

from temporal_token_interceptor import MemoryStreamBackend, TokenEvent, TokenStreamingInterceptor
from temporal_token_interceptor.protocol.result_items import MARK
from temporal_token_interceptor.protocol.text_check import TextDigest
from temporal_token_interceptor.testing import ScriptedChatModel
from temporal_token_interceptor.worker.summary import COUNTS_BYTES
from tests.support.streams import read_all, standing_text, unique

WORDS = ["du", "ra", "ble"]
TEXT = "".join(WORDS)
# Without a backend an activity waits at its end for two heartbeats: no test here is about those.
SOON = timedelta(seconds=0.01)


async def ask() -> str:
    return (await ScriptedChatModel.saying(*WORDS).ainvoke("?")).text


# ---------------------------------------------------------------------- results, with and without the place


@dataclass
class Record:
    text: str
    custom_data: list[Any] | None = None


@dataclass(frozen=True, slots=True)
class Frozen:
    text: str
    custom_data: list[Any] | None = None


class Model(pydantic.BaseModel):
    text: str
    custom_data: list[Any] | None = None


class Typed(TypedDict):
    text: str
    custom_data: list[Any] | None


@dataclass
class PlainRecord:
    text: str


@dataclass(frozen=True)
class PlainFrozen:
    text: str


class PlainModel(pydantic.BaseModel):
    text: str


class PlainTyped(TypedDict):
    text: str


@activity.defn
async def record() -> Record:
    return Record(await ask())


@activity.defn
async def frozen() -> Frozen:
    return Frozen(await ask())


@activity.defn
async def model() -> Model:
    return Model(text=await ask())


@activity.defn
async def typed() -> Typed:
    return {"text": await ask(), "custom_data": []}


@activity.defn
async def plain_dict() -> dict[str, Any]:
    return {"text": await ask(), "custom_data": None}


@activity.defn
async def record_without() -> PlainRecord:
    return PlainRecord(await ask())


@activity.defn
async def frozen_without() -> PlainFrozen:
    return PlainFrozen(await ask())


@activity.defn
async def model_without() -> PlainModel:
    return PlainModel(text=await ask())


@activity.defn
async def typed_without() -> PlainTyped:
    return {"text": await ask()}


@activity.defn
async def dict_without() -> dict[str, Any]:
    return {"text": await ask()}


# ---------------------------------------------------------------------- types that a summary does not fit


@dataclass
class WrongRecord:
    text: str
    custom_data: dict[str, str] | None = None


@dataclass
class StringsRecord:
    text: str
    custom_data: list[dict[str, str]] = field(default_factory=list)


class WrongModel(pydantic.BaseModel):
    text: str
    custom_data: list[str] | None = None


@activity.defn
async def wrong_record() -> WrongRecord:
    return WrongRecord(await ask())


@activity.defn
async def wrong_strings() -> StringsRecord:
    return StringsRecord(await ask())


@activity.defn
async def wrong_model() -> WrongModel:
    return WrongModel(text=await ask())


@activity.defn
async def wrong_typed() -> dict[str, str | None]:
    return {"text": await ask(), "custom_data": None}


@activity.defn
async def taken() -> dict[str, Any]:
    return {"text": await ask(), "custom_data": "mine"}


WITH = [record, frozen, model, typed, plain_dict]
WITHOUT = [record_without, frozen_without, model_without, typed_without, dict_without]
WRONG = [wrong_record, wrong_strings, wrong_model, wrong_typed, taken]
EVERY = [*WITH, *WITHOUT, *WRONG]


# ---------------------------------------------------------------------- a workflow that decodes by the types


@workflow.defn(sandboxed=False)  # it has to know the types of this file
class RunTyped:
    """Runs activities by their functions; returns what it saw of each result."""

    @workflow.run
    async def run(self, names: list[str]) -> dict[str, list[Any]]:
        seen = {}
        for function in EVERY:
            if function.__name__ in names:
                result: Any = await workflow.execute_activity(
                    function, start_to_close_timeout=timedelta(seconds=20)
                )
                fields = result if isinstance(result, dict) else vars_of(result)
                text = fields["text"][:100]
                seen[function.__name__] = [type(result).__name__, text, fields.get("custom_data")]
        return seen


def vars_of(result: Any) -> dict[str, Any]:
    names = [f.name for f in dataclasses.fields(result)] if dataclasses.is_dataclass(result) else vars(result)
    return {name: getattr(result, name) for name in names}


@pytest.fixture(params=["default", "pydantic"])
def converting(request, client):
    """A client with one of the two data converters, and the activities that work with it without us."""
    if request.param == "default":
        return client, [function for function in EVERY if "model" not in function.__name__]
    config = client.config()
    return Client(**(config | {"data_converter": pydantic_data_converter})), EVERY


class Ran:
    """What a workflow of typed activities saw, and what its history has."""

    def __init__(self, workflow_id, seen, history):
        self.workflow_id = workflow_id
        self.seen = seen
        self.failed_tasks = [e for e in history.events if e.HasField("workflow_task_failed_event_attributes")]
        results = [
            event.activity_task_completed_event_attributes.result.payloads[0].data
            for event in history.events
            if event.HasField("activity_task_completed_event_attributes")
        ]
        names = [function.__name__ for function in EVERY if function.__name__ in seen]
        self.results = dict(zip(names, results, strict=True))


async def run_typed(client, functions, interceptors) -> Ran:
    workflow_id = unique("typed")
    async with Worker(
        client,
        workflow_runner=UnsandboxedWorkflowRunner(),
        task_queue=workflow_id,
        workflows=[RunTyped],
        activities=functions,
        interceptors=interceptors,
    ):
        handle = await client.start_workflow(
            RunTyped.run, [f.__name__ for f in functions], id=workflow_id, task_queue=workflow_id
        )
        seen = await handle.result()
    return Ran(workflow_id, seen, await handle.fetch_history())


@pytest.mark.parametrize("mode", ["whole", "counts"])
async def test_results_carry_a_summary_where_they_have_the_place_and_are_else_untouched(converting, mode):
    """Five kinds of results, with and without the field, rightly and wrongly typed: no workflow notices."""
    client, functions = converting
    ours = TokenStreamingInterceptor(MemoryStreamBackend() if mode == "counts" else None, live=SOON)

    without = await run_typed(client, functions, [])
    streamed = await run_typed(client, functions, [ours])

    carrying = {function.__name__ for function in WITH} & {*without.seen}
    for name, (kind, text, custom_data) in streamed.seen.items():
        assert [kind, text] == without.seen[name][:2]
        if name in carrying:
            assert MARK in custom_data[-1]
        else:
            assert custom_data == without.seen[name][2]
            assert streamed.results[name] == without.results[name]
    assert not streamed.failed_tasks
    assert not without.failed_tasks
    assert len(carrying) == (5 if "model" in without.seen else 4)


async def test_every_kind_of_result_can_be_read_back(converting):
    """Whatever my activities return: a subscriber without Redis gets their text."""
    client, functions = converting
    carrying = [function for function in functions if function in WITH]

    ran = await run_typed(client, carrying, [TokenStreamingInterceptor(live=SOON)])
    events = await read_all(client, None, ran.workflow_id)

    assert standing_text(events) == TEXT * len(carrying)
    assert {e.node_name for e in events if isinstance(e, TokenEvent)} == {f.__name__ for f in carrying}


async def test_what_the_user_put_into_custom_data_stays_before_the_summary(client):
    """The list is mine: a summary is one more item, in a copy, and `summary="off"` leaves even that out."""
    kept = Record("kept", ["mine"])

    @activity.defn(name="record")
    async def returns_a_constant() -> Record:
        await ask()
        return kept

    backend = MemoryStreamBackend()
    on = await run_typed(client, [record_named(returns_a_constant)], [TokenStreamingInterceptor(backend)])
    off = await run_typed(
        client, [record_named(returns_a_constant)], [TokenStreamingInterceptor(backend, summary="off")]
    )

    assert on.seen["record"][2][0] == "mine"
    assert MARK in on.seen["record"][2][1]
    assert off.seen["record"][2] == ["mine"]
    assert kept.custom_data == ["mine"]


async def test_with_a_backend_the_summary_counts_and_keeps_to_four_kilobytes(client):
    """Tokens, calls, usage and how each call finished, in a few bytes: nothing stands in my history twice."""
    usage: Any = {"input_tokens": 3, "output_tokens": 5, "total_tokens": 8}
    final = AIMessageChunk(content="", usage_metadata=usage, response_metadata={"finish_reason": "stop"})

    @activity.defn(name="record")
    async def asks_often() -> Record:
        for _ in range(100):
            await ScriptedChatModel.saying(*WORDS, final).ainvoke("?")
        return Record("")

    ran = await run_typed(
        client, [record_named(asks_often)], [TokenStreamingInterceptor(MemoryStreamBackend())]
    )

    said = TextDigest()
    said.add(TEXT, len(WORDS))
    (item,) = ran.seen["record"][2]
    counts = item[MARK]
    assert (counts["attempt"], counts["token_count"], counts["call_count"]) == (1, 300, 100)
    assert counts["calls"][0]["token_count"] == 3
    assert counts["calls"][0]["digest"] == said.hexdigest()
    assert counts["calls"][0]["usage"]["total_tokens"] == 8
    assert counts["calls"][0]["finish_reason"] == "stop"
    assert 3_000 < len(json.dumps(item, separators=(",", ":"))) <= COUNTS_BYTES


async def test_a_result_near_temporals_limit_is_left_alone(client):
    """My own result has nearly 2 MiB: a summary never is what makes it too large."""

    @activity.defn(name="record")
    async def returns_much() -> Record:
        await ask()
        return Record("x" * 1_390_000)

    @activity.defn(name="frozen")
    async def returns_too_much_for_us() -> Frozen:
        await ask()
        return Frozen("x" * 1_950_000)

    ran = await run_typed(
        client,
        [record_named(returns_much), record_named(returns_too_much_for_us)],
        [TokenStreamingInterceptor(live=SOON)],
    )

    assert MARK in ran.seen["record"][2][0]
    assert ran.seen["frozen"][2] is None


async def test_a_converter_that_fails_at_the_summary_fails_nothing(client):
    """A payload converter of my own that refuses what it does not know: the result stays as it was."""
    picky = dataclasses.replace(DataConverter.default, payload_converter_class=PickyConverter)
    converting = Client(**(client.config() | {"data_converter": picky}))

    ran = await run_typed(converting, [record], [TokenStreamingInterceptor(live=SOON)])

    assert ran.seen["record"] == ["Record", TEXT, None]


class PickyConverter(DefaultPayloadConverter):
    """Refuses to write a summary."""

    def to_payloads(self, values):
        payloads = super().to_payloads(values)
        if any(MARK.encode() in payload.data for payload in payloads):
            raise RuntimeError("what is this?")
        return payloads


def record_named(function):
    """The function under the name that the workflow calls it by."""
    function.__name__ = activity._Definition.must_from_callable(function).name
    return function
