"""The names of keys and fields in Redis, once for the writing and the reading half."""

from __future__ import annotations

from functools import lru_cache

from temporal_token_interceptor.protocol.stream_key import StreamKey

FIELD = "f"
"""The one field of an entry; its value is a frame."""

_REMEMBERED = 4_096  # streams; naming one costs as much as storing an entry


class Keys:
    """Names the keys of a stream. Braces are a cluster's hash tag: they keep what belongs together.

    Args:
        prefix: In front of every key; names the protocol's major version too.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.stream = lru_cache(_REMEMBERED)(self._stream)
        """`<prefix>{<namespace>/<workflow_id>/<run_id>}`: the entries of a run."""

    def _stream(self, stream: StreamKey) -> str:
        return f"{self.prefix}{{{stream.name}}}"

    def pointer(self, stream: StreamKey) -> str:
        """`<prefix>{<namespace>/<workflow_id>}:newest`: the run id of the workflow's newest run."""
        return f"{self.prefix}{{{stream.workflow}}}:newest"

    def begun(self, stream: StreamKey) -> str:
        """`<prefix>{<namespace>/<workflow_id>/<run_id>}:begun`: the id of the first entry of a run."""
        return f"{self.stream(stream)}:begun"

    def positions(self, name: str) -> str:
        """`<prefix>{positions/<name>}`: the places of many streams. One slash: no stream is named so."""
        return f"{self.prefix}{{positions/{name}}}"
