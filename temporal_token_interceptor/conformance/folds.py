"""The cases for programs that read what the gateway sends: changes, which they fold into a state.

The same streams, read by our own reader and projected as for every client of the gateway. Some clients fall
behind and get a snapshot, some get what they have a second time: all must arrive at the same state.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Sequence

from temporal_token_interceptor.conformance.case import Case, Json
from temporal_token_interceptor.conformance.reference import events_of
from temporal_token_interceptor.events import Event, StreamEnded
from temporal_token_interceptor.views.changes import Change, View
from temporal_token_interceptor.views.projector import Projector


async def fold_cases(cases: Iterable[Case]) -> AsyncIterator[Case]:
    """Yield a case for each that has a stream, with the same group, rule and name."""
    for number, case in enumerate(cases):
        if "error" in case.expected:
            continue
        events, _ = await events_of({**case.request, "cursor": None})
        if case.request["closed"]:
            events.append(StreamEnded(status="completed"))
        body, state = _sent(events, number)
        request = {"case": case.request["case"], "body": body}
        yield Case(case.group, case.name, request, {"state": state}, is_exact=True, rule=case.rule)


def _sent(events: Sequence[Event], number: int) -> tuple[str, Json]:
    """Return what a client is sent of a stream, and the state that it must arrive at."""
    projector = Projector()
    changes = [change for event in events for change in projector.read(event)]
    sent = [server_sent(change) for change in changes]
    cut = len(changes) // 2
    match number % 3:
        case 1:
            sent[cut // 2 : cut] = [_event("snapshot", _state_of(changes[:cut]), "")]  # it had fallen behind
        case 2:
            sent[cut:cut] = sent[cut // 2 : cut]
    return "".join(sent), projector.view.to_json()


def _state_of(changes: Iterable[Change]) -> Json:
    view = View()
    for change in changes:
        view.fold(change)
    return view.to_json()


def server_sent(change: Change) -> str:
    """Return a change as the gateway writes it in its native format."""
    data = change.to_json()
    return _event(data.pop("op"), data, change.cursor)


def _event(name: str, data: Json, cursor: str) -> str:
    place = f"id: {cursor}\n" if cursor else ""
    return f"event: {name}\n{place}data: {json.dumps(data, separators=(',', ':'))}\n\n"
