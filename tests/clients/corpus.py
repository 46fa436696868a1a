"""Streams for the real clients, made by chance from fixed seeds: their frames, and what is to be shown."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any

from temporal_token_interceptor.events import Event
from temporal_token_interceptor.gateway.formats.frames import FrameEncoder
from temporal_token_interceptor.views.changes import Change, View
from temporal_token_interceptor.views.projector import Projector
from tests.support.format_clients import Shown, data_of, expected
from tests.support.projected import a_stream, flat, folded, projected

STREAMS = 250


@dataclass
class Case:
    """One stream for one client.

    Attributes:
        frames: What the client is sent.
        end: What it has to show at the end.
        marks: Places right after something was taken back, as numbers of frames, and what has to stand there.
        messages: What the client had before.
        view: The state at the end.
    """

    frames: list[Any]
    end: Shown
    marks: list[tuple[int, Shown]] = field(default_factory=list)
    messages: list[Any] = field(default_factory=list)
    view: View = field(default_factory=View)

    def to_json(self) -> dict[str, Any]:
        """What a script reads."""
        return {"frames": self.frames, "messages": self.messages, "marks": [at for at, _ in self.marks]}


def cases(
    encoder: Callable[[], FrameEncoder],
    *,
    made: Callable[[Random], list[Event]] = a_stream,
    is_wanted: Callable[[Sequence[Change], View], bool] = lambda _, __: True,
    late: bool = True,
    messages: Sequence[Any] = (),
) -> Iterator[Case]:
    """The streams, and each a second time for a client that comes late.

    Args:
        encoder: Makes the encoder of one client.
        made: Makes a stream.
        is_wanted: Whether a stream is one for this client.
        late: Whether there are clients that come late.
        messages: What the client had before.
    """
    for changes, view, cut in _streams(made):
        if not is_wanted(changes, view):
            continue
        yield Case(*_whole(encoder(), changes), messages=list(messages), view=view)
        if late and cut < len(changes):
            one = encoder()
            body = one.begin() + one.late(folded(changes[:cut]), "c") + one.encode(changes[cut:])
            yield Case(data_of(body), expected(view), messages=list(messages), view=view)


def resumed(encoder: Callable[[int], FrameEncoder]) -> Iterator[Case]:
    """The streams that end, on connections that drop; on each that comes next, the client is shown the state.

    Args:
        encoder: Makes the encoder of a connection, by its number.
    """
    for number, (changes, view, _) in enumerate(_streams(a_stream)):
        if view.status is None:
            continue
        random, bodies, at = Random(number), [], 0
        for connection in range(random.randint(2, 4)):
            one, begin = encoder(connection), at
            at = random.randint(begin, len(changes) - 1)
            bodies.append(_connection(one, changes[:begin], changes[begin:at]))
        bodies.append(_connection(encoder(len(bodies)), changes[:at], changes[at:]))
        yield Case(bodies, expected(view), view=view)


def _connection(encoder: FrameEncoder, before: Sequence[Change], changes: Sequence[Change]) -> str:
    cursor = next((change.cursor for change in reversed(before) if change.cursor), "")
    return (encoder.begin() + encoder.late(folded(before), cursor) + encoder.encode(changes)).decode()


@cache
def _streams(made: Callable[[Random], list[Event]]) -> list[tuple[list[Change], View, int]]:
    """The changes of each stream, the state that they lead to, and where a client comes late."""
    streams = []
    for seed in range(STREAMS):
        random = Random(seed)
        lists, view = projected(made(random), Projector)
        changes = flat(lists)
        streams.append((changes, view, random.randint(1, len(changes) + 20)))
    return streams


def _whole(encoder: FrameEncoder, changes: Sequence[Change]) -> tuple[list[Any], Shown, list[Any]]:
    frames, marks, view = data_of(encoder.begin()), [], View()
    for change in changes:
        frames += data_of(encoder.encode([change]))
        view.fold(change)
        if change.op == "remove":
            marks.append((len(frames), expected(view)))
    return frames, expected(view), marks


def as_input(some: Sequence[Case]) -> str:
    """The cases as a script reads them."""
    return json.dumps([case.to_json() for case in some])
