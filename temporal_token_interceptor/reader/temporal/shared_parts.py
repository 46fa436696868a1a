"""What all readers of one run share until the last leaves: history, heartbeats, opened entries."""

from __future__ import annotations

from weakref import WeakValueDictionary

from temporalio.client import Client

from temporal_token_interceptor.encryption import FrameCodec
from temporal_token_interceptor.protocol.stream_key import StreamKey
from temporal_token_interceptor.reader.entry_cache import EntryCache
from temporal_token_interceptor.reader.temporal.heartbeats import RunHeartbeats, shared_heartbeats
from temporal_token_interceptor.reader.temporal.history import RunHistory
from temporal_token_interceptor.reader.temporal.workflow_end import Completion


class SharedParts:
    """Hands out the parts of runs.

    Args:
        client: None: there is no history, and there are no heartbeats.
        workflows: Asks Temporal about workflows; None without a client.
        reads_heartbeats: Whether heartbeats are read.
        accepts_plain: Whether frames that are not sealed are read although the client has a codec.
    """

    def __init__(
        self,
        client: Client | None,
        workflows: Completion | None,
        *,
        reads_heartbeats: bool,
        accepts_plain: bool,
    ) -> None:
        self._client = client
        self._workflows = workflows
        self._reads_heartbeats = reads_heartbeats
        self._accepts_plain = accepts_plain
        self._data_converter = client.data_converter if client is not None else None
        self._caches: WeakValueDictionary[StreamKey, EntryCache] = WeakValueDictionary()
        self._histories: WeakValueDictionary[StreamKey, RunHistory] = WeakValueDictionary()

    def history(self, stream: StreamKey) -> RunHistory | None:
        """Return the history of a run; None without a client."""
        if self._client is None or self._workflows is None:
            return None
        history = self._histories.get(stream)
        if history is None:
            history = self._histories[stream] = RunHistory(self._client, self._workflows, stream)
        return history

    def heartbeats(self, stream: StreamKey) -> RunHeartbeats | None:
        """Return the heartbeats of a run, where they are read: the same for all of the process."""
        if not self._reads_heartbeats or self._client is None or self._workflows is None:
            return None
        return shared_heartbeats(self._client, self._workflows, stream)

    def cache(self, stream: StreamKey) -> EntryCache:
        """Return what opens and decodes the entries of a stream."""
        cache = self._caches.get(stream)
        if cache is None:
            codec = FrameCodec(self._data_converter, stream)
            cache = self._caches[stream] = EntryCache(stream, codec, accepts_plain=self._accepts_plain)
        return cache
