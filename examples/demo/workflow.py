"""An ordinary activity that runs the agent, and an ordinary workflow that runs the activity."""

from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from examples.demo.agent import agent

TASK_QUEUE = "support"


@activity.defn
async def answer(question: str) -> str:
    """Ask the agent, and wait for its whole answer."""
    state = await agent.ainvoke({"messages": [{"role": "user", "content": question}]})
    return str(state["messages"][-1].text)


@workflow.defn
class Support:
    """Answer a customer, however often the provider hangs up."""

    @workflow.run
    async def run(self, question: str) -> str:
        """Return the answer."""
        return await workflow.execute_activity(
            answer,
            question,
            start_to_close_timeout=timedelta(seconds=60),
            heartbeat_timeout=timedelta(seconds=10),  # cancelling reaches the model
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=100), maximum_attempts=3),
        )
