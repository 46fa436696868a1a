"""Records that are made for each token are made quicker than dataclasses are, and are no different."""

import pickle
import random
from copy import deepcopy
from dataclasses import FrozenInstanceError, dataclass, fields, replace
from inspect import signature

import pytest

from temporal_token_interceptor.errors import InvalidCursor
from temporal_token_interceptor.events import Frame, ReasoningEvent, TextRun, TokenEvent, ToolCallChunk
from temporal_token_interceptor.events.quick_init import quick_init
from temporal_token_interceptor.transport.redis import connection
from tests.support.frames import a_call, an_origin

ORIGIN, CALL = an_origin(), a_call()

RECORDS = [
    TokenEvent("text", "node", 3, call=CALL, origin=ORIGIN, cursor="1~run~b~2"),
    ReasoningEvent(token="text", index=3, call=CALL, block=1, origin=ORIGIN),  # noqa: S106
    ToolCallChunk(index=0, id=None, name=None, args="{", call=CALL),
    TextRun("text", 0, 3, ("a", "b"), 2),
    Frame(ORIGIN, 5, (TextRun("text", 0, 3, ("a",), 1),), header=True),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_is_a_frozen_dataclass_like_any_other(record):
    """I copy, compare, pickle and replace events, and change none by accident."""
    members = {field.name: getattr(record, field.name) for field in fields(record)}

    assert type(record)(**members) == record
    assert replace(record) == deepcopy(record) == pickle.loads(pickle.dumps(record)) == record  # noqa: S301
    first = next(iter(members))
    assert replace(record, **{first: "other"}) != record
    with pytest.raises(FrozenInstanceError):
        setattr(record, first, "other")
    with pytest.raises(TypeError):
        type(record)(**members, unknown=1)
    with pytest.raises(TypeError):
        type(record)()


def test_a_quick_init_is_called_as_the_one_of_the_dataclass():
    """Names, order, defaults and keywords are those that are documented."""

    @dataclass(frozen=True, slots=True)
    class Base:
        first: int
        second: tuple[int, ...] = ()

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Slow(Base):
        third: str
        fourth: str | None = None

    before = signature(Slow)
    slow = Slow(1, third="c")
    quick = quick_init(Slow)

    assert signature(quick) == before
    assert quick(1, third="c") == slow
    assert quick(1, (2,), third="c", fourth="d") == Slow(first=1, second=(2,), third="c", fourth="d")


def test_an_id_is_read_the_same_by_its_usual_length_and_without():
    """Ids of Redis come back to Redis as it wrote them, however large their numbers are."""
    chance = random.Random(1)

    def number() -> int:
        return chance.randrange(10 ** chance.randrange(1, 20))

    for _ in range(5_000):
        server_id = f"{number()}-{number()}"
        assert connection.server_id(connection.entry_id(server_id)) == server_id
    for _ in range(5_000):
        made_up = "".join(chance.choice("0019z-") for _ in range(chance.choice((5, 26, 26, 30))))
        numbers = connection._numbers(connection._ENTRY_ID, made_up)
        try:
            found = connection.server_id(made_up)
        except InvalidCursor:
            found = None
        assert found == (None if numbers is None else f"{numbers[0]}-{numbers[1]}")
