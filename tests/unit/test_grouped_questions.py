"""Questions to Redis that wait for the connection leave together, and none of them harms another."""

import asyncio

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from temporal_token_interceptor.transport.redis.grouped_questions import GroupedQueries
from temporal_token_interceptor.transport.redis.pages import REPLY_BYTES
from temporal_token_interceptor.transport.redis.progress import ReplyTooLarge
from tests.support.eager import eager_tasks


class Connection:
    """Answers `GET <word>` with the word, after `release`; notes which questions left together."""

    last_progress = 0.0

    def __init__(self, *, refuses: str = "", breaks_for: str = "-", breaks: str = "raised") -> None:
        self.sent: list[list[str]] = []
        self.release = asyncio.Event()
        self.release.set()
        self._refuses, self._breaks_for, self._breaks = refuses, breaks_for, breaks

    async def ask(self, *command, at_most=None):
        (reply,) = await self.ask_many([command], at_most=at_most)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def ask_many(self, commands, *, at_most=None):
        words = [word for _, word in commands]
        self.sent.append(words)
        await self.release.wait()
        if self._breaks_for in words and self._breaks == "raised":
            raise RedisConnectionError("closed")
        if at_most is not None and sum(map(len, words)) > at_most:
            raise ReplyTooLarge("too large")
        return [self._reply(word) for word in words]

    def _reply(self, word: str) -> object:
        if word == self._breaks_for:
            return RedisConnectionError("closed")
        return ResponseError("refused") if word == self._refuses else word

    async def silence(self):
        await self.release.wait()


async def answers(queries: GroupedQueries, *words: str, at_most: int | None = 100) -> list[object]:
    """The replies to questions that are asked at once, errors in their places."""
    asked = (queries.ask("GET", word, at_most=at_most) for word in words)
    async with asyncio.timeout(5):
        replies: list[object] = await asyncio.gather(*asked, return_exceptions=True)
    return replies


async def two_under_way() -> tuple[Connection, GroupedQueries, list[asyncio.Task[object]]]:
    """Two questions that have left and are not answered before `release`."""
    connection = Connection()
    queries = GroupedQueries(connection)
    connection.release.clear()
    asked = [asyncio.create_task(queries.ask("GET", word, at_most=100)) for word in "ab"]
    while not connection.sent:  # noqa: ASYNC110 - the task is to have sent them
        await asyncio.sleep(0)
    return connection, queries, asked


async def test_questions_that_wait_leave_together():
    """What is asked at once is one round trip, and so is what is asked while that is under way."""
    connection, queries, first = await two_under_way()
    second = asyncio.create_task(answers(queries, "c", "d", "e"))
    await asyncio.sleep(0)
    connection.release.set()

    assert [await asyncio.gather(*first), await second] == [["a", "b"], ["c", "d", "e"]]
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
    """The one that is too large by itself is refused as such; the others have their answers."""
    connection = Connection()
    a, error, b = await answers(GroupedQueries(connection), "a", "x" * 1_000, "b", at_most=100)

    assert (a, b) == ("a", "b")
    assert isinstance(error, ReplyTooLarge)


@pytest.mark.parametrize("breaks", ["raised", "in its place"])
async def test_a_question_that_breaks_the_connection_does_so_twice(breaks):
    """Each is asked alone after that: some proxies refuse a question by closing the connection."""
    connection = Connection(breaks_for="x", breaks=breaks)
    queries = GroupedQueries(connection)

    for _ in range(2):
        together = await answers(queries, "a", "x", "b")
        assert isinstance(together[1], RedisConnectionError)
    again = await answers(queries, "a", "x", "b")

    assert (again[0], again[2]) == ("a", "b")
    assert isinstance(again[1], RedisConnectionError)
    assert connection.sent[-3:] == [["a"], ["x"], ["b"]]


async def test_one_dead_connection_costs_one_group():
    """A connection that was idle while Redis restarted is found out by using it."""
    connection = Connection(breaks_for="a")
    queries = GroupedQueries(connection)
    await answers(queries, "a", "b")
    connection._breaks_for = "-"

    assert await answers(queries, "a", "b") == ["a", "b"]
    assert connection.sent[-1] == ["a", "b"]


async def test_groups_are_smaller_while_replies_are_large():
    """What is too large together is asked again one by one, and no group of that size is tried next."""
    connection = Connection()
    queries = GroupedQueries(connection)
    large = ["x" * (REPLY_BYTES // 3) + str(number) for number in range(8)]
    for _ in range(2):
        assert await answers(queries, *large, at_most=REPLY_BYTES) == large

    assert [len(group) for group in connection.sent] == [8, *[1] * 8, 2, 2, 2, 2]


async def test_one_that_leaves_takes_no_other_along():
    """Neither while its question waits, nor while it is under way."""
    connection, queries, asked = await two_under_way()
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
    with eager_tasks():
        await test_questions_that_wait_leave_together()
        await test_one_that_leaves_takes_no_other_along()


async def test_silence_ends_what_is_under_way():
    """Who asked gets an error of the connection: it is closed."""
    connection, queries, asked = await two_under_way()
    silent = asyncio.create_task(queries.silence())

    async with asyncio.timeout(5):
        replies = await asyncio.gather(*asked, return_exceptions=True)
        connection.release.set()
        await silent

    assert {type(reply) for reply in replies} == {RedisConnectionError}


async def test_silence_before_anything_was_sent_leaves_a_way_on():
    """Its task had not begun: who asked gets an error, and the next question its answer."""
    queries = GroupedQueries(Connection())
    asked = asyncio.create_task(queries.ask("GET", "a", at_most=100))
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await queries.silence()
        with pytest.raises(RedisConnectionError):
            await asked

        assert await queries.ask("GET", "b", at_most=100) == "b"
