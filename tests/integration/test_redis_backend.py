"""The Redis transport against a real Redis: shared connections, outages, refusals, anybody's client."""

import asyncio
import logging
import os
import time
import uuid
from contextlib import aclosing, suppress
from datetime import timedelta

import pytest
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff

from devservers import RedisServer, ServerUnavailable
from temporal_token_interceptor.errors import ConfigurationError, TokenStreamError, TransportUnavailable
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.testing import TRANSPORT_LAWS, check_transport
from temporal_token_interceptor.transport.base import TokenSink, TokenSource
from temporal_token_interceptor.transport.redis.backend import RedisStreamBackend
from tests.support.fetching import Entries, write_by_fetching

PREFIX = "tti:v1:"


@pytest.fixture(params=["written", "fetched"])
def way(request, monkeypatch):
    """How entries come into the backend."""
    if request.param == "fetched":
        monkeypatch.setattr(RedisStreamBackend, "write", write_by_fetching)


# ------------------------------------------------------------------ the laws of all transports


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("law", TRANSPORT_LAWS)
async def test_redis_keeps_the_laws_of_transports(redis_url, law):
    """Whatever holds for any transport holds for Redis."""
    await check_transport(lambda: RedisStreamBackend(redis_url), laws=[law])


CLIENTS = {
    "that decodes": {"decode_responses": True},
    "of RESP2": {"protocol": 2},
    "of RESP3": {"protocol": 3},
    "of RESP3 that decodes": {"protocol": 3, "decode_responses": True, "legacy_responses": False},
    "without legacy responses": {"legacy_responses": False},
    "with a socket timeout": {"socket_timeout": 5},
    "with retries": {"retry": Retry(ConstantBackoff(0.01), 10)},
    "with health checks": {"health_check_interval": 1},
    "with three connections": {"max_connections": 3},
}


@pytest.mark.parametrize("settings", CLIENTS.values(), ids=CLIENTS)
async def test_any_client_of_redis_py_will_do(redis_url, caplog, settings):
    """A client of your own keeps the laws, whatever its settings, and is yours again afterwards."""
    async with Redis.from_url(redis_url, **settings) as client:
        await check_transport(lambda: RedisStreamBackend(client=client))

        assert await client.ping()
    assert not warnings_of(caplog)


async def test_a_short_socket_timeout_does_not_cut_the_blocked_read(server, caplog):
    """A shared read that waits for longer than the client's socket timeout is no failure."""
    stream = new_stream()
    async with (
        Redis.from_url(server.url) as redis,
        Redis.from_url(server.url, socket_timeout=0.5) as client,
        RedisStreamBackend(client=client) as backend,
        asyncio.TaskGroup() as group,
    ):
        reader = Reader(group, backend, stream)

        async def read_again():
            return calls_of(await redis.info("commandstats"), "xread") >= 4

        await until(read_again)
        await redis.xadd(key_of(stream), {"f": "entry"})
        await until(lambda: reader.data == [b"entry"])
        await backend.close()
    assert not warnings_of(caplog)


async def test_a_blocking_pool_of_three_connections_will_do(redis_url):
    """Three connections are enough, also when the pool makes us wait for them."""
    pool = BlockingConnectionPool.from_url(redis_url, max_connections=3, timeout=1)
    async with Redis.from_pool(pool) as client:
        await check_transport(lambda: RedisStreamBackend(client=client))


async def test_laws_hold_without_scripts_and_without_unblock(server):
    """A Redis that permits neither scripts nor CLIENT keeps the laws with pipelines and short reads."""
    url = await restricted(server, "+@all", "-eval", "-evalsha", "-client")

    await check_transport(lambda: RedisStreamBackend(url))


async def test_bytes_of_any_kind_are_stored(redis_url):
    stream = StreamKey("default", str(uuid.uuid4()), "run")
    async with RedisStreamBackend(redis_url) as backend, aclosing(backend.read(stream)) as batches:
        async with asyncio.timeout(10):
            await backend.write(stream, bytearray(b"one"))
            await asyncio.gather(*(backend.write(stream, memoryview(b"two")) for _ in range(2)))
            read = [entry.data for entry in await anext(batches)]
    assert read == [b"one", b"two", b"two"]


async def test_redis_has_both_halves(backend):
    """One object serves a worker and its readers."""
    assert isinstance(backend, TokenSink)
    assert isinstance(backend, TokenSource)


# ------------------------------------------------------------------ what is in Redis


@pytest.mark.parametrize("scripts", [True, False], ids=["by script", "by pipeline"])
async def test_every_key_expires(server, scripts):
    """Whatever is written has a time to live, from its first entry on."""
    url = server.url if scripts else await restricted(server, "+@all", "-eval", "-evalsha")
    async with (
        RedisStreamBackend(url, stream_ttl_seconds=100) as backend,
        Redis.from_url(server.url) as redis,
    ):
        streams = [new_stream() for _ in range(20)]
        await asyncio.gather(*(backend.write(stream, b"entry") for stream in streams))
        backend.keep(streams[0])
        await until(lambda: named(backend, streams[0]))

        keys = [key async for key in redis.scan_iter(f"{PREFIX}*")]
        begun = [key for key in keys if key.endswith(b":begun")]

        assert len(keys) == 20 + 20 + 1
        assert {await redis.ttl(key) for key in {*keys} - {*begun}} <= {99, 100}
        assert {await redis.ttl(key) for key in begun} <= {2_399, 2_400}


@pytest.mark.parametrize("together", [1, 2], ids=["alone", "in a batch"])
@pytest.mark.parametrize("scripts", [True, False], ids=["by script", "by pipeline"])
async def test_a_stream_that_was_lost_begins_again_with_an_expiry(server, scripts, together):
    """Also within the second in which its expiry is not put off: a key that never expires fills a server."""
    url = server.url if scripts else await restricted(server, "+@all", "-eval", "-evalsha")
    streams = [new_stream() for _ in range(together)]
    async with RedisStreamBackend(url) as backend, Redis.from_url(server.url) as redis:
        for _ in range(3):
            await asyncio.gather(*(backend.write(stream, b"entry") for stream in streams))
        await redis.delete(*map(key_of, streams))

        await asyncio.gather(*(backend.write(stream, b"again") for stream in streams))

        for stream in streams:
            assert await redis.xlen(key_of(stream)) == 1
            assert await redis.ttl(key_of(stream)) > 3_500


@pytest.mark.parametrize("together", [1, 2], ids=["alone", "in a batch"])
async def test_expiry_is_put_off_once_a_second(server, together):
    """What a stream needs once in a while is not done for each token."""
    streams = [new_stream() for _ in range(together)]
    async with RedisStreamBackend(server.url) as backend, Redis.from_url(server.url) as redis:
        before, start = await redis.info("commandstats"), time.monotonic()
        for _ in range(100):
            await asyncio.gather(*(backend.write(stream, b"entry") for stream in streams))
        stats, elapsed = await redis.info("commandstats"), time.monotonic() - start
        puts_off = calls_of(stats, "expire") - calls_of(before, "expire")

        for stream in streams:
            assert await redis.xlen(key_of(stream)) == 100
        assert together <= puts_off <= together * (elapsed + 2)  # that of the sign that it began, too


@pytest.mark.parametrize("life", [1, 2])
async def test_a_short_life_is_counted_from_the_last_entry(server, life):
    """Where streams live for a second, their expiry is put off more often."""
    stream = new_stream()
    async with (
        RedisStreamBackend(server.url, stream_ttl_seconds=life) as backend,
        Redis.from_url(server.url) as redis,
    ):
        until_then = time.monotonic() + life / 2
        while time.monotonic() < until_then:
            await backend.write(stream, b"entry")
        left = await redis.pttl(key_of(stream))

        assert left > life * 1_000 * 0.8


@pytest.mark.parametrize("scripts", [True, False], ids=["by script", "by pipeline"])
async def test_a_stream_that_is_gone_is_remembered(server, scripts):
    """The id of its first entry is known for much longer, by whichever worker it goes on."""
    url = server.url if scripts else await restricted(server, "+@all", "-eval", "-evalsha")
    stream = new_stream()
    async with RedisStreamBackend(url) as backend, Redis.from_url(server.url) as redis:
        assert await backend.begun(stream) == ""
        await asyncio.gather(*(backend.write(stream, b"entry") for _ in range(3)))
        first = await backend.first_id(stream)
        await redis.delete(key_of(stream))

        for _ in range(2):  # one that knows the stream, one that does not
            async with RedisStreamBackend(url) as other:
                other.keep(stream)
                await other.write(stream, b"entry")
                await backend.write(stream, b"entry")

                assert await other.begun(stream) == first
                assert await other.first_id(stream) > first


async def test_an_examination_leaves_no_key_behind_that_lasts(server):
    """Also where EXPIRE is refused: what it writes to try the rights of a worker would stay."""
    url = await restricted(server, "+@all", "-expire")
    async with RedisStreamBackend(url) as backend, Redis.from_url(server.url) as redis:
        answers = {answer.subject: answer.verdict async for answer in backend.examine()}
        keys = [key async for key in redis.scan_iter("*tti-doctor*")]

        assert answers["right to write (XADD, EXPIRE)"] != "fine"
        assert all([0 < await redis.ttl(key) <= 60 for key in keys])


async def test_what_another_program_put_there_is_not_believed(backend, redis_client):
    """It is no id: nothing is known."""
    stream = new_stream()
    await redis_client.set(f"{key_of(stream)}:begun", "yesterday")

    assert await backend.begun(stream) == ""


async def test_a_writer_with_a_smaller_ttl_leaves_the_sign_of_others_alone(redis_url, redis_client):
    stream = new_stream()
    for ttl in (1_000, 100):
        async with RedisStreamBackend(redis_url, stream_ttl_seconds=ttl) as backend:
            backend.keep(stream)
            await backend.write(stream, b"entry")

    assert await redis_client.ttl(f"{key_of(stream)}:begun") > 23_000


async def test_keep_puts_expiry_off(backend, redis_client):
    """A stream that is kept does not expire, also if nothing is written to it."""
    stream = new_stream()
    await backend.write(stream, b"entry")
    await redis_client.expire(key_of(stream), 10)

    backend.keep(stream)

    await until(lambda: named(backend, stream))
    assert await redis_client.ttl(key_of(stream)) > 3_000
    assert backend.keep_interval == timedelta(minutes=20)


async def test_streams_are_trimmed(redis_url, redis_client):
    """A stream keeps its newest entries, and not many more than asked for."""
    stream = new_stream()
    async with RedisStreamBackend(redis_url, stream_maxlen=100) as backend:
        await asyncio.gather(*(backend.write(stream, b"entry") for _ in range(1_000)))

        assert 100 <= await redis_client.xlen(key_of(stream)) < 300


async def test_foreign_entries_are_empty(backend, redis_client):
    """What somebody else put into a stream has no data, and hides nothing of ours."""
    stream = new_stream()
    await redis_client.xadd(key_of(stream), {"somebody": "else"})
    await redis_client.xadd(key_of(stream), {"a": "b", "f": "ours"})
    await backend.write(stream, b"ours")

    assert await read(backend, stream, 3) == [b"", b"ours", b"ours"]


# ------------------------------------------------------------------ connections


async def test_readers_share_connections(redis_url, redis_client):
    """200 readers of 100 streams and their writers need three connections."""
    name = uuid.uuid4().hex
    streams = [new_stream() for _ in range(100)]
    async with RedisStreamBackend(f"{redis_url}?client_name={name}") as backend:
        readers = [asyncio.ensure_future(read(backend, stream, 20)) for stream in streams * 2]
        most = 0
        for number in range(20):
            await asyncio.gather(*(backend.write(stream, b"%d" % number) for stream in streams))
            most = max(most, len(await connections(redis_client, name)))

        assert await asyncio.gather(*readers) == [[b"%d" % number for number in range(20)]] * 200
        assert most <= 3
    await until(lambda: gone(redis_client, name))


async def test_last_reader_that_leaves_frees_the_blocked_connection(redis_url, redis_client):
    """When nobody reads any more, no task waits and no connection blocks."""
    name = uuid.uuid4().hex
    async with RedisStreamBackend(f"{redis_url}?client_name={name}") as backend:
        readers = [asyncio.ensure_future(read(backend, new_stream(), 1)) for _ in range(3)]
        await until(lambda: blocked(redis_client, name))

        for reader in readers:
            reader.cancel()
        await asyncio.wait(readers)

        await until(lambda: not reading_tasks(), seconds=1)
        await until(lambda: unblocked(redis_client, name), seconds=1)


async def test_new_reader_does_not_wait_for_the_blocked_read(redis_url, redis_client):
    """While the shared read blocks, for up to four seconds, a stream that joins is live at once."""
    name = uuid.uuid4().hex
    delays = []
    async with RedisStreamBackend(f"{redis_url}?client_name={name}") as backend, asyncio.TaskGroup() as group:
        silent = group.create_task(read(backend, new_stream(), 1))
        for _ in range(20):
            await until(lambda: blocked(redis_client, name))
            stream = new_stream()
            reader = group.create_task(read(backend, stream, 2))
            start = time.perf_counter()
            await backend.write(stream, b"first")
            await backend.write(stream, b"second")
            await reader
            delays.append(time.perf_counter() - start)
        silent.cancel()

    print(f"joining took {sorted(delays)[10] * 1e3:.1f} ms, at most {max(delays) * 1e3:.1f} ms")  # noqa: T201
    assert max(delays) < 1


async def test_new_reader_is_let_in_also_if_the_read_is_late(server):
    """CLIENT UNBLOCK that overtakes the read does nothing; it is said again until the read ends."""
    async with Proxy(server) as proxy, RedisStreamBackend(proxy.url) as backend, asyncio.TaskGroup() as group:
        Reader(group, backend, new_stream())
        await until(lambda: proxy.blocking_reads)
        proxy.holds_reads = True
        Reader(group, backend, new_stream())
        await until(lambda: proxy.held)

        stream = new_stream()
        late = Reader(group, backend, stream)
        await until(lambda: not proxy.held)  # it lets the read pass once another UNBLOCK has overtaken it
        start = time.perf_counter()
        await backend.write(stream, b"entry")

        await until(lambda: late.data == [b"entry"], seconds=1)
        assert time.perf_counter() - start < 1
        await backend.close()


async def test_a_stream_that_leaves_and_joins_again_loses_nothing(server):
    """A read under way goes on behind where its stream was; who joins further back gets nothing from it."""
    url = await restricted(server, "+@all", "-client")  # so that nothing cuts the read short
    stream, other = new_stream(), new_stream()
    async with RedisStreamBackend(url) as backend, Redis.from_url(server.url) as redis:
        for number in range(3):
            await backend.write(stream, b"%d" % number)
        follower = backend._reader._follower
        follower.join(key_of(other), "")
        first = follower.join(key_of(stream), "")
        entries = await first.next()
        await until(lambda: blocked(redis, ""))

        follower.leave(key_of(stream), first)
        second = follower.join(key_of(stream), entries[0].id)
        await backend.write(stream, b"3")

        gathered = []
        while len(gathered) < 3:
            gathered += await second.next()
        assert [entry.data for entry in gathered] == [b"1", b"2", b"3"]


async def test_a_blocked_read_is_left_alone(server):
    """Once all streams are in the shared read, it waits: nothing spins."""
    async with (
        Redis.from_url(server.url) as redis,
        RedisStreamBackend(server.url) as backend,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(20):
            Reader(group, backend, new_stream())
        await until(lambda: "20 listeners" in repr(backend))
        await until(lambda: blocked(redis, ""))
        before = await redis.info("commandstats")

        for _ in range(300):
            await redis.ping()

        after = await redis.info("commandstats")
        assert calls_of(after, "xread") - calls_of(before, "xread") <= 2
        assert calls_of(after, "client") - calls_of(before, "client") <= 2
        await backend.close()


async def test_readers_that_come_and_go_share_one_connection(redis_url, redis_client):
    """However quickly the last reader leaves and the next one comes, there is one shared read at a time."""
    lent = []

    class CountingPool(ConnectionPool):
        def get_available_connection(self):
            connection = super().get_available_connection()
            lent.append(len(self._in_use_connections))
            return connection

    name, key = uuid.uuid4().hex, key_of(new_stream())
    pool = CountingPool.from_url(f"{redis_url}?client_name={name}")
    async with Redis.from_pool(pool) as client, RedisStreamBackend(client=client) as backend:
        follower = backend._reader._follower
        for _ in range(20):
            before = len(lent)
            listener = follower.join(key, "")
            await until(lambda before=before: len(lent) > before)
            await until(lambda: blocked(redis_client, name))
            follower.leave(key, listener)
            before = len(lent)
            listener = follower.join(key, "")
            await until(lambda before=before: len(lent) > before)
            follower.leave(key, listener)

    assert set(lent) == {1}


async def test_new_reader_waits_little_where_unblock_is_not_permitted(server):
    """Without CLIENT UNBLOCK a stream that joins is live after a short round."""
    url = await restricted(server, "+@all", "-client")
    async with RedisStreamBackend(url) as backend, asyncio.TaskGroup() as group:
        silent = group.create_task(read(backend, new_stream(), 1))
        for _ in range(5):
            stream = new_stream()
            start = time.perf_counter()
            reader = group.create_task(read(backend, stream, 1))
            await asyncio.sleep(0)
            await backend.write(stream, b"entry")
            await reader

            assert time.perf_counter() - start < 1
        silent.cancel()


# ------------------------------------------------------------------ refusals


@pytest.mark.usefixtures("way")
async def test_flushed_scripts_are_loaded_again(backend, redis_client, caplog):
    """A Redis that has forgotten the script gets it again, and nothing is lost."""
    stream = new_stream()
    for number in range(3):
        await redis_client.script_flush()
        await backend.write(stream, b"%d" % number)

    assert await read(backend, stream, 3) == [b"0", b"1", b"2"]
    assert "refuses scripts" not in caplog.text


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("scripts", [True, False], ids=["by script", "by pipeline"])
async def test_a_key_of_another_type_harms_no_other_stream(server, caplog, scripts):
    """Whoever writes to a foreign key is told; the rest of its batch is stored, and no outage is logged."""
    url = server.url if scripts else await restricted(server, "+@all", "-eval", "-evalsha")
    bad, *good = [new_stream() for _ in range(10)]
    async with RedisStreamBackend(url) as backend, Redis.from_url(server.url) as redis:
        await redis.set(key_of(bad), "text")

        results = await asyncio.gather(
            *(backend.write(stream, b"entry") for stream in (bad, *good)), return_exceptions=True
        )

        assert isinstance(results[0], TokenStreamError)
        assert key_of(bad) in str(results[0])
        assert results[1:] == [None] * len(good)
        assert not warnings_of(caplog)


async def test_reading_a_key_of_another_type_is_refused(backend, redis_client):
    """Whoever reads a foreign key is told at once."""
    stream = new_stream()
    await redis_client.set(key_of(stream), "text")

    with pytest.raises(TokenStreamError, match=stream.workflow_id):
        await read(backend, stream, 1)
    with pytest.raises(TokenStreamError, match=stream.workflow_id):
        await backend.last_id(stream)


async def test_a_key_that_changes_its_type_harms_no_other_reader(redis_url, redis_client, caplog):
    """If a stream that is followed becomes something else, its readers are told and the others read on."""
    name = uuid.uuid4().hex
    bad, good = new_stream(), new_stream()
    async with RedisStreamBackend(f"{redis_url}?client_name={name}") as backend:
        doomed = asyncio.ensure_future(read(backend, bad, 2))
        fine = asyncio.ensure_future(read(backend, good, 2))
        await backend.write(bad, b"entry")
        await backend.write(good, b"first")
        await until(lambda: blocked(redis_client, name))

        await redis_client.delete(key_of(bad))
        await redis_client.set(key_of(bad), "text")
        await backend.write(good, b"second")

        assert await fine == [b"first", b"second"]
        with pytest.raises(TokenStreamError, match=bad.workflow_id):
            await doomed
        assert not warnings_of(caplog)


@pytest.mark.usefixtures("way")
async def test_forbidden_keys_are_waited_for_within_patience(server, caplog):
    """Where the prefix is not permitted, writers and readers get an error that names the right, in time."""
    async with Redis.from_url(server.url) as redis:
        await redis.execute_command("ACL", "SETUSER", "narrow", "on", ">secret", "~other:*", "+@all")
    url, patience = server.url.replace("//", "//narrow:secret@"), timedelta(seconds=0.3)
    async with RedisStreamBackend(url, patience=patience) as backend:
        with pytest.raises(TransportUnavailable, match=r"served token streams for 0\.3 s .*the rights"):
            await backend.write(new_stream(), b"entry")
        with pytest.raises(TransportUnavailable, match=r"served token streams for 0\.3 s .*the rights"):
            await read(backend, new_stream(), 1)
    assert "channel_prefix" not in caplog.text


@pytest.mark.usefixtures("way")
async def test_a_full_redis_is_waited_for(server, caplog):
    """Out of memory passes: the entry is stored once there is room."""
    stream = new_stream()
    async with RedisStreamBackend(server.url) as backend, Redis.from_url(server.url) as redis:
        await backend.write(stream, b"first")
        await redis.config_set("maxmemory", "1")

        write = asyncio.ensure_future(backend.write(stream, b"second"))
        await until(lambda: warnings_of(caplog))
        await redis.config_set("maxmemory", "0")
        await write

        assert await read(backend, stream, 2) == [b"first", b"second"]
        assert len(warnings_of(caplog)) == 2


# ------------------------------------------------------------------ outages


@pytest.mark.usefixtures("way")
async def test_an_outage_is_outlived_and_logged_once(server, caplog):
    """Redis dies and comes back empty: writers and readers go on; the log has its start and its end, once."""
    streams = [new_stream() for _ in range(50)]
    async with RedisStreamBackend(server.url) as backend, asyncio.TaskGroup() as group:
        readers = [Reader(group, backend, stream) for stream in streams * 2]
        await asyncio.gather(*(backend.write(stream, b"before") for stream in streams))
        await until(lambda: all(reader.data == [b"before"] for reader in readers))

        await server.kill()
        writers = [group.create_task(backend.write(stream, b"after")) for stream in streams]
        await until(lambda: warnings_of(caplog))
        late = [Reader(group, backend, stream) for stream in streams]
        await server.start()

        await asyncio.wait(writers)
        await until(lambda: all(reader.data == [b"before", b"after"] for reader in readers))
        await until(lambda: all(reader.data == [b"after"] for reader in late))
        await until(lambda: len(warnings_of(caplog)) == 2)
        assert "does not serve" in warnings_of(caplog)[0]
        assert "again" in warnings_of(caplog)[1]
        async with Redis.from_url(server.url) as redis:
            assert all([await redis.ttl(key) > 0 for key in await redis.keys("*")])
        await backend.close()
    assert len(warnings_of(caplog)) == 2


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_restart_while_nothing_is_under_way_goes_unnoticed(server, caplog, protocol):
    """Connections that died in the pool are replaced without a word."""
    stream = new_stream()
    async with RedisStreamBackend(f"{server.url}?protocol={protocol}") as backend:
        await backend.write(stream, b"before")
        await server.kill()
        await server.start()

        await backend.write(stream, b"after")

        assert await read(backend, stream, 1) == [b"after"]
    assert not warnings_of(caplog)


@pytest.mark.usefixtures("way")
async def test_what_is_given_up_in_an_outage_does_not_hide_its_end(server, caplog):
    """Writers and readers that gave up leave the end of the outage to those who come later."""
    async with RedisStreamBackend(server.url) as backend:
        await server.kill()
        waiting = [asyncio.ensure_future(backend.write(new_stream(), b"entry")) for _ in range(3)]
        waiting += [asyncio.ensure_future(read(backend, new_stream(), 1)) for _ in range(3)]
        await until(lambda: warnings_of(caplog))
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        await server.start()

        await backend.last_id(new_stream())

        await until(lambda: len(warnings_of(caplog)) == 2)


async def test_the_end_of_an_outage_is_told_also_if_nothing_is_written(server, caplog):
    """A reader of a silent stream notices that Redis is back without waiting for an entry."""
    async with RedisStreamBackend(server.url) as backend, asyncio.TaskGroup() as group:
        Reader(group, backend, new_stream())
        await until(lambda: "1 listeners" in repr(backend))
        await server.kill()
        await until(lambda: warnings_of(caplog))

        await server.start()

        await until(lambda: len(warnings_of(caplog)) == 2, seconds=2)
        await backend.close()


async def test_readers_lose_patience(server):
    """When Redis stays away, readers are told within the bound, whatever they were doing."""
    async with RedisStreamBackend(server.url, patience=timedelta(seconds=0.5)) as backend:
        stream = new_stream()
        followers = [asyncio.ensure_future(read(backend, stream, 2)) for _ in range(5)]
        await backend.write(stream, b"entry")
        await until(lambda: "5 listeners" in repr(backend))
        await server.kill()

        start = time.perf_counter()
        others = [
            read(backend, stream, 1),
            backend.last_id(stream),
            backend.newest_run("default", "workflow"),
        ]
        results = await asyncio.gather(*followers, *others, return_exceptions=True)

        assert [type(result) for result in results] == [TransportUnavailable] * 8
        assert len({id(result) for result in results}) == 8
        assert 0.4 < time.perf_counter() - start < 3

        await server.start()
        await backend.write(stream, b"again")
        assert await read(backend, stream, 1) == [b"again"]


async def test_a_redis_that_does_not_answer_is_an_outage(server):
    """A connection that is open but silent does not hold readers longer than their patience."""
    patience = timedelta(seconds=0.3)
    async with Proxy(server) as proxy, RedisStreamBackend(proxy.url, patience=patience) as backend:
        await backend.write(new_stream(), b"entry")
        proxy.silent = True

        with pytest.raises(TransportUnavailable):
            await backend.last_id(new_stream())


@pytest.mark.usefixtures("way")
async def test_lost_replies_lose_no_entry(server):
    """If the connection breaks before the reply, the batch is sent again: Redis has it twice, never less."""
    stream = new_stream()
    async with Proxy(server) as proxy, RedisStreamBackend(proxy.url) as backend:
        await backend.write(stream, b"0")
        for number in range(1, 6):
            proxy.cut_next_reply = True
            await backend.write(stream, b"%d" % number)
        await backend.write(stream, b"end")

        stored = await read_to(backend, stream, b"end")

    assert sorted({*stored}) == [b"0", b"1", b"2", b"3", b"4", b"5", b"end"]
    assert stored == sorted(stored)
    assert len(stored) == 12


@pytest.mark.usefixtures("way")
async def test_a_demoted_primary_is_left(server, caplog):
    """After a failover the entry goes to the new primary, though the old one still holds the connection."""
    stream, new_primary = new_stream(), RedisServer()
    await new_primary.start()
    try:
        async with Proxy(server) as proxy, RedisStreamBackend(proxy.url) as backend:
            await backend.write(stream, b"before")
            async with Redis.from_url(server.url) as old:
                await old.replicaof("127.0.0.1", "1")
            write = asyncio.ensure_future(backend.write(stream, b"after"))
            await until(lambda: warnings_of(caplog))

            proxy.target = new_primary

            await write
            assert await read(backend, stream, 1) == [b"after"]
    finally:
        await new_primary.stop()


async def test_a_client_with_retries_is_never_unblocked_by_an_old_number(server):
    """A client that reconnects by itself still lets new readers in at once after Redis was restarted."""
    stubborn = Retry(ConstantBackoff(0.01), 1_000)
    async with (
        Redis.from_url(server.url, retry=stubborn) as client,
        RedisStreamBackend(client=client) as backend,
        asyncio.TaskGroup() as group,
    ):
        silent = group.create_task(read(backend, new_stream(), 1))
        await until(lambda: "1 listeners" in repr(backend))
        await server.kill()
        await server.start()

        for _ in range(3):
            stream = new_stream()
            start = time.perf_counter()
            await backend.write(stream, b"entry")
            await read(backend, stream, 1)
            reader = group.create_task(read(backend, stream, 2))
            await backend.write(stream, b"entry")
            await reader
            assert time.perf_counter() - start < 2
        silent.cancel()


# ------------------------------------------------------------------ entries that are fetched


async def test_entries_are_taken_one_after_the_other(backend):
    """What a source has is appended in its order, beside what is written, each once."""
    stream, other = new_stream(), new_stream()
    sent = [b"%d" % number for number in range(100)]
    sources = [Entries(*sent), Entries(*sent)]
    for key, source in zip((stream, other), sources, strict=True):
        backend.fetch_from(key, source)
    await asyncio.gather(*(source.all_stored for source in sources), backend.write(stream, b"written"))

    assert await read(backend, other, 100) == sent
    assert [data for data in await read(backend, stream, 101) if data != b"written"] == sent


async def test_an_entry_is_taken_when_it_can_be_sent(server):
    """While Redis is away nothing is taken beyond the first: it gathers where it can still be joined."""
    stream = new_stream()
    async with RedisStreamBackend(server.url) as backend:
        await backend.write(stream, b"before")
        await server.kill()
        away, waiting = Entries(b"1", b"2"), Entries(b"3")
        backend.fetch_from(stream, away)
        await until(lambda: away.taken)
        backend.fetch_from(new_stream(), waiting)
        await asyncio.sleep(0)
        assert (away.taken, waiting.taken) == ([b"1"], [])
        await server.start()
        await asyncio.gather(away.all_stored, waiting.all_stored)

        assert (await read(backend, stream, 2))[-2:] == [b"1", b"2"]


async def test_a_source_waits_while_its_stream_rests(server, caplog):
    """Redis refuses one stream for now: what others have for it waits, and all the rest goes on."""
    bad, good = new_stream(), new_stream()
    async with Redis.from_url(server.url) as redis:
        keys = f"~{key_of(good)}"
        await redis.execute_command("ACL", "SETUSER", "narrow", "on", ">secret", keys, "+@all")
        async with RedisStreamBackend(server.url.replace("//", "//narrow:secret@")) as backend:
            first, second, other = Entries(b"1"), Entries(b"2"), Entries(*(b"%d" % n for n in range(20)))
            backend.fetch_from(bad, first)
            backend.fetch_from(good, other)
            await until(lambda: "does not serve" in caplog.text)
            backend.fetch_from(bad, second)
            await other.all_stored
            assert not first.is_over
            assert second.taken == []

            await redis.execute_command("ACL", "SETUSER", "narrow", "allkeys")
            await asyncio.gather(first.all_stored, second.all_stored)
            assert sorted(await read(backend, bad, 2)) == [b"1", b"2"]


async def test_last_words_go_before_what_is_fetched(server, caplog):
    """Redis is back: what an activity that has ended left goes first, then what the next one says."""
    stream = new_stream()
    async with RedisStreamBackend(server.url) as backend:
        await backend.write(stream, b"before")
        await server.kill()

        async def write_all() -> None:
            for number in range(5):
                await backend.write(stream, b"written %d" % number)

        writing = asyncio.ensure_future(write_all())
        await until(lambda: warnings_of(caplog))
        fetched = Entries(b"fetched 0", b"fetched 1")
        backend.fetch_from(stream, fetched)
        await server.start()
        await asyncio.gather(writing, fetched.all_stored)

        sent = [*(b"written %d" % number for number in range(5)), b"fetched 0", b"fetched 1"]
        assert await read(backend, stream, 7) == sent


async def test_who_writes_without_end_lets_what_is_fetched_through(backend):
    """Two activities of one run share its stream: neither waits for the end of the other."""
    stream, has_ended = new_stream(), asyncio.Event()

    async def write_on() -> None:
        while not has_ended.is_set():
            await backend.write(stream, b"written")

    writing = asyncio.ensure_future(write_on())
    fetched = Entries(*(b"%d" % number for number in range(10)))
    backend.fetch_from(stream, fetched)
    async with asyncio.timeout(5):
        await fetched.all_stored
    has_ended.set()
    await writing


async def test_what_ends_in_an_outage_is_not_kept(server, caplog):
    """Activities end while Redis is away: the memory of the worker does not hold them until it is back."""
    async with RedisStreamBackend(server.url) as backend:
        await backend.write(new_stream(), b"before")
        await server.kill()
        writing = asyncio.ensure_future(backend.write(new_stream(), b"waits"))
        await until(lambda: warnings_of(caplog))
        sources = [Entries(b"entry") for _ in range(50)]
        for source in sources:
            backend.fetch_from(new_stream(), source)
            source.all_stored.cancel()
        await until(lambda: not backend._writer._sources)
        writing.cancel()


async def test_what_is_fetched_after_close_fails(redis_url):
    """A session that begins too late learns why nothing of it is stored."""
    backend = RedisStreamBackend(redis_url)
    await backend.close()
    entries = Entries(b"late")
    backend.fetch_from(new_stream(), entries)

    with pytest.raises(TokenStreamError, match="the backend is closed"):
        await entries.all_stored
    assert entries.taken == []


# ------------------------------------------------------------------ cancellation and close


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 13, 21, 34])
async def test_cancelling_at_any_await_harms_nobody(backend, turns):
    """Wherever a write or a read is when it is cancelled, all the others go on."""
    stream = new_stream()
    staying = asyncio.ensure_future(read_to(backend, stream, b"end"))
    for number in range(10):
        doomed = [
            asyncio.ensure_future(backend.write(stream, b"doomed")),
            asyncio.ensure_future(read_to(backend, stream, b"never")),
            asyncio.ensure_future(read_to(backend, new_stream(), b"never")),
            asyncio.ensure_future(backend.last_id(stream)),
        ]
        fine = asyncio.ensure_future(backend.write(stream, b"%d" % number))
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in doomed:
            task.cancel()
        await asyncio.wait(doomed)
        await fine
    await backend.write(stream, b"end")

    assert [data for data in await staying if data != b"doomed"] == [*(b"%d" % n for n in range(10)), b"end"]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 13, 21, 34])
async def test_close_ends_everything_wherever_it_is(redis_url, redis_client, turns):
    """Close in the midst of writing and reading leaves no task, no connection and nobody waiting."""
    name = uuid.uuid4().hex
    streams = [new_stream() for _ in range(5)]
    backend = RedisStreamBackend(f"{redis_url}?client_name={name}")
    for _ in range(turns % 2):
        await backend.write(streams[0], b"warm")
    work = [asyncio.ensure_future(read_to(backend, stream, b"never")) for stream in streams]
    work += [asyncio.ensure_future(backend.write(stream, b"entry")) for stream in streams]
    work += [asyncio.ensure_future(backend.last_id(stream)) for stream in streams]
    backend.keep(streams[0])
    for _ in range(turns):
        await asyncio.sleep(0)

    async with asyncio.timeout(2):
        await backend.close()
        results = await asyncio.gather(*work, return_exceptions=True)

    assert all(isinstance(result, list | str | None | TokenStreamError) for result in results), results
    assert not reading_tasks()
    await until(lambda: gone(redis_client, name))
    await backend.close()


@pytest.mark.usefixtures("way")
async def test_close_does_not_wait_for_a_redis_that_is_away(server):
    """In the midst of an outage close is as quick as ever, and whoever waits is told."""
    async with Proxy(server) as proxy:
        backend = RedisStreamBackend(proxy.url)
        await backend.write(new_stream(), b"entry")
        proxy.silent = True
        work = [asyncio.ensure_future(backend.write(new_stream(), b"entry")) for _ in range(3)]
        work += [asyncio.ensure_future(read(backend, new_stream(), 1)) for _ in range(3)]
        await until(lambda: proxy.swallowed >= 2)

        async with asyncio.timeout(1):
            await backend.close()
            results = await asyncio.gather(*work, return_exceptions=True)

        assert [type(result) for result in results[:3]] == [TokenStreamError] * 3
        assert not any(results[3:])


async def test_close_is_prompt_with_any_client(redis_url):
    """Also with a socket timeout, where Python 3.11 may swallow a cancellation, close takes no second."""
    async with Redis.from_url(redis_url, socket_timeout=5) as client:
        for turns in range(60):
            backend = RedisStreamBackend(client=client)
            readers = [asyncio.ensure_future(read(backend, new_stream(), 1)) for _ in range(3)]
            for _ in range(turns):
                await asyncio.sleep(0)

            async with asyncio.timeout(1):
                await backend.close()
                await asyncio.gather(*readers)

        assert await client.ping()


async def test_backend_may_be_made_before_the_loop_runs(redis_url):
    """A module may construct its backend; the loop that uses it comes later."""

    def make_then_use():
        backend = RedisStreamBackend(redis_url)

        async def use():
            async with backend:
                stream = new_stream()
                reading = asyncio.ensure_future(read(backend, stream, 1))
                await backend.write(stream, b"entry")
                return await reading

        return asyncio.run(use())

    assert await asyncio.to_thread(make_then_use) == [b"entry"]


# ------------------------------------------------------------------ cost


async def test_many_questions_leave_together(server):
    """300 readers whose streams begin at the same time do not wait for one another's round trips."""
    streams = [new_stream() for _ in range(300)]
    async with RedisStreamBackend(server.url) as backend, Redis.from_url(server.url) as redis:
        await asyncio.gather(*(backend.write(stream, b"entry") for stream in streams))
        before = (await redis.info("stats"))["total_reads_processed"]

        begun = await asyncio.gather(*map(backend.begun, streams))

        round_trips = (await redis.info("stats"))["total_reads_processed"] - before
        assert begun == await asyncio.gather(*map(backend.first_id, streams))
        assert round_trips < 30


async def test_many_streams_leave_together(server):
    """500 streams that write at the same time share batches: no round trip each."""
    streams = [new_stream() for _ in range(500)]
    async with RedisStreamBackend(server.url) as backend, Redis.from_url(server.url) as redis:

        async def write_all(stream):
            for _ in range(20):
                await backend.write(stream, b'[1,"x",[0,["token"]]]' * 7)

        await asyncio.gather(*(backend.write(stream, b"warm") for stream in streams))
        warm = calls_of(await redis.info("commandstats"), "evalsha")

        start, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*map(write_all, streams))
        elapsed, cpu = time.perf_counter() - start, time.process_time() - cpu

        scripts = calls_of(await redis.info("commandstats"), "evalsha") - warm
        print(f"10,000 entries in {elapsed * 1e3:.0f} ms, {cpu * 100:.1f} us CPU each, {scripts} scripts")  # noqa: T201
        assert scripts < 500
        assert elapsed < 10


# ------------------------------------------------------------------ arguments


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        *(
            ("redis_url", url)
            for url in ("", "localhost", "http://localhost", "redis://localhost:port", None)
        ),
        *(
            ("redis_url", url)
            for url in ("redis://localhost:99999", "redis://localhost?nonsense=1", b"redis://x")
        ),
        ("redis_url", "redis://localhost?max_connections=2"),
        *(("stream_maxlen", value) for value in (0, -1, True, 1.5, "10", None)),
        *(("stream_ttl_seconds", value) for value in (0, -1, True, 1.5, "10", None)),
        *(("patience", value) for value in (timedelta(0), timedelta(seconds=-1), 60, None, True)),
        *(("channel_prefix", value) for value in ("", "a{b", "a}b", None, b"tti:")),
        ("client", "redis://localhost"),
    ],
)
def test_impossible_arguments_are_refused_by_name(argument, value):
    """An argument that cannot be used is named, at construction."""
    with pytest.raises(ConfigurationError, match=argument):
        RedisStreamBackend(**{argument: value})


async def test_a_url_beside_a_client_is_refused():
    """I pass both: one of them would be ignored, so I am told."""
    async with Redis() as redis:
        with pytest.raises(ConfigurationError, match="redis_url and client cannot both"):
            RedisStreamBackend("redis://elsewhere:6379", client=redis)


async def test_a_client_with_too_few_connections_is_refused():
    """A client that cannot lend three connections would stop somewhere; it is refused at construction."""
    async with Redis(max_connections=2) as client:
        with pytest.raises(ConfigurationError, match="client"):
            RedisStreamBackend(client=client)


@pytest.mark.parametrize(
    "url", ["redis://:hunter2@localhost:port", "redis://:hunter2@localhost?x=1", "http://:hunter2@localhost"]
)
def test_password_is_in_no_message(url):
    """What is wrong with a URL is said without its password."""
    with pytest.raises(ConfigurationError) as error:
        RedisStreamBackend(url)

    assert "hunter2" not in str(error.value) + repr(error.value) + repr(error.value.__cause__)


async def test_password_is_in_no_repr_and_no_log(server, caplog):
    """Neither the backend nor the log of a refused login shows the password."""
    url = server.url.replace("//", "//somebody:hunter2@")
    async with RedisStreamBackend(url, patience=timedelta(seconds=2)) as backend:
        with pytest.raises(TransportUnavailable) as error:
            await read(backend, new_stream(), 1)

        assert "hunter2" not in repr(backend) + str(error.value) + caplog.text
    assert len(warnings_of(caplog)) == 1


# ------------------------------------------------------------------ helpers


@pytest.fixture
async def backend(redis_url):
    async with RedisStreamBackend(redis_url) as backend:
        yield backend


@pytest.fixture
async def server():
    """A Redis of the test's own, to be killed and configured."""
    try:
        server = RedisServer()
    except ServerUnavailable as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(autouse=True)
def _log(caplog):
    caplog.set_level(logging.INFO, "temporal_token_interceptor")


class Proxy:
    """Stands between client and server: swallows or holds what it is sent, or cuts before a reply."""

    def __init__(self, server):
        self.target = server  # of new connections
        self._tasks = set()
        self.silent = False
        self.swallowed = 0
        self.cut_next_reply = False
        self.holds_reads = False
        self.held = False
        self.blocking_reads = 0
        self._unblocked = asyncio.Event()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        with suppress(ConnectionError, asyncio.CancelledError):
            back_reader, back_writer = await asyncio.open_connection(
                *self.target.url.removeprefix("redis://").split(":")
            )
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._forward(reader, back_writer))
                    group.create_task(self._answer(back_reader, writer))
            finally:
                back_writer.close()
                writer.close()

    async def _forward(self, reader, writer):
        while data := await reader.read(65536):
            if self.silent:
                self.swallowed += 1
                continue
            if b"XREAD" in data and b"BLOCK" in data:
                self.blocking_reads += 1
                if self.holds_reads:
                    self.held, self.holds_reads = True, False
                    self._unblocked.clear()
                    await self._unblocked.wait()
                    self.held = False
            writer.write(data)
            if b"UNBLOCK" in data:
                self._unblocked.set()
        writer.close()

    async def _answer(self, reader, writer):
        while data := await reader.read(65536):
            if self.cut_next_reply:
                self.cut_next_reply = False
                break
            writer.write(data)
        writer.close()


def new_stream():
    return StreamKey("default", f"workflow-{uuid.uuid4().hex}", "run")


def key_of(stream):
    return f"{PREFIX}{{{stream.namespace}/{stream.workflow_id}/{stream.run_id}}}"


class Reader:
    """Reads until the backend is closed."""

    def __init__(self, group, backend, stream):
        self.data = []
        group.create_task(self._read(backend.read(stream)))

    async def _read(self, batches):
        async for batch in batches:
            self.data += [entry.data for entry in batch]


async def read(backend, stream, count):
    """The data of the first entries; fewer if the backend was closed."""
    data = []
    async with aclosing(backend.read(stream)) as batches:
        async for batch in batches:
            data += [entry.data for entry in batch]
            if len(data) >= count:
                break
    return data


async def read_to(backend, stream, last):
    data = []
    async with aclosing(backend.read(stream)) as batches:
        async for batch in batches:
            data += [entry.data for entry in batch]
            if data[-1] == last:
                break
    return data


async def restricted(server, *rules):
    """The URL of a user with these rules."""
    async with Redis.from_url(server.url) as redis:
        await redis.execute_command("ACL", "SETUSER", "restricted", "on", ">secret", "~*", "&*", *rules)
    return server.url.replace("//", "//restricted:secret@")


async def until(fact, seconds=5):
    """Wait for a fact; what it says may be awaitable."""
    async with asyncio.timeout(seconds):
        while True:
            value = fact()
            if await value if asyncio.iscoroutine(value) else value:
                return
            await asyncio.sleep(0.002)


async def connections(redis, name):
    return [one for one in await redis.client_list() if one["name"] == name]


async def blocked(redis, name):
    return any("b" in one["flags"] for one in await connections(redis, name))


async def unblocked(redis, name):
    return not await blocked(redis, name)


async def gone(redis, name):
    return not await connections(redis, name)


async def named(backend, stream):
    return await backend.newest_run(stream.namespace, stream.workflow_id) == stream.run_id


def reading_tasks():
    return [task for task in asyncio.all_tasks() if task.get_name().startswith("token-stream")]


def warnings_of(caplog):
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("temporal_token_interceptor") and record.levelno >= logging.WARNING
    ]


def calls_of(stats, command):
    return stats.get(f"cmdstat_{command}", {"calls": 0})["calls"]
