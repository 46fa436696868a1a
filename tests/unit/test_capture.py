"""What models say inside real LangChain and LangGraph runs is what is captured; nothing else changes."""

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, cast

import pytest
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import AsyncCallbackHandler, AsyncCallbackManager, BaseCallbackHandler
from langchain_core.callbacks import manager as langchain_manager
from langchain_core.language_models import (
    BaseChatModel,
    FakeListLLM,
    GenericFakeChatModel,
)
from langchain_core.messages import AIMessage, AIMessageChunk, UsageMetadata
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatResult, GenerationChunk
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langgraph.graph import START, MessagesState, StateGraph

from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.capture.buffer import Buffer
from temporal_token_interceptor.capture.filters import NO_STREAM_TAGS, Selection
from temporal_token_interceptor.capture.forced_call import ForceStreaming
from temporal_token_interceptor.capture.langchain_hooks import NO_FORCE_TAG
from temporal_token_interceptor.capture.model_observer import Observer, capturing
from temporal_token_interceptor.events import (
    Call,
    CallEnded,
    CallStarted,
    ContentBlock,
    Record,
    TextRun,
    ToolCallChunk,
)
from temporal_token_interceptor.events.graph import PlacedEvent
from temporal_token_interceptor.testing import Piece, ScriptedChatModel, tool_call

WORDS = ["To", "kens ", "travel", " light", ".", " ☂"]
TEXT = "".join(WORDS)
QUESTION = {"messages": [("user", "?")]}
USAGE: UsageMetadata = {"input_tokens": 3, "output_tokens": 5, "total_tokens": 8}

# ------------------------------------------------------------------ reading what was captured


@dataclass
class Received:
    """What was captured of one call."""

    call: Call
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    tool_calls: list[ToolCallChunk] = field(default_factory=list)
    blocks: list[dict[str, Any]] = field(default_factory=list)
    ends: list[CallEnded] = field(default_factory=list)

    @property
    def end(self) -> CallEnded:
        (end,) = self.ends
        return end


def heard_in(records: Sequence[Record]) -> list[Received]:
    """Fold records by call; what holds for every capture is checked on the way."""
    calls: dict[int, Received] = {}
    for record in records:
        if isinstance(record, PlacedEvent):
            continue
        if isinstance(record, CallStarted):
            assert record.call.ordinal == len(calls), "calls count from 0, without holes"
            calls[record.call.ordinal] = Received(record.call)
            continue
        assert isinstance(record, TextRun | ToolCallChunk | ContentBlock | CallEnded)
        heard = calls[record.call if isinstance(record, TextRun) else record.call.ordinal]
        assert not heard.ends, "a call ends once, and says nothing afterwards"
        match record:
            case TextRun():
                texts = heard.text if record.kind == "text" else heard.reasoning
                assert record.first_index == len(texts), "text is numbered without holes"
                texts.extend(record.texts)
            case ToolCallChunk():
                heard.tool_calls.append(record)
            case ContentBlock():
                heard.blocks.append(dict(record.block))
            case CallEnded():
                heard.ends.append(record)
    assert all(heard.ends for heard in calls.values()), "every call ends"
    return list(calls.values())


@contextmanager
def listening(
    *, nodes: Collection[str] | None = None, force_streaming: ForceStreaming = "auto"
) -> Iterator[list[Received]]:
    """Capture what is said within; the list is filled at the end."""
    buffer = Buffer(Budget(64 * 1024 * 1024), lambda: None)
    observer = Observer(buffer, default_node="answer", selection=Selection.of(nodes=nodes))
    heard: list[Received] = []
    try:
        with capturing(observer, force_streaming=force_streaming):
            yield heard
    finally:
        heard.extend(heard_in(buffer.take(2**60)))


@pytest.fixture(autouse=True)
def no_callback_error(caplog):
    """LangChain swallows what a callback raises; all that is left of it is a warning in the log."""
    yield
    warnings = [record for record in caplog.get_records("call") if record.levelno >= logging.WARNING]
    assert [record.getMessage() for record in warnings] == []


# ------------------------------------------------------------------ models and graphs


async def in_pieces(model: Runnable[Any, Any]) -> str:
    return "".join([chunk.text async for chunk in model.astream("?")])


async def by_events(model: Runnable[Any, Any]) -> str:
    events = [event async for event in model.astream_events("?", version="v2")]
    return str(events[-1]["data"]["output"].text)


async def whole(model: Runnable[Any, Any]) -> str:
    return str((await model.ainvoke("?")).text)


async def first_of_a_batch(model: Runnable[Any, Any]) -> str:
    return str((await model.abatch(["?"]))[0].text)


SYNC: dict[str, Callable[[Any], str]] = {
    "invoke": lambda model: model.invoke("?").text,
    "stream": lambda model: "".join(chunk.text for chunk in model.stream("?")),
    "batch": lambda model: model.batch(["?"])[0].text,
}
ASYNC = {
    "ainvoke": whole,
    "astream": in_pieces,
    "abatch": first_of_a_batch,
    "astream_events": by_events,
}
WAYS = [*SYNC, *ASYNC]


async def ask(model: Runnable[Any, Any], way: str) -> str:
    """The answer's text, asked for in one of the ways that LangChain has."""
    return SYNC[way](model) if way in SYNC else await ASYNC[way](model)


def asking(model: Runnable[Any, Any], way: str = "ainvoke") -> Callable[..., Any]:
    """A node that asks a model: a sync node in the sync ways."""

    async def node(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(await ASYNC[way](model))]}

    def sync_node(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(SYNC[way](model))]}

    return sync_node if way in SYNC else node


def graph_of(**nodes: Any) -> Any:
    """A graph that runs its nodes one after another."""
    builder = StateGraph(MessagesState)
    builder.add_sequence(list(nodes.items()))
    builder.add_edge(START, next(iter(nodes)))
    return builder.compile()


class WithoutStream(BaseChatModel):
    """A model whose author did not implement streaming."""

    reply: AIMessage

    @property
    def _llm_type(self) -> str:
        return "without-stream"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        return ChatResult(generations=[ChatGeneration(message=self.reply)])


class TextModel(FakeListLLM):
    """A model of the old text interface that can stream, a letter at a time."""

    def _stream(self, prompt, stop=None, run_manager=None, **kwargs):
        for letter in self._call(prompt):
            part = GenerationChunk(text=letter)
            if run_manager:
                run_manager.on_llm_new_token(letter, chunk=part)
            yield part


class Redacting(ScriptedChatModel):
    """A subclass that guards what its parent says."""

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        said = super()._generate(messages, stop, run_manager, **kwargs).generations[0].text
        reply = AIMessage(said.replace("secret", "***"))
        return ChatResult(generations=[ChatGeneration(message=reply)])


class AsyncRedacting(ScriptedChatModel):
    """The same, but for `ainvoke` only."""

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        return Redacting(script=self.script)._generate(messages)


class Gated(ScriptedChatModel):
    """Says a piece, tells so, and waits to be let on."""

    spoke: Any
    gate: Any

    @classmethod
    def with_gate(cls, *pieces: Piece) -> "Gated":
        return cls(script=lambda _messages: pieces, spoke=asyncio.Event(), gate=asyncio.Event())

    async def _astream(self, *args, **kwargs):
        async for chunk in super()._astream(*args, **kwargs):
            yield chunk
            self.spoke.set()
            await self.gate.wait()


# ------------------------------------------------------------------ text, however it was asked for


@pytest.mark.parametrize("way", WAYS)
async def test_however_a_model_is_asked_its_text_arrives_in_pieces(way):
    """I need not rewrite `invoke` to `stream`: the chunks of every call arrive, once and in order."""
    with listening() as calls:
        text = await ask(ScriptedChatModel.saying(*WORDS), way)

    assert text == TEXT
    assert [call.text for call in calls] == [WORDS]
    assert calls[0].end.streamed
    assert not calls[0].end.unfinished
    assert calls[0].end.error is None


@pytest.mark.parametrize("way", WAYS)
async def test_a_node_is_heard_however_it_asks(way):
    """Nodes may be sync or async, and need not pass `config` on."""
    graph = graph_of(writer=asking(ScriptedChatModel.saying(*WORDS), way))

    with listening() as calls:
        result = await graph.ainvoke(QUESTION)

    assert result["messages"][-1].text == TEXT
    assert [(call.call.node_name, call.text) for call in calls] == [("writer", WORDS)]
    assert calls[0].end.streamed


@pytest.mark.parametrize("mode", ["values", "updates", "messages"])
@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
async def test_a_graph_is_heard_however_it_is_run(way, mode):
    """My activity may invoke the graph or stream it, in any mode."""
    graph = graph_of(writer=asking(ScriptedChatModel.saying(*WORDS), "invoke"))

    with listening() as calls:
        match way:
            case "invoke":
                graph.invoke(QUESTION, stream_mode=mode)
            case "ainvoke":
                await graph.ainvoke(QUESTION, stream_mode=mode)
            case "stream":
                list(graph.stream(QUESTION, stream_mode=mode))
            case "astream":
                [part async for part in graph.astream(QUESTION, stream_mode=mode)]

    assert [call.text for call in calls] == [WORDS]


async def test_a_sync_node_is_heard_on_its_thread():
    """LangGraph runs a sync node of an async graph on a worker thread; the capture follows it there."""
    threads: list[int] = []

    def node(state: MessagesState) -> dict[str, Any]:
        threads.append(threading.get_ident())
        return {"messages": [ScriptedChatModel.saying(*WORDS).invoke("?")]}

    with listening() as calls:
        await graph_of(writer=node).ainvoke(QUESTION)

    assert threading.get_ident() not in threads
    assert [call.text for call in calls] == [WORDS]


async def test_threads_and_tasks_that_copy_the_context_are_heard():
    """`asyncio.to_thread` and `create_task` take the capture along."""
    with listening() as calls:
        await asyncio.to_thread(ScriptedChatModel.saying("in a ", "thread").invoke, "?")
        await asyncio.create_task(ScriptedChatModel.saying("in a ", "task").ainvoke("?"))

    assert [call.text for call in calls] == [["in a ", "thread"], ["in a ", "task"]]


async def test_a_bare_thread_with_a_node_s_config_is_heard_at_its_end():
    """A known limit: a thread that copied no context, but was given `config`, arrives whole."""

    async def node(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
        model = ScriptedChatModel.saying(*WORDS)
        with ThreadPoolExecutor() as threads:
            return {"messages": [await asyncio.wrap_future(threads.submit(model.invoke, "?", config))]}

    with listening() as calls:
        await graph_of(writer=node).ainvoke(QUESTION)

    assert [call.text for call in calls] == [[TEXT]]
    assert not calls[0].end.streamed


async def test_parallel_calls_do_not_mix():
    """Twenty calls at once on one loop: each keeps its own text, in its own order."""
    scripts = [[f"{number}.{i} " for i in range(50)] for number in range(20)]

    with listening() as calls:
        await asyncio.gather(*(ScriptedChatModel.saying(*script).ainvoke("?") for script in scripts))

    assert sorted(call.text for call in calls) == sorted(scripts)


async def test_parallel_calls_on_threads_do_not_mix():
    """The same for sync models, on threads that really speak at the same time."""
    together = threading.Barrier(4, timeout=20)
    scripts = [[f"{number}.{i} " for i in range(100)] for number in range(4)]

    def speak(script: list[str], messages: object) -> Any:
        for word in script:
            together.wait()
            yield word

    models = [ScriptedChatModel(script=partial(speak, script)) for script in scripts]
    with listening() as calls:
        await asyncio.gather(*(asyncio.to_thread(model.invoke, "?") for model in models))

    assert sorted(call.text for call in calls) == sorted(scripts)


async def test_parallel_nodes_do_not_mix():
    """Sync and async nodes of one superstep: each token knows its own node."""
    scripts = {f"node{number}": [f"{number}.{i} " for i in range(20)] for number in range(4)}
    builder = StateGraph(MessagesState)
    for number, (name, script) in enumerate(scripts.items()):
        way = "ainvoke" if number % 2 else "invoke"
        builder.add_node(name, asking(ScriptedChatModel.saying(*script), way))
        builder.add_edge(START, name)
    graph: Any = builder.compile()

    with listening() as calls:
        await graph.ainvoke(QUESTION)

    assert {call.call.node_name: call.text for call in calls} == scripts


# ------------------------------------------------------------------ who said it


async def test_a_call_outside_of_a_graph_has_the_default_node():
    """Without LangGraph's metadata the activity type names the node; the model names itself."""
    with listening() as calls:
        message = await ScriptedChatModel.saying("a").ainvoke("?", {"tags": ["draft"]})

    call = calls[0].call
    assert (call.node_name, call.path, call.step, call.agent_name) == ("answer", (), None, None)
    assert (call.model, call.provider, call.tags) == ("scripted", "scriptedchatmodel", ("draft",))
    assert message.id == calls[0].end.message_id == f"lc_run--{call.run_id}"


async def test_a_call_in_a_graph_knows_its_node_and_step():
    """Tokens say which node they come from, and in which step of the graph."""
    graph = graph_of(
        plan=asking(ScriptedChatModel.saying("a")), write=asking(ScriptedChatModel.saying("b"), "invoke")
    )

    with listening() as calls:
        await graph.ainvoke(QUESTION)

    assert [(call.call.node_name, call.call.step, call.call.path) for call in calls] == [
        ("plan", 1, ()),
        ("write", 2, ()),
    ]


async def test_a_call_in_a_subgraph_knows_its_path():
    """A graph as a node of a graph as a node: the path names the nodes around, outermost first."""
    inner = graph_of(model=asking(ScriptedChatModel.saying("a")))
    middle = graph_of(inner=inner)
    outer = graph_of(middle=middle)

    with listening() as calls:
        await outer.ainvoke(QUESTION)

    assert [(call.call.path, call.call.node_name) for call in calls] == [(("middle", "inner"), "model")]


async def test_the_path_is_the_same_each_time_a_subgraph_is_called():
    """A node that runs its subgraph twice: LangGraph numbers the second run, the path does not show it."""
    inner = graph_of(model=asking(ScriptedChatModel.saying("a")))

    async def twice(state: MessagesState) -> dict[str, Any]:
        await inner.ainvoke(state)
        return dict(await inner.ainvoke(state))

    with listening() as calls:
        await graph_of(outer=twice).ainvoke(QUESTION)

    assert [(call.call.path, call.call.node_name) for call in calls] == [(("outer",), "model")] * 2


async def test_an_agent_is_heard_by_its_name():
    """`create_agent`: each call of its model, the tool call it writes, and its answer."""

    def find(query: str) -> str:
        """Find something."""
        return f"found {query}"

    def script(messages: Sequence[Any]) -> list[Piece]:
        if messages[-1].type == "tool":
            return ["Here: ", messages[-1].text]
        return ["Let me ", "look.", tool_call("find", '{"query": "tea"}', id="c1")]

    agent = create_agent(ScriptedChatModel(script=script), tools=[find], name="librarian")

    with listening() as calls:
        result = await agent.ainvoke({"messages": [{"role": "user", "content": "?"}]})

    assert result["messages"][-1].text == "Here: found tea"
    assert [call.text for call in calls] == [["Let me ", "look."], ["Here: ", "found tea"]]
    assert [(chunk.name, chunk.id, chunk.args) for chunk in calls[0].tool_calls] == [
        ("find", "c1", '{"query": "tea"}')
    ]
    assert {(call.call.node_name, call.call.agent_name) for call in calls} == {("model", "librarian")}


async def test_an_agent_in_a_graph_is_heard_with_its_path():
    """An agent as a subgraph: its model's path is the node that it stands in."""
    agent = create_agent(ScriptedChatModel.saying("a"), tools=[], name="writer")

    with listening() as calls:
        await graph_of(sub=agent).ainvoke(QUESTION)

    call = calls[0].call
    assert (call.path, call.node_name, call.agent_name) == (("sub",), "model", "writer")


# ------------------------------------------------------------------ what is not to be captured


@pytest.mark.parametrize("tag", sorted(NO_STREAM_TAGS))
@pytest.mark.parametrize("on", ["call", "model", "chain"])
async def test_a_call_tagged_nostream_is_not_captured(tag, on):
    """LangGraph's own tags keep a call to itself, wherever they are set."""
    model: Runnable[Any, Any] = ScriptedChatModel.saying("private")
    config: RunnableConfig = {"tags": [tag]}
    match on:
        case "call":
            model = model.with_config(config)
        case "model":
            model = ScriptedChatModel(script=lambda _messages: ["private"], tags=[tag])
        case "chain":
            model = (RunnableLambda(lambda text: text) | model).with_config(config)

    with listening() as calls:
        await model.ainvoke("?")
        await ScriptedChatModel.saying("public").ainvoke("?")

    assert [call.text for call in calls] == [["public"]]


async def test_only_chosen_nodes_are_captured():
    """`nodes=` names who is heard; ordinals count only those."""
    graph = graph_of(plan=asking(ScriptedChatModel.saying("a")), write=asking(ScriptedChatModel.saying("b")))

    with listening(nodes={"write"}) as calls:
        await graph.ainvoke(QUESTION)
        await ScriptedChatModel.saying("outside").ainvoke("?")

    assert [(call.call.ordinal, call.call.node_name) for call in calls] == [(0, "write")]


async def test_outside_of_a_graph_nodes_names_the_default_node():
    """In an activity without a graph the activity type is the node that `nodes=` means."""
    with listening(nodes=["answer"]) as calls:
        await ScriptedChatModel.saying("a").ainvoke("?")

    assert [call.text for call in calls] == [["a"]]


# ------------------------------------------------------------------ more than text


def chunk(content: Any = "", *, provider: str | None = None, **facts: Any) -> AIMessageChunk:
    """A chunk as a provider's integration makes it; the provider's name selects LangChain's translator."""
    if provider is not None:
        facts["response_metadata"] = {"model_provider": provider}
    return AIMessageChunk(content=content, **facts)


def fragment(args: str, *, name: str | None = None, id: str | None = None, index: int | None = 0) -> Any:  # noqa: A002
    return {"type": "tool_call_chunk", "name": name, "args": args, "id": id, "index": index}


anthropic = partial(chunk, provider="anthropic")
openai = partial(chunk, provider="openai")
google = partial(chunk, provider="google_genai")
bedrock = partial(chunk, provider="bedrock_converse")

PROVIDERS = {
    "anthropic": [
        anthropic([]),
        anthropic([{"type": "thinking", "thinking": "hm, ", "index": 0}]),
        anthropic([{"type": "thinking", "thinking": "yes", "index": 0}]),
        anthropic([{"type": "thinking", "signature": "c2ln", "index": 0}]),
        anthropic([{"type": "text", "text": "I ", "index": 1}]),
        anthropic([{"type": "text", "text": "look", "index": 1}]),
        anthropic(
            [{"type": "tool_use", "id": "c1", "name": "find", "input": {}, "index": 2}],
            tool_call_chunks=[fragment("", name="find", id="c1", index=2)],
        ),
        anthropic(
            [{"type": "input_json_delta", "partial_json": '{"q": ', "index": 2}],
            tool_call_chunks=[fragment('{"q": ', index=2)],
        ),
        anthropic(
            [{"type": "input_json_delta", "partial_json": '"tea"}', "index": 2}],
            tool_call_chunks=[fragment('"tea"}', index=2)],
        ),
    ],
    "openai responses": [
        openai([{"type": "reasoning", "id": "rs", "summary": [], "index": 0}]),
        openai([{"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm, ", "index": 0}]}]),
        openai([{"type": "reasoning", "summary": [{"type": "summary_text", "text": "yes", "index": 0}]}]),
        openai([{"type": "text", "text": "I ", "index": 1}]),
        openai([{"type": "text", "text": "look", "index": 1}]),
        openai(
            [{"type": "function_call", "name": "find", "arguments": "", "call_id": "c1", "index": 2}],
            tool_call_chunks=[fragment("", name="find", id="c1", index=2)],
        ),
        openai(
            [{"type": "function_call", "arguments": '{"q": "tea"}', "index": 2}],
            tool_call_chunks=[fragment('{"q": "tea"}', index=2)],
        ),
    ],
    "openai completions, deepseek, ollama": [
        chunk(additional_kwargs={"reasoning_content": "hm, "}),
        chunk(additional_kwargs={"reasoning_content": "yes"}),
        chunk("I "),
        chunk("look"),
        chunk(
            additional_kwargs={"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "find"}}]},
            tool_call_chunks=[fragment("", name="find", id="c1")],
        ),
        chunk(tool_call_chunks=[fragment('{"q": "tea"}')]),
    ],
    "google": [
        google([{"type": "thinking", "thinking": "hm, "}]),
        google([{"type": "thinking", "thinking": "yes"}]),
        google("I "),
        google("look"),
        google(
            additional_kwargs={"function_call": {"name": "find", "arguments": '{"q": "tea"}'}},
            tool_call_chunks=[fragment('{"q": "tea"}', name="find", id="c1", index=None)],
        ),
    ],
    "bedrock": [
        bedrock([{"type": "reasoning_content", "reasoning_content": {"text": "hm, "}, "index": 0}]),
        bedrock([{"type": "reasoning_content", "reasoning_content": {"text": "yes"}, "index": 0}]),
        bedrock([{"type": "text", "text": "I ", "index": 1}]),
        bedrock([{"type": "text", "text": "look", "index": 1}]),
        bedrock(
            [{"type": "tool_use", "id": "c1", "name": "find", "input": {}, "index": 2}],
            tool_call_chunks=[fragment('{"q": "tea"}', name="find", id="c1", index=2)],
        ),
    ],
    "v1 blocks": [
        chunk([{"type": "reasoning", "reasoning": "hm, ", "index": 0}]),
        chunk([{"type": "reasoning", "reasoning": "yes", "index": 0}]),
        chunk([{"type": "text", "text": "I ", "index": 1}]),
        chunk([{"type": "text", "text": "look", "index": 1}]),
        chunk(
            [fragment('{"q": "tea"}', name="find", id="c1", index=2)],
            response_metadata={"output_version": "v1"},
        ),
    ],
}


def signed(call):
    """What a call says beside its texts: the signature of a thought, or its id."""
    return [block.get("id") or block["extras"]["signature"] for block in call.blocks]


SIGNED = [*zip(PROVIDERS.values(), [["c2ln"], ["rs"], [], [], [], []], strict=True)]
"""What each of `PROVIDERS` says, and beside its texts."""


@pytest.mark.parametrize("way", ["ainvoke", "astream", "invoke", "stream"])
@pytest.mark.parametrize(("pieces", "signs"), SIGNED, ids=PROVIDERS)
async def test_reasoning_text_and_tool_calls_arrive_by_their_kind(pieces, signs, way):
    """Whatever shape a provider's chunks have: reasoning is never text, a tool call is neither."""
    with listening() as calls:
        await ask(ScriptedChatModel.saying(*pieces), way)

    (call,) = calls
    assert call.reasoning == ["hm, ", "yes"]
    assert call.text == ["I ", "look"]
    assert [(part.name, part.id) for part in call.tool_calls if part.id] == [("find", "c1")]
    assert "".join(part.args for part in call.tool_calls) == '{"q": "tea"}'
    assert len({part.index for part in call.tool_calls}) == 1
    assert signed(call) == signs


@pytest.mark.parametrize("pieces", PROVIDERS.values(), ids=PROVIDERS)
async def test_a_model_that_speaks_v1_blocks_says_the_same(pieces):
    """`output_version="v1"` changes the shape of chunks, not what is captured."""
    model = ScriptedChatModel(script=lambda _messages: pieces, output_version="v1")

    with listening() as calls:
        message = await model.ainvoke("?")

    (call,) = calls
    assert "".join(call.text) == message.text == "I look"
    assert "".join(call.reasoning) == "hm, yes"
    assert "".join(part.args for part in call.tool_calls) == '{"q": "tea"}'


async def test_the_last_chunk_may_hold_the_end_of_a_tool_call():
    """LangChain hides the fragments of a chunk that is marked as the last; they arrive all the same."""
    with listening() as calls:
        message = await ScriptedChatModel.saying(
            chunk(tool_call_chunks=[fragment('{"q": ', name="find", id="c1")]),
            chunk(tool_call_chunks=[fragment('"tea"}')], chunk_position="last"),
        ).ainvoke("?")

    assert message.tool_calls[0]["args"] == {"q": "tea"}
    assert [part.args for part in calls[0].tool_calls] == ['{"q": ', '"tea"}']


async def test_other_blocks_arrive_as_they_are():
    """An image, as a reference, and a block that LangChain cannot translate are passed on; not as text."""
    with listening() as calls:
        await ScriptedChatModel.saying(
            chunk([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]),
            chunk([{"type": "novelty", "value": 7}]),
        ).ainvoke("?")

    (call,) = calls
    assert call.text == []
    assert [block["type"] for block in call.blocks] == ["image", "non_standard"]
    assert (call.blocks[0].get("base64"), call.blocks[0]["size"]) == (None, 3)
    assert call.blocks[1]["value"] == {"type": "novelty", "value": 7}


@pytest.mark.parametrize("content", [["a", {"type": "text", "text": "b"}], ["a", "b"], "ab"])
async def test_the_text_joined_is_the_message_s_text(content):
    """Strings and blocks, mixed as LangChain allows: what users compare with is `message.text`."""
    with listening() as calls:
        message = await ScriptedChatModel.saying(chunk(content), "c").ainvoke("?")

    assert "".join(calls[0].text) == message.text == "abc"


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"finish_reason": "stop"}, "stop"),
        ({"stop_reason": "end_turn"}, "end_turn"),
        ({"done_reason": "length"}, "length"),
        ({"stopReason": "guardrail"}, "guardrail"),
        ({"other": 1}, None),
    ],
)
async def test_usage_and_finish_reason_come_with_the_end(metadata, reason):
    """Providers call the reason by different names; the reader sees one."""
    last = chunk(usage_metadata=USAGE, response_metadata=metadata)

    with listening() as calls:
        message = await ScriptedChatModel.saying("a", last).ainvoke("?")

    assert calls[0].end.usage == message.usage_metadata == USAGE
    assert calls[0].end.finish_reason == reason


async def test_a_chunk_of_text_alone_takes_the_fast_path(monkeypatch):
    """A token costs no content blocks: they are slow, and nearly every chunk is only text."""

    def slow(message: object) -> None:
        raise AssertionError("content_blocks was read")

    monkeypatch.setattr(AIMessageChunk, "content_blocks", property(slow))
    with listening() as calls:
        await ScriptedChatModel.saying(*WORDS).ainvoke("?")

    assert calls[0].text == WORDS


# ------------------------------------------------------------------ calls that do not stream


async def test_a_cache_hit_is_sent_whole():
    """The second time the same answer comes out of LangChain's cache: in one piece, and it says so."""
    model = ScriptedChatModel(script=lambda _messages: WORDS, cache=InMemoryCache())

    with listening() as calls:
        first = await model.ainvoke("?")
        second = await model.ainvoke("?")

    assert first.text == second.text
    assert [call.text for call in calls] == [WORDS, [TEXT]]
    assert [call.end.streamed for call in calls] == [True, False]


@pytest.mark.parametrize("way", WAYS)
async def test_a_model_that_may_not_stream_is_sent_whole(way):
    """`disable_streaming=True` is obeyed."""
    model = ScriptedChatModel(script=lambda _messages: WORDS, disable_streaming=True)

    with listening() as calls:
        text = await ask(model, way)

    assert text == TEXT
    assert [call.text for call in calls] == [[TEXT]]
    assert not calls[0].end.streamed


@pytest.mark.parametrize("force_streaming", ["auto", True, False])
@pytest.mark.parametrize("way", WAYS)
async def test_a_model_that_cannot_stream_is_sent_whole(way, force_streaming):
    """A model without `_stream`: reasoning, text, tool calls and usage arrive with its end."""
    reply = AIMessage(
        [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "I look"}],
        tool_calls=[{"name": "find", "args": {"q": "tea"}, "id": "c1"}],
        invalid_tool_calls=[{"name": "find", "args": '{"q', "id": "c2", "error": None}],
        usage_metadata=USAGE,
        response_metadata={"finish_reason": "tool_calls"},
    )

    with listening(force_streaming=force_streaming) as calls:
        assert await ask(WithoutStream(reply=reply), way) == "I look"

    (call,) = calls
    assert (call.reasoning, call.text) == (["hm"], ["I look"])
    assert [(part.id, part.args) for part in call.tool_calls] == [("c1", '{"q": "tea"}'), ("c2", '{"q')]
    assert (call.end.usage, call.end.finish_reason, call.end.streamed) == (USAGE, "tool_calls", False)


async def test_without_force_invoke_is_sent_whole_and_stream_in_pieces():
    """`force_streaming=False` leaves every call as it is."""
    with listening(force_streaming=False) as calls:
        await ScriptedChatModel.saying(*WORDS).ainvoke("?")
        await ask(ScriptedChatModel.saying(*WORDS), "astream")

    assert [call.text for call in calls] == [[TEXT], WORDS]
    assert [call.end.streamed for call in calls] == [False, True]


# ------------------------------------------------------------------ text models


@pytest.mark.parametrize("model", [FakeListLLM, TextModel])
async def test_a_text_model_is_sent_whole_when_it_is_invoked(model):
    """Models of the old text interface cannot be made to stream; what they say arrives at the end."""
    with listening() as calls:
        model(responses=["abc"]).invoke("?")
        await model(responses=["def"]).ainvoke("?")
        await model(responses=["g", "h"]).abatch(["?", "?"])

    assert [call.text for call in calls] == [["abc"], ["def"], ["g"], ["h"]]
    assert {call.end.streamed for call in calls} == {False}


async def test_a_text_model_that_streams_arrives_in_pieces():
    """`stream` and `astream` of a text model are heard piece by piece."""
    model = TextModel(responses=["abc"])

    with listening() as calls:
        list(model.stream("?"))
        [part async for part in model.astream("?")]

    assert [call.text for call in calls] == [["a", "b", "c"]] * 2
    assert {call.end.streamed for call in calls} == {True}


# ------------------------------------------------------------------ calls that end badly


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
async def test_a_failed_call_names_its_error_and_nothing_of_its_message(way):
    """What had been said stays; of the error only its class is told, for its message may hold content."""
    model = ScriptedChatModel.saying("a", "b", PermissionError("key sk-123 was refused"))

    with listening() as calls, pytest.raises(PermissionError, match="sk-123"):
        await ask(model, way)

    (call,) = calls
    assert call.text == ["a", "b"]
    assert call.end.error == "PermissionError"
    assert not call.end.unfinished
    assert "sk-123" not in repr(call)


async def test_each_try_is_a_call_of_its_own():
    """LangChain's `with_retry` asks again: two calls, the first one failed."""
    tries: Iterator[list[Piece]] = iter([["a", ConnectionError("lost")], ["a", "b"]])
    model = ScriptedChatModel(script=lambda _messages: next(tries)).with_retry(wait_exponential_jitter=False)

    with listening() as calls:
        await model.ainvoke("?")

    assert [(call.text, call.end.error) for call in calls] == [(["a"], "ConnectionError"), (["a", "b"], None)]


async def test_a_cancelled_call_is_closed_as_unfinished():
    """A cancelled `ainvoke` fires no callback; the capture ends what is still open."""
    model = Gated.with_gate("a", "b")

    with listening() as calls:
        asking_it = asyncio.create_task(model.ainvoke("?"))
        await model.spoke.wait()
        asking_it.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking_it

    (call,) = calls
    assert call.text == ["a"]
    assert call.end.unfinished
    assert call.end.error is None


async def test_a_stream_that_is_left_early_ends_once():
    """`break` out of a stream: what was said stays, and the call ends."""
    with listening() as calls:
        async with aclosing(
            cast("AsyncGenerator[Any]", ScriptedChatModel.saying(*WORDS).astream("?"))
        ) as stream:
            await anext(stream)

    assert calls[0].text == WORDS[:1]
    assert (calls[0].end.error, calls[0].end.unfinished) == (None, True)


async def test_what_outlives_the_capture_is_not_recorded():
    """A task that goes on after the activity has returned, and a call that it starts then, are not heard."""
    buffer = Buffer(Budget(2**20), lambda: None)
    model = Gated.with_gate("a", "b")

    async def outlive() -> None:
        await model.ainvoke("?")
        await model.ainvoke("?")

    with capturing(Observer(buffer, default_node="answer")):
        outliving = asyncio.create_task(outlive())
        await model.spoke.wait()
    before = buffer.take(2**20)
    model.gate.set()
    await outliving

    assert [(call.text, call.end.unfinished) for call in heard_in(before)] == [(["a"], True)]
    assert len(buffer) == 0


async def test_closing_while_threads_begin_and_end_calls_loses_none():
    """Threads of a cancelled activity run on: closing neither raises nor leaves a call open.

    A call that ends by itself at that moment may have its end in the buffer a little later.
    """
    buffer = Buffer(Budget(2**26), lambda: None)
    busy, enough = threading.Barrier(5, timeout=20), threading.Event()

    def keep_asking() -> None:
        busy.wait()
        while not enough.is_set():
            ScriptedChatModel.saying("a").invoke("?")

    with capturing(Observer(buffer, default_node="answer")):
        asking_on = [asyncio.create_task(asyncio.to_thread(keep_asking)) for _ in range(4)]
        await asyncio.to_thread(busy.wait)
    records = buffer.take(2**60)
    enough.set()
    await asyncio.gather(*asking_on)

    late = buffer.take(2**60)
    heard_in([record for record in (*records, *late) if not isinstance(record, TextRun)])
    assert [record for record in late if isinstance(record, CallStarted)] == []


# ------------------------------------------------------------------ nothing else changes

ANSWERS: dict[str, list[Piece]] = {
    "text": [*WORDS],
    "reasoning": [chunk([{"type": "reasoning", "reasoning": "hm", "index": 0}]), chunk([])],
    "tool call": ["I look", tool_call("find", '{"q": "tea"}', id="c1")],
    "usage": ["a", chunk(usage_metadata=USAGE)],
}


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize("pieces", ANSWERS.values(), ids=ANSWERS)
async def test_the_message_is_the_same_with_and_without_us(pieces, way):
    """Documented differences alone: the end of the id, and what a provider leaves out of its stream."""
    model = ScriptedChatModel.saying(*pieces)

    async def message() -> dict[str, Any]:
        said = model.invoke("?") if way == "invoke" else await model.ainvoke("?")
        assert type(said) is AIMessage
        return said.model_dump(exclude={"id", "response_metadata"})

    alone = await message()
    with listening() as calls:
        observed = await message()

    assert calls[0].end.streamed
    assert observed == alone


@pytest.mark.parametrize(
    ("model", "way"), [(Redacting, "invoke"), (Redacting, "ainvoke"), (AsyncRedacting, "ainvoke")]
)
async def test_a_subclass_that_guards_is_not_bypassed(model, way):
    """Whoever overrides `_generate` to redact is obeyed; such a model is sent whole."""
    with listening() as calls:
        text = await ask(model.saying("my ", "secret"), way)

    assert text == "my ***"
    assert [call.text for call in calls] == [["my ***"]]
    assert not calls[0].end.streamed


async def test_true_forces_also_a_model_that_guards():
    """`force_streaming=True` is what it says: wherever a model can stream, also past a guard."""
    with listening(force_streaming=True) as calls:
        text = await ask(Redacting.saying("my ", "secret"), "ainvoke")

    assert text == "my secret"
    assert [call.text for call in calls] == [["my ", "secret"]]


async def test_langchain_s_generic_fake_is_not_made_to_stream():
    """Its stream loses tool calls; tests of our users would fail because of us."""
    reply = AIMessage("two words", tool_calls=[{"name": "find", "args": {}, "id": "c1"}])

    def fake() -> GenericFakeChatModel:
        return GenericFakeChatModel(messages=iter([reply]))

    with listening() as calls:
        message = await fake().ainvoke("?")
    with listening(force_streaming=True) as forced:
        await GenericFakeChatModel(messages=iter(["two words"])).ainvoke("?")

    assert message.tool_calls == reply.tool_calls
    assert [call.text for call in calls] == [["two words"]]
    assert [call.text for call in forced] == [["two", " ", "words"]]


@pytest.mark.parametrize("on", ["call", "model", "chain", "node", "manager"])
@pytest.mark.parametrize("force_streaming", ["auto", True])
async def test_a_tag_leaves_a_single_call_alone(on, force_streaming):
    """`tti:noforce` on a call, a model, a chain or a graph: it is sent whole, as if without force."""
    model: Runnable[Any, Any] = ScriptedChatModel.saying(*WORDS)
    config: RunnableConfig = {"tags": [NO_FORCE_TAG]}

    with listening(force_streaming=force_streaming) as calls:
        match on:
            case "call":
                await model.ainvoke("?", config)
            case "model":
                await ScriptedChatModel(script=lambda _messages: WORDS, tags=[NO_FORCE_TAG]).ainvoke("?")
            case "chain":
                await (RunnableLambda(lambda text: text) | model).ainvoke("?", config)
            case "node":
                await graph_of(writer=asking(model)).ainvoke(QUESTION, config)
            case "manager":
                manager = AsyncCallbackManager.configure(inheritable_tags=[NO_FORCE_TAG])
                await model.ainvoke("?", {"callbacks": manager})
        await model.ainvoke("?")

    assert [call.text for call in calls] == [[TEXT], WORDS]


@pytest.mark.parametrize("within", ["a node", "nothing"])
async def test_a_user_s_own_events_are_all_there(within):
    """LangChain taps only one streaming handler; it must not be ours in place of the user's."""
    chain: Runnable[Any, str] = (
        RunnableLambda(lambda _: "?") | ScriptedChatModel.saying(*WORDS) | StrOutputParser()
    )
    kinds: list[str] = []

    async def run(state: MessagesState) -> dict[str, Any]:
        kinds.extend([event["event"] async for event in chain.astream_events("?", version="v2")])
        return {"messages": []}

    graph = graph_of(writer=run)
    once = (lambda: graph.ainvoke(QUESTION)) if within == "a node" else (lambda: run({"messages": []}))
    await once()
    alone = kinds.copy()
    kinds.clear()
    with listening() as calls:
        await once()

    assert kinds == alone
    assert kinds.count("on_parser_stream") == kinds.count("on_chat_model_stream") > len(WORDS)
    assert [call.text for call in calls] == [WORDS]


async def test_a_graph_s_own_streams_are_all_there():
    """`stream_mode="messages"` and `astream_events` of the graph itself say the same as without us."""
    graph = graph_of(writer=asking(ScriptedChatModel.saying(*WORDS)))

    async def streams() -> list[Any]:
        messages = [part[0].text async for part in graph.astream(QUESTION, stream_mode="messages")]
        events = [event["event"] async for event in graph.astream_events(QUESTION, version="v2")]
        return [messages, events]

    alone = await streams()
    with listening() as calls:
        observed = await streams()

    assert observed == alone
    assert [call.text for call in calls] == [WORDS] * 2


class Starts:
    """Counts the starts that a handler of the user is told of."""

    def __init__(self) -> None:
        super().__init__()
        self.starts = 0


class AsyncStarts(Starts, AsyncCallbackHandler):
    async def on_llm_start(self, *args: Any, **kwargs: Any) -> None:
        self.starts += 1


class SyncStarts(Starts, BaseCallbackHandler):
    def on_llm_start(self, *args: Any, **kwargs: Any) -> None:
        self.starts += 1


class InlineStarts(SyncStarts):
    run_inline = True


@pytest.mark.parametrize(
    "handlers",
    [[AsyncStarts], [SyncStarts], [InlineStarts], [SyncStarts, AsyncStarts], [InlineStarts, AsyncStarts], []],
    ids=lambda handlers: "+".join(handler.__name__ for handler in handlers) or "none",
)
async def test_other_handlers_miss_no_start_of_an_async_text_model(handlers):
    """LangChain forgets handlers when one is inline (langchain#39633): not because of ours, and not ours."""

    async def starts() -> list[int]:
        made = [handler() for handler in handlers]
        await FakeListLLM(responses=["a"]).ainvoke("?", {"callbacks": made or None})
        return [handler.starts for handler in made]

    alone = await starts()
    with listening() as calls:
        observed = await starts()

    assert observed == alone
    assert [call.text for call in calls] == [["a"]]


@pytest.mark.parametrize("way", ["ainvoke", "astream", "in a chain"])
async def test_a_patched_configure_lets_no_handler_miss_a_start(monkeypatch, way):
    """As above where another library wraps LangChain's `_configure`, and where our handler is inherited."""
    original = langchain_manager._configure

    def patched(*args: Any, **kwargs: Any) -> Any:
        return original(*args, **kwargs)

    monkeypatch.setattr(langchain_manager, "_configure", patched)
    model, starts = FakeListLLM(responses=["a"]), AsyncStarts()
    config: Any = {"callbacks": [starts]}
    with listening() as calls:
        if way == "ainvoke":
            await model.ainvoke("?", config)
        elif way == "astream":
            async for _ in model.astream("?", config):
                pass
        else:
            await (RunnableLambda(lambda text: text) | model).ainvoke("?", config)

    assert starts.starts == 1
    assert [call.text for call in calls] == [["a"]]


# ------------------------------------------------------------------ LangChain's block protocol

v3 = pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning")


class Reporting(ScriptedChatModel):
    """Tells its own run manager of each chunk, as the integrations of most providers do."""

    async def _astream(self, messages, stop=None, run_manager=None, **kwargs) -> AsyncIterator[Any]:
        async for part in super()._astream(messages, stop, None, **kwargs):
            if run_manager is not None and self.reports(part):
                await run_manager.on_llm_new_token(part.text, chunk=part)
            yield part

    def reports(self, part: GenerationChunk) -> bool:
        return True


class ReportingLate(Reporting):
    """Begins to tell when LangChain has already told of the first chunk itself."""

    _first = True

    def reports(self, part: GenerationChunk) -> bool:
        first, self._first = self._first, False
        return not first


@v3
@pytest.mark.parametrize("model", [ScriptedChatModel, Reporting, ReportingLate])
@pytest.mark.parametrize(("pieces", "signs"), SIGNED, ids=PROVIDERS)
async def test_a_v3_stream_says_the_same_once(model, pieces, signs):
    """LangChain's block protocol: what a model reports as events, as tokens or as both arrives once."""
    with listening() as calls:
        stream = await model.saying(*pieces).astream_events("?", version="v3")
        message = await stream.output

    (call,) = calls
    assert "".join(call.reasoning) == "hm, yes"
    assert call.text == ["I ", "look"]
    assert message.text == "I look"
    assert [(part.name, part.id) for part in call.tool_calls if part.id] == [("find", "c1")]
    assert "".join(part.args for part in call.tool_calls) == '{"q": "tea"}'
    assert signed(call) == signs


@v3
async def test_the_events_of_a_graph_are_heard_as_they_come():
    """`graph.astream_events(version="v3")` turns all models of the graph to the block protocol."""
    # Without usage LangChain 1.7.2 fails to replay a cached message.
    pieces: list[Piece] = [*WORDS, chunk(usage_metadata=USAGE)]
    model = ScriptedChatModel(script=lambda _messages: pieces, cache=InMemoryCache())
    graph = graph_of(first=asking(model), again=asking(model))

    with listening() as calls:
        stream = await graph.astream_events(QUESTION, version="v3")
        await stream.output()

    assert [call.text for call in calls] == [WORDS, [TEXT]]
    assert [call.end.unfinished for call in calls] == [False, False]


@v3
async def test_a_replayed_message_is_heard_whole():
    """A cache hit in a v3 stream: tool calls and other blocks come without their parts."""
    pieces = [
        tool_call("find", '{"q": "tea"}', id="c1", index=0),
        tool_call("find", '{"q": "cup"}', id="c2", index=1),
        chunk([{"type": "novelty", "value": 7}]),
        chunk(usage_metadata=USAGE),
    ]
    model = ScriptedChatModel(script=lambda _messages: pieces, cache=InMemoryCache())
    graph = graph_of(first=asking(model), again=asking(model))

    with listening() as calls:
        stream = await graph.astream_events(QUESTION, version="v3")
        await stream.output()

    for call in calls:
        arguments: dict[Any, str] = {}
        for part in call.tool_calls:
            arguments[part.index] = arguments.get(part.index, "") + part.args
        assert list(arguments.values()) == ['{"q": "tea"}', '{"q": "cup"}']
        assert [block["type"] for block in call.blocks] == ["non_standard"]
    assert len(calls) == 2


class Seen(BaseCallbackHandler):
    """A handler of the user's; it has to see what it would see without us, if not less often."""

    kinds: ClassVar = ("on_chat_model_start", "on_llm_new_token", "on_llm_end", "on_chain_start")

    def __init__(self) -> None:
        self.seen: list[str] = []
        for kind in self.kinds:
            setattr(self, kind, partial(self.see, kind))

    def see(self, kind: str, *args: Any, **kwargs: Any) -> None:
        self.seen.append(kind)


async def test_a_user_s_handlers_go_on_being_called():
    """Handlers on the graph see starts and ends as before, and now also tokens."""
    graph = graph_of(writer=asking(ScriptedChatModel.saying("a", "b")))
    alone, observed = Seen(), Seen()

    await graph.ainvoke(QUESTION, {"callbacks": [alone]})
    with listening():
        await graph.ainvoke(QUESTION, {"callbacks": [observed]})

    assert alone.seen == [kind for kind in observed.seen if kind != "on_llm_new_token"]
    assert observed.seen.count("on_llm_new_token") >= 2
