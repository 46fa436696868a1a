"""What a worker chose to capture: decided at the source, so that what is left out costs nothing more."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

from temporal_token_interceptor.errors import ConfigurationError

Kind = Literal["text", "reasoning", "tool_call", "block", "tool", "node", "custom"]
"""What `kinds` may name."""

Content = Literal["tool_input", "tool_output", "node_output", "retriever_input", "retriever_output", "media"]
"""What `capture` may name."""

KINDS: frozenset[str] = frozenset(get_args(Kind))
"""What can be chosen by `kinds`. That a model call began and ended is always reported."""

CONTENTS: frozenset[str] = frozenset(get_args(Content))
"""What is left out unless `capture` asks for it: it is large, or was never meant for a viewer."""

NO_STREAM_TAGS = frozenset({"nostream", "langsmith:nostream"})
"""A model call with one of these tags is not captured: LangGraph's own convention."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What to capture of an activity; None stands for all.

    Attributes:
        nodes: The LangGraph nodes, with all that runs within them; outside of a graph, activity types.
        tags: LangChain's tags: a call, tool or node needs one of them.
        kinds: Some of `KINDS`.
        contents: Some of `CONTENTS`.
        metadata_keys: What to send of the user's own metadata with each model call.
        retrievers: Whether retrievers are reported.
    """

    nodes: frozenset[str] | None = None
    tags: frozenset[str] | None = None
    kinds: frozenset[str] = KINDS
    contents: frozenset[str] = frozenset()
    metadata_keys: tuple[str, ...] = ()
    retrievers: bool = False

    @classmethod
    def of(
        cls,
        *,
        nodes: Collection[str] | None = None,
        tags: Collection[str] | None = None,
        kinds: Collection[str] | None = None,
        capture: Collection[str] = (),
        metadata_keys: Collection[str] = (),
        retrievers: bool = False,
    ) -> Selection:
        """Return the selection that the arguments of the interceptor describe.

        Raises:
            ConfigurationError: an argument cannot be used; the message names it.
        """
        return cls(
            nodes=names("nodes", nodes),
            tags=names("tags", tags),
            kinds=KINDS if kinds is None else _known("kinds", kinds, KINDS),
            contents=_known("capture", capture, CONTENTS),
            metadata_keys=tuple(sorted(names("metadata_keys", metadata_keys) or ())),
            retrievers=retrievers,
        )

    def takes(self, names: Collection[str], tags: Collection[str] | None) -> bool:
        """Whether what happens here is captured.

        Args:
            names: The node, and the nodes around it.
            tags: LangChain's tags of it.
        """
        return (self.nodes is None or not self.nodes.isdisjoint(names)) and (
            self.tags is None or not self.tags.isdisjoint(tags or ())
        )


def names(argument: str, given: Collection[str] | None) -> frozenset[str] | None:
    """Check an argument that is a collection of names; None stays None.

    Raises:
        ConfigurationError: one string, which is a collection of letters.
    """
    if given is None:
        return None
    if isinstance(given, str):
        raise ConfigurationError(
            f"{argument} must be a collection of names, such as [{given!r}], not one string"
        )
    return frozenset(given)


def _known(argument: str, given: Collection[str], known: frozenset[str]) -> frozenset[str]:
    chosen = names(argument, given) or frozenset()
    if unknown := sorted(chosen - known):
        raise ConfigurationError(f"{argument} can be {', '.join(sorted(known))}; not {', '.join(unknown)}")
    return chosen
