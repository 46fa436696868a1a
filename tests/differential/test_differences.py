"""Every shape is run with and without us. What differs is written down in docs/differences.md, or is a bug.

`TTI_UPDATE_DOCS=1 python -m pytest tests/differential` writes the page anew.
"""

import os
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from pydantic import BaseModel

from temporal_token_interceptor.capture.budget import Budget
from temporal_token_interceptor.capture.buffer import Buffer
from temporal_token_interceptor.capture.model_observer import Observer, capturing
from temporal_token_interceptor.capture.stream_graph import stream_graph
from tests.differential.shapes import GRAPHS, SHAPES

PAGE = Path(__file__).parents[2] / "docs" / "differences.md"
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{32}\b")

DOCUMENTED = {
    "id": "the message's id ends in the run id, without the `-0` that LangChain adds when nothing streams",
    "tokens": "your own handlers are called for each chunk (`on_llm_new_token`)",
    "facts": "`response_metadata` lacks what the provider's class gives only in `llm_output`",
    "usage": "usage is missing: the provider's stream has none",
    "index": "content blocks keep the `index` that they had in the stream",
    "plumbing": "`response_metadata` has `output_version`, as in all streamed messages of that version",
}

SEEN: dict[tuple[str, str], set[str]] = {}


class Recorder(BaseCallbackHandler):
    """A user's own handler: what it is called for, run by run."""

    def __init__(self) -> None:
        self.calls: dict[Any, list[str]] = defaultdict(list)

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("on_"):
            return super().__getattribute__(name)
        if name == "on_stream_event":  # a handler that has it would itself change how a model streams
            return super().__getattribute__(name)

        def record(*args: Any, run_id: Any = None, **kwargs: Any) -> None:
            self.calls[run_id].append(name)

        return record


class AsyncRecorder(AsyncCallbackHandler):
    """The same, of the async kind."""

    def __init__(self) -> None:
        self.calls: dict[Any, list[str]] = defaultdict(list)

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("on_") or name == "on_stream_event":
            return super().__getattribute__(name)

        async def record(*args: Any, run_id: Any = None, **kwargs: Any) -> None:
            self.calls[run_id].append(name)

        return record


def plain(value: Any) -> Any:
    """A value as it can be compared: no random ids, and the class of each object beside its fields."""
    if isinstance(value, str):
        return UUID.sub("#", value)
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, BaseModel):
        fields = {name: getattr(value, name) for name in type(value).model_fields}
        return {"class": type(value).__name__, **plain(fields)}
    return value if isinstance(value, int | float | None) else UUID.sub("#", repr(value))


async def outcome(shape: str, how: str) -> tuple[Any, Counter[str]]:
    """Run a shape; return its result or exception, and what the user's handlers were called for."""
    make, question = SHAPES[shape]
    runnable = make()
    recorders: list[Recorder | AsyncRecorder] = [Recorder(), *([AsyncRecorder()] if how == "async" else [])]
    config = {"callbacks": recorders}
    result: Any
    try:
        if how == "sync":
            result = runnable.invoke(question, config)
        else:
            result = await runnable.ainvoke(question, config)
    except Exception as error:  # noqa: BLE001 - whatever it is, it has to be the same
        result = ["raised", type(error).__name__, str(error)]
    calls = Counter(
        f"{type(recorder).__name__}: {' '.join(run)}"
        for recorder in recorders
        for run in recorder.calls.values()
    )
    return plain(result), calls


def differences(bare: Any, captured: Any, where: str = "") -> set[str]:
    """Name how two results differ; what is not documented is named by its place."""
    if bare == captured:
        return set()
    field = where.rpartition(".")[2]
    if field == "id" and isinstance(captured, str) and bare == f"{captured}-0":
        return {"id"}
    if isinstance(bare, dict) and isinstance(captured, dict):
        lost, gained = bare.keys() - captured.keys(), captured.keys() - bare.keys()
        inner = [differences(bare[k], captured[k], f"{where}.{k}") for k in bare.keys() & captured.keys()]
        return {*_changed_keys(field, lost, gained), *(name for found in inner for name in found)}
    if isinstance(bare, list) and isinstance(captured, list) and len(bare) == len(captured):
        pairs = zip(bare, captured, strict=True)
        return {name for a, b in pairs for name in differences(a, b, f"{where}[]")}
    if field == "usage_metadata" and captured is None:
        return {"usage"}
    return {f"{where}: {bare!r} became {captured!r}"}


def _changed_keys(field: str, lost: set[str], gained: set[str]) -> set[str]:
    if field == "response_metadata" and not gained - {"output_version"}:
        return ({"facts"} if lost else set()) | ({"plumbing"} if gained else set())
    if gained == {"index"} and not lost:
        return {"index"}
    return {f"{field}: lost {sorted(lost)}, gained {sorted(gained)}"} if lost or gained else set()


def without_tokens(calls: Counter[str]) -> Counter[str]:
    """The calls of a handler, but for those once a chunk."""
    told: Counter[str] = Counter()
    for run, times in calls.items():
        told[run.replace(" on_llm_new_token", "")] += times
    return told


@pytest.mark.filterwarnings("ignore:The method .* is in beta")  # v3 events say so once
@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("shape", SHAPES)
async def test_my_result_is_the_one_i_would_have_had(shape, how, caplog):
    """State, messages, exceptions, my own handlers' calls: as without, but for what is documented."""
    bare, bare_calls = await outcome(shape, how)
    buffer = Buffer(Budget(64 * 1024 * 1024), lambda: None)
    with capturing(Observer(buffer, default_node="shape")):
        captured, calls = await outcome(shape, how)

    found = differences(bare, captured)
    if calls != bare_calls:
        only_tokens = without_tokens(calls) == without_tokens(bare_calls)
        found |= {"tokens"} if only_tokens else {f"{bare_calls} became {calls}"}
    SEEN[shape, how] = found
    assert found <= DOCUMENTED.keys(), found - DOCUMENTED.keys()
    assert bool(buffer.take(2**60)) is (shape != "tag `nostream`"), "and it was captured"
    assert [r.getMessage() for r in caplog.records if "callback" in r.getMessage()] == []


@pytest.mark.filterwarnings("ignore:The method .* is in beta")
@pytest.mark.parametrize("shape", GRAPHS)
async def test_stream_graph_returns_what_ainvoke_does(shape):
    """Asking for a graph's own stream modes changes neither its result nor its exception."""
    results: list[Any] = []
    for run in ("ainvoke", "stream_graph"):
        make, question = SHAPES[shape]
        graph = make()
        try:
            with capturing(Observer(Buffer(Budget(2**26), lambda: None), default_node="shape")):
                modes: list[Any] = ["custom", "updates", "values", "tasks"]
                if run == "ainvoke":
                    results.append(plain(await graph.ainvoke(question)))
                else:
                    results.append(plain(await stream_graph(graph, question, modes=modes)))
        except Exception as error:  # noqa: BLE001 - whatever it is, it has to be the same
            results.append(["raised", type(error).__name__, str(error)])

    assert results[0] == results[1]


def test_the_page_of_differences_is_up_to_date():
    """What docs/differences.md says is what was seen just now."""
    if len(SEEN) < 2 * len(SHAPES):
        pytest.skip("needs all shapes, run before it")
    page = _page()
    if os.environ.get("TTI_UPDATE_DOCS"):
        PAGE.write_text(page, encoding="utf-8")

    assert PAGE.read_text(encoding="utf-8") == page


def test_there_are_shapes_enough():
    """A suite that shrinks unnoticed proves less every day."""
    assert len(SHAPES) >= 40


def _page() -> str:
    lines = [
        "# What differs with the interceptor",
        "",
        f"{len(SHAPES)} shapes of models, chains and graphs are run with and without capture, by `invoke`",
        "and `ainvoke`. Compared: the result with all fields of all messages, the exception, every call of",
        "the user's own handlers, sync and async. `tests/differential` writes this page and checks it.",
        "",
        "All of it comes from one thing: a model that is asked to stream answers through its own streaming",
        "path. With `force_streaming=False`, or the tag `tti:noforce` on a call, nothing differs. What fakes",
        "cannot show: the request to the provider becomes a streaming one: recorded cassettes and strict",
        "mocks notice it.",
        "",
        "| | what |",
        "|---|---|",
        *(f"| {name} | {what} |" for name, what in DOCUMENTED.items()),
        "",
        "| shape | `invoke` | `ainvoke` |",
        "|---|---|---|",
        *(f"| {shape} | {_cell(SEEN[shape, 'sync'])} | {_cell(SEEN[shape, 'async'])} |" for shape in SHAPES),
        "",
    ]
    return "\n".join(lines)


def _cell(found: set[str]) -> str:
    return ", ".join(sorted(found)) or "same"
