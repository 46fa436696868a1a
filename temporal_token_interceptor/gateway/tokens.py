"""Signed stream tokens: what a client without headers, such as an EventSource, carries in its URL.

A token is made for a client that `authorize` has allowed, and holds what it may see of which workflows. It is
good for connecting during a minute, and for resuming a stream that it began until `until`: the URL of an
EventSource cannot be renewed. It is signed and not sealed, narrows, and never widens.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from itsdangerous import BadData, URLSafeSerializer

from temporal_token_interceptor._arguments import positive_duration
from temporal_token_interceptor.errors import ConfigurationError
from temporal_token_interceptor.gateway.access import Allow, Target
from temporal_token_interceptor.gateway.problem import Problem

_SALT = "temporal_token_interceptor.gateway.v1"
_MOST_CHARACTERS = 8_192  # of a token: it stands in a URL


class StreamTokens:
    """Makes and reads tokens. Any process that has the secret reads what another has made.

    Args:
        secret: At least 32 characters, such as `secrets.token_urlsafe(32)`; several to replace one: the last
            signs, all are accepted.
        connect_within: How long a token is good for a first connection.
        resume_within: How long it is good for resuming, and a stream lives by it.

    Raises:
        ConfigurationError: a secret is too short, or a time cannot be used.
    """

    def __init__(
        self,
        secret: str | list[str],
        *,
        connect_within: timedelta = timedelta(seconds=60),
        resume_within: timedelta = timedelta(hours=1),
    ) -> None:
        secrets = [secret] if isinstance(secret, str) else list(secret)
        if not secrets or any(not isinstance(one, str) or len(one) < 32 for one in secrets):
            raise ConfigurationError(
                "a secret of stream tokens has at least 32 characters: make one by secrets.token_urlsafe(32)"
            )
        self._connect = positive_duration("connect_within", connect_within)
        self._resume = positive_duration("resume_within", resume_within)
        self._serializer: URLSafeSerializer = URLSafeSerializer(secrets, salt=_SALT)

    def make(self, allowed: Mapping[str, Allow]) -> dict[str, Any]:
        """Return a token for what a client may read, by workflow, and how long it is good, in seconds.

        Raises:
            Problem: 400, it would be too long for a URL.
        """
        now = time.time()
        ends = [one.until.timestamp() for one in allowed.values() if one.until is not None]
        until = int(min([now + self._resume.total_seconds(), *ends]))
        claims = {
            "w": {workflow_id: _written(one) for workflow_id, one in allowed.items()},
            "exp": int(now + self._connect.total_seconds()),
            "until": until,
        }
        token = str(self._serializer.dumps(claims))
        if len(token) > _MOST_CHARACTERS:
            raise Problem(400, "a token for these workflows is too long for a URL: ask for several")
        return {
            "token": token,
            "expires_in": int(self._connect.total_seconds()),
            "resume_within": int(until - now),
        }

    def allow(self, token: str, target: Target, *, is_resuming: bool) -> Allow:
        """Return what a token allows of a workflow.

        Raises:
            Problem: 401, it is forged or has expired; 403, it is for something else.
        """
        try:
            claims: dict[str, Any] = self._serializer.loads(token[:_MOST_CHARACTERS])
        except BadData as error:
            raise Problem(401, "the stream token is not one of ours: ask for a new one") from error
        if time.time() >= claims["until" if is_resuming else "exp"]:
            raise Problem(401, "the stream token has expired: ask for a new one")
        if target.action != "read" or target.workflow_id not in claims["w"]:
            raise Problem(403, "the stream token is for another workflow, or for reading alone")
        nodes, kinds, content, principal = claims["w"][target.workflow_id]
        return Allow(
            nodes=None if nodes is None else frozenset(nodes),
            kinds=None if kinds is None else frozenset(kinds),
            content=content,
            until=datetime.fromtimestamp(claims["until"], UTC),
            principal=principal,
        )


def _written(allow: Allow) -> list[Any]:
    nodes, kinds = (None if one is None else sorted(one) for one in (allow.nodes, allow.kinds))
    return [nodes, kinds, allow.content, allow.principal]
