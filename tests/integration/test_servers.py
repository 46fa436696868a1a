"""The ground under all other integration tests."""

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from examples.servers import RedisServer


async def test_redis_answers(redis_client):
    assert await redis_client.ping()


async def test_temporal_answers(client):
    assert (await client.count_workflows()).count >= 0


async def test_killed_redis_comes_back_empty_at_the_same_address():
    server = RedisServer()
    await server.start()
    try:
        url = server.url
        async with Redis.from_url(url) as redis:
            await redis.set("key", "value")
            await server.kill()

        async with Redis.from_url(url, retry=None) as redis:
            with pytest.raises(RedisConnectionError):
                await redis.ping()

        await server.start()

        assert server.url == url
        async with Redis.from_url(url) as redis:
            assert await redis.get("key") is None
    finally:
        await server.stop()
