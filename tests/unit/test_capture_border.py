"""What may leave a callback: only what was thrown into it from outside."""

import pytest

from temporal_token_interceptor._guard import Guard
from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.capture.buffer import Buffer
from temporal_token_interceptor.capture.forcing import REFUSALS
from temporal_token_interceptor.capture.model_observer import Observer, capturing
from temporal_token_interceptor.events import CallEnded
from temporal_token_interceptor.testing import ScriptedChatModel


class Cancelled(Exception):
    """As Temporal throws into the thread of a sync activity."""


class _Throwing(Buffer):
    def __init__(self, error: Exception) -> None:
        super().__init__(Budget(1_000_000), lambda: None)
        self.error = error

    def put_text(self, *args: object, **facts: object) -> None:
        raise self.error


@pytest.mark.parametrize("call", ["invoke", "ainvoke"])
async def test_a_cancellation_that_hits_inside_capture_reaches_the_activity(call):
    """Temporal may cancel a thread while it is in our code: the cancellation must not be lost there."""
    observer = Observer(_Throwing(Cancelled()), default_node="n", guard=Guard((Cancelled,)))

    async def ask():
        answer = getattr(ScriptedChatModel.saying("a"), call)("?")
        return answer if call == "invoke" else await answer

    with capturing(observer), pytest.raises(Cancelled):
        await ask()


@pytest.mark.parametrize("call", ["invoke", "ainvoke"])
async def test_a_failure_of_ours_never_reaches_the_activity_nor_its_text_the_log(call, caplog):
    """If we cannot follow a model, its call goes on; the log names the error, not what the model said."""
    observer = Observer(_Throwing(ValueError("the secret")), default_node="n", guard=Guard((Cancelled,)))

    with capturing(observer):
        answer = getattr(ScriptedChatModel.saying("the ", "secret"), call)("?")
        message = answer if call == "invoke" else await answer

    assert message.text == "the secret"
    (record,) = (record for record in caplog.records if "could not capture" in record.message)
    assert "ValueError at" in record.message
    assert "secret" not in caplog.text


def test_a_cancellation_before_the_first_token_is_no_refusal():
    """Temporal cancels my sync activity while it waits for the model: the call ends, and is not repeated."""
    calls: list[int] = []

    def cancelled_once(_messages: object) -> list[object]:
        calls.append(1)
        return [Cancelled()] if len(calls) == 1 else ["repeated"]

    model = ScriptedChatModel(script=cancelled_once)
    observer = Observer(Buffer(Budget(2**20), lambda: None), default_node="n", guard=Guard((Cancelled,)))

    with capturing(observer), pytest.raises(Cancelled):
        model.invoke("?")

    assert calls == [1]
    assert model not in REFUSALS


def test_a_cancellation_in_mid_stream_cuts_the_call_off():
    """Stop in a sync activity: what the model had said stands, as in an async one."""
    buffer = Buffer(Budget(2**20), lambda: None)
    observer = Observer(buffer, default_node="n", guard=Guard((Cancelled,)))

    with capturing(observer), pytest.raises(Cancelled):
        ScriptedChatModel.saying("half", Cancelled()).invoke("?")

    [ended] = [record for record in buffer.take(2**20) if isinstance(record, CallEnded)]
    assert (ended.error, ended.unfinished) == (None, True)
