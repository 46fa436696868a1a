"""The name of a run's stream, the same in every transport."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote

from temporal_token_interceptor.events import Origin


class StreamKey(NamedTuple):
    """Names the stream of one workflow run, whatever the transport.

    Attributes:
        namespace: The Temporal namespace.
        workflow_id: The workflow; `activity:<activity_id>` for a standalone activity.
        run_id: The run.
    """

    namespace: str
    workflow_id: str
    run_id: str

    @classmethod
    def of(cls, origin: Origin) -> StreamKey:
        """Return the stream that an attempt writes to."""
        return cls(origin.namespace, origin.workflow_id, origin.run_id)

    @property
    def name(self) -> str:
        """`<namespace>/<workflow_id>/<run_id>`, percent-encoded so that no id can imitate another."""
        return "/".join(map(_quoted, self))

    @property
    def workflow(self) -> str:
        """`<namespace>/<workflow_id>`: what the pointer to the newest run is filed under."""
        return "/".join(map(_quoted, self[:2]))


def _quoted(part: str) -> str:
    return quote(part, safe=_PLAIN, errors="surrogatepass")


# Printable ASCII but for the separator, the percent sign and the braces of a Redis Cluster hash tag.
_PLAIN = " !\"#$&'()*+,:;<=>?@[]\\^`|"
