"""Watch a graph whose nodes are Temporal activities, one each.

Temporal's own plugin for LangGraph (`temporalio-langgraph`) runs the nodes; `TokenStreamingPlugin` beside it
makes each of them stream. One subscription reads them all, and every token says its node.
"""

import asyncio

from temporalio.client import Client
from temporalio.langgraph import LangGraphPlugin
from temporalio.worker import Worker

from devservers import redis_server, temporal_server
from examples.langgraph_nodes.article import Write, article_graph
from temporal_token_interceptor import (
    AttemptEnded,
    AttemptStarted,
    RedisStreamBackend,
    StreamEnded,
    TokenEvent,
    TokenStreamingPlugin,
    TokenSubscriber,
)

TASK_QUEUE = "langgraph-nodes"


# ---------------------------------------------------------------------- the worker


def article_worker(client: Client, redis_url: str) -> Worker:
    return Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=[Write],
        plugins=[
            LangGraphPlugin(graphs={"article": article_graph()}),
            TokenStreamingPlugin(lambda: RedisStreamBackend(redis_url)),
        ],
    )


# ---------------------------------------------------------------------- the client


async def watch(client: Client, redis_url: str, subject: str) -> None:
    handle = await client.start_workflow(Write.run, subject, id="article-1", task_queue=TASK_QUEUE)
    async with RedisStreamBackend(redis_url) as backend:
        async for event in TokenSubscriber(client, backend).subscribe(handle.id):
            match event:
                case AttemptStarted(origin=origin):
                    print(f"activity {origin.activity_type}", end="")
                case TokenEvent(index=0):
                    print(f", node {event.node_name}: {event.token}", end="", flush=True)
                case TokenEvent():
                    print(event.token, end="", flush=True)
                case AttemptEnded():
                    print()
                case StreamEnded():
                    print(f"-- {event.status}, says Temporal --")
    print(f"result: {await handle.result()}")


async def main() -> None:
    async with (
        temporal_server() as temporal,
        redis_server() as redis_url,
        article_worker(temporal.client, redis_url),
    ):
        await watch(temporal.client, redis_url, "the sea")


if __name__ == "__main__":
    asyncio.run(main())
