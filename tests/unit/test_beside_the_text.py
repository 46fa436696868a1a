"""What a provider says beside the text of a message arrives; every view shows it where the message has it.

Signatures, sources, ids, phases, refusals, what is encrypted, server tools, `additional_kwargs`, finish
reasons, usage: in the shapes in which the packages of providers stream them, cut in any way.
"""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage

from temporal_token_interceptor import Gap
from tests.support.call_views import as_messages_show_it, as_run_shows_it, read
from tests.support.provider_shapes import SHAPES


def shown(message: AIMessage) -> list[dict[str, Any]]:
    """The blocks of a message, without the numbers by which pieces are merged, and what says nothing."""
    return [
        {
            name: _shown(part)
            for name, part in block.items()
            if name != "index" and part not in ("", None, [], {})
        }
        for block in message.content_blocks
    ]


def _shown(part: Any) -> Any:
    """LangChain gives a source an id of its own whenever it is asked."""
    if not isinstance(part, list):
        return part
    return [{n: v for n, v in one.items() if n != "id"} if isinstance(one, dict) else one for one in part]


def plain(blocks: list[dict[str, Any]]) -> list[Any]:
    """Blocks without the one around each that LangChain's stream object does not know."""
    return [block["value"] if block["type"] == "non_standard" else block for block in blocks]


@settings(deadline=None, max_examples=20)
@pytest.mark.parametrize("provider", SHAPES)
@given(data=st.data())
async def test_every_view_has_the_blocks_of_the_message(provider, data):
    """All that stands beside a text, in the block it belongs to, in the order of the message."""
    pieces = data.draw(SHAPES[provider])

    said, environment = await read(pieces)

    expected = shown(said)
    assert shown(as_messages_show_it(environment.events)) == expected
    assert plain(shown(await as_run_shows_it(environment.events))) == plain(expected)
    assert environment.text == said.text
    assert [event for event in environment.events if isinstance(event, Gap)] == []
