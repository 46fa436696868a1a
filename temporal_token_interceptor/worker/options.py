"""Everything that a worker can choose about streaming, in one record that checks itself."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, TypedDict

from temporalio.converter import DataConverter

from temporal_token_interceptor._arguments import duration, one_of, positive_duration, positive_number
from temporal_token_interceptor.capture.call_gate import HoldCalls, MakeTransform
from temporal_token_interceptor.capture.filters import Content, Kind, Selection, names
from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.telemetry.model_calls import GenAISpans
from temporal_token_interceptor.worker.heartbeat import Heartbeat
from temporal_token_interceptor.worker.live_session import Fallback, Live


class StreamingKeywords(TypedDict, total=False):
    """The options of `TokenStreamingInterceptor` as keywords, for functions that pass them on."""

    nodes: Collection[str] | None
    activities: Collection[str] | None
    tags: Collection[str] | None
    kinds: Collection[Kind] | None
    capture: Collection[Content]
    metadata_keys: Collection[str]
    retrievers: bool
    hold_calls: HoldCalls
    transform: MakeTransform | None
    force_streaming: Literal["auto"] | bool
    data_converter: DataConverter | None
    heartbeat: Heartbeat
    stall_timeout: timedelta | None
    live: Live
    fallback: Fallback
    summary: Literal["auto", "off"]
    flush_timeout: timedelta
    genai_spans: GenAISpans
    max_buffered_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamingOptions:
    """The options of `TokenStreamingInterceptor`, checked; its docstring says what each means.

    Attributes:
        selection: What `nodes`, `tags`, `kinds`, `capture`, `metadata_keys` and `retrievers` select together.

    Raises:
        ConfigurationError: an option cannot be used; the message names it.
    """

    nodes: Collection[str] | None = None
    activities: Collection[str] | None = None
    tags: Collection[str] | None = None
    kinds: Collection[Kind] | None = None
    capture: Collection[Content] = ()
    metadata_keys: Collection[str] = ()
    retrievers: bool = False
    hold_calls: HoldCalls = False
    transform: MakeTransform | None = None
    force_streaming: Literal["auto"] | bool = "auto"
    data_converter: DataConverter | None = None
    heartbeat: Heartbeat = "auto"
    stall_timeout: timedelta | None = None
    live: Live = "auto"
    fallback: Fallback = "off"
    summary: Literal["auto", "off"] = "auto"
    flush_timeout: timedelta = timedelta(seconds=2)
    genai_spans: GenAISpans = "auto"
    max_buffered_bytes: int = 32 * 1024 * 1024
    selection: Selection = field(init=False)

    def __post_init__(self) -> None:
        """Check every option."""
        one_of("retrievers", self.retrievers, (True, False))
        if not isinstance(self.hold_calls, bool):
            names("hold_calls", self.hold_calls)
        if self.transform is not None and not callable(self.transform):
            raise ConfigurationError(
                "transform must be a function that returns a TextTransform for a call, or None; not "
                f"{type(self.transform).__name__}"
            )
        one_of("force_streaming", self.force_streaming, ("auto", True, False))
        if self.data_converter is not None and not isinstance(self.data_converter, DataConverter):
            raise ConfigurationError(
                f"data_converter must be that of the client, not {type(self.data_converter).__name__}"
            )
        if self.heartbeat not in ("auto", "off") and (
            not isinstance(self.heartbeat, timedelta) or self.heartbeat <= timedelta(0)
        ):
            raise ConfigurationError(
                f'heartbeat must be "auto", "off" or a positive timedelta, not {self.heartbeat!r}'
            )
        if self.live not in ("auto", "off") and (
            not isinstance(self.live, timedelta) or self.live <= timedelta(0)
        ):
            raise ConfigurationError(f'live must be "auto", "off" or a positive timedelta, not {self.live!r}')
        if self.stall_timeout is not None:
            positive_duration("stall_timeout", self.stall_timeout)
        one_of("fallback", self.fallback, ("off", "heartbeats"))
        if self.fallback == "heartbeats" and "off" in (self.live, self.heartbeat):
            raise ConfigurationError(
                'fallback="heartbeats" needs heartbeats: live and heartbeat must not be "off"'
            )
        one_of("summary", self.summary, ("auto", "off"))
        duration("flush_timeout", self.flush_timeout)
        one_of("genai_spans", self.genai_spans, ("auto", "on", "off"))
        positive_number("max_buffered_bytes", self.max_buffered_bytes, unit="bytes")
        names("activities", self.activities)
        selection = Selection.of(
            nodes=self.nodes,
            tags=self.tags,
            kinds=self.kinds,
            capture=self.capture,
            metadata_keys=self.metadata_keys,
            retrievers=self.retrievers,
        )
        object.__setattr__(self, "selection", selection)

    def captures(self, activity_type: str) -> bool:
        """Whether activities of this type are captured at all."""
        return self.activities is None or activity_type in self.activities

    def filters(self) -> dict[str, list[str]]:
        """Return the filters that are set, for logs: the option and what it selects."""
        chosen = {"nodes": self.nodes, "activities": self.activities, "tags": self.tags, "kinds": self.kinds}
        if not isinstance(self.hold_calls, bool):
            chosen["hold_calls"] = self.hold_calls
        return {name: sorted(given) for name, given in chosen.items() if given is not None}
