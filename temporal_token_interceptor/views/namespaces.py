"""LangGraph's namespaces of what happens in a graph: `("sub:<task id>", ...)`, found from the nodes around.

An event has the names of the subgraphs around it, and the run of its node. The ids of the tasks that run the
subgraphs stand in the starts of their nodes. Where nodes are not captured, a level is its name alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from temporal_token_interceptor.events import Call, NodeEnded, NodeStarted, Origin
from temporal_token_interceptor.events.graph import PlacedEvent

Namespace = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Node:
    name: str
    namespace: Namespace
    level: str  # of the namespace of what runs in it, behind its own
    around: str | None  # the run of the node around it
    attempt_id: str


class Namespaces:
    """Remembers the nodes that run, to know the namespaces of what they contain."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}  # by run id

    def begin(self, event: NodeStarted) -> None:
        """Remember a node until its end."""
        level = level_of(event)
        namespace, around = self.of(event), event.node_run_id
        attempt_id = event.origin.attempt_id
        self._nodes[event.run_id] = _Node(event.node_name, namespace, level, around, attempt_id)

    def end(self, event: NodeEnded) -> None:
        """Forget a node: what it contained has ended, too."""
        self._nodes.pop(event.run_id, None)

    def forget(self, attempt: Origin) -> None:
        """Forget the nodes of an attempt that was replaced."""
        kept = {run: node for run, node in self._nodes.items() if node.attempt_id != attempt.attempt_id}
        self._nodes = kept

    def of(self, placed: PlacedEvent | Call) -> Namespace:
        """Return the namespace of the graph that something happens in; `()` in the outermost graph."""
        if not placed.path:
            return ()
        if isinstance(placed, NodeEnded) and (node := self._nodes.get(placed.run_id)) is not None:
            return node.namespace
        around = self._around(placed.node_run_id)
        is_node = isinstance(placed, NodeStarted | NodeEnded)
        known = around if is_node else around[:-1]  # the last is the node that it happens in
        levels = [
            known[place].level if place < len(known) and known[place].name == name else name
            for place, name in enumerate(placed.path)
        ]
        return tuple(levels)

    def _around(self, run: str | None) -> list[_Node]:
        """Return the nodes around, outermost first."""
        found: list[_Node] = []
        while run is not None and (node := self._nodes.get(run)) is not None and node not in found:
            found.insert(0, node)
            run = node.around
        return found


def level_of(node: NodeStarted | NodeEnded) -> str:
    """Return the last level of the namespace of what runs in a node."""
    return f"{node.node_name}:{node.task_id}" if node.task_id else node.node_name
