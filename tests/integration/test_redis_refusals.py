"""What Redis refuses: passing faults pass, errors blame what the server named, and odd servers are served."""

import asyncio
import logging
from contextlib import AsyncExitStack, aclosing
from datetime import timedelta

import pytest

from temporal_token_interceptor import RedisStreamBackend, TokenStreamError, TransportUnavailable
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.testing import check_transport
from tests.support.cluster import a_cluster
from tests.support.odd_redis import OddRedis
from tests.support.streams import unique

# What servers say for a while, and what our errors have to name when it has lasted.
PASSING = {
    "NOPERM this user has no permissions to run the command": "the rights",
    "ERR max requests limit exceeded. Limit: 500000, Usage: 500000": "limit",
    "ERR max daily request limit exceeded. Limit: 10000, Usage: 10000.": "limit",
    "ERR max number of clients reached": "limit",
    "ERR quota exceeded for this database": "limit",
    "NOAUTH Authentication required.": "password",
    "WRONGPASS invalid username-password pair or user is disabled.": "password",
    "LOADING Redis is loading the dataset in memory": "starting",
    "CLUSTERDOWN The cluster is down": "starting",
    "READONLY You can't write against a read only replica.": "taking over",
    "MASTERDOWN Link with MASTER is down": "starting",
    "NOREPLICAS Not enough good replicas to write.": "taking over",
    "OOM command not allowed when used memory > 'maxmemory'.": "room",
    "MISCONF Redis is configured to save RDB snapshots": "room",
    "BUSY Redis is busy running a script.": "busy",
    "TRYAGAIN Multiple keys request during rehashing of slot": "taking over",
    "ERR unknown command 'XADD'": "lacks a command",
    "ERR something that nobody has seen yet": "refuses the command",
}

STREAM_COMMANDS = {b"EVALSHA", b"EVAL", b"XADD", b"XREAD", b"XRANGE", b"XREVRANGE", b"GET"}


def a_stream() -> StreamKey:
    return StreamKey("default", unique("refusal"), "run")


def refusing(error, commands=STREAM_COMMANDS):
    return lambda words: error if words[0].upper() in commands else None


@pytest.fixture
async def odd(redis_url):
    async with OddRedis().before(redis_url) as odd:
        yield odd


@pytest.fixture(autouse=True)
def _log(caplog):
    caplog.set_level(logging.INFO, "temporal_token_interceptor")


async def read(backend, stream, count):
    data = []
    async with aclosing(backend.read(stream)) as batches:
        async for batch in batches:
            data += [entry.data for entry in batch]
            if len(data) >= count:
                break
    return data


async def until(true, seconds=5):
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - a proxy or a task makes it true
            await asyncio.sleep(0.005)


# ------------------------------------------------------------------ passing


@pytest.mark.parametrize("error", PASSING)
async def test_a_refusal_that_passes_costs_nothing(odd, error):
    """Whatever is refused for half a second: what was written meanwhile arrives, also for late readers."""
    stream = a_stream()
    async with RedisStreamBackend(odd.url) as backend:
        following = asyncio.ensure_future(read(backend, stream, 3))
        await backend.write(stream, b"before")
        await until(lambda: "1 listeners" in repr(backend))

        odd.refuses = refusing(error)
        writing = asyncio.ensure_future(backend.write(stream, b"meanwhile"))
        late = asyncio.ensure_future(read(backend, stream, 3))
        await asyncio.sleep(0.5)
        assert not writing.done()
        odd.refuses = lambda _: None

        await writing
        await backend.write(stream, b"after")
        assert await following == [b"before", b"meanwhile", b"after"]
        assert await late == [b"before", b"meanwhile", b"after"]


@pytest.mark.parametrize(("error", "named"), PASSING.items())
async def test_a_refusal_that_lasts_is_an_error_that_names_it(odd, caplog, error, named):
    """After `patience` a reader learns what the server said, and what to look at; the log says it once."""
    async with RedisStreamBackend(odd.url, patience=timedelta(seconds=0.3)) as backend:
        odd.refuses = refusing(error)
        stream = a_stream()

        with pytest.raises(TransportUnavailable, match=named) as raised:
            await read(backend, stream, 1)
        with pytest.raises(TransportUnavailable, match=named):
            await backend.last_id(stream)

    assert error.split()[-1] in str(raised.value)
    assert "channel_prefix" not in str(raised.value) + caplog.text
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert named in warnings[0].getMessage()


async def test_a_writer_gets_an_error_once_a_missing_right_has_lasted(odd):
    """A right that is missing for longer than `patience` fails the write; a full Redis is waited for."""
    async with RedisStreamBackend(odd.url, patience=timedelta(seconds=0.3)) as backend:
        odd.refuses = refusing("NOPERM this user has no permissions")
        with pytest.raises(TransportUnavailable, match="the rights"):
            await backend.write(a_stream(), b"entry")

        odd.refuses = refusing("OOM command not allowed")
        writing = asyncio.ensure_future(backend.write(a_stream(), b"entry"))
        await asyncio.sleep(1)
        assert not writing.done()
        odd.refuses = lambda _: None
        await writing


async def test_one_stream_that_is_refused_holds_up_no_other(odd):
    """While a stream's entries are refused the others' are stored, and a reader of theirs gets them."""
    bad, good = a_stream(), a_stream()
    odd.refuses = lambda words: (
        "NOPERM No permissions to access a key"
        if any(bad.name.encode() in word for word in words[:4])
        or words[0].upper() in {b"EVALSHA", b"EVAL", b"XREAD"}
        else None
    )
    async with RedisStreamBackend(odd.url) as backend:
        waiting = asyncio.ensure_future(read(backend, bad, 1))
        writing = asyncio.ensure_future(backend.write(bad, b"bad"))
        async with asyncio.timeout(5):
            for number in range(50):
                await backend.write(good, b"%d" % number)
            assert await read(backend, good, 50) == [b"%d" % number for number in range(50)]
        assert not writing.done()
        odd.refuses = lambda _: None
        await writing
        assert await waiting == [b"bad"]


async def test_an_entry_that_is_too_large_for_the_server_harms_no_other(odd):
    """What no retry can help is refused at once, for that entry alone."""
    odd.refuses = lambda words: (
        "ERR max request size exceeded. Limit: 1048576 bytes" if len(b"".join(words)) > 1_000_000 else None
    )
    stream = a_stream()
    async with RedisStreamBackend(odd.url) as backend:
        with pytest.raises(TokenStreamError, match="no entry of this size"):
            await backend.write(stream, b"x" * 1_000_000)
        await backend.write(stream, b"small")
        assert await read(backend, stream, 1) == [b"small"]


# ------------------------------------------------------------------ servers that refuse commands

ODD_SERVERS = {
    "no CLIENT": [b"CLIENT"],
    "no EVAL": [b"EVAL", b"EVALSHA"],
    "no XREAD": [b"XREAD"],
    "no BLOCK": [b"BLOCK"],
    "no CLIENT, EVAL, XREAD, TTL": [b"CLIENT", b"EVAL", b"EVALSHA", b"XREAD", b"TTL"],
}


def lacking(words_refused, error="ERR unknown command"):
    return lambda words: error if {word.upper() for word in words} & {*words_refused} else None


@pytest.mark.parametrize("lacks", ODD_SERVERS.values(), ids=ODD_SERVERS)
async def test_a_server_without_some_commands_keeps_the_laws(odd, lacks):
    """Whatever a managed server leaves out of what we like to use, it carries token streams."""
    odd.refuses = lacking(lacks)

    await check_transport(lambda: RedisStreamBackend(odd.url))


@pytest.mark.parametrize(
    "lacks", [[b"EVAL", b"EVALSHA"], [b"XREAD"], [b"BLOCK"], [b"EVAL", b"EVALSHA", b"XREAD"]], ids=str
)
async def test_a_proxy_that_refuses_by_hanging_up_is_served(odd, lacks):
    """Some proxies close the connection at a command that they do not know: what works is used."""
    odd.closes = lambda words: bool({word.upper() for word in words} & {*lacks})
    stream = a_stream()
    async with RedisStreamBackend(odd.url) as backend:
        reading = asyncio.ensure_future(read(backend, stream, 10))
        async with asyncio.timeout(10):
            for number in range(10):
                await backend.write(stream, b"%d" % number)
            assert sorted(set(await reading)) == [b"%d" % number for number in range(10)]


async def test_a_silent_reader_costs_such_a_server_five_commands_a_second(redis_url, caplog):
    """While nothing is sent, a reader asks at most five times a second, and logs each finding once."""
    async with AsyncExitStack() as stack:
        servers = {
            name: await stack.enter_async_context(OddRedis().before(redis_url))
            for name in (*ODD_SERVERS, "BLOCK without a wait")
        }
        for name, odd in servers.items():
            odd.unblocks = name not in ODD_SERVERS
            odd.refuses = lacking(ODD_SERVERS.get(name, ()))
        costs = await asyncio.gather(*map(_cost_of_silence, servers.values()))

    for name, cost in zip(servers, costs, strict=True):
        print(f"{name}: {cost / 4:g} commands a second")  # noqa: T201
    assert max(costs) <= 20 + 1, dict(zip(servers, costs, strict=True))
    assert len(caplog.records) <= 4 * len(servers), [record.getMessage() for record in caplog.records]


async def _cost_of_silence(odd: OddRedis) -> int:
    """How many commands a reader sends in four seconds without an entry."""
    stream = a_stream()
    async with RedisStreamBackend(odd.url) as backend:
        reading = asyncio.ensure_future(read(backend, stream, 1))
        await asyncio.sleep(2.5)  # it has found out, and slowed down
        before = odd.total
        await asyncio.sleep(4)
        commands = odd.total - before
        await backend.write(stream, b"entry")
        async with asyncio.timeout(1):
            assert await reading == [b"entry"]
    return commands


async def test_a_server_that_blocks_again_is_no_longer_polled(odd, monkeypatch):
    """After permissions were reloaded, the reader goes back to waiting in one XREAD."""
    monkeypatch.setattr("temporal_token_interceptor.transport.redis.shared_read._POLL_SECONDS", 0.5)
    odd.refuses = lacking([b"BLOCK"])
    stream = a_stream()
    async with RedisStreamBackend(odd.url) as backend:
        reading = asyncio.ensure_future(read(backend, stream, 1))
        await asyncio.sleep(1.5)
        odd.refuses = lambda _: None
        await asyncio.sleep(1.5)
        before = odd.total
        await asyncio.sleep(1)
        assert odd.total - before <= 2
        await backend.write(stream, b"entry")
        assert await reading == [b"entry"]


# ------------------------------------------------------------------ a cluster behind a plain URL


async def test_a_plain_url_at_a_cluster_says_so(redis_binary, caplog):
    """I pass the URL of a cluster's node: log and errors tell me what to pass instead."""
    async with a_cluster(redis_binary) as cluster:
        url = f"redis://127.0.0.1:{cluster.nodes[0].port}"
        async with RedisStreamBackend(url, patience=timedelta(seconds=0.5)) as backend:
            streams = [a_stream() for _ in range(8)]  # of several nodes
            writes = [asyncio.ensure_future(backend.write(stream, b"entry")) for stream in streams]
            reads = [asyncio.ensure_future(read(backend, stream, 1)) for stream in streams]
            # Not all of them: a stream of this very node can be read, and waits for an entry without end.
            done, _ = await asyncio.wait(reads, return_when=asyncio.FIRST_EXCEPTION)
            for task in (*writes, *reads):
                task.cancel()
            await asyncio.wait((*writes, *reads))
    refused = [error for task in done if (error := task.exception()) is not None]

    assert refused
    assert all("pass a RedisCluster" in str(error) for error in refused), refused
    assert "this is a cluster: pass a RedisCluster" in caplog.text


# ------------------------------------------------------------------ expiry


@pytest.mark.parametrize("lacks", [[], [b"EVAL", b"EVALSHA"]], ids=["by script", "by pipeline"])
async def test_a_writer_with_a_shorter_life_of_streams_shortens_no_other(odd, redis_client, lacks):
    """Two workers with different `stream_ttl_seconds`: the longer one holds, for stream and pointer."""
    odd.refuses = lacking(lacks)
    stream = a_stream()
    keys = [f"tti:v1:{{{stream.name}}}", f"tti:v1:{{{stream.workflow}}}:newest"]
    async with (
        RedisStreamBackend(odd.url, stream_ttl_seconds=5_000) as long,
        RedisStreamBackend(odd.url, stream_ttl_seconds=50) as short,
    ):
        for backend, expected in ((short, 50), (long, 5_000), (short, 5_000)):
            backend.keep(stream)
            await backend.write(stream, b"entry")
            for key in keys:
                assert expected - 2 <= await redis_client.ttl(key) <= expected


async def test_without_the_right_to_ttl_streams_still_expire(redis_url, redis_client):
    """A writer whose rights are those of the release before goes on, with its own expiry."""
    user = unique("user")
    rights = ["+evalsha", "+eval", "+xadd", "+expire", "+set"]
    await redis_client.execute_command("ACL", "SETUSER", user, "on", ">secret", "~tti:v1:*", "-@all", *rights)
    stream = a_stream()
    try:
        url = redis_url.replace("//", f"//{user}:secret@")
        async with RedisStreamBackend(url, stream_ttl_seconds=100) as backend:
            await backend.write(stream, b"entry")
            assert 98 <= await redis_client.ttl(f"tti:v1:{{{stream.name}}}") <= 100
    finally:
        await redis_client.execute_command("ACL", "DELUSER", user)
