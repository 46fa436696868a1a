"""The routes of LangGraph's agent protocol: `useStream` and `threads.stream` read a workflow as a thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from temporal_token_interceptor.gateway.access import Target
from temporal_token_interceptor.gateway.bodies import JsonAnswer, json_body
from temporal_token_interceptor.gateway.formats.langgraph_events import (
    LangGraphEncoder,
    values_of,
    whole_json,
)
from temporal_token_interceptor.gateway.formats.routing import History, checked_prefix, stood_before
from temporal_token_interceptor.gateway.problem import HEADERS, Problem
from temporal_token_interceptor.gateway.query import target_of
from temporal_token_interceptor.gateway.streaming import Format, StreamRequest, Streams


def langgraph(prefix: str = "/langgraph", *, history: History | None = None) -> Format:
    """Return the format of LangGraph's clients: `useStream({ apiUrl: prefix, threadId })`.

    A thread is a workflow, of the same id. `submit` starts it by the gateway's `start`, which is given
    `thread_id`, `assistant_id` and `input`, and has to start a workflow of that id; without `start`, clients
    only read. Interrupts, checkpoints and other commands are not supported.

    Args:
        prefix: What the paths begin with.
        history: Returns the messages before the workflow's: what the user wrote.

    Raises:
        ConfigurationError: an argument cannot be used.
    """
    checked_prefix(prefix)

    def made(streams: Streams) -> Sequence[BaseRoute]:
        routes = _Routes(streams, history)
        thread = prefix + "/threads/{thread:path}"
        return [
            Route(thread + "/commands", routes.command, methods=["POST"]),
            Route(thread + "/stream/events", routes.events, methods=["POST"]),
            Route(thread + "/state", routes.state, methods=["GET"]),
            Route(thread + "/history", routes.states, methods=["POST"]),
        ]

    return made


class _Routes:
    def __init__(self, streams: Streams, history: History | None) -> None:
        self._streams = streams
        self._history = history

    async def command(self, request: Request) -> Response:
        """Start a workflow; of all commands there is no other."""
        body = await json_body(request, self._streams.limits.body_bytes)
        target = _target(request)
        if body.get("method") != "run.start" or self._streams.actions.start_hook is None:
            return _refused(body, "not_supported", "this server cannot do that")
        given = body.get("params")
        arguments = {"thread_id": target.workflow_id, **(given if isinstance(given, dict) else {})}
        started = await self._streams.actions.start(request, arguments)
        if started != target.workflow_id:
            return _refused(body, "not_supported", "start has to give the workflow the id of the thread")
        result = {"run_id": started}
        return JsonAnswer(
            {"type": "success", "id": body.get("id"), "result": result, "meta": {}}, headers=HEADERS
        )

    async def events(self, request: Request) -> Response:
        """Stream a thread: the channels that the client asks for, from an event on if it has some."""
        body = await json_body(request, self._streams.limits.body_bytes)
        channels, since = body.get("channels"), body.get("since", -1)
        if not isinstance(channels, list) or not all(isinstance(one, str) for one in channels):
            raise Problem(400, "channels is a list of names")
        if not isinstance(since, int):
            raise Problem(400, "since is the `seq` of an event")
        target = _target(request)
        messages = await stood_before(self._streams, request, target, self._history)
        encoder = LangGraphEncoder(channels, messages=messages, since=since)
        return await self._streams.serve(
            StreamRequest(request=request, target=target, encoder=encoder, begin="start")
        )

    async def state(self, request: Request) -> Response:
        """Return what stands of a thread; of one that is not there, nothing."""
        return _answer(await self._state(request))

    async def states(self, request: Request) -> Response:
        """Return the states of a thread: the one that stands."""
        state = await self._state(request)
        return _answer([state] if state["values"] else [])

    async def _state(self, request: Request) -> dict[str, Any]:
        target = _target(request)
        asked = StreamRequest(request=request, target=target, encoder=LangGraphEncoder(()))
        try:
            view, _ = await self._streams.snapshot(asked)
        except Problem as problem:
            if problem.status != 404:
                raise
            return _state_of({}, is_running=False)
        before = await stood_before(self._streams, request, target, self._history)
        values = values_of(view, before)
        return _state_of(values, is_running=view.status is None)


def _answer(value: Any) -> Response:
    return Response(whole_json(value), media_type="application/json", headers=HEADERS)


def _target(request: Request) -> Target:
    return target_of(request.path_params["thread"])


def _state_of(values: Mapping[str, Any], *, is_running: bool) -> dict[str, Any]:
    # Clients open streams of a thread that they find only while something is `next` in it.
    return {
        "values": values,
        "next": ["workflow"] if is_running else [],
        "tasks": [],
        "metadata": {},
        "checkpoint": None,
        "parent_checkpoint": None,
        "created_at": None,
    }


def _refused(body: Mapping[str, Any], error: str, message: str) -> Response:
    refusal = {"type": "error", "id": body.get("id"), "error": error, "message": message}
    return JsonAnswer(refusal, headers=HEADERS)
