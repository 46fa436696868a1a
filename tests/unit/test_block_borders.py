"""Blocks of one kind that follow each other stay apart: a reader's blocks are those of the message."""

from functools import reduce
from operator import add
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessageChunk

from temporal_token_interceptor import ContentBlock, ReasoningEvent, TokenEvent
from temporal_token_interceptor.events import Gap
from tests.support.call_views import as_messages_show_it, as_run_shows_it, read

TEXT = st.text(st.sampled_from("ab \N{GRINNING FACE}"), min_size=1, max_size=3)


def block(kind: str, text: str, index: Any) -> dict[str, Any]:
    """A content block of a chunk."""
    found = {"type": kind, kind: text}
    return found if index is None else {**found, "index": index}


@st.composite
def chunks(draw: st.DrawFn) -> list[AIMessageChunk]:
    """A stream of blocks, each in a few chunks, as providers number them: in order, or not at all."""
    said: list[AIMessageChunk] = []
    numbered = draw(st.booleans())
    for number in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(["text", "reasoning"]))
        index = number if numbered else None
        texts = draw(st.lists(TEXT, min_size=1, max_size=3))
        said += [AIMessageChunk([block(kind, text, index)]) for text in texts]
    return said


def shown(blocks: Any) -> list[tuple[str, str]]:
    """The kind and text of each block."""
    return [(one["type"], one[one["type"]]) for one in blocks]


@settings(deadline=None, max_examples=50)
@given(chunks())
async def test_all_views_keep_the_blocks_of_a_message_apart(pieces):
    """LangChain's own sum of the chunks has as many blocks, of the same kinds and texts."""
    expected = shown(reduce(add, pieces).content)

    said, environment = await read(pieces)

    assert shown(said.content_blocks) == expected
    assert shown((await as_run_shows_it(environment.events)).content_blocks) == expected
    assert shown(as_messages_show_it(environment.events).content_blocks) == expected
    assert not [event for event in environment.events if isinstance(event, Gap)]


@given(st.lists(TEXT, min_size=1, max_size=5))
async def test_chunks_of_plain_text_are_one_block(pieces):
    """However many there are."""
    _, environment = await read([AIMessageChunk(piece) for piece in pieces])

    assert {event.block for event in environment.events if isinstance(event, TokenEvent)} == {0}


async def test_reasoning_beside_the_content_is_one_block():
    """Some providers send it in `additional_kwargs`, a word a chunk."""
    pieces = [AIMessageChunk("", additional_kwargs={"reasoning_content": text}) for text in ("a ", "b ", "c")]

    said, environment = await read([*pieces, AIMessageChunk("d")])

    thought = [event for event in environment.events if isinstance(event, ReasoningEvent)]
    assert [(event.token, event.block) for event in thought] == [("a ", 0), ("b ", 0), ("c", 0)]
    assert shown(said.content_blocks) == [("reasoning", "a b c"), ("text", "d")]


@pytest.mark.parametrize("hold", [True, False])
async def test_a_gate_keeps_the_borders(hold):
    """Also where text is held until its call has ended, or changed on its way."""

    class Loud:
        def feed(self, text: str) -> str:
            return text.upper()

        def flush(self) -> str:
            return ""

    pieces = [AIMessageChunk([block("text", text, index)]) for text, index in (("a", 0), ("b", 0), ("c", 1))]

    _, environment = await read(pieces, hold_calls=hold, transform=lambda _: Loud())

    tokens = [(event.token, event.block) for event in environment.events if isinstance(event, TokenEvent)]
    assert tokens == [("A", 1), ("B", 1), ("C", 2)]


async def test_annotations_stand_in_the_block_of_their_text():
    """They come behind it, and belong to it."""
    citation = {"type": "citation", "url": "https://example.com", "title": "Example"}
    pieces = [
        AIMessageChunk([block("text", "So it is.", 0)], response_metadata={"output_version": "v1"}),
        AIMessageChunk(
            [{"type": "text", "text": "", "annotations": [citation], "index": 0}],
            response_metadata={"output_version": "v1"},
        ),
    ]

    _, environment = await read(pieces)

    [kept] = [event for event in environment.events if isinstance(event, ContentBlock)]
    assert kept.block["annotations"] == [citation]
    [text] = (await as_run_shows_it(environment.events)).content_blocks
    assert (text["text"], text["annotations"]) == ("So it is.", [citation])
