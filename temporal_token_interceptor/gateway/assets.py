"""The files that the gateway serves to browsers: `tti.js`, and its types."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_FOLDER = Path(__file__).parent


def asset_routes() -> list[Route]:
    """Return the routes of the script, also under a name with its hash, and of its types."""
    script = (_FOLDER / "tti.js").read_bytes()
    types = (_FOLDER / "tti.d.ts").read_bytes()
    return [
        _route("/tti.js", script, "text/javascript"),
        _route("/tti.d.ts", types, "text/plain"),
        _route(f"/tti.{sha256(script).hexdigest()[:12]}.js", script, "text/javascript", immutable=True),
    ]


def _route(path: str, content: bytes, media_type: str, *, immutable: bool = False) -> Route:
    headers = {
        "Cache-Control": "public, max-age=31536000, immutable" if immutable else "no-cache",
        "X-Content-Type-Options": "nosniff",
    }

    async def answer(request: Request) -> Response:  # noqa: ARG001 - as Starlette calls it
        return Response(content, media_type=media_type, headers=headers)

    return Route(path, answer)
