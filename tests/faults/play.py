"""The workflow of every fault run."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy


@dataclass
class Speech:
    """What an activity says: `calls` at once, each `tokens` pieces, one every `delay` seconds; in `turns`.

    Attributes:
        calls: How many models speak at once.
        tokens: How many pieces each says.
        delay: Seconds before each piece.
        turns: How often all that is said again, by new calls.
        filler: Bytes of each piece beside its name.
        deaf: The first attempt sends no heartbeat and goes on when it is cancelled: a zombie.
        has_place: The result has a `custom_data` for what was not delivered.
    """

    calls: int = 1
    tokens: int = 200
    delay: float = 0.005
    turns: int = 1
    deaf: bool = False
    filler: int = 0
    has_place: bool = False


@dataclass
class Script:
    """What a run does.

    Attributes:
        speech: What each activity says.
        continues: How often the workflow continues as new.
        start_to_close: Seconds that one attempt may take.
        heartbeat: Seconds that Temporal waits for a heartbeat before it gives an attempt up. The SDK sends
            one after 0.8 of that: at 2 s, 0.4 s of delay on a full machine are a retry.
        attempts: How many there may be; 0 for any number.
        activities: How many activities speak, one after the other.
        pause: Seconds from the end of one to the start of the next.
        told: What the activities of the runs before returned.
    """

    speech: Speech = field(default_factory=Speech)
    continues: int = 0
    start_to_close: float = 120.0
    heartbeat: float = 2.0
    attempts: int = 0
    activities: int = 1
    pause: float = 0.0
    told: list[dict[str, str]] = field(default_factory=list)


@workflow.defn
class Play:
    """Runs activities that speak; returns what they returned: the truth that viewers are compared with."""

    @workflow.run
    async def run(self, script: Script) -> list[dict[str, str]]:
        for number in range(script.activities):
            if number:
                await workflow.sleep(script.pause)
            script.told.append(await self._speak(script))
        if script.continues:
            script.continues -= 1
            workflow.continue_as_new(script)
        return script.told

    async def _speak(self, script: Script) -> dict[str, str]:
        returned: dict[str, Any] = await workflow.execute_activity(
            "speak",
            script.speech,
            result_type=dict[str, Any],
            start_to_close_timeout=timedelta(seconds=script.start_to_close),
            heartbeat_timeout=None if script.speech.deaf else timedelta(seconds=script.heartbeat),
            retry_policy=RetryPolicy(
                initial_interval=timedelta(milliseconds=50),
                backoff_coefficient=1.0,
                maximum_attempts=script.attempts,
            ),
        )
        returned.pop("custom_data", None)  # or it would be in this run's own history again
        return returned
