"""What the worker says of the messages that a node returned, and that it changes none of them."""

from typing import Any
from uuid import UUID

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.types import Command
from pydantic import BaseModel

from temporal_token_interceptor.capture.known_messages import KnownMessages, returned_by

RUN = UUID(int=1)


class Hostile(dict[str, Any]):
    """A state whose methods fail: none of them is called."""

    def values(self) -> Any:
        raise AssertionError

    def __iter__(self) -> Any:
        raise AssertionError

    def items(self) -> Any:
        raise AssertionError


class Model(BaseModel):
    """A state that is a model."""

    said: Any
    more: Any = None


def test_a_message_without_an_id_keeps_none_and_is_the_same_wherever_it_comes():
    """Within a subgraph, out of it, and once its graph has given it an id: one message."""
    known, message = KnownMessages(), AIMessage("x")

    within = known.of_output(("sub",), RUN, {"messages": [message]})
    assert message.id is None
    again = known.of_output((), UUID(int=2), [message])
    assert (within["made_ids"], within["known_inner_ids"]) == ((f"{RUN}-0",), ())
    assert (again["made_ids"], again["known_ids"], again["known_inner_ids"]) == (
        (f"{RUN}-0",), (), (f"{RUN}-0",),
    )  # fmt: skip
    message.id = "given"
    once_more = known.of_output((), UUID(int=3), {"messages": message})
    assert once_more == {"made_ids": (), "known_ids": ("given",), "known_inner_ids": ()}


def test_what_was_streamed_or_given_is_known_where_it_was_seen():
    known = KnownMessages()
    known.add((), "streamed")
    known.add(("sub",), "inside")
    known.add_input((), {"messages": [HumanMessage("?", id="asked")], "n": 3})
    output = {"messages": [AIMessage("", id=name) for name in ("streamed", "inside", "asked", "new")]}

    assert known.of_output((), RUN, output) == {
        "made_ids": (), "known_ids": ("streamed", "asked"), "known_inner_ids": ("inside",),
    }  # fmt: skip
    assert known.of_output((), RUN, output)["known_ids"] == ("streamed", "inside", "asked", "new")


M, N = AIMessage("m"), AIMessage("n")


@pytest.mark.parametrize(
    ("output", "found"),
    [
        (None, []),
        (M, [M]),
        ([M, "x", N], [M, N]),
        ({"a": M, "b": [N, {"c": M}], "d": "x"}, [M, N]),
        ({"a": {"b": M}}, []),
        (Hostile(a=[M]), [M]),
        (Model(said=[M], more=N), [M, N]),
        (Command(update={"messages": [M]}), [M]),
        (Command(update=[("messages", [M])]), []),
        ([Command(update={"a": M}), {"b": N}, Command(goto="x")], [M, N]),
    ],
)
def test_messages_are_found_where_langgraph_finds_them(output, found):
    """`tests/integration/test_returned_messages.py` compares with LangGraph; here no code of users runs."""
    assert [id(one) for one in returned_by(output)] == [id(one) for one in found]
