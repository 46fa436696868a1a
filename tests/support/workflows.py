"""Workflows for tests. Nothing but temporalio is imported, so that they run in the sandbox as they are."""

from contextlib import suppress
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError
from temporalio.exceptions import TimeoutError as ActivityTimeout


@workflow.defn
class RunActivity:
    """Runs one activity, by name, with one argument."""

    @workflow.run
    async def run(
        self, name: str, argument: Any = None, local: bool = False, attempts: int = 1, heartbeat: float = 1
    ) -> Any:
        options: dict[str, Any] = {
            "start_to_close_timeout": timedelta(seconds=40),
            "retry_policy": RetryPolicy(
                initial_interval=timedelta(milliseconds=20), maximum_attempts=attempts
            ),
        }
        if local:
            return await workflow.execute_local_activity(name, argument, **options)
        return await workflow.execute_activity(
            name,
            argument,
            heartbeat_timeout=timedelta(seconds=heartbeat),
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            **options,
        )


@workflow.defn
class RunMany:
    """Runs an activity several times at once."""

    @workflow.run
    async def run(self, name: str, times: int) -> int:
        import asyncio

        await asyncio.gather(
            *(
                workflow.execute_activity(name, number, start_to_close_timeout=timedelta(seconds=40))
                for number in range(times)
            )
        )
        return times


@workflow.defn
class RunInTurn:
    """Runs activities by name, one after the other; what fails for good is let be."""

    @workflow.run
    async def run(self, names: list[str]) -> None:
        for number, name in enumerate(names):
            with suppress(ActivityError):
                await workflow.execute_activity(
                    name,
                    number,
                    start_to_close_timeout=timedelta(seconds=40),
                    retry_policy=RetryPolicy(maximum_attempts=1),
                )


@workflow.defn
class Continuing:
    """Runs an activity, then continues as new, until a countdown is at zero."""

    @workflow.run
    async def run(self, name: str, countdown: int) -> int:
        await workflow.execute_activity(name, countdown, start_to_close_timeout=timedelta(seconds=40))
        if countdown > 0:
            workflow.continue_as_new(args=[name, countdown - 1])
        return countdown


@workflow.defn
class Waiting:
    """Runs an activity, then waits for a signal to end, well or with a failure."""

    def __init__(self) -> None:
        self._end: str | None = None

    @workflow.run
    async def run(self, name: str) -> str:
        await workflow.execute_activity(name, None, start_to_close_timeout=timedelta(seconds=40))
        await workflow.wait_condition(lambda: self._end is not None)
        if self._end == "fail":
            from temporalio.exceptions import ApplicationError

            raise ApplicationError("as told", non_retryable=True)
        return self._end or ""

    @workflow.signal
    def end(self, how: str) -> None:
        self._end = how


@workflow.defn
class RunBeating:
    """Runs activities side by side, each with a heartbeat timeout; returns their results or failures."""

    @workflow.run
    async def run(
        self, names: list[str], heartbeat: float, attempts: int, start_to_close: float = 40
    ) -> list[Any]:
        import asyncio

        async def one(number: int, name: str) -> Any:
            try:
                return await workflow.execute_activity(
                    name,
                    number,
                    start_to_close_timeout=timedelta(seconds=start_to_close),
                    heartbeat_timeout=timedelta(seconds=heartbeat) if heartbeat else None,
                    cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
                    retry_policy=RetryPolicy(
                        initial_interval=timedelta(milliseconds=20), maximum_attempts=attempts
                    ),
                )
            except ActivityError as failure:
                cause = failure.cause
                return (
                    str(cause.type and cause.type.name)
                    if isinstance(cause, ActivityTimeout)
                    else type(cause).__name__
                )

        return await asyncio.gather(*(one(number, name) for number, name in enumerate(names)))


@workflow.defn
class RunThenWait:
    """Runs the activity `answer`, and then waits for a signal."""

    def __init__(self) -> None:
        self._goes_on = False

    @workflow.signal
    def go_on(self) -> None:
        self._goes_on = True

    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity("answer", "", start_to_close_timeout=timedelta(seconds=30))
        await workflow.wait_condition(lambda: self._goes_on)


@workflow.defn
class OnlyChildren:
    """Has no activity of its own: a child runs one."""

    @workflow.run
    async def run(self) -> None:
        await workflow.execute_child_workflow(RunActivity.run, args=["answer"])


@workflow.defn
class Branch:
    """Says words, and starts children, as a plan tells it.

    A plan has `id`, `words`, `children` (plans), and may have `late` (its parent starts it only once its own
    words are said), `fails` (its first run does, after its words), `goes_on` (as new, once), `abandoned` (it
    outlives its parent, which does not wait for it), and `waits` (for a signal, at the end).
    """

    def __init__(self) -> None:
        self._goes_on = False

    @workflow.signal
    def go_on(self) -> None:
        self._goes_on = True

    @workflow.run
    async def run(self, plan: dict[str, Any]) -> None:
        children = [await self._started(child) for child in plan["children"] if not child.get("late")]
        if plan["words"]:
            await workflow.execute_activity(
                "speak", plan["words"], start_to_close_timeout=timedelta(seconds=40), heartbeat_timeout=_BEAT
            )
        children += [await self._started(child) for child in plan["children"] if child.get("late")]
        if plan.get("fails") and workflow.info().attempt == 1:
            from temporalio.exceptions import ApplicationError

            raise ApplicationError("its first run")
        if plan.get("goes_on"):
            workflow.continue_as_new({**plan, "goes_on": False, "words": plan["words"] + " again"})
        for child in children:
            await child
        if plan.get("waits"):
            await workflow.wait_condition(lambda: self._goes_on)

    async def _started(self, plan: dict[str, Any]) -> Any:
        import asyncio

        handle = await workflow.start_child_workflow(
            Branch.run,
            plan,
            id=plan["id"],
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=20), maximum_attempts=2),
            parent_close_policy=workflow.ParentClosePolicy.ABANDON
            if plan.get("abandoned")
            else workflow.ParentClosePolicy.TERMINATE,
        )
        return asyncio.sleep(0) if plan.get("abandoned") else handle


_BEAT = timedelta(seconds=2)
