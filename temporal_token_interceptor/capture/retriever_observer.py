"""From LangChain's callbacks to the buffer: retrievers, where the worker is configured to report them."""

# LangChain declares these flags as properties, and reads them as attributes.
# pyright: reportIncompatibleMethodOverride=false, reportAssignmentType=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from langchain_core.documents import Document

from temporal_token_interceptor._guard import never_failing
from temporal_token_interceptor.capture.graph_observer import SurroundingsObserver, place_facts
from temporal_token_interceptor.capture.message_parts import bounded_data, bounded_text
from temporal_token_interceptor.capture.names import name_of
from temporal_token_interceptor.capture.outlet import Outlet
from temporal_token_interceptor.capture.places import place_of
from temporal_token_interceptor.events import RetrieverEnded, RetrieverStarted


class RetrieverObserver(SurroundingsObserver):
    """Writes the retrievers of one activity attempt into a buffer, besides what happens around the calls."""

    def __init__(self, buffer: Outlet, **options: Any) -> None:
        super().__init__(buffer, **options)
        self._live_retrievers: dict[UUID, RetrieverStarted] = {}

    @property
    def ignore_retriever(self) -> bool:
        """Whether LangChain need not call for retrievers."""
        return not self._selection.retrievers

    # ------------------------------------------------------------------ LangChain calls these

    @never_failing
    def on_retriever_start(
        self,
        serialized: dict[str, Any],
        query: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        place = place_of(metadata, self._default_node)
        if not self._takes(place, tags):
            return
        text, truncated = None, False
        if "retriever_input" in self._selection.contents:
            text, truncated = bounded_text(query)
        started = RetrieverStarted(
            name=name_of(kwargs.get("name") or (serialized or {}).get("name")) or "",
            run_id=str(run_id),
            tool_call_id=self.tool_call_above(parent_run_id),
            input=text,
            truncated=truncated,
            **self._facts(place),
        )
        with self._starting:
            if not self._closed:
                self._live_retrievers[run_id] = started
                self._buffer.put(started, None)

    @never_failing
    def on_retriever_end(self, documents: Sequence[Document], *, run_id: UUID, **kwargs: Any) -> None:
        data, truncated = None, False
        if "retriever_output" in self._selection.contents and run_id in self._live_retrievers:
            data, truncated = bounded_data(documents)
        # A retriever may return an iterator, whatever its type says: to count that would use it up.
        count = len(documents) if isinstance(documents, list | tuple) else None
        self._end_retriever(run_id, document_count=count, output=data, truncated=truncated)

    @never_failing
    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._end_retriever(run_id, error=type(error).__name__)

    # ------------------------------------------------------------------ ends

    def close(self) -> None:
        """End what is open, as unfinished, and ignore what comes later."""
        with self._starting:  # as in the base class, whose lock it is
            self._closed = True
        for run_id in list(self._live_retrievers):
            self._end_retriever(run_id, unfinished=True)
        super().close()

    def _end_retriever(self, run_id: UUID, **facts: Any) -> None:
        if (started := self._live_retrievers.pop(run_id, None)) is not None:
            ended = RetrieverEnded(
                name=started.name,
                run_id=started.run_id,
                tool_call_id=started.tool_call_id,
                **place_facts(started),
                **facts,
            )
            self._buffer.put(ended, None)
