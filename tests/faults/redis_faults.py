"""What Redis, its operators and the way to it do to streams, beyond crashes."""

import asyncio
from datetime import timedelta

from redis.asyncio import Redis
from temporalio.client import Client
from temporalio.converter import DataConverter

from tests.faults.play import Script, Speech
from tests.faults.proxy import Proxy
from tests.faults.stage import Stage
from tests.support.cluster import Node
from tests.support.encryption import AesCodec
from tests.support.odd_redis import OddRedis

MB = 1024 * 1024
LONG_SPEECH = Speech(tokens=400)
PATIENT = timedelta(seconds=30)  # an activity's wait for its last tokens, where the fault outlasts the speech


async def restored(stage: Stage, **viewer: int) -> None:
    """Redis crashes, and an operator restores a dump that is older than what viewers have read."""
    async with stage.worker():
        await stage.start_all(lambda: Script(LONG_SPEECH), **viewer)
        await stage.at_random_points(stage.runs, within=0.3)
        dump = {key: await stage.redis_client.dump(key) async for key in stage.redis_client.scan_iter()}
        await asyncio.sleep(stage.rng.uniform(0.1, 0.4))
        await stage.redis.kill()
        await stage.redis.start()
        for key, value in dump.items():
            await stage.redis_client.restore(key, 3_600_000, value, replace=True)
        stage.lifted()
        await stage.all_finished(may_lose=True)


async def lagging_replica(stage: Stage, *, to_the_end: bool = False) -> None:
    """Viewers read from a replica, which falls behind for a while; or until all workflows have closed."""
    replica, proxy = type(stage.redis)(), Proxy(stage.rng)
    await replica.start()
    try:
        async with proxy.before(stage.redis.url), stage.worker():
            await stage.view_through(replica.url)
            admin = stage.viewing_redis
            await stage.redis_client.config_set("repl-diskless-sync", "yes")  # our servers have no disk
            await stage.redis_client.config_set("repl-diskless-sync-delay", 0)
            await admin.config_set("repl-diskless-load", "swapdb")
            await admin.replicaof("127.0.0.1", proxy.url.rpartition(":")[2])
            await _until_info(admin, "replication", "master_link_status", "up")
            await stage.start_all(lambda: Script(LONG_SPEECH))
            await stage.at_random_points(stage.runs, within=0.3)
            proxy.freeze()
            if to_the_end:
                await asyncio.gather(*(run.handle.result() for run in stage.runs))
            await asyncio.sleep(stage.rng.uniform(0.3, 0.8))
            proxy.thaw()
            stage.lifted()
            await stage.all_finished()
            await stage.close_viewers()
    finally:
        await replica.stop()


async def acl_reloaded(stage: Stage) -> None:
    """For a moment, the users of workers and viewers have no rights."""
    redis = stage.redis_client
    await redis.execute_command("ACL", "SETUSER", "tokens", "on", ">secret", "~*", "&*", "+@all")
    url = stage.redis.url.replace("//", "//tokens:secret@")
    await stage.view_through(url)
    async with stage.worker(url):
        await stage.start_all(lambda: Script(LONG_SPEECH))
        await stage.at_random_points(stage.runs)
        await redis.execute_command("ACL", "SETUSER", "tokens", "-@all")
        await asyncio.sleep(stage.rng.uniform(0.2, 0.8))
        await redis.execute_command("ACL", "SETUSER", "tokens", "+@all")
        stage.lifted()
        await stage.all_finished()


async def quota_burst(stage: Stage) -> None:
    """The provider refuses every other command for a moment: a limit of the account is reached."""
    odd = OddRedis()
    async with odd.before(stage.redis.url), stage.worker(odd.url):
        await stage.view_through(odd.url)
        await stage.start_all(lambda: Script(LONG_SPEECH))
        await stage.at_random_points(stage.runs)
        odd.refuses = lambda _: (
            "ERR max requests limit exceeded. Limit: 500000, Usage: 500000"
            if stage.rng.random() < 0.8
            else None
        )
        await asyncio.sleep(stage.rng.uniform(0.3, 1.0))
        odd.refuses = lambda _: None
        stage.lifted()
        await stage.all_finished()


async def paused_beyond_ttl(stage: Stage) -> None:
    """Between two activities, a workflow waits longer than its stream lives; a live viewer has it all."""
    async with stage.worker(stream_ttl_seconds=1):
        await stage.start_all(lambda: Script(Speech(tokens=60), activities=2, pause=2.5))
        await stage.all_finished()
        stage.assert_no_gaps()


async def flushed(stage: Stage) -> None:
    """An operator empties Redis between two tokens."""
    async with stage.worker():
        await stage.start_all(lambda: Script(Speech(tokens=40, delay=0.05)))
        await stage.at_random_points(stage.runs)
        await stage.redis_client.flushall()
        stage.lifted()
        await stage.all_finished(may_lose=True)


async def slot_migrated(stage: Stage) -> None:
    """A run's slot moves to another node of the cluster while its model speaks."""
    async with stage.worker(flush_timeout=PATIENT):
        await stage.start_all(lambda: Script(LONG_SPEECH))
        await stage.at_random_points(stage.runs, within=0.4)
        run = stage.rng.choice(stage.runs)
        source = await stage.node_of(run)
        target = stage.rng.choice([node for node in await stage.cluster.masters() if node is not source])
        await _migrate(stage.slot_of(run), source, target, await stage.cluster.masters())
        stage.lifted()
        await stage.all_finished()


async def evicted(stage: Stage, *, policy: str) -> None:
    """Redis is full for a moment, and drops what its policy says: live streams, too."""
    redis = stage.redis_client
    async with stage.worker():
        await stage.start_all(lambda: Script(LONG_SPEECH))
        await stage.at_random_points(stage.runs)
        await redis.config_set("maxmemory-policy", policy)
        used = (await redis.info("memory"))["used_memory"]
        await redis.config_set("maxmemory", used - stage.rng.randrange(1_000, 60_000))
        await asyncio.sleep(stage.rng.uniform(0.2, 0.6))
        await redis.config_set("maxmemory", 0)
        stage.lifted()
        await stage.all_finished(may_lose=True)


async def half_open(stage: Stage) -> None:
    """All connections stay open and pass nothing any more; new ones work."""
    proxy = Proxy(stage.rng)
    async with proxy.before(stage.redis.url), stage.worker(proxy.url, flush_timeout=PATIENT):
        await stage.view_through(proxy.url)
        await stage.start_all(lambda: Script(LONG_SPEECH))
        await stage.at_random_points(stage.runs, within=0.4)
        proxy.freeze()
        stage.lifted()
        await stage.all_finished()
        await stage.close_viewers()


async def key_service_down(stage: Stage) -> None:
    """The service that seals frames is away for a moment: what cannot be sealed is never sent plain."""

    class Codec(AesCodec):
        is_down = False

        async def encode(self, payloads):
            if self.is_down:
                raise ConnectionError("the key service does not answer")
            return await super().encode(payloads)

    codec = Codec("key")
    converter = DataConverter(payload_codec=codec)
    await stage.view_through(None, await Client.connect(stage.address, data_converter=converter))
    async with stage.worker(data_converter=converter):
        await stage.start_all(lambda: Script(LONG_SPEECH))
        await stage.at_random_points(stage.runs)
        codec.is_down = True
        await asyncio.sleep(stage.rng.uniform(0.1, 0.5))
        codec.is_down = False
        stage.lifted()
        await stage.all_finished(may_lose=True)


async def slow_link(stage: Stage) -> None:
    """Viewers get 15 MB over 2 MB/s, as the models speak faster."""
    odd = OddRedis()
    size = 15 * MB // stage.width // 100
    async with odd.before(stage.redis.url), stage.worker():
        odd.bytes_per_second = 2 * MB if stage.long else 2 * MB * stage.width
        await stage.view_through(odd.url)
        await stage.start_all(lambda: Script(Speech(tokens=100, filler=size)))
        await stage.all_finished()
        await stage.close_viewers()


async def away_during_an_activity(stage: Stage) -> None:
    """Redis is away from before an activity starts until after it has ended; the workflow goes on."""
    async with stage.worker(flush_timeout=timedelta(seconds=0.2)):
        await stage.redis.kill()
        await stage.start_all(lambda: Script(Speech(tokens=60), activities=2, pause=3.0))
        await asyncio.sleep(stage.rng.uniform(1.0, 2.0))
        await stage.redis.start()
        stage.lifted()
        await stage.all_finished()


async def away_with_fallback(stage: Stage, *, killed_every: int = 0) -> None:
    """Redis is away from before an activity starts until viewers have seen some of it, by its heartbeats."""
    async with stage.worker(flush_timeout=timedelta(seconds=1), fallback="heartbeats"):
        await stage.redis.kill()
        runs = await stage.start_all(
            lambda: Script(Speech(tokens=300), activities=2, pause=2.0),
            fallback="heartbeats",
            killed_every=killed_every,
        )
        await asyncio.gather(*(run.viewer.heard(1) for run in runs))
        await asyncio.sleep(stage.rng.uniform(0.0, 1.0))
        await stage.redis.start()
        stage.lifted()
        await stage.all_finished()


async def workers_without(stage: Stage) -> None:
    """Half of the workers run without the interceptor: what runs on the others is whole."""
    async with stage.worker(), stage.unseen_worker():
        await stage.start_all(lambda: Script(Speech(tokens=40), activities=4))
        await stage.all_finished()


async def connections_refused(stage: Stage) -> None:
    """All connections are cut, and new ones are refused: `max number of clients reached`."""
    # Over a connection of its own, which stays.
    redis = Redis.from_url(stage.redis.url, single_connection_client=True)
    async with redis, stage.worker():
        await stage.start_all(lambda: Script(LONG_SPEECH))
        await stage.at_random_points(stage.runs)
        await redis.config_set("maxclients", 1)
        await redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await asyncio.sleep(stage.rng.uniform(0.3, 0.8))
        await redis.config_set("maxclients", 1_000)
        stage.lifted()
        await stage.all_finished()


async def demoted(stage: Stage) -> None:
    """For a moment Redis is a replica: it refuses writes, and has no primary."""
    redis = stage.redis_client
    async with stage.worker():
        await stage.start_all(lambda: Script(LONG_SPEECH))
        await stage.at_random_points(stage.runs)
        await redis.replicaof("127.0.0.1", "1")
        await asyncio.sleep(stage.rng.uniform(0.3, 0.8))
        await redis.replicaof("NO", "ONE")
        stage.lifted()
        await stage.all_finished()


async def busy(stage: Stage) -> None:
    """Somebody's script runs for a second: Redis answers BUSY to all others."""
    redis = stage.redis_client
    async with stage.worker():
        await stage.start_all(lambda: Script(LONG_SPEECH))
        await stage.at_random_points(stage.runs)
        await redis.config_set("lua-time-limit", 50)
        seconds = stage.rng.uniform(0.3, 1.0)
        await redis.eval(
            "local t = redis.call('TIME'); local begun = t[1] + t[2] / 1e6 "
            "repeat t = redis.call('TIME') until t[1] + t[2] / 1e6 > begun + ARGV[1]",
            0,
            seconds,
        )
        stage.lifted()
        await stage.all_finished()


async def _migrate(slot: int, source: Node, target: Node, masters: list[Node]) -> None:
    """Move a slot with its keys, as `redis-cli --cluster reshard` does."""
    source_id, target_id = [(await node.ask("CLUSTER", "MYID")).decode() for node in (source, target)]
    await target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
    await source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
    while keys := await source.ask("CLUSTER", "GETKEYSINSLOT", slot, 10):
        await source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *keys)
    for node in (target, source, *masters):
        await node.ask("CLUSTER", "SETSLOT", slot, "NODE", target_id)


async def _until_info(redis, section, name, value) -> None:
    async with asyncio.timeout(20):
        while (await redis.info(section)).get(name) != value:  # noqa: ASYNC110 - a server makes it true
            await asyncio.sleep(0.01)
