"""How batches are sent: what is noted as done was done."""

from redis.exceptions import ConnectionError as RedisConnectionError

from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.transport.redis.batches import BatchSender
from temporal_token_interceptor.transport.redis.keys import Keys

STREAM = StreamKey("default", "workflow", "run")


class Node:
    """A node of a cluster that stores each entry; its connection breaks at a command."""

    def __init__(self, breaks_at: str) -> None:
        self.breaks_at = breaks_at
        self.asked: list[str] = []

    async def ask(self, *command, at_most=None):
        self.asked.append(command[0])
        return b"1-0"

    async def ask_many(self, commands, *, at_most=None):
        self.asked += [command[0] for command in commands]
        return [
            RedisConnectionError("closed") if command[0] == self.breaks_at else b"1-0" for command in commands
        ]


async def test_an_expiry_that_was_not_set_is_set_with_the_next_entry():
    """redis-py puts a connection that breaks within a pipeline in the place of each reply that is missing."""
    node = Node("EXPIRE")
    sender = BatchSender(node, Keys("tti:"), maxlen=100, ttl=3_600, scripts=False)

    for now in (1_000.0, 1_000.1):
        node.asked.clear()
        assert await sender.send([(STREAM, b"entry")], (), now) == [None]
        assert "EXPIRE" in node.asked

    node.breaks_at = ""
    await sender.send([(STREAM, b"entry")], (), 1_000.2)
    node.asked.clear()
    await sender.send([(STREAM, b"entry")], (), 1_000.3)
    assert node.asked == ["XADD"]
