"""The graph, and the workflow that runs it. Nothing here knows of streaming.

`temporalio-langgraph` wants its nodes in a module with a name: they cannot stand in the file that is run.
"""

from datetime import timedelta

from langgraph.graph import START, StateGraph
from temporalio import workflow
from temporalio.langgraph import graph
from typing_extensions import TypedDict

from temporal_token_interceptor.testing import ScriptedChatModel


class Article(TypedDict):
    subject: str
    outline: str
    text: str


# Real ones: `langchain.chat_models.init_chat_model("anthropic:claude-sonnet-4-5")`, and all else stays.
planner = ScriptedChatModel.saying("First ", "the ", "tides, ", "then ", "the ", "moon.", delay=0.08)
writer = ScriptedChatModel.saying("Twice ", "a ", "day ", "the ", "sea ", "comes ", "back.", delay=0.08)


async def plan(state: Article) -> dict[str, str]:
    return {"outline": (await planner.ainvoke(f"An outline on {state['subject']}")).text}


async def write(state: Article) -> dict[str, str]:
    return {"text": (await writer.ainvoke(f"An article after this outline: {state['outline']}")).text}


def article_graph() -> StateGraph[Article]:
    in_activity = {
        "execute_in": "activity",
        "start_to_close_timeout": timedelta(minutes=5),
        "heartbeat_timeout": timedelta(seconds=10),
    }
    builder = StateGraph(Article)
    builder.add_node("plan", plan, metadata=in_activity)
    builder.add_node("write", write, metadata=in_activity)
    builder.add_edge(START, "plan")
    builder.add_edge("plan", "write")
    return builder


@workflow.defn
class Write:
    @workflow.run
    async def run(self, subject: str) -> str:
        article = await graph("article").compile().ainvoke({"subject": subject})
        return str(article["text"])
