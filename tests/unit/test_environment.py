"""Every option has one name in code and one in the environment, and the documentation lists both."""

import inspect
import re
import traceback
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from temporal_token_interceptor import (
    ConfigurationError,
    MemoryStreamBackend,
    RedisStreamBackend,
    StreamNotFound,
    TokenStreamingInterceptor,
    TokenStreamingPlugin,
    TokenSubscriber,
)
from temporal_token_interceptor.capture.filters import CONTENTS, KINDS
from temporal_token_interceptor.environment import INTERCEPTOR, REDIS, SUBSCRIBER, made, options

REDIS_AT_HOME = {"REDIS_URL": "redis://localhost"}

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"

OF = {"backend": REDIS, "interceptor": INTERCEPTOR, "subscriber": SUBSCRIBER}
"""Who takes the options, as the documentation calls them."""

MADE = {
    "backend": RedisStreamBackend,
    "interceptor": partial(TokenStreamingInterceptor, MemoryStreamBackend()),
    "subscriber": partial(TokenSubscriber, None, MemoryStreamBackend()),
}

OBJECTS = {
    (RedisStreamBackend, "client"): "of a Sentinel or a cluster: from_environment(client=...)",
    (TokenStreamingInterceptor, "backend"): "what the variables of the backend make",
    (TokenStreamingInterceptor, "data_converter"): "has keys and code; the plugin takes the client's",
    (TokenStreamingInterceptor, "transform"): "is code",
    (TokenStreamingPlugin, "backend"): "what the variables of the backend make",
    (TokenStreamingPlugin, "options"): "those of the interceptor",
    (TokenSubscriber, "client"): "what the SDK makes of TEMPORAL_*",
    (TokenSubscriber, "backend"): "what the variables of the backend make",
}
"""What text cannot say, and where it comes from instead."""

EVERY = [(of, name) for of, variables in OF.items() for name in variables]


def test_the_table_of_the_documentation_is_what_the_code_reads():
    """What I read in docs/operations.md is all there is, under the same names, for the same values."""
    rows = re.findall(
        r"^\| `(\w+)` \| `(\w+)` \| (.+?) \| (.+?) \|", OPERATIONS.read_text("utf-8"), re.MULTILINE
    )

    described = {(of, name, option, takes) for name, option, ofs, takes in rows for of in ofs.split(", ")}
    assert described == {
        (of, name, variable.option, variable.takes)
        for of, variables in OF.items()
        for name, variable in variables.items()
    }


@pytest.mark.parametrize(
    ("takes", "variables"),
    [
        (RedisStreamBackend, REDIS),
        (TokenStreamingInterceptor, INTERCEPTOR),
        (TokenStreamingPlugin, {}),
        (TokenSubscriber, SUBSCRIBER),
    ],
)
def test_every_option_that_text_can_say_has_a_variable(takes, variables):
    """I never have to change code for a setting, unless it is an object."""
    objects = {option for owner, option in OBJECTS if owner is takes}

    assert {variable.option for variable in variables.values()} | objects == set(
        inspect.signature(takes).parameters
    )


def test_one_variable_sets_options_of_one_name():
    """A variable that two of them take means the same to both."""
    for one, other in ((REDIS, SUBSCRIBER), (INTERCEPTOR, SUBSCRIBER)):
        assert [one[name] for name in one.keys() & other] == [other[name] for name in one.keys() & other]
    assert not INTERCEPTOR.keys() & REDIS.keys()


def test_values_are_read_by_their_kind():
    environ = {
        "TTI_NODES": "planner, writer",
        "TTI_KINDS": ",".join(KINDS),
        "TTI_CAPTURE": ",".join(CONTENTS),
        "TTI_FORCE_STREAMING": "False",
        "TTI_HEARTBEAT": "2.5",
        "TTI_SUMMARY": "OFF",
        "TTI_FLUSH_TIMEOUT_SECONDS": "0.5",
        "TTI_MAX_BUFFERED_BYTES": "",
    }

    read = options(INTERCEPTOR, environ)

    assert {*read.pop("kinds")} == KINDS
    assert {*read.pop("capture")} == CONTENTS
    assert read == {
        "nodes": ["planner", "writer"],
        "force_streaming": False,
        "heartbeat": timedelta(seconds=2.5),
        "summary": "off",
        "flush_timeout": timedelta(seconds=0.5),
    }


def test_the_documented_words_are_all_there_are():
    """A kind that is new in code is in the documentation, too."""
    assert set(INTERCEPTOR["TTI_KINDS"].takes.split("`")[1].split(",")) == KINDS
    assert set(INTERCEPTOR["TTI_CAPTURE"].takes.split("`")[1].split(",")) == CONTENTS


def test_what_code_says_comes_before_the_environment():
    """An option that I pass is mine: its variable is not even looked at."""
    kept = made(dict, INTERCEPTOR, {"TTI_NODES": "a", "TTI_SUMMARY": "off"}, nodes=["b"])

    assert kept == {"nodes": ["b"], "summary": "off"}
    TokenStreamingPlugin.from_environment({**REDIS_AT_HOME, "TTI_SUMMARY": "s3cret"}, summary="auto")
    TokenStreamingPlugin.from_environment({"REDIS_URL": "s3cret"}, backend=MemoryStreamBackend)


def test_every_variable_reaches_its_constructor():
    """What the documentation lets me set can be set."""
    values = {
        "REDIS_URL": "redis://127.0.0.1:1",
        "TTI_KINDS": "text",
        "TTI_CAPTURE": "media",
        "TTI_FORCE_STREAMING": "true",
        "TTI_HEARTBEAT": "1",
        "TTI_SUMMARY": "off",
        "TTI_GENAI_SPANS": "on",
        "TTI_ACCEPT_PLAIN_FRAMES": "true",
        "TTI_RETRIEVERS": "true",
        "TTI_FALLBACK": "heartbeats",
    }
    for of, variables in OF.items():
        environ = {name: values.get(name, "7") for name in variables}

        assert made(MADE[of], variables, environ)


@pytest.mark.parametrize(("of", "name"), EVERY)
@given(text=st.one_of(st.text(), st.integers().map(str), st.floats().map(str)))
def test_whatever_stands_in_a_variable_is_used_or_refused_by_name(of, name, text):
    """A typo stops the worker at its start, with the name of the variable, whatever I typed."""
    with suppress_if(ConfigurationError, naming=name):
        made(MADE[of], OF[of], {name: text})


@contextmanager
def suppress_if(kind, *, naming):
    try:
        yield
    except kind as error:
        if naming not in str(error):
            raise


WHOLE = ["s3cret", "0", "-77123", "1.5", "9" * 40]
SECONDS = ["s3cret", "-77123", "nan", "inf", "9" * 40]
UNUSABLE = {
    "REDIS_URL": ["http://:s3cret@host", "redis://:s3cret@host:port", "s3cret"],
    "TTI_CHANNEL_PREFIX": ["s3cret{"],
    "TTI_STREAM_MAXLEN": WHOLE,
    "TTI_STREAM_TTL_SECONDS": WHOLE,
    "TTI_PATIENCE_SECONDS": SECONDS,
    "TTI_NODES": [","],
    "TTI_ACTIVITIES": [","],
    "TTI_TAGS": [","],
    "TTI_KINDS": [",", "text,s3cret"],
    "TTI_CAPTURE": [",", "s3cret"],
    "TTI_METADATA_KEYS": [","],
    "TTI_FORCE_STREAMING": ["s3cret", "1"],
    "TTI_HEARTBEAT": [*SECONDS, "0", "on"],
    "TTI_STALL_TIMEOUT_SECONDS": [*SECONDS, "0"],
    "TTI_LIVE": [*SECONDS, "0", "on"],
    "TTI_FALLBACK": ["s3cret", "on"],
    "TTI_SUMMARY": ["s3cret", "on"],
    "TTI_FLUSH_TIMEOUT_SECONDS": SECONDS,
    "TTI_GENAI_SPANS": ["s3cret", "true"],
    "TTI_MAX_BUFFERED_BYTES": WHOLE[:-1],
    "TEMPORAL_NAMESPACE": [],  # any name may be one
    "TTI_START_TIMEOUT_SECONDS": SECONDS,
    "TTI_ACCEPT_PLAIN_FRAMES": ["s3cret", "1"],
    "TTI_RETRIEVERS": ["s3cret", "1"],
    "TTI_HOLD_CALLS": [","],
}


@pytest.mark.parametrize(
    ("of", "name", "text"), [(of, name, text) for of, name in EVERY for text in UNUSABLE[name]]
)
def test_what_cannot_be_used_is_named_without_its_value(of, name, text):
    """I am told which variable and what to do; a password that stood there is in no log."""
    with pytest.raises(
        ConfigurationError,
        match=rf"variable {name} must be .*; correct it or unset it; see docs/operations.md",
    ) as refused:
        made(MADE[of], OF[of], {name: text})

    told = "".join(traceback.format_exception(refused.value)).partition("ConfigurationError")[2]
    assert not any(value in told for value in ("s3cret", "77123", "9" * 40))
    assert refused.value.__suppress_context__


async def test_a_reader_is_made_of_the_environment(client):
    """Backend and subscriber of one environment read without any option in code."""
    environ = {"TTI_START_TIMEOUT_SECONDS": "0.05", "TEMPORAL_NAMESPACE": "unheard-of"}
    subscriber = TokenSubscriber.from_environment(client, MemoryStreamBackend(), environ)

    with pytest.raises(StreamNotFound, match=r"0\.05 s"):
        await anext(subscriber.subscribe("nobody-started-me"))

    with pytest.raises(ConfigurationError, match="TTI_START_TIMEOUT_SECONDS"):
        TokenSubscriber.from_environment(client, None, {"TTI_START_TIMEOUT_SECONDS": "s3cret"})


def test_what_is_wrong_in_code_is_not_blamed_on_a_variable():
    with pytest.raises(ConfigurationError, match=r"^summary must be"):
        TokenStreamingPlugin.from_environment({**REDIS_AT_HOME, "TTI_NODES": "a"}, summary="s3cret")


@pytest.mark.parametrize(
    "environ",
    [
        {"REDIS_URL": "http://:s3cret@host"},
        {"TTI_STREAM_MAXLEN": "-5"},
        {"TTI_KINDS": "text,s3cret"},
        {"TTI_HEARTBEAT": "0"},
        {"TTI_NODES": "fine", "TTI_GENAI_SPANS": "s3cret"},
    ],
)
def test_a_wrong_variable_is_told_before_a_worker_starts(environ):
    with pytest.raises(ConfigurationError, match=[*environ][-1]) as caught:
        TokenStreamingPlugin.from_environment({**REDIS_AT_HOME, **environ})

    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("kind", [RedisStreamBackend, TokenStreamingPlugin])
def test_no_redis_is_guessed(kind):
    """A deployment that forgot REDIS_URL hears of it at its start, and not by empty screens."""
    with pytest.raises(ConfigurationError, match="REDIS_URL is not set: say where Redis is"):
        kind.from_environment({"REDIS_URL": ""})


def test_a_variable_that_sets_nothing_is_named(caplog):
    """A misspelt filter would filter nothing; the log says which variable it is, and which was meant."""
    TokenStreamingPlugin.from_environment({**REDIS_AT_HOME, "TTI_NODE": "write"})

    assert caplog.text.count("TTI_NODE sets nothing; TTI_NODES is one") == 1
