"""Questions to Redis that wait for the connection leave together, and none of them harms another."""

import asyncio

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from temporal_token_interceptor.transport.redis.grouped_questions import GroupedQueries
from temporal_token_interceptor.transport.redis.progress import ReplyTooLarge
from tests.support.eager import eager_task_factory


class Connection:
    """Answers `GET <word>` with the word, after `release`; notes which questions left together."""

    last_progress = 0.0

    def __init__(self, *, most_bytes: int = 10_000, refuses: str = "", breaks_for: str = "") -> None:
        self.sent: list[list[str]] = []
        self.release = asyncio.Event()
        self.release.set()
        self._most_bytes, self._refuses, self._breaks_for = most_bytes, refuses, breaks_for

    async def ask(self, *command, at_most=None):
        (reply,) = await self.ask_many([command], at_most=at_most)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def ask_many(self, commands, *, at_most=None):
        words = [word for _, word in commands]
        self.sent.append(words)
        await self.release.wait()
        if self._breaks_for in words:
            raise RedisConnectionError("closed")
        if at_most is not None and sum(map(len, words)) > at_most:
            raise ReplyTooLarge("too large")
        return [ResponseError("refused") if word == self._refuses else word for word in words]

    async def silence(self):
        await self.release.wait()


async def answers(queries: GroupedQueries, *words: str, at_most: int | None = 100) -> list[object]:
    """The replies to questions that are asked at once, errors in their places."""
    asked = (queries.ask("GET", word, at_most=at_most) for word in words)
    async with asyncio.timeout(5):
        replies: list[object] = await asyncio.gather(*asked, return_exceptions=True)
    return replies


async def test_questions_that_wait_leave_together():
    """What is asked at once is one round trip, and so is what is asked while that is under way."""
    connection = Connection()
    queries = GroupedQueries(connection)
    connection.release.clear()
    first = asyncio.create_task(answers(queries, "a", "b"))
    while not connection.sent:  # noqa: ASYNC110 - the task is to have sent them
        await asyncio.sleep(0)
    second = asyncio.create_task(answers(queries, "c", "d", "e"))
    await asyncio.sleep(0)
    connection.release.set()

    assert [await first, await second] == [["a", "b"], ["c", "d", "e"]]
    assert connection.sent == [["a", "b"], ["c", "d", "e"]]


async def test_a_question_without_a_bound_is_asked_alone():
    connection = Connection()

    assert await answers(GroupedQueries(connection), "a", "b", at_most=None) == ["a", "b"]
    assert connection.sent == [["a"], ["b"]]


async def test_what_is_refused_is_refused_alone():
    a, error, b = await answers(GroupedQueries(Connection(refuses="x")), "a", "x", "b")

    assert (a, b) == ("a", "b")
    assert isinstance(error, ResponseError)


async def test_replies_that_are_too_large_together_come_one_by_one():
    """One that is too large for itself is told so; the others have their answers."""
    connection = Connection()
    a, error, b = await answers(GroupedQueries(connection), "a", "x" * 1_000, "b", at_most=100)

    assert (a, b) == ("a", "b")
    assert isinstance(error, ReplyTooLarge)


async def test_a_question_that_breaks_the_connection_does_so_once():
    """Each is asked alone after that: some proxies refuse a question by closing the connection."""
    connection = Connection(breaks_for="x")
    queries = GroupedQueries(connection)

    together = await answers(queries, "a", "x", "b")
    again = await answers(queries, "a", "x", "b")

    assert {type(each) for each in together} == {RedisConnectionError}
    assert (again[0], again[2]) == ("a", "b")
    assert isinstance(again[1], RedisConnectionError)


async def test_one_that_leaves_takes_no_other_along():
    """Neither while its question waits, nor while it is under way."""
    connection = Connection()
    queries = GroupedQueries(connection)
    connection.release.clear()
    asked = [asyncio.create_task(queries.ask("GET", word, at_most=100)) for word in "ab"]
    while not connection.sent:  # noqa: ASYNC110 - the task is to have sent them
        await asyncio.sleep(0)
    asked += [asyncio.create_task(queries.ask("GET", word, at_most=100)) for word in "cd"]
    await asyncio.sleep(0)
    for leaving in (asked[0], asked[2]):
        leaving.cancel()
    connection.release.set()

    async with asyncio.timeout(5):
        replies = await asyncio.gather(*asked, return_exceptions=True)

    assert [replies[1], replies[3]] == ["b", "d"]
    assert connection.sent == [["a", "b"], ["d"]]


async def test_an_eager_task_factory_changes_nothing():
    """My application sets `asyncio.eager_task_factory`."""
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()
    loop.set_task_factory(eager_task_factory())
    try:
        await test_questions_that_wait_leave_together()
        await test_one_that_leaves_takes_no_other_along()
    finally:
        loop.set_task_factory(before)


async def test_silence_ends_what_is_under_way():
    """Who asked gets an error of the connection: it is closed."""
    connection = Connection()
    queries = GroupedQueries(connection)
    connection.release.clear()
    asked = [asyncio.create_task(queries.ask("GET", word, at_most=100)) for word in "ab"]
    while not connection.sent:  # noqa: ASYNC110 - the task is to have sent them
        await asyncio.sleep(0)
    silent = asyncio.create_task(queries.silence())

    async with asyncio.timeout(5):
        replies = await asyncio.gather(*asked, return_exceptions=True)
        connection.release.set()
        await silent

    assert {type(reply) for reply in replies} == {RedisConnectionError}
