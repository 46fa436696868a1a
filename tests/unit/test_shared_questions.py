"""Many who wait for one thing ask for it once."""

import asyncio

from temporal_token_interceptor.reader.temporal.workflow_end import _Shared
from tests.support.eager import eager_task_factory


async def test_all_who_wait_share_one_question():
    """Thirty viewers of a workflow that has not begun cost what one costs."""
    shared: _Shared[str] = _Shared()
    asked = 0
    answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def ask() -> str:
        nonlocal asked
        asked += 1
        return await answer

    waiting = [asyncio.create_task(shared.wait(("wf",), ask)) for _ in range(30)]
    await asyncio.sleep(0)
    answer.set_result("run")

    assert await asyncio.gather(*waiting) == ["run"] * 30
    assert asked == 1
    assert shared._watches == {}


async def test_one_that_leaves_takes_no_other_along():
    """A viewer that closes its tab leaves the others waiting; the last one ends the question."""
    shared: _Shared[str] = _Shared()
    ended = asyncio.Event()

    async def ask() -> str:
        try:
            await asyncio.Event().wait()
            return "never"
        finally:
            ended.set()

    first, second = (asyncio.create_task(shared.wait(("wf",), ask)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait({first})
    assert not ended.is_set()
    second.cancel()
    await asyncio.wait({second})

    assert ended.is_set()
    assert shared._watches == {}


async def test_an_error_reaches_all_and_the_next_question_is_a_new_one():
    """What failed for those who waited is asked again by the next."""
    shared: _Shared[str] = _Shared()
    answers = iter([ConnectionError("away"), "run"])

    async def ask() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    both = await asyncio.gather(*(shared.wait(("wf",), ask) for _ in range(2)), return_exceptions=True)

    assert [type(error) for error in both] == [ConnectionError] * 2
    assert await shared.wait(("wf",), ask) == "run"


async def test_an_eager_task_factory_changes_nothing():
    """My application sets `asyncio.eager_task_factory`."""
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()
    loop.set_task_factory(eager_task_factory())
    try:
        await test_all_who_wait_share_one_question()
        await test_one_that_leaves_takes_no_other_along()
        await test_an_error_reaches_all_and_the_next_question_is_a_new_one()
    finally:
        loop.set_task_factory(before)
