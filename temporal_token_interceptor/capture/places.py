"""Where something happens in a graph: node, subgraph path, step and task, read from LangGraph's metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from langchain_core.runnables.config import var_child_runnable_config

from temporal_token_interceptor.capture.names import name_of, names_of

_LEVEL = "|"
_TASK = ":"
_PUSH = "__pregel_push"
_PATH_OF_CALL = 4  # members of `langgraph_path` of a `Send`, or of a call of a `@task`


class Place(NamedTuple):
    """A place in a graph.

    Attributes:
        node_name: The node; the activity type outside of a graph.
        path: The subgraphs around the node, outermost first.
        step: LangGraph's superstep.
        task_id: LangGraph's id of the task: of one run of the node, so that branches of `Send` differ.
        namespace: LangGraph's namespace of the task, such as `sub:1f0c|1|model:77ab`; empty without a graph.
        around: The names of all nodes around this one, outermost first; more than `path` where `@task`s nest.
    """

    node_name: str
    path: tuple[str, ...] = ()
    step: int | None = None
    task_id: str | None = None
    namespace: str = ""
    around: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The node and all around it: a filter matches a sub-agent by any of them."""
        return (*self.around, self.node_name)


def place_of(metadata: Mapping[str, Any] | None, default_node: str) -> Place:
    """Return the place of a run: by its own metadata, else by that of the node around it."""
    known = metadata or {}
    if "langgraph_node" not in known:
        known = {**(_metadata_around() or {}), **known}
    node_name = name_of(known.get("langgraph_node"))
    if node_name is None:
        return Place(default_node)
    namespace = known.get("langgraph_checkpoint_ns")
    namespace = namespace if isinstance(namespace, str) else ""
    levels = namespace.split(_LEVEL)
    step = known.get("langgraph_step")
    return Place(
        node_name,
        names_of(_nodes(levels[: -1 - _calls_above(known.get("langgraph_path"))])),
        step if type(step) is int else None,
        levels[-1].rpartition(_TASK)[2] or None,
        namespace,
        names_of(_nodes(levels[:-1])),
    )


def namespaces_around(namespace: str) -> list[str]:
    """Return the namespaces around a task, innermost first."""
    found = []
    while _LEVEL in namespace:
        namespace = namespace.rpartition(_LEVEL)[0]
        found.append(namespace)
    return found


def _nodes(levels: list[str]) -> list[str]:
    """Return the names in a namespace; a number in it counts the calls of a subgraph within one node."""
    return [level.partition(_TASK)[0] for level in levels if not level.isdigit()]


def is_task(metadata: Mapping[str, Any]) -> bool:
    """Whether what runs is within a `@task`."""
    return _calls_above(metadata.get("langgraph_path")) > 0


def _calls_above(path: Any) -> int:
    """Return how many calls of `@task`s a task is within: each adds a level, and none is a subgraph."""
    count = 0
    while type(path) is tuple and len(path) == _PATH_OF_CALL and path[0] == _PUSH and path[-1] is True:
        count, path = count + 1, path[1]
    return count


def _metadata_around() -> Mapping[str, Any] | None:
    """The metadata of the node around a run that was given metadata of its own, and so lost the node's."""
    around = var_child_runnable_config.get()
    metadata = (around or {}).get("metadata")
    return metadata if metadata and "langgraph_node" in metadata else None
