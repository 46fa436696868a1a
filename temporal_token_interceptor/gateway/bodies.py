"""Bodies of requests: JSON, and no more of it than the limit. And of answers, whatever text is in them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from temporal_token_interceptor.gateway.encoder import json_text
from temporal_token_interceptor.gateway.problem import Problem

BODY_SECONDS = 30.0
"""For a body to come whole. Without it a client could keep connections whose requests never begin."""


class JsonAnswer(JSONResponse):
    """As Starlette's, in ASCII: half a character, which models and clients may send, has no other form."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return json_text(content).encode("ascii")


async def json_body(
    request: Request, most: int, *, types: Sequence[str] = ("application/json",)
) -> Mapping[str, Any]:
    """Return the body of a request, a JSON object.

    Args:
        request: The request.
        most: Bytes. What is longer is not read to its end.
        types: What its type may be. A form of another site cannot send `application/json`; where more is
            allowed, it is the `Origin` that is checked (`gateway.origins`).

    Raises:
        Problem: 408, it is too slow to come; 413, it is longer; 415, it is of another type; 400, it is not a
            JSON object.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in types:
        raise Problem(415, "the body has to be application/json")
    length = request.headers.get("content-length", "0")
    too_long = Problem(413, f"the body may have {most} bytes")
    if length.isdecimal() and int(length) > most:
        raise too_long
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise too_long
                parts.append(part)
    except TimeoutError as error:
        raise Problem(408, f"the body has to come within {BODY_SECONDS:.0f} s") from error
    try:
        value = json.loads(b"".join(parts), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise Problem(400, "the body is not JSON") from error
    if not isinstance(value, dict):
        raise Problem(400, "the body has to be a JSON object")
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
