"""Models inside Nexus operation handlers: their words go to the workflow that called the operation.

A handler is no activity: it has no task token, no number of its try, no start by the server's clock. What it
has is a request id, the same for each try, and a link to its caller. So the stream is the caller's, the
request stands for the activity, and the worker's clock orders the tries.
"""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from urllib.parse import unquote

from nexusrpc.handler import StartOperationContext

from temporal_token_interceptor.events import Origin

# The link that Temporal adds when a workflow calls: `temporal:///namespaces/<>/workflows/<>/<>/history?...`.
_CALLER = re.compile(r"/namespaces/(?P<namespace>[^/]+)/workflows/(?P<workflow>[^/]+)/(?P<run>[^/]+)/history")


def operation_type(context: StartOperationContext) -> str:
    """Return what stands for the activity type: `<service>/<operation>`."""
    return f"{context.service}/{context.operation}"


def origin_of(context: StartOperationContext) -> Origin | None:
    """Return where the words of an operation's handler come from; None if no workflow called it."""
    for link in context.inbound_links:
        # Not urlsplit: it raises on some URLs, and a link may be anybody's.
        scheme, _, path = link.url.partition("://")
        if scheme == "temporal" and (caller := _CALLER.fullmatch(path.partition("?")[0])):
            return Origin(
                namespace=unquote(caller["namespace"]),
                workflow_id=unquote(caller["workflow"]),
                run_id=unquote(caller["run"]),
                activity_id=f"nexus:{context.request_id}",
                activity_type=operation_type(context),
                attempt_id=secrets.token_hex(8),
                started_time=datetime.now(UTC),
            )
    return None
