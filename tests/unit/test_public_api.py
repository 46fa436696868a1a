"""The names that users import, and what importing them costs."""

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest

import temporal_token_interceptor
from temporal_token_interceptor import TokenStreamingInterceptor, testing
from temporal_token_interceptor.worker.options import StreamingKeywords

ROOT = Path(__file__).parents[2]


def loaded_by(statement: str) -> set[str]:
    """The top-level packages that a fresh interpreter has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run(  # noqa: S603 - our own interpreter, our own words
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("name", temporal_token_interceptor.__all__)
def test_every_public_name_can_be_imported(name):
    """What is promised is there, and once fetched it is a plain attribute."""
    value = getattr(temporal_token_interceptor, name)

    assert vars(temporal_token_interceptor)[name] is value
    assert getattr(value, "__module__", "").startswith(("temporal_token_interceptor", "typing", "types"))


def test_a_name_is_listed_once():
    """`__all__` and `dir` name the same things, and each name has a module."""
    names = temporal_token_interceptor.__all__

    assert len(names) == len(set(names))
    assert set(names) == set(temporal_token_interceptor._HOME_OF)
    assert dir(temporal_token_interceptor) == sorted(names)


@pytest.mark.parametrize("name", temporal_token_interceptor.__all__)
def test_a_name_is_written_twice_and_found_where_the_list_says(name):
    """Once for type checkers, once in the lists; its module has it."""
    source = (ROOT / "temporal_token_interceptor" / "__init__.py").read_text(encoding="utf-8")
    code = source.partition("if TYPE_CHECKING:")[2]
    home = importlib.import_module(f"temporal_token_interceptor.{temporal_token_interceptor._HOME_OF[name]}")

    assert len(re.findall(rf"(?<![.\w]){name}\b", code)) == 2
    assert getattr(home, name) is getattr(temporal_token_interceptor, name)


def test_a_star_import_brings_everything():
    loaded = {}
    exec("from temporal_token_interceptor import *", loaded)  # noqa: S102 - the only way to write it here

    assert set(temporal_token_interceptor.__all__) <= set(loaded)


def test_a_name_that_is_not_there_is_named():
    with pytest.raises(AttributeError, match="has no attribute 'TokenSubscribr'"):
        _ = temporal_token_interceptor.TokenSubscribr  # type: ignore[attr-defined]


def test_the_package_alone_loads_nothing():
    """`import temporal_token_interceptor` costs nothing: a workflow file may do it, too."""
    loaded = loaded_by("import temporal_token_interceptor")

    assert loaded.isdisjoint({"langchain", "langchain_core", "langgraph", "redis", "temporalio", "orjson"})


def test_a_reader_loads_no_langchain():
    """A web server that only reads needs neither models nor graphs in memory."""
    loaded = loaded_by("from temporal_token_interceptor import TokenSubscriber, RedisStreamBackend")

    assert loaded.isdisjoint({"langchain", "langchain_core", "langgraph", "langsmith"})
    assert "redis" in loaded


def test_a_worker_with_another_transport_loads_no_redis():
    loaded = loaded_by(
        "from temporal_token_interceptor import TokenStreamingInterceptor, MemoryStreamBackend"
    )

    assert "redis" not in loaded
    assert {"langchain_core", "temporalio"} <= loaded


def test_events_and_errors_load_nothing_foreign():
    """A program that handles events alone loads the standard library and nothing more."""
    loaded = loaded_by("from temporal_token_interceptor import TokenEvent, StreamEnded, InvalidCursor")

    assert loaded.isdisjoint({"langchain_core", "redis", "temporalio", "orjson"})


def test_types_are_shipped():
    """Type checkers of our users read our annotations."""
    assert (ROOT / "temporal_token_interceptor" / "py.typed").exists()


def test_the_plugin_takes_the_options_of_the_interceptor():
    """What a type checker lets me pass to the plugin is what the interceptor takes, with the same types."""
    parameters = dict(inspect.signature(TokenStreamingInterceptor).parameters)
    del parameters["backend"]

    assert StreamingKeywords.__annotations__.keys() == parameters.keys()
    interceptor = get_type_hints(TokenStreamingInterceptor.__init__)
    assert get_type_hints(StreamingKeywords) == {name: interceptor[name] for name in parameters}


@pytest.mark.parametrize("name", [*temporal_token_interceptor.__all__, *testing.__all__])
def test_every_public_name_is_type_checked(name):
    """tests/typing/api.py, which mypy and pyright read, uses it."""
    words = re.findall(r"\w+", (ROOT / "tests" / "typing" / "api.py").read_text(encoding="utf-8"))

    assert words.count(name) > 1, "imported and used"
