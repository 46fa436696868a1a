"""What a user's values, names and ids can cost: bounded memory, counted in bytes, and none of their code."""

import asyncio
import dataclasses
import enum
import json
import logging
import time
import tracemalloc
from collections import OrderedDict, UserDict, defaultdict, deque
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.callbacks import adispatch_custom_event
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from pydantic import BaseModel, field_validator, model_serializer

from temporal_token_interceptor import (
    CallEnded,
    CallStarted,
    ContentBlock,
    CustomEvent,
    Gap,
    NodeEnded,
    ToolCallChunk,
    ToolEnded,
    ToolStarted,
)
from temporal_token_interceptor._tasks import in_thread
from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.capture.buffer import Buffer
from temporal_token_interceptor.capture.json_values import json_values
from temporal_token_interceptor.capture.names import (
    ID_CHARACTERS,
    MOST_TAGS,
    NAME_CHARACTERS,
    id_of,
    name_of,
    names_of,
)
from temporal_token_interceptor.capture.sizes import record_bytes
from temporal_token_interceptor.events import Call, Origin, Record
from temporal_token_interceptor.testing import ScriptedChatModel, StreamingActivityEnvironment
from temporal_token_interceptor.worker import result_summary
from tests.unit.test_final_message import of_kind

# ------------------------------------------------------------------ real bytes

TEXT = st.text(max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
OBJECT = st.dictionaries(TEXT, JSON, max_size=4)
CALL = st.builds(
    Call,
    ordinal=st.just(0),
    node_name=TEXT,
    path=st.tuples(TEXT, TEXT),
    agent_name=TEXT,
    model=TEXT,
    tags=st.tuples(TEXT, TEXT),
    metadata=OBJECT,
)
RECORD: st.SearchStrategy[Record] = st.one_of(
    st.builds(CallStarted, call=CALL),
    st.builds(
        CallEnded, call=CALL, usage=OBJECT, finish_reason=TEXT, message_id=TEXT, additional_kwargs=OBJECT
    ),
    st.builds(ToolCallChunk, index=TEXT, id=TEXT, name=TEXT, args=TEXT, call=CALL),
    st.builds(ContentBlock, block=OBJECT, call=CALL),
    st.builds(ToolStarted, name=TEXT, tool_call_id=TEXT, input=TEXT),
    st.builds(ToolEnded, name=TEXT, tool_call_id=TEXT, output=TEXT, node_name=TEXT, path=st.tuples(TEXT)),
    st.builds(NodeEnded, output=JSON, node_name=TEXT),
    st.builds(CustomEvent, name=TEXT, data=JSON),
)


def texts_in(value: object) -> int:
    """How many bytes the texts of a value have in UTF-8."""
    match value:
        case str():
            return len(value.encode("utf-8", "surrogatepass"))
        case dict():
            return sum(texts_in(part) for pair in value.items() for part in pair)
        case list() | tuple():
            return sum(map(texts_in, value))
        case Origin():
            return 0
        case _ if dataclasses.is_dataclass(value):
            return sum(texts_in(getattr(value, field.name)) for field in dataclasses.fields(value))
        case _:
            return 0


@given(RECORD)
def test_a_record_costs_at_least_the_bytes_of_all_that_it_holds(record):
    """Whatever member a text stands in, it counts, and in bytes; a call counts with its start."""
    held = texts_in(record)
    if not isinstance(record, CallStarted) and isinstance(call := getattr(record, "call", None), Call):
        held -= texts_in(call)

    assert record_bytes(record) >= held


@given(st.lists(st.text(min_size=1, max_size=60), min_size=1, max_size=40))
def test_text_costs_its_bytes(texts):
    """CJK has three bytes a character, an emoji four."""
    budget = Budget(10**7)
    buffer = Buffer(budget, lambda: None)

    for index, text in enumerate(texts):
        buffer.put_text(Call(ordinal=0, node_name="n"), "text", index, text)

    assert buffer._size >= sum(len(text.encode()) for text in texts)


@pytest.mark.parametrize("letter", ["x", "é", "茶", "😀", "x😀"])
@pytest.mark.parametrize("length", [1, 40, 1_000])
def test_what_waits_for_the_transport_keeps_to_its_bound(letter, length):
    """`max_buffered_bytes` is memory, in any language."""
    limit = 400_000
    buffer = Buffer(Budget(limit), lambda: None)
    call = Call(ordinal=0, node_name="n")

    tracemalloc.start()
    for index in range(800_000 // length):
        buffer.put_text(call, "text", index, f"{index}{letter * (length // len(letter))}")
        if buffer._budget.dropped > 100:
            break
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert used < 1.25 * limit


def test_starts_and_ends_beyond_the_bound_keep_to_a_reserve():
    """They carry what is large no more, and are counted once the reserve of the worker is used up."""
    budget = Budget(1)
    buffers = [Buffer(budget, lambda: None) for _ in range(4)]
    end = NodeEnded(node_name="n" * NAME_CHARACTERS, output={"large": "x" * 60_000})

    tracemalloc.start()
    for buffer in buffers:
        for _ in range(5_000):
            buffer.put(dataclasses.replace(end, run_id=f"{time.monotonic_ns()}"), None)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    taken = [record for buffer in buffers for record in buffer.take(10**9)]

    kept = [record for record in taken if isinstance(record, NodeEnded)]
    missing = sum(record.missing or 0 for record in taken if isinstance(record, Gap))
    assert used < 10_000_000
    assert {(record.output, record.truncated) for record in kept} == {(None, True)}
    assert len(kept) + missing == 20_000
    assert missing > 0
    assert budget.reserved == 0


# ------------------------------------------------------------------ names and ids


@given(st.text(max_size=3 * NAME_CHARACTERS))
def test_a_name_is_whole_or_shows_that_it_was_cut(name):
    """And it says how much."""
    found = name_of(name)

    assert found == name if len(name) <= NAME_CHARACTERS else found is not None
    if len(name) > NAME_CHARACTERS:
        assert found == f"{name[:NAME_CHARACTERS]}…({len(name) - NAME_CHARACTERS} characters more)"


@given(st.lists(st.text(max_size=5), max_size=3 * MOST_TAGS))
def test_tags_are_whole_or_show_that_some_were_cut(tags):
    found = names_of(tags)

    assert list(found[: len(tags)]) == tags[:MOST_TAGS] + ([found[-1]] if len(tags) > MOST_TAGS else [])
    assert len(found) <= MOST_TAGS + 1


@given(st.text(alphabet="ab", min_size=1, max_size=4), st.text(alphabet="ab", min_size=1, max_size=4))
def test_different_ids_stay_different_also_where_they_are_cut(first, second):
    """An id joins what belongs together."""
    base = "x" * ID_CHARACTERS

    assert (id_of(base + first) == id_of(base + second)) == (first == second)
    assert len(id_of(base + first) or "") < 1_000
    assert id_of(first) == first


async def test_long_names_tags_and_metadata_cost_no_more_than_their_bound():
    """A call's facts stand in each of its starts; a user can put a document there."""
    environment = StreamingActivityEnvironment(metadata_keys=["note"])
    model = ScriptedChatModel.saying("ok")
    config: Any = {
        "tags": [f"{'t' * 5_000}{number}" for number in range(500)],
        "metadata": {"note": ["x" * 100_000] * 100, "ls_model_name": "n" * 10_000},
    }

    async def activity() -> None:
        await model.ainvoke("?", config)

    await environment.run(activity)

    (started,) = of_kind(environment, CallStarted)
    assert len(json.dumps(started.to_json())) < 100_000
    assert started.call.tags[-1] == "…(436 more)"
    assert all("characters more)" in tag for tag in started.call.tags[:-1])
    assert environment.text == "ok"


async def test_a_block_or_arguments_too_large_to_be_read_are_a_gap():
    """Nothing is cut in silence: half a block or half an argument is worse than none."""
    wide = [[]] * 60_000
    block = {"type": "non_standard", "value": {"wide": wide}}
    message = AIMessage(
        [{"type": "text", "text": "x"}, block],
        tool_calls=[{"name": "find", "args": {"wide": wide}, "id": "1"}],
    )

    class Plain(ScriptedChatModel):
        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            result = super()._generate(*args, **kwargs)
            result.generations[0].message = message
            return result

    environment = StreamingActivityEnvironment(force_streaming=False)
    model = Plain.saying("x")

    async def activity() -> Any:
        return await model.ainvoke("?")

    await environment.run(activity)

    assert environment.text == "x"
    assert [(gap.missing, gap.reason) for gap in of_kind(environment, Gap)] == [(1, "overflow")] * 2


# ------------------------------------------------------------------ no code of the user's


class Bomb:
    """Any use of it by a method of its own ends the test."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"the user's code ran: {name}")

    def __str__(self) -> str:
        raise AssertionError("the user's code ran: str")

    __repr__ = __str__


def armed(kind: type[Any], *methods: str) -> type[Any]:
    """A subclass whose methods end the test."""

    def explode(self: Any, *_: Any, **__: Any) -> Any:
        raise AssertionError("the user's code ran")

    return type(f"Armed{kind.__name__}", (kind,), dict.fromkeys(methods, explode))


class SlowModel(BaseModel):
    name: str = "m"

    @model_serializer
    def written(self) -> Any:
        raise AssertionError("the user's code ran: serializer")

    @property
    def more(self) -> Any:
        raise AssertionError("the user's code ran: property")


@dataclasses.dataclass
class Hiding:
    name: str = "d"

    def __getattribute__(self, name: str) -> Any:
        if name == "name":
            raise AssertionError("the user's code ran: getattribute")
        return object.__getattribute__(self, name)


class Loud(enum.Enum):
    RED = "red"

    @property
    def value(self) -> Any:
        raise AssertionError("the user's code ran: value")


NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Bomb(), {"unserializable": "Bomb"}),
        (armed(dict, "items", "keys", "__iter__", "__getitem__", "__repr__")(a=1), {"a": 1}),
        (armed(list, "__iter__", "__len__", "__repr__")([1]), [1]),
        (armed(tuple, "__iter__", "__repr__")([1]), [1]),
        (armed(str, "__str__", "__repr__", "__len__")("s"), "s"),
        (armed(int, "__str__", "__repr__", "__int__", "__index__")(7), 7),
        (armed(float, "__str__", "__repr__", "__float__")(0.5), 0.5),
        (armed(UUID, "__str__", "__repr__")(int=1), str(UUID(int=1))),
        (armed(Decimal, "__str__", "__repr__")("1.5"), "1.5"),
        (armed(datetime, "isoformat", "__str__")(2026, 11, 20, 12, tzinfo=UTC), NOON.isoformat()),
        (armed(UserDict, "__iter__", "items")(), {"unserializable": "ArmedUserDict"}),
        (SlowModel(), {"name": "m"}),
        (Hiding(), {"name": "d"}),
        (Loud.RED, "red"),
        ({Bomb: 1, Loud.RED: 2, 3: 4}, {"type": 1, "red": 2, "3": 4}),
        (
            [date(2026, 1, 2), timedelta(1), PurePosixPath("a/b")],
            ["2026-01-02", str(timedelta(1)), "a/b"],
        ),
        (
            [OrderedDict(a=1), defaultdict(int, a=1), deque([1]), MappingProxyType({"a": 1})],
            [{"a": 1}, {"a": 1}, [1], {"a": 1}],
        ),
    ],
    ids=range(17),
)
def test_values_are_read_without_their_own_methods(value, expected):
    """A serializer that takes seconds would stop the worker's loop, and its heartbeats."""
    assert json_values(value) == expected


@tool
def look(what: str) -> str:
    """Look at something."""
    return what


async def test_no_road_runs_a_user_s_serializer():
    """Tool inputs and outputs, node outputs, custom events, blocks, arguments, usage, kwargs, metadata."""
    environment = StreamingActivityEnvironment(
        capture=["tool_input", "tool_output", "node_output", "media"], metadata_keys=["note"]
    )
    value = {"model": SlowModel(), "hiding": Hiding(), "bomb": Bomb()}
    chunk = AIMessageChunk(
        [{"type": "custom", "value": value}],
        additional_kwargs={"own": value},
        response_metadata={"finish_reason": armed(object, "__str__", "__repr__")()},
    )

    async def activity() -> None:
        await ScriptedChatModel.saying(chunk).ainvoke("?", {"metadata": {"note": value}})

        async def node(_: Any) -> None:
            await adispatch_custom_event("own", value)

        await RunnableLambda(node).ainvoke("?")
        await look.ainvoke({"what": "x"})

    await environment.run(activity)

    (block,) = of_kind(environment, ContentBlock)
    (custom,) = of_kind(environment, CustomEvent)
    (started,) = of_kind(environment, CallStarted)
    (ended,) = of_kind(environment, CallEnded)
    plain = {"model": {"name": "m"}, "hiding": {"name": "d"}, "bomb": {"unserializable": "Bomb"}}
    assert custom.data == plain
    assert started.call.metadata == {"note": plain}
    assert ended.additional_kwargs == {"own": plain}
    assert plain in (block.block.get("value"), block.block.get("value", {}).get("value"))
    assert ended.finish_reason is None


# ------------------------------------------------------------------ results


class SlowResult(BaseModel):
    """A result whose validator takes longer than an activity may be kept."""

    text: str = ""
    custom_data: list[Any] | None = None

    @field_validator("text")
    @classmethod
    def slow(cls, text: str) -> str:
        time.sleep(0.5)
        return text


async def test_a_slow_validator_does_not_stop_the_loop(monkeypatch, caplog):
    """The summary of a result is checked off the loop, and given up after a bound; once for a type."""
    monkeypatch.setattr(result_summary, "_ATTACH_SECONDS", 0.1)
    environment = StreamingActivityEnvironment()
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.001)
            longest = max(longest, time.monotonic() - before)

    async def activity() -> SlowResult:
        await ScriptedChatModel.saying("ok").ainvoke("?")
        return SlowResult.model_construct(text="t")

    watching = asyncio.create_task(watch())
    with caplog.at_level(logging.WARNING):
        results = [await environment.run(activity) for _ in range(2)]
    watching.cancel()

    assert [result.custom_data for result in results] == [None, None]
    assert longest < 0.4
    assert caplog.text.count("to be encoded and decoded") <= 1


async def test_a_function_that_hangs_is_left_behind():
    """Nothing waits for it, neither the loop nor the end of the process."""
    with pytest.raises(TimeoutError):
        await in_thread(lambda: time.sleep(0.5), 0.01)

    assert await in_thread(lambda: 1, 5) == 1
    with pytest.raises(ValueError, match="own"):
        await in_thread(_raise, 5)


def _raise() -> None:
    raise ValueError("own")
