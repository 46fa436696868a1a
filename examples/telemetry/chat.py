"""An ordinary activity whose model hangs up once, and an ordinary workflow that runs it."""

from datetime import timedelta

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    from temporal_token_interceptor.testing import ScriptedChatModel

TASK_QUEUE = "telemetry"


@activity.defn
async def answer(question: str) -> str:
    """Ask the model, which breaks off in the first attempt."""
    said = ["Traces ", "join ", "both ", "sides."]
    pieces = [*said[:2], ConnectionError("the provider hung up")] if activity.info().attempt == 1 else said
    message = await ScriptedChatModel.saying(*pieces, delay=0.05).ainvoke(question)
    return message.text


@workflow.defn
class Chat:
    """Answer a question."""

    @workflow.run
    async def run(self, question: str) -> str:
        """Return the answer."""
        return await workflow.execute_activity(
            answer,
            question,
            start_to_close_timeout=timedelta(seconds=30),
            heartbeat_timeout=timedelta(seconds=10),
        )
