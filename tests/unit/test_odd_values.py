"""Values and counts of any make: they travel as what they are, or by their type, and cost nothing else."""

import dataclasses
import ipaddress
import json
import warnings
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.callbacks import adispatch_custom_event
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableLambda
from pydantic import BaseModel, HttpUrl, RootModel, SecretStr, TypeAdapter

from temporal_token_interceptor import CustomEvent, Gap
from temporal_token_interceptor.capture.forcing import REFUSALS
from temporal_token_interceptor.capture.json_values import json_values
from temporal_token_interceptor.testing import ScriptedChatModel, StreamingActivityEnvironment
from tests.support.call_views import as_messages_show_it

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pydantic import v1

# ------------------------------------------------------------------ values


class Old(v1.BaseModel):
    name: str = "o"
    inner: Any = None


class Numbers(RootModel[list[Any]]):
    """A model that is a list."""


class Page(BaseModel):
    url: HttpUrl = HttpUrl("https://a.example/")
    key: SecretStr = SecretStr("secret")


@dataclasses.dataclass(slots=True)
class Slotted:
    inner: Any = None


class Zone(tzinfo):
    """A time zone of the user's: to ask it for its offset runs the user's code, which may take long."""

    def utcoffset(self, _: Any) -> timedelta:
        return timedelta(hours=1)

    def tzname(self, _: Any) -> str:
        return "mine"

    def dst(self, _: Any) -> None:
        return None


class Asked(type):
    """A metaclass that answers for its classes."""

    def __getattr__(cls, name: str) -> Any:
        raise OSError(name)


class OfAsked(metaclass=Asked):
    """An object of a class that cannot be asked for its members."""


VALUES: list[tuple[Any, Any]] = [
    (Old(), {"name": "o", "inner": None}),
    (Numbers([1, 2]), [1, 2]),
    (Page(), {"url": "https://a.example/", "key": {"unserializable": "SecretStr"}}),
    (Slotted(), {"inner": None}),
    (ipaddress.ip_address("10.0.0.1"), "10.0.0.1"),
    (ipaddress.ip_network("10.0.0.0/8"), "10.0.0.0/8"),
    (ipaddress.ip_interface("::1/64"), "::1/64"),
    (datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")), "2026-01-01T00:00:00+01:00"),
    (TypeAdapter(datetime).validate_python("2026-01-01T00:00:00+02:00"), "2026-01-01T00:00:00+02:00"),
    (datetime(2026, 1, 1, tzinfo=Zone()), {"unserializable": "datetime"}),
    (time(1, tzinfo=Zone()), {"unserializable": "time"}),
    (time(1, tzinfo=UTC), "01:00:00+00:00"),
    (date(2026, 1, 1), "2026-01-01"),
    (OfAsked(), {"unserializable": "OfAsked"}),
]

PLACES: dict[str, Any] = {
    "itself": lambda value: value,
    "list": lambda value: [value],
    "dict": lambda value: {"k": value},
    "slots": Slotted,
    "old model": lambda value: Old.construct(name="o", inner=value),
    "root": lambda value: Numbers.model_construct(root=[value]),
}


def placed(value: Any, place: str) -> Any:
    """Return the JSON of a value at a place."""
    shapes = {
        "itself": value,
        "list": [value],
        "dict": {"k": value},
        "slots": {"inner": value},
        "old model": {"name": "o", "inner": value},
        "root": [value],
    }
    return shapes[place]


@given(st.sampled_from(VALUES), st.lists(st.sampled_from(sorted(PLACES)), max_size=4))
async def test_a_custom_event_has_what_it_was_given(value, places):
    """Wherever the value stands in it, and without a call of the user's code."""
    given_, expected = value
    for place in places:
        given_, expected = PLACES[place](given_), placed(expected, place)
    environment = StreamingActivityEnvironment()

    async def node(_: Any) -> None:
        await adispatch_custom_event("n", {"v": given_})

    async def activity() -> None:
        await RunnableLambda(node).ainvoke(1)

    await environment.run(activity)

    (event,) = [event for event in environment.events if isinstance(event, CustomEvent)]
    assert event.data == {"v": expected}
    assert json.loads(json.dumps(json_values(given_))) == expected


# ------------------------------------------------------------------ counts

COUNT = st.one_of(st.integers(0, 9), st.none(), st.just("5"), st.just(float("nan")))
USAGE = st.none() | st.fixed_dictionaries(
    {"input_tokens": COUNT},
    optional={
        "output_tokens": COUNT,
        "total_tokens": COUNT,
        "input_token_details": st.fixed_dictionaries({"x": COUNT}),
    },
)


class Counting(BaseChatModel):
    """Says what was used, in each chunk as it likes: LangChain does not check what a model sets."""

    usages: Any

    @property
    def _llm_type(self) -> str:
        return "counting"

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        message = AIMessage("abc"[: len(self.usages)])
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(self, *_: Any, **__: Any) -> Any:
        for text, usage in zip("abc", self.usages, strict=False):
            message = AIMessageChunk(text)
            message.usage_metadata = usage
            yield ChatGenerationChunk(message=message)


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(st.lists(USAGE, min_size=1, max_size=3))
async def test_counts_of_any_make_cost_no_text_and_no_answer(usages):
    REFUSALS.clear()
    environment = StreamingActivityEnvironment()

    async def activity() -> Any:
        return (await Counting(usages=usages).ainvoke("?")).text

    text = await environment.run(activity)

    assert text == environment.text == "abc"[: len(usages)]
    assert environment.tokens == list(text)
    assert as_messages_show_it(environment.events).text == text


# ------------------------------------------------------------------ texts that no frame can hold


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize(
    "pieces",
    [["\x01" * (3 * 1024 * 1024)], ["a" * 1024 * 1024] * 17, ["\x01" * 600_000] * 6],
    ids=["one piece that is six times as long in JSON", "many pieces", "both"],
)
async def test_a_text_longer_than_any_frame_arrives(way, pieces):
    """In one piece, or in many that come while the worker's loop is busy: a sync call keeps it so."""
    environment = StreamingActivityEnvironment(max_buffered_bytes=256 * 1024 * 1024)
    model = ScriptedChatModel.saying(*pieces)

    async def activity() -> Any:
        return (model.invoke("?") if way == "invoke" else await model.ainvoke("?")).text

    text = await environment.run(activity)

    assert environment.text == text
    assert not [event for event in environment.events if isinstance(event, Gap)]
