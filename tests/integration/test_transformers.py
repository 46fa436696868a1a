"""The example's transformers on a real Temporal: beside LangGraph's own run, and as the example runs."""

import warnings
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk
from temporalio import activity

from examples.transformers.__main__ import moderation, watch
from examples.transformers.costs import CostCounter
from examples.transformers.redaction import Redaction
from temporal_token_interceptor import MemoryStreamBackend, TokenSubscriber
from temporal_token_interceptor.testing import ScriptedChatModel
from tests.differential.shapes import QUESTION, graph, node
from tests.support.run_objects import told_by
from tests.support.streams import streaming_worker, unique
from tests.support.workflows import RunActivity

USAGE = AIMessageChunk(content="", usage_metadata={"input_tokens": 2, "output_tokens": 3, "total_tokens": 5})


def made() -> Any:
    """A graph whose model names an address, in pieces; one in a subgraph; and a node that returns one."""
    words = ["Write to ", "ada@", "example", ".org", " or call", USAGE]
    inner = graph(("inner", node(ScriptedChatModel.saying("bob@example.org", USAGE))))
    return graph(("answer", node(ScriptedChatModel.saying(*words))), ("sub", inner), ("sign", signs))


def signs(state: Any) -> Any:
    return {"messages": [AIMessage("Yours, ada@example.org")]}


async def shown_by(run: Any) -> Any:
    """What the transformers show, and the texts of all messages."""
    costs, verdicts = aiter(run.extensions["costs"]), aiter(run.extensions["verdicts"])
    tree = await told_by(run, ("messages", "subgraphs"))
    texts = [message["blocks"][0]["text"] for message in tree["messages"]]
    texts += [message["blocks"][0]["text"] for _, below in tree["subgraphs"] for message in below["messages"]]
    return [[cost async for cost in costs], texts, [verdict async for _, verdict in verdicts]]


@activity.defn
async def in_process(argument: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LangGraph's: v3 is in beta
        transformers = [Redaction, CostCounter, moderation]
        run = await made().astream_events(QUESTION, version="v3", transformers=transformers)
        async with run:
            return await shown_by(run)


@activity.defn
async def says_an_address(argument: Any) -> str:
    """The first attempt breaks off, and costs all the same what its whole call did."""
    words = ["Write to ", "ada@", "example", ".org", " or call.", USAGE]
    text = (await ScriptedChatModel.saying(*words).ainvoke("?")).text
    if activity.info().attempt == 1:
        raise ConnectionError("later")
    return str(text)


async def test_transformers_show_the_same_as_in_process(client):
    """The same classes: costs, verdicts, and texts without addresses, in the subgraph too."""
    backend, workflow_id = MemoryStreamBackend(), unique("transformers")
    async with streaming_worker(client, backend, [in_process], capture=["node_output"]) as queue:
        there = await client.execute_workflow(
            RunActivity.run, args=["in_process", None, False, 1, 20], id=workflow_id, task_queue=queue
        )
        subscriber = TokenSubscriber(client, backend)
        async with subscriber.run(workflow_id, transformers=[Redaction, CostCounter, moderation]) as run:
            here = await shown_by(run)

    assert here == there
    assert here[1] == ["Write to [address] or call", "Yours, [address]", "[address]"]
    assert here[2] == ["names a person"] * 3
    assert [cost["so_far"] for cost in here[0]] == [5.1e-05, 0.000102]


async def test_the_example_shows_its_point(client, capsys):
    """Of each attempt: the text without the address, its costs, and a verdict on it."""
    backend, workflow_id = MemoryStreamBackend(), unique("example")
    async with streaming_worker(client, backend, [says_an_address]) as queue:
        await client.start_workflow(
            RunActivity.run, args=["says_an_address", None, False, 2], id=workflow_id, task_queue=queue
        )
        shown = await watch(TokenSubscriber(client, backend), workflow_id)

    out = capsys.readouterr().out.splitlines()
    assert out[:2] == ["Write to [address] or call."] * 2
    assert [item["so_far"] for name, item in shown if name == "costs"] == [5.1e-05, 0.000102]
    assert [item[1] for name, item in shown if name == "verdicts"] == ["names a person"] * 2
