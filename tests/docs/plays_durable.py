"""What docs/durable.md shows."""

import asyncio
from dataclasses import dataclass
from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.temporal import TemporalGraph
from langgraph.temporal.workflow import LangGraphWorkflow
from temporalio import activity
from temporalio.worker import UnsandboxedWorkflowRunner
from typing_extensions import TypedDict

from temporal_token_interceptor import (
    Gap,
    TokenEvent,
    TokenStreamingInterceptor,
    TokenStreamingPlugin,
    TokenSubscriber,
    summary_events,
)
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.support.pages import Block
from tests.support.snippets import Stage, play
from tests.support.streams import standing_text, unique
from tests.support.workflows import RunActivity

WORDS = ["Late, ", "but ", "whole", "."]
PAGE = "docs/durable.md"


@play(PAGE, "Worker(client, ..., plugins=[TokenStreamingPlugin()])", "@dataclass\nclass Answer")
async def tokens_come_without_redis(stage: Stage, both_sides: Block, result: Block) -> None:
    """With the result that the page shows, the worker and the loop of the page stream without a backend."""
    answer_class = (await result.run(dataclass=dataclass, Any=Any))["Answer"]
    workflow_id, seen = unique("durable"), []

    @activity.defn
    async def answer(argument: Any) -> Any:
        return answer_class((await ScriptedChatModel.saying(*WORDS).ainvoke("?")).text)

    class Watched(TokenSubscriber):
        async def subscribe(self, *arguments: Any, **options: Any) -> Any:
            async for event in super().subscribe(*arguments, **options):
                seen.append(event)
                yield event

    await stage.client.start_workflow(RunActivity.run, "answer", id=workflow_id, task_queue=workflow_id)
    async with asyncio.timeout(20):
        await both_sides.run(
            Worker=stage.worker(task_queue=workflow_id, workflows=[RunActivity], activities=[answer]),
            TokenStreamingPlugin=TokenStreamingPlugin,
            TokenSubscriber=Watched,
            client=stage.client,
            workflow_id=workflow_id,
        )

    assert standing_text(seen) == "".join(WORDS)
    assert not [event for event in seen if isinstance(event, Gap)]


@play(PAGE, "buffer = await handle.query(LangGraphWorkflow")
async def the_buffer_of_langgraph_temporal_has_tokens(stage: Stage, block: Block) -> None:
    """The loop over its stream buffer finds the tokens."""
    workflow_id = unique("buffer")

    class State(TypedDict):
        said: str

    async def say(state: State) -> dict[str, Any]:
        return {"said": (await ScriptedChatModel.saying(*WORDS).ainvoke("?")).text}

    graph = StateGraph(State).add_node("say", say).add_edge(START, "say").add_edge("say", END).compile()
    durable = TemporalGraph(graph, stage.client, task_queue=workflow_id)
    async with (
        durable.create_worker(
            interceptors=[TokenStreamingInterceptor()], workflow_runner=UnsandboxedWorkflowRunner()
        ),
        asyncio.timeout(20),
    ):
        handle = await durable.astart({"said": ""}, {"configurable": {"thread_id": workflow_id}})
        await handle.result()
        told: list[Any] = []

        def watched(item: object) -> list[Any]:
            events = summary_events(item)
            told.extend(events)
            return events

        await block.run(handle=handle, LangGraphWorkflow=LangGraphWorkflow, summary_events=watched)

    assert "".join(event.token for event in told if isinstance(event, TokenEvent)) == "".join(WORDS)
