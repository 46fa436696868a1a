"""The ground under all other integration tests."""

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from devservers import RedisServer, ServerUnavailable, find_redis


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


def test_the_server_that_tests_start_can_be_chosen(monkeypatch, tmp_path):
    """I run every test against the Redis or Valkey that I have in production."""
    chosen = tmp_path / "valkey-server"
    chosen.write_text("#!/bin/sh\n")
    monkeypatch.setenv("TTI_TEST_REDIS_SERVER", str(chosen))
    with pytest.raises(ServerUnavailable, match="TTI_TEST_REDIS_SERVER"):
        find_redis()

    chosen.chmod(0o755)

    assert find_redis() == str(chosen)
