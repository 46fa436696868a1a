"""What each error of Redis means is decided in one place, and documented from there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,  # noqa: A004 - redis-py's
    MaxConnectionsError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    SlotNotCoveredError,
)

from temporal_token_interceptor.transport.redis.refusals import (
    OTHER,
    REFUSALS,
    UNREACHABLE,
    classify,
    explained,
    is_demotion,
    is_final,
    markdown_table,
)
from tests.support.pages import ROOT

NAMES = {refusal.name for refusal in REFUSALS}


def test_the_table_of_the_page_is_that_of_the_code():
    """The operator reads what the code does."""
    assert markdown_table() in (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (
            ResponseError("WRONGTYPE Operation against a key holding the wrong kind"),
            "the key has another type",
        ),
        (ResponseError("ERR max request size exceeded. Limit: 1048576"), "the entry is too large"),
        (ResponseError("max requests limit exceeded. Limit: 500000, Usage: 500001"), "a limit"),
        (ResponseError("max daily request limit exceeded"), "a limit"),
        (ConnectionError("max number of clients reached"), "a limit"),
        (MaxConnectionsError("Too many connections"), "a limit"),
        (NoPermissionError("this user has no permissions"), "a right is missing"),
        (ResponseError("@user_script: 7: -NOPERM this user has no permissions"), "a right is missing"),
        (AuthenticationError("invalid username-password pair or user is disabled."), "not logged in"),
        (ResponseError("NOAUTH Authentication required."), "not logged in"),
        (BusyLoadingError("Redis is loading the dataset"), "starting, failing over, resharding"),
        (ReadOnlyError("You can't write against a read only replica."), "starting, failing over, resharding"),
        (OutOfMemoryError("command not allowed"), "memory or disk is full"),
        (ResponseError("@user_script: 7: -OOM command not allowed"), "memory or disk is full"),
        (ResponseError("-OOM command not allowed"), "memory or disk is full"),
        (ResponseError("MISCONF Redis is configured to save"), "memory or disk is full"),
        (ResponseError("UNBLOCKED client unblocked via CLIENT UNBLOCK"), "busy"),
        (MovedError("1234 127.0.0.1:7000"), "a node of a cluster"),
        (ResponseError("CROSSSLOT Keys in request don't hash to the same slot"), "a node of a cluster"),
        (SlotNotCoveredError("Slot 1 not covered by the cluster."), "a node of a cluster"),
        (ResponseError("unknown command 'XREAD', with args beginning with:"), "a command is missing"),
        (ResponseError("something new"), OTHER.name),
        (ConnectionError("Connection refused"), UNREACHABLE.name),
        (TimeoutError(), UNREACHABLE.name),
        (OSError(104, "reset"), UNREACHABLE.name),
    ],
    ids=str,
)
def test_an_error_is_taken_for_what_it_names(error, name):
    """However redis-py, a script or the network says it."""
    assert classify(error).name == name
    assert classify(error).advice in explained(error)
    assert name in NAMES | {OTHER.name, UNREACHABLE.name}


@given(st.text(max_size=200), st.sampled_from([ResponseError, ConnectionError, OSError, NoPermissionError]))
def test_any_text_is_classified(text, kind):
    """No text of a server breaks the classification, and only the advice of a foreign key says prefix."""
    refusal = classify(kind(text))

    assert ("channel_prefix" in refusal.advice) == (refusal.name == "the key has another type")


def test_few_errors_are_final():
    """All but those about one entry are waited out."""
    assert {refusal.name for refusal in REFUSALS if refusal.wait == "never"} == {
        "the key has another type",
        "the entry is too large",
        "the stream's ids are used up",
    }
    assert not is_final(NoPermissionError("no permissions"))


def test_a_demotion_is_seen_however_it_is_said():
    """By type, by text, and out of a script."""
    assert is_demotion(ReadOnlyError("You can't write"))
    assert is_demotion(ResponseError("@user_script: 7: -READONLY You can't write"))
    assert not is_demotion(ResponseError("OOM"))
