"""What docs/langgraph.md shows, beside an agent whose activity fails once in mid-sentence."""

import io
from contextlib import redirect_stdout
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, RemoveMessage
from langgraph.stream import StreamChannel, StreamTransformer
from temporalio import activity

import temporal_token_interceptor
from temporal_token_interceptor import MemoryStreamBackend
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.differential.models import LAST, USAGE
from tests.differential.shapes import QUESTION, graph, node
from tests.support.pages import Block
from tests.support.snippets import Stage, play
from tests.support.streams import streaming_worker, unique
from tests.support.workflows import RunActivity

PAGE = "docs/langgraph.md"
RUN = "async with TokenSubscriber(client, backend).run(workflow_id) as run:\n"


@activity.defn
async def chat(argument: Any) -> Any:
    """An agent of one node."""
    words = ["half", ConnectionError("reset")] if activity.info().attempt == 1 else ["It is ", "tea.", LAST]
    state = await graph(("model", node(ScriptedChatModel.saying(*words)))).ainvoke(QUESTION)
    return state["messages"][-1].text


async def names(stage: Stage) -> dict[str, Any]:
    """What the page takes for granted: our names, a client, a backend, and a workflow that runs."""
    backend, workflow_id = MemoryStreamBackend(), unique("page")
    queue = await stage.exits.enter_async_context(
        streaming_worker(stage.client, backend, [chat], capture=["node_output"])
    )
    await stage.client.start_workflow(
        RunActivity.run, args=["chat", None, False, 2], id=workflow_id, task_queue=queue
    )
    ours = {name: getattr(temporal_token_interceptor, name) for name in temporal_token_interceptor.__all__}
    here = {"client": stage.client, "backend": backend, "workflow_id": workflow_id}
    return {**ours, **here, "RemoveMessage": RemoveMessage, "BaseMessage": BaseMessage}


async def printed(block: Block, known: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Run a block; return what it printed, and what it knows."""
    with redirect_stdout(io.StringIO()) as out:
        known = await block.run(**known)
    return out.getvalue(), known


@play(PAGE, "# It was: async for chunk, metadata in graph.astream")
async def the_one_line_prints_what_the_model_says(stage: Stage, block: Block) -> None:
    """As after a retry within LangGraph: the half sentence is on the screen, and then the answer."""
    assert (await printed(block, await names(stage)))[0] == "halfIt is tea."


@play(PAGE, "messages = {}\n")
async def two_lines_more_keep_one_message(stage: Stage, block: Block) -> None:
    """Whoever keeps messages by id has the answer alone."""
    _, known = await printed(block, await names(stage))

    assert [message.text for message in known["messages"].values()] == ["It is tea."]


@play(PAGE, "cursor = None\n")
async def the_cursor_is_kept_and_the_end_is_told(stage: Stage, block: Block) -> None:
    """The loop ends without a word; and where the workflow was terminated, with its status."""
    known = await names(stage)
    out, after = await printed(block, known)
    assert (out, after["cursor"][:2]) == ("", "1~")

    terminated = unique("terminated")
    handle = await stage.client.start_workflow(
        RunActivity.run, args=["chat"], id=terminated, task_queue=unique("nobody")
    )
    await handle.terminate()
    assert (await printed(block, {**known, "workflow_id": terminated}))[0] == "terminated\n"


@activity.defn
async def greets(argument: Any) -> None:
    """A node that asks no model."""
    await graph(("greet", lambda state: {"messages": [AIMessage("Hello.")]})).ainvoke(QUESTION)


@play(PAGE, "async for event in TokenSubscriber(client, backend).protocol_events(workflow_id):")
async def protocol_events_print_what_the_model_says(stage: Stage, block: Block) -> None:
    """The half sentence, which its event `error` ends, and then the answer; and what a node returns."""
    known, workflow_id = await names(stage), unique("page")
    assert (await printed(block, known))[0] == "halfIt is tea."

    worker = streaming_worker(stage.client, known["backend"], [greets], capture=["node_output"])
    queue = await stage.exits.enter_async_context(worker)
    await stage.client.start_workflow(RunActivity.run, args=["greets"], id=workflow_id, task_queue=queue)
    assert (await printed(block, {**known, "workflow_id": workflow_id}))[0] == "greet returned Hello.\n"


@play(PAGE, f"{RUN}    async for call in")
async def the_run_prints_each_call_and_the_result(stage: Stage, block: Block) -> None:
    """The half sentence is marked as such; then the answer, its usage, and the workflow's result."""
    out, _ = await printed(block, await names(stage))

    assert out == (f"half -- ConnectionError: not part of the answer\nIt is tea. {dict(USAGE)}\nIt is tea.\n")


@play(PAGE, "class Words(StreamTransformer):")
async def a_transformer_counts_words(stage: Stage, block: Block) -> None:
    """Of the answer: the half sentence before it has no end."""
    langgraph = {"StreamTransformer": StreamTransformer, "StreamChannel": StreamChannel}

    assert (await printed(block, {**await names(stage), **langgraph}))[0] == "3 words\n"


@activity.defn
async def nested(argument: Any) -> None:
    """A call, and one in a subgraph."""
    inner = graph(("write", node(ScriptedChatModel.saying("tea"))))
    await graph(("plan", node(ScriptedChatModel.saying("hm"))), ("sub", inner)).ainvoke(QUESTION)


@play(PAGE, f"{RUN}    async for name, item in")
async def a_run_prints_what_is_said_in_subgraphs(stage: Stage, block: Block) -> None:
    """The calls of both graphs, in their order."""
    known, workflow_id = await names(stage), unique("page")
    queue = await stage.exits.enter_async_context(streaming_worker(stage.client, known["backend"], [nested]))
    await stage.client.start_workflow(RunActivity.run, args=["nested"], id=workflow_id, task_queue=queue)

    assert (await printed(block, {**known, "workflow_id": workflow_id}))[0] == "plan hm\nsub write tea\n"


@play(PAGE, "stream = TokenSubscriber(client, backend).astream(workflow_id")
async def stream_modes_print_words_updates_and_the_retry(stage: Stage, block: Block) -> None:
    """The half sentence, that the activity is tried once more, the answer, and the node that returned it."""
    assert (await printed(block, await names(stage)))[0] == (
        "half -- once more: 2\nIt is tea. -- done: model\n"
    )


@play(PAGE, "async for event in TokenSubscriber(client, backend).events_v2")
async def events_print_what_is_said_and_what_is_taken_back(stage: Stage, block: Block) -> None:
    """The half sentence, that its call failed, and the answer."""
    assert (await printed(block, await names(stage)))[0] == "half -- taken back: ConnectionError\nIt is tea."
