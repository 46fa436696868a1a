"""docs/api.md says what the code says, of everything that is public."""

import re

import pytest

import temporal_token_interceptor
from temporal_token_interceptor import testing
from tests.support.api_document import PAGE, page

PUBLIC = [*temporal_token_interceptor.__all__, *testing.__all__]


def test_the_reference_is_that_of_the_code():
    """If this fails after a change of a signature or docstring: `python -m tests.support.api_document`."""
    assert PAGE.read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_an_entry_that_says_something(name):
    """I look a name up and learn what it is for."""
    [entry] = re.findall(rf"^### {name}\n\n(.*?)(?=^##)", page() + "##", re.MULTILINE | re.DOTALL)
    prose = re.sub(r"```python.*?```", "", entry, flags=re.DOTALL)

    assert len(prose.split()) > 3


def test_nothing_is_left_without_a_word():
    """Each method, argument, attribute and error that the page names has its sentence."""
    bare = re.findall(r"^\* `[^`]+`:? *$", page(), re.MULTILINE)
    silent = re.findall(r"^#### (.+)\n\n```python\n[^`]*```\n\n(?=#)", page(), re.MULTILINE)

    assert bare + silent == []
