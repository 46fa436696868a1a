"""Blocks of unknown types, and media, that come in pieces: every view has them whole, as the message."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessageChunk

from temporal_token_interceptor import ContentBlock
from tests.support.call_views import as_messages_show_it, as_run_shows_it, read

PIECE = {
    "weird": lambda text, index, _: {"type": "weird", "x": text, "index": index},
    "image": lambda text, index, first: {
        "type": "image",
        "base64": text * 4,
        **({"mime_type": "image/png"} if first else {}),
        "index": index,
    },
    "text": lambda text, index, _: {"type": "text", "text": text, "index": index},
}


@st.composite
def chunks(draw: st.DrawFn) -> list[AIMessageChunk]:
    """Return chunks of blocks one after another, each in pieces; a chunk has pieces of one or more."""
    kinds = draw(st.lists(st.sampled_from(sorted(PIECE)), min_size=1, max_size=5))
    pieces = [
        PIECE[kind](text, index, first)
        for index, kind in enumerate(kinds)
        for text, first in draw(
            st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map(
                lambda texts: [(text, place == 0) for place, text in enumerate(texts)]
            )
        )
    ]
    made: list[list[Any]] = [[]]
    for piece in pieces:
        has_this = any(piece["index"] == other["index"] for other in made[-1])
        if made[-1] and (has_this or draw(st.booleans())):
            made.append([])
        made[-1].append(piece)
    return [AIMessageChunk(content) for content in made]


def without_numbers(blocks: Any) -> list[Any]:
    """Leave out the numbers of a stream: a view counts by itself."""
    return [
        {
            name: {n: v for n, v in value.items() if n != "index"} if isinstance(value, dict) else value
            for name, value in block.items()
            if name != "index"
        }
        for block in blocks
    ]


@given(chunks(), st.sampled_from(["ainvoke", "invoke", "astream", "stream"]))
async def test_a_block_in_pieces_is_one_block(pieces, way):
    whole = pieces[0]
    for piece in pieces[1:]:
        whole += piece
    expected = without_numbers(whole.content_blocks)

    _, environment = await read([piece.model_copy(deep=True) for piece in pieces], way=way, capture=["media"])

    sent = [event for event in environment.events if isinstance(event, ContentBlock)]
    assert len(sent) == len([block for block in expected if block["type"] != "text"])
    for shown in (as_messages_show_it(environment.events), await as_run_shows_it(environment.events)):
        assert without_numbers(shown.content_blocks) == expected


async def test_pieces_of_a_stream_that_is_left_are_not_lost():
    pieces = [AIMessageChunk([PIECE["weird"](text, 0, False)]) for text in "abc"]

    _, environment = await read([*pieces, ValueError("broken")], raises=ValueError)

    (sent,) = [event for event in environment.events if isinstance(event, ContentBlock)]
    assert sent.block["value"]["x"] == "abc"
