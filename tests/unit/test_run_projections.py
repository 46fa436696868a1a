"""The run as LangGraph's run object: projections, subgraph handles, `interleave`, `tee`, raw events."""

import asyncio
from typing import Any

import pytest
from langchain_core.messages import AIMessage

from temporal_token_interceptor import (
    ConfigurationError,
    Projection,
    SubgraphNotCompleted,
    SubgraphRun,
    TokensMissing,
    WorkflowNotCompleted,
)
from temporal_token_interceptor.events import (
    AttemptStarted,
    CallEnded,
    CustomEvent,
    Event,
    GraphEvent,
    NodeEnded,
    NodeStarted,
    StreamEnded,
    TokenEvent,
    ToolEnded,
    ToolStarted,
)
from temporal_token_interceptor.protocol.cursor import Cursor
from temporal_token_interceptor.views.protocol_stream import protocol_events
from temporal_token_interceptor.views.workflow_run import WorkflowRun
from tests.support.frames import a_call, an_origin

FIRST = an_origin(attempt_id="a1")
SECOND = an_origin(attempt=2, attempt_id="a2", started=5)
DONE = StreamEnded(status="completed")


async def source(events: Any) -> Any:
    for event in events:
        yield event


async def no_result() -> str:
    return "tea"


def a_run(*events: Event, **options: Any) -> WorkflowRun:
    return WorkflowRun(source(events), no_result, **options)


async def all_of(items: Any) -> list[Any]:
    return [item async for item in items]


def custom(data: Any, path: tuple[str, ...] = ()) -> GraphEvent:
    return GraphEvent(mode="custom", path=path, data=data, origin=FIRST)


def a_node(name: str, run: str, origin: Any = FIRST, **facts: Any) -> NodeStarted:
    return NodeStarted(node_name=name, run_id=run, task_id=f"t-{run}", origin=origin, **facts)


def its_end(started: NodeStarted, **facts: Any) -> NodeEnded:
    same = {name: getattr(started, name) for name in ("node_name", "run_id", "task_id", "path")}
    return NodeEnded(**same, origin=started.origin, **facts)


def said(text: str, ordinal: int = 0, **call: Any) -> list[Event]:
    made = a_call(ordinal=ordinal, run_id=f"lc{ordinal}", **call)
    return [TokenEvent(text, made.node_name, 0, call=made, origin=FIRST), CallEnded(call=made, origin=FIRST)]


OUTER = a_node("outer", "1")
INNER = a_node("inner", "2", path=("outer",), node_run_id="1")
LEAF = a_node("leaf", "3", path=("outer", "inner"), node_run_id="2")

NESTED: list[Event] = [
    *said("root", 0),
    OUTER,
    INNER,
    *said("level 1", 1, node_name="inner", path=("outer",), node_run_id="2"),
    LEAF,
    *said("level 2", 2, node_name="leaf", path=("outer", "inner"), node_run_id="3"),
    GraphEvent(mode="values", path=("outer:t-1", "inner:t-2"), data={"deep": 1}, origin=FIRST),
    its_end(LEAF),
    its_end(INNER),
    its_end(OUTER),
    *said("root again", 3),
    DONE,
]


# ---------------------------------------------------------------------- subgraphs


async def test_each_subgraph_has_a_handle_with_its_own_projections():
    """As deep as graphs nest; what is said within is in no projection of the run itself."""
    async with a_run(*NESTED) as run:
        [outer] = await all_of(run.subgraphs)
        [inner] = await all_of(outer.subgraphs)
        texts = [[await call.text async for call in one.messages] for one in (run, outer, inner)]
        lifecycles = [len(await all_of(one.lifecycle)) for one in (run, outer, inner)]
        assert await all_of(inner.values) == [{"deep": 1}]
        assert await inner.output() == {"deep": 1}

    assert texts == [["root", "root again"], ["level 1"], ["level 2"]]
    assert lifecycles == [4, 2, 0]
    assert (outer.path, inner.path) == (("outer:t-1",), ("outer:t-1", "inner:t-2"))
    assert (inner.graph_name, inner.trigger_call_id, inner.status) == ("inner", "t-2", "completed")


async def test_handles_may_be_read_in_nested_loops():
    """A message within a loop over messages within a loop over subgraphs: no loop waits for another."""
    texts = []
    async with asyncio.timeout(5), a_run(*NESTED) as run:
        async for outer in run.subgraphs:
            async for inner in outer.subgraphs:
                texts += [[text async for text in call.text] async for call in inner.messages]

    assert texts == [["level 2"]]


async def test_the_run_itself_may_show_what_is_said_in_subgraphs():
    """`subgraphs=True`: all calls in one projection, and handles, too."""
    async with a_run(*NESTED, subgraphs=True) as run:
        texts = [await call.text async for call in run.messages]
        [outer] = await all_of(run.subgraphs)

    assert texts == ["root", "level 1", "level 2", "root again"]
    assert isinstance(outer, SubgraphRun)


async def test_a_subgraph_that_failed_raises_at_the_end_of_what_it_said():
    events = [OUTER, INNER, custom(1, ("outer:t-1",)), its_end(INNER, error="ValueError")]
    async with a_run(*events, its_end(OUTER, error="ValueError"), DONE) as run:
        [outer] = await all_of(run.subgraphs)
        assert await anext(outer.custom) == 1
        with pytest.raises(SubgraphNotCompleted, match="ValueError"):
            await anext(outer.custom)
        with pytest.raises(SubgraphNotCompleted):
            await outer.output()

    assert (outer.status, outer.error) == ("failed", "ValueError")


async def test_a_retry_ends_the_handles_of_the_attempt_that_it_replaces():
    """The second attempt's subgraph is another handle, with another task."""
    again = a_node("inner", "9", SECOND, path=("outer",))
    retry = AttemptStarted(origin=SECOND, supersedes=FIRST)
    async with a_run(OUTER, INNER, retry, again, DONE) as run:
        first, second = await all_of(run.subgraphs)
        with pytest.raises(SubgraphNotCompleted, match="superseded"):
            await anext(first.messages)

    assert (first.error, second.error) == ("superseded", "unfinished")


async def test_what_ends_a_run_ends_its_handles():
    """At any depth, also where the subscription breaks or the run is left."""

    async def breaks():
        for event in (OUTER, INNER, LEAF):
            yield event
        raise TokensMissing(("lost",), "")

    async with WorkflowRun(breaks(), no_result) as run:
        outer = await anext(run.subgraphs)
        inner = await anext(outer.subgraphs)
        with pytest.raises(TokensMissing):
            await anext(inner.messages)
    assert (outer.status, inner.status) == ("failed", "failed")

    async with a_run(OUTER, INNER, LEAF, *[custom(n) for n in range(200)], DONE) as run:
        outer = await anext(run.subgraphs)
        inner = await anext(outer.subgraphs)
    with pytest.raises(ConfigurationError, match="the run was left"):
        await anext(inner.messages)


# ---------------------------------------------------------------------- several readers


async def test_a_projection_is_for_one_reader():
    async with a_run(custom(1), DONE) as run:
        aiter(run.custom)
        with pytest.raises(ConfigurationError, match="tee"):
            aiter(run.custom)
        with pytest.raises(ConfigurationError, match="tee"):
            run.custom.tee(2)


async def test_tee_gives_each_reader_all_items():
    """One after the other, or at once; LangGraph's name for it is `atee`."""
    events = [custom(n) for n in range(500)]
    async with a_run(*events, DONE) as run:
        first, second = run.custom.tee(2)
        assert await all_of(first) == [*range(500)]
        assert await all_of(second) == [*range(500)]
    async with a_run(*events, DONE) as run:
        read = await asyncio.gather(*(all_of(one) for one in run.custom.atee(3)))
        assert read == [[*range(500)]] * 3
    async with a_run(DONE) as run:
        with pytest.raises(ConfigurationError, match="at least 1"):
            run.custom.tee(0)


async def test_a_branch_that_is_read_late_is_bounded_and_says_so():
    events = [custom(n) for n in range(1_500)]
    async with a_run(*events, DONE) as run:
        first, second = run.custom.tee(2)
        assert await all_of(first) == [*range(1_500)]
        aiter(second)
        with pytest.raises(TokensMissing, match="overflow"):
            await anext(second)
        assert [item async for item in _rest(second)] == [*range(500, 1_500)]


async def _rest(projection: Projection[Any]) -> Any:
    while True:
        try:
            yield await anext(projection)
        except StopAsyncIteration:
            return


async def test_branches_end_as_the_projection_does():
    async with a_run(custom(1), StreamEnded(status="failed")) as run:
        for branch in run.custom.tee(2):
            assert await anext(branch) == 1
            with pytest.raises(WorkflowNotCompleted):
                await anext(branch)


async def test_a_reader_of_a_branch_that_gives_up_takes_nothing_from_the_others():
    arrived = asyncio.Event()

    async def events():
        await arrived.wait()
        yield custom(1)
        yield DONE

    async with WorkflowRun(events(), no_result) as run:
        first, second = run.custom.tee(2)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(first), 0.01)
        arrived.set()
        assert [*await asyncio.gather(anext(first), anext(second))] == [1, 1]


async def test_states_that_are_not_read_are_bounded():
    """A hundred of them: each may be 64 KiB."""
    states = [GraphEvent(mode="values", data={"n": n}, origin=FIRST) for n in range(150)]
    async with a_run(*states, DONE) as run:
        await all_of(run.messages)
        with pytest.raises(TokensMissing, match="overflow"):
            await anext(run.values)
        assert [state["n"] for state in await all_of(run.values)] == [*range(50, 150)]


# ---------------------------------------------------------------------- interleave


async def test_interleave_yields_items_in_the_order_in_which_they_came():
    async with a_run(*said("a", 0), custom(1), *said("b", 1), custom(2), DONE) as run:
        got = [
            (name, item if name == "custom" else await item.text)
            async for name, item in run.interleave("custom", "messages")
        ]

        assert got == [("messages", "a"), ("custom", 1), ("messages", "b"), ("custom", 2)]
        assert await all_of(run.custom) == []  # it is free again


async def test_interleave_raises_after_all_items_and_refuses_what_is_none():
    async with a_run(custom(1), CustomEvent(name="n", origin=FIRST), StreamEnded(status="failed")) as run:
        both = run.interleave("temporal", "custom")
        assert [(await anext(both))[0] for _ in range(3)] == ["custom", "custom", "temporal"]
        with pytest.raises(WorkflowNotCompleted):
            await anext(both)
        with pytest.raises(ConfigurationError, match="'nonsense' is no projection"):
            run.interleave("nonsense")
        with pytest.raises(AttributeError, match="it shows"):
            run.nonsense  # noqa: B018 - looking at it raises


# ---------------------------------------------------------------------- raw events, output, interrupts


async def test_the_run_itself_yields_the_events_of_protocol_events():
    """The same, with the same numbers; `event_id`s are for those that resume."""
    placed = []
    for place, event in enumerate(NESTED):
        cursor = str(Cursor("run", f"{1_763_640_000_000 + place}-0", 2))
        placed.append(type(event)(**{**fields_of(event), "cursor": cursor}))
    async with WorkflowRun(source(placed), no_result) as run:
        raw = await all_of(run)
    numbered = [one async for one in protocol_events(source(placed), no_past, after=None, since=None)]

    assert raw == [{key: one[key] for key in one if key != "event_id"} for one in numbered]


def fields_of(event: Event) -> dict[str, Any]:
    return {name: getattr(event, name) for name in type(event).__dataclass_fields__}


async def no_past(run_id: str) -> Any:
    raise AssertionError("nothing is resumed")
    yield


async def test_the_output_may_be_awaited_or_called():
    async with a_run(DONE) as run:
        assert await run.output == await run.output() == "tea"


async def test_interrupts_are_what_the_graph_asked():
    """Reading them reads the run to its end."""
    asked = {"value": "may I?", "id": "i"}
    update = GraphEvent(mode="updates", data={"__interrupt__": [asked]}, origin=FIRST)
    async with a_run(update, DONE) as run:
        assert await run.interrupts() == [asked]
        assert await run.interrupted()
    async with a_run(DONE) as run:
        assert not await run.interrupted()
    async with a_run(StreamEnded(status="failed")) as run:
        with pytest.raises(WorkflowNotCompleted):
            await run.interrupted()


async def test_messages_in_states_and_updates_are_langchains():
    """A loop that was written for `graph.astream_events` finds `state["messages"][-1].text`."""
    state = {"messages": [AIMessage("tea", id="m1").model_dump()]}
    events = [GraphEvent(mode=mode, data=state, origin=FIRST) for mode in ("values", "updates")]
    async with a_run(*events, DONE) as run:
        assert await all_of(run.values) == [{"messages": [AIMessage("tea", id="m1")]}]
        assert await all_of(run.updates) == [{"messages": [AIMessage("tea", id="m1")]}]


async def test_a_tool_is_a_handle_that_one_waits_for():
    """Its names are those of LangGraph's; a tool that never ended says so."""
    facts: dict[str, Any] = {"name": "find", "origin": FIRST}
    events = [
        ToolStarted(**facts, run_id="1", tool_call_id="tc", input='{"q": 1}'),
        ToolStarted(**facts, run_id="2"),
        ToolStarted(**facts, run_id="3"),
        ToolEnded(**facts, run_id="1", tool_call_id="tc", output="tea"),
        ToolEnded(**facts, run_id="2", error="ValueError"),
    ]
    async with a_run(*events, DONE) as run:
        tools = []
        async for tool in run.tool_calls:
            assert [delta async for delta in tool] == []
            tools.append((tool.tool_call_id, tool.input, tool.output, tool.error, tool.completed))

    assert tools == [
        ("tc", {"q": 1}, "tea", None, True),
        ("2", None, None, "ValueError", True),
        ("3", None, None, "unfinished", True),
    ]


async def test_a_retry_ends_the_tools_of_the_attempt_that_it_replaces():
    """Under the same id the provider's tool call comes again, and is a handle of its own."""
    again = ToolStarted(name="find", run_id="2", tool_call_id="tc", origin=SECOND)
    events = [
        ToolStarted(name="find", run_id="1", tool_call_id="tc", origin=FIRST),
        AttemptStarted(origin=SECOND, supersedes=FIRST),
        again,
        ToolEnded(name="find", run_id="2", tool_call_id="tc", output="tea", origin=SECOND),
    ]
    async with asyncio.timeout(5), a_run(*events, DONE) as run:
        tools = [(tool, [delta async for delta in tool]) async for tool in run.tool_calls]

    assert [(tool.error, tool.output, deltas) for tool, deltas in tools] == [
        ("superseded", None, []),
        (None, "tea", []),
    ]


async def test_activities_at_once_have_subgraphs_of_their_own():
    """Also where nodes are not captured, and namespaces have no ids of tasks: they are the same then."""
    other = an_origin(activity_id="2", attempt_id="b1")
    calls = [a_call(path=("sub",), run_id=run) for run in ("r1", "r2")]
    events = [
        TokenEvent(text, "answer", 0, call=call, origin=origin)
        for text, call, origin in (("one", calls[0], FIRST), ("two", calls[1], other))
    ]
    ends = [CallEnded(call=call, origin=origin) for call, origin in zip(calls, (FIRST, other), strict=True)]
    async with a_run(*events, *ends, DONE) as run:
        handles = await all_of(run.subgraphs)
        texts = [[await call.text for call in [await anext(handle.messages)]] for handle in handles]

    assert texts == [["one"], ["two"]]
