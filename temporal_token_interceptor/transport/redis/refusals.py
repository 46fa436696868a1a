"""What each error of Redis means: how long it is waited out, and what the operator should look at.

This is the only place that decides it, for the writing and for the reading half. An error is taken for a
passing one unless it is about this very entry: permissions are reloaded, quotas are refilled, and servers
restart. The table of docs/operations.md is `markdown_table`, and a test compares them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, assert_never

from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)

from temporal_token_interceptor.errors import TokenStreamError

FAILURES: Final = (RedisError, RedisClusterException, OSError)
"""What redis-py raises when Redis cannot be used; `OSError` includes the `TimeoutError` of asyncio."""

Wait = Literal["outage", "patience", "never"]
"""How long writers wait: as long as their activity runs, for `patience`, or not at all.

Readers wait for `patience`, but for `never`.
"""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One kind of error.

    Attributes:
        name: What happened, for the table.
        pattern: Found in the error's code and text.
        examples: What the server says, for the table.
        wait: How long it is waited out.
        advice: What to look at; part of every log line and error of this kind.
    """

    name: str
    pattern: re.Pattern[str]
    examples: str
    wait: Wait
    advice: str


def _words(*words: str) -> re.Pattern[str]:
    """Match one of these codes, which are the first word of an error."""
    return re.compile(rf"(?:{'|'.join(words)})\b")


def _anywhere(*patterns: str) -> re.Pattern[str]:
    return re.compile(rf".*(?:{'|'.join(patterns)})", re.IGNORECASE | re.DOTALL)


# The first that matches counts: `max request size exceeded` is about an entry, and no limit of an account.
REFUSALS: Final = (
    Refusal(
        "the key has another type",
        _words("WRONGTYPE"),
        "`WRONGTYPE`",
        "never",
        "another program uses this key: delete the key, or choose another channel_prefix",
    ),
    Refusal(
        "the entry is too large",
        _anywhere(r"request size", r"too (?:large|big)", r"invalid bulk length", r"string exceeds maximum"),
        "`max request size exceeded`",
        "never",
        "the server takes no entry of this size",
    ),
    Refusal(
        "the stream's ids are used up",
        _anywhere(r"exhausted the last possible ID"),
        "`The stream has exhausted the last possible ID`",
        "never",
        "an entry with the largest id was written: delete the key",
    ),
    Refusal(
        "starting, failing over, resharding",
        _words("LOADING", "MASTERDOWN", "CLUSTERDOWN", "READONLY", "NOREPLICAS", "TRYAGAIN", "ASK"),
        "`LOADING`, `MASTERDOWN`, `CLUSTERDOWN`, `READONLY`, `NOREPLICAS`, `TRYAGAIN`, `ASK`",
        "outage",
        "the server is starting, or another one is taking over",
    ),
    Refusal(
        "memory or disk is full",
        _words("OOM", "MISCONF"),
        "`OOM`, `MISCONF`",
        "outage",
        "the server has no room for writes: check its maxmemory and its disk",
    ),
    Refusal(
        "busy",
        _words("BUSY", "UNBLOCKED"),
        "`BUSY`, `UNBLOCKED`",
        "outage",
        "the server is busy with something else, such as a slow script",
    ),
    Refusal(
        "a node of a cluster",
        _anywhere(r"^(?:MOVED|CROSSSLOT)\b", r"not covered by the cluster"),
        "`MOVED`, `CROSSSLOT`",
        "outage",
        "this is a cluster: pass a RedisCluster, as RedisStreamBackend(client=RedisCluster.from_url(...)); "
        "if that is what you pass, its slots are moving",
    ),
    Refusal(
        "a limit",
        _anywhere(
            r"limit (?:is |was )?(?:exceeded|reached)",
            r"max(?:imum)? (?:daily|monthly|hourly|concurrent|number of)",
            r"max(?:imum)? (?:requests|connections|commands|clients)",
            r"quota",
            r"rate.?limit",
            r"throttl",
            r"too many",
        ),
        "`max requests limit exceeded`, `max daily request limit exceeded`, `max number of clients reached`",
        "outage",
        "a limit of the server, of its account or of the client's pool is reached: wait, or raise the limit",
    ),
    Refusal(
        "not logged in",
        _anywhere(r"^(?:NOAUTH|WRONGPASS|DENIED)\b", r"username-password pair", r"invalid password"),
        "`NOAUTH`, `WRONGPASS`",
        "patience",
        "check the user and the password that the backend was given",
    ),
    Refusal(
        "a right is missing",
        _words("NOPERM"),
        "`NOPERM`",
        "patience",
        "give the Redis user the rights that docs/operations.md lists",
    ),
    Refusal(
        "a command is missing",
        _anywhere(r"unknown (?:sub)?command", r"not supported", r"unsupported", r"disabled"),
        "`unknown command`, `not supported`",
        "patience",
        "the server lacks a command that token streams need: see docs/operations.md",
    ),
)

OTHER: Final = Refusal(
    "any other refusal",
    re.compile(""),
    "`ERR ...`",
    "patience",
    "the server refuses the command",
)

UNREACHABLE: Final = Refusal(
    "no answer",
    re.compile(""),
    "connection refused or reset, no answer for 5 s, no name",
    "outage",
    "check that the server is up, and the way to it",
)

# redis-py takes the code out of these errors' texts, and leaves it to their type.
_CODES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (MovedError, "MOVED"),
    (AskError, "ASK"),
    (MasterDownError, "MASTERDOWN"),
    (ClusterDownError, "CLUSTERDOWN"),
    (ClusterCrossSlotError, "CROSSSLOT"),
    (TryAgainError, "TRYAGAIN"),
    (ReadOnlyError, "READONLY"),
    (OutOfMemoryError, "OOM"),
    (NoPermissionError, "NOPERM"),
    (BusyLoadingError, "LOADING"),
    (AuthenticationError, "NOAUTH"),
)

# A script returns errors as texts; before Redis 7 as "@user_script: 7: -OOM ...".
_FRAME = re.compile(r"^(?:@\S+: \d+: )?-?(?:ERR )?")


def classify(error: Exception) -> Refusal:
    """Return what an error of redis-py, or of the way to Redis, means."""
    text = _FRAME.sub("", str(error))
    code = next((code for kind, code in _CODES if isinstance(error, kind)), "")
    if code and not text.startswith(code):
        text = f"{code} {text}"
    for refusal in REFUSALS:
        if refusal.pattern.match(text):
            return refusal
    return OTHER if isinstance(error, ResponseError) else UNREACHABLE


def is_final(error: Exception) -> bool:
    """Whether trying again cannot help: the error is about this very entry or key."""
    return classify(error).wait == "never"


def is_demotion(error: Exception) -> bool:
    """Whether the server is no longer the primary, and new connections may lead to the one that is."""
    return isinstance(error, ReadOnlyError) or _FRAME.sub("", str(error)).startswith("READONLY")


def described(error: Exception) -> str:
    """Name an error by type and text; some have an empty text."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def explained(error: Exception) -> str:
    """Name an error, and what to look at."""
    return f"{described(error)}: {classify(error).advice}"


class RefusedError(TokenStreamError):
    """A key or an entry that Redis will never take or give, while it serves others."""


def refused(key: str, error: Exception) -> RefusedError:
    """Return the error for a key or an entry that Redis will never take or give."""
    return RefusedError(f"Redis refuses key {key!r} ({explained(error)})")


def markdown_table() -> str:
    """Return the table of docs/operations.md."""
    rows = [
        "| Redis says | this means | a writer waits | a reader waits |",
        "|---|---|---|---|",
    ]
    for refusal in (*REFUSALS, OTHER, UNREACHABLE):
        writer, reader = _waits(refusal.wait)
        rows.append(f"| {refusal.examples} | {refusal.name}: {refusal.advice} | {writer} | {reader} |")
    return "\n".join(rows)


def _waits(wait: Wait) -> tuple[str, str]:
    match wait:
        case "outage":
            return "while its activity runs", "`patience`"
        case "patience":
            return "`patience`", "`patience`"
        case "never":
            return "not at all", "not at all"
        case _:
            assert_never(wait)
