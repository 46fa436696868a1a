"""A workflow file that imports what the sandbox would otherwise import again, for each workflow."""

from deepagents import create_deep_agent
from langchain_core.messages import AIMessage
from langgraph.graph import MessagesState
from temporalio import workflow

from temporal_token_interceptor import TokenEvent
from temporal_token_interceptor.testing import ScriptedChatModel

agent = create_deep_agent(model=ScriptedChatModel.saying("?"))


@workflow.defn
class ImportsLangChain:
    """Returns whether its imports are the worker's own."""

    @workflow.run
    async def run(self) -> str:
        import sys

        with workflow.unsafe.sandbox_unrestricted():
            shared = sys.__dict__["modules"]
            same = all(
                getattr(shared[one.__module__], one.__name__) is one
                for one in (AIMessage, MessagesState, TokenEvent, create_deep_agent)
            )
        return "outside of the sandbox" if same else "in the sandbox"
