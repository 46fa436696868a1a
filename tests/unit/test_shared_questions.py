"""Many who wait for one thing ask for it once."""

import asyncio
from collections.abc import Iterator
from functools import partial

from temporal_token_interceptor._tasks import SharedQuestions
from tests.support.eager import eager_tasks


async def test_all_who_wait_share_one_question():
    """Thirty viewers of a workflow that has not begun cost what one costs."""
    shared: SharedQuestions[str] = SharedQuestions()
    asked = 0
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def ask() -> str:
        nonlocal asked
        asked += 1
        return await answer

    waiting = [asyncio.create_task(shared.ask(("wf",), ask)) for _ in range(30)]
    await asyncio.sleep(0)
    answer.set_result("run")

    assert await asyncio.gather(*waiting) == ["run"] * 30
    assert asked == 1
    assert shared._asked == {}


async def test_one_that_leaves_takes_no_other_along():
    """A viewer that closes its tab leaves the others waiting; the last one ends the question."""
    shared: SharedQuestions[str] = SharedQuestions()
    ended = asyncio.Event()

    async def ask() -> str:
        try:
            await asyncio.Event().wait()
            return "never"
        finally:
            ended.set()

    first, second = (asyncio.create_task(shared.ask(("wf",), ask)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait({first})
    assert not ended.is_set()
    second.cancel()
    await asyncio.wait({second})

    assert ended.is_set()
    assert shared._asked == {}


async def test_an_error_reaches_all_and_the_next_question_is_a_new_one():
    """What failed for those who waited is asked again by the next."""
    shared: SharedQuestions[str] = SharedQuestions()
    answers = iter([ConnectionError("away"), "run"])

    async def ask() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    both = await asyncio.gather(*(shared.ask(("wf",), ask) for _ in range(2)), return_exceptions=True)

    assert [type(error) for error in both] == [ConnectionError] * 2
    assert await shared.ask(("wf",), ask) == "run"


async def test_an_eager_task_factory_changes_nothing():
    """My application sets `asyncio.eager_task_factory`."""
    with eager_tasks():
        await test_all_who_wait_share_one_question()
        await test_one_that_leaves_takes_no_other_along()
        await test_an_error_reaches_all_and_the_next_question_is_a_new_one()


async def test_who_comes_while_redis_answers_shares_the_next_answer():
    """A storm of viewers reads each page of a stream some times, and not a thousand times."""
    questions: SharedQuestions[int] = SharedQuestions()
    answers: list[asyncio.Future[int]] = []

    async def ask() -> int:
        answers.append(asyncio.get_running_loop().create_future())
        return await answers[-1]

    first = asyncio.create_task(questions.ask("page", ask, fresh=True))
    await _settled()
    late = [asyncio.create_task(questions.ask("page", ask, fresh=True)) for _ in range(50)]
    other = asyncio.create_task(questions.ask("another page", ask, fresh=True))
    await _settled()
    assert len(answers) == 2  # the second one is the other page's
    answers[0].set_result(1)
    await _settled()
    answers[1].set_result(0)
    answers[2].set_result(2)

    assert await first == 1  # none of the late ones gets what Redis may have read before they came
    assert await asyncio.gather(*late) == [2] * 50
    assert await other == 0
    assert len(answers) == 3
    assert questions._asked == {}


async def test_a_question_to_redis_ends_with_the_last_who_waits():
    """Viewers that close their tabs leave nothing behind, whether their question was sent or not."""
    questions: SharedQuestions[int] = SharedQuestions()
    ended: list[str] = []

    async def ask(name: str) -> int:
        try:
            await asyncio.Event().wait()
            return 0
        finally:
            ended.append(name)

    sent = asyncio.create_task(questions.ask("page", partial(ask, "sent"), fresh=True))
    await _settled()
    next_one, another = (
        asyncio.create_task(questions.ask("page", partial(ask, "next"), fresh=True)) for _ in range(2)
    )
    await _settled()
    for task in (next_one, another):
        task.cancel()
        await asyncio.wait({task})
    assert ended == []  # it was not sent
    sent.cancel()
    await asyncio.wait({sent})

    assert ended == ["sent"]
    assert questions._asked == {}


async def test_who_waits_for_the_next_answer_does_not_care_how_the_one_before_ended():
    """The first viewer leaves while Redis answers it; those behind it get theirs."""
    questions: SharedQuestions[int] = SharedQuestions()
    answers: Iterator[int | Exception] = iter([ConnectionError("away"), 2])

    async def ask() -> int:
        await asyncio.sleep(0)
        if isinstance(answer := next(answers), Exception):
            raise answer
        return answer

    first = asyncio.create_task(questions.ask("page", ask, fresh=True))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    second = asyncio.create_task(questions.ask("page", ask, fresh=True))

    assert isinstance((await asyncio.gather(first, return_exceptions=True))[0], ConnectionError)
    assert await second == 2
    assert questions._asked == {}


async def _settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)
