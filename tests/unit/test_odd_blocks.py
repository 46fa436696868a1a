"""Blocks that no translator expects: whatever a provider sends, no text is lost, and no view breaks."""

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessageChunk

from temporal_token_interceptor import CallEnded, Gap
from temporal_token_interceptor.capture.forcing import REFUSALS
from tests.support.call_views import Whole, as_messages_show_it, as_run_shows_it, read

_MEMBERS = (
    "text thinking signature data id name input index partial_json citations annotations content tool_use_id "
    "summary encrypted_content reasoning reasoning_content refusal arguments call_id status action result "
    "output url base64 mime_type extras value args executable_code image_url queries code error phase"
)
_TYPES = (
    "text thinking redacted_thinking tool_use input_json_delta server_tool_use mcp_tool_use reasoning "
    "refusal web_search_tool_result code_execution_tool_result reasoning_content function_call image "
    "web_search_call file_search_call code_interpreter_call mcp_call image_generation_call image_url "
    "audio file document "
    "executable_code code_execution_result server_tool_call server_tool_call_chunk server_tool_result "
    "tool_call tool_call_chunk invalid_tool_call non_standard citation guard_content later"
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 5) | st.sampled_from(["", "x", "http://localhost/x", "{}"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(_MEMBERS.split()) | st.just("type"), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.fixture(autouse=True)
def nothing_remembered():
    """Chunks that LangChain cannot add up are asked for as a whole, the next time at once."""
    yield
    REFUSALS.clear()


@st.composite
def blocks(draw: st.DrawFn) -> list[Any]:
    """Blocks with known names and anything under them."""
    said = st.dictionaries(st.sampled_from(_MEMBERS.split()), ANYTHING, max_size=4)
    block = st.builds(
        lambda kind, one: {**one, "type": kind}, st.sampled_from(_TYPES.split()) | ANYTHING, said
    )
    return draw(st.lists(block | st.text("ab", max_size=2), max_size=3))


PROVIDERS = ["openai", "anthropic", "google_genai", "google_vertexai", "bedrock", "bedrock_converse", "groq"]


@settings(deadline=None, max_examples=60)
@pytest.mark.parametrize("whole", [True, False])
@given(st.lists(blocks(), min_size=1, max_size=2), st.sampled_from([*PROVIDERS, None]), st.booleans())
async def test_whatever_blocks_there_are_the_text_arrives(whole, contents, provider, is_v1):
    """The reader has the text of the message, or a gap where there is none to be had."""
    facts = {
        **({"model_provider": provider} if provider else {}),
        **({"output_version": "v1"} if is_v1 else {}),
    }
    pieces = ["one ", *(AIMessageChunk(content=one, response_metadata=facts) for one in contents), "end"]
    try:
        said, environment = await read(pieces, model=Whole(pieces[1]) if whole else None)
        text = said.text
    except TypeError:  # LangChain's own: it adds up or joins what cannot be
        assume(False)
        return

    assert len([event for event in environment.events if isinstance(event, CallEnded)]) == 1
    assert [event for event in environment.events if isinstance(event, Gap)] == []
    assert environment.text == text
    as_messages_show_it(environment.events)
    await as_run_shows_it(environment.events)
