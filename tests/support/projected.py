"""Streams for the projector, made by chance: whatever subscriptions can yield; and the laws that must hold.

A law takes a stream's events and the class that projects them, and fails by an assertion. So the same laws
judge the projector (tests/unit/test_projector.py) and its mutants (test_projector_mutants.py).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

from temporal_token_interceptor.events import (
    AttemptEnded,
    AttemptStarted,
    Call,
    CallEnded,
    CallStarted,
    ContentBlock,
    CustomEvent,
    Event,
    Gap,
    GraphEvent,
    NodeEnded,
    NodeStarted,
    Origin,
    ReasoningEvent,
    RunContinued,
    StreamEnded,
    TokenEvent,
    ToolCallChunk,
    ToolEnded,
    ToolStarted,
)
from temporal_token_interceptor.protocol.cursor import Cursor
from temporal_token_interceptor.views.changes import Change, View, coalesced, joined_halves
from temporal_token_interceptor.views.visible import Visible
from tests.support.frames import an_origin

STARTED = 1_763_640_000_000  # when the run began, in milliseconds since 1970
PIECES = ["a", "bc ", "Ü", "\n", "😀", "\ud83d", "\ude00", "<b>", ""]
ARGS = ['{"q":1}', '{"q', '": "x"}', ""]
NODES = ["agent", "critic", "research"]


def a_stream(random: Random, *, turn: int = 0) -> list[Event]:
    """A stream as `subscribe` yields it: retries, resets, gaps, and an end in the middle or at the end.

    Args:
        random: Makes it.
        turn: How many executions of the same workflow id had ended before.
    """
    stream = _Stream(random, turn)
    return list(_placed(random, stream.events(), stream.runs[0], STARTED + 3_600_000 * turn))


class _Stream:
    def __init__(self, random: Random, turn: int) -> None:
        self.random = random
        self.attempts = 1_000 * turn
        self.runs = [f"{2 * turn + 1}" * 8 + "-first", f"{2 * turn + 2}" * 8 + "-second"]

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def events(self) -> Iterator[Event]:
        run, next_run = self.runs
        activities = self.random.randint(1, 3)
        tracks, standing = [], []
        for activity in range(activities):
            track, last = self.activity(run, str(activity), None)
            tracks.append(track)
            standing.append(last)
        yield from self.mixed(tracks)
        if self.chance(0.3):
            run, again = next_run, self.chance(0.6)
            yield RunContinued(run_id=run)
            tracks = [
                self.activity(run, str(activity), last if again else None)[0]
                for activity, last in enumerate(standing)
            ]
            yield from self.mixed(tracks)
        if self.chance(0.8):
            status = self.random.choice(["completed", "failed", "unknown"])
            yield StreamEnded(status="canceled" if status == "unknown" and self.attempts % 2 else status)

    def mixed(self, tracks: list[list[Event]]) -> Iterator[Event]:
        events = []
        while any(tracks):
            events.append(self.random.choice([track for track in tracks if track]).pop(0))
        yield from events[: self.random.randint(0, len(events))] if self.chance(0.3) else events

    def activity(self, run: str, name: str, before: Origin | None) -> tuple[list[Event], Origin]:
        events: list[Event] = []
        attempts = self.random.randint(1, 3)
        for number in range(1, attempts + 1):
            origin = self.origin(run, name, number)
            events += self.attempt(origin, before, is_last=number == attempts)
            before = origin
        assert before is not None
        return events, before

    def origin(self, run: str, name: str, number: int) -> Origin:
        self.attempts += 1
        return an_origin(
            run_id=run,
            activity_id=name,
            attempt=number,
            attempt_id=f"{self.attempts:016x}",
            started=self.attempts,
        )

    def attempt(self, origin: Origin, before: Origin | None, *, is_last: bool) -> list[Event]:
        started = AttemptStarted(origin=origin, supersedes=before)
        events: list[Event] = [started] if self.chance(0.9) or before is not None else []
        is_whole = is_last or self.chance(0.5)
        if self.chance(0.05) and events:  # a reader without a transport came back, and gets the attempt again
            events += self.calls(origin, is_whole=False)
            events.append(replace(started, supersedes=origin))
        events += self.calls(origin, is_whole=is_whole)
        if is_last or self.chance(0.7):
            outcome = self.random.choice(["completed_provisional", "async_pending"]) if is_last else "failed"
            events.append(
                AttemptEnded(origin=origin, outcome=outcome, will_retry=None if is_last else self.chance(0.9))
            )
            if self.chance(0.1):  # it goes on after its end: what was held back comes late
                events.append(
                    TokenEvent("late", "agent", 0, call=Call(ordinal=9, node_name="agent"), origin=origin)
                )
        return events

    def calls(self, origin: Origin, *, is_whole: bool) -> list[Event]:
        tracks = [self.call(origin, ordinal) for ordinal in range(self.random.randint(0, 3))]
        tracks.append(list(self.around(origin)))
        events = list(self.mixed_whole(tracks))
        return events if is_whole else events[: self.random.randint(0, len(events))]

    def mixed_whole(self, tracks: list[list[Event]]) -> Iterator[Event]:
        if self.chance(0.6):  # one after another
            for track in tracks:
                yield from track
            return
        while any(tracks):
            yield self.random.choice([track for track in tracks if track]).pop(0)

    def call(self, origin: Origin, ordinal: int) -> list[Event]:
        call = Call(
            ordinal=ordinal,
            id=f"{origin.activity_id}:{ordinal}",
            run_id=f"{origin.attempt_id}/{ordinal}",
            node_name=_node(origin, ordinal),
            path=self.random.choice([(), ("research",)]),
            model="m",
            tool_call_id=self.random.choice([None, "tc0"]),
        )
        events: list[Event] = [CallStarted(call=call, origin=origin)] if self.chance(0.9) else []
        named: set[object] = set()
        for index in range(self.random.randint(0, 5)):
            match self.random.randint(0, 9):
                case 0 | 1 | 2 | 3:
                    piece = self.random.choice(PIECES)
                    events.append(TokenEvent(piece, call.node_name, index, call=call, origin=origin))
                case 4 | 5:
                    thought = "r"
                    events.append(ReasoningEvent(token=thought, index=index, call=call, origin=origin))
                case 6:
                    block = {"type": "image", "id": str(index)}
                    events.append(ContentBlock(block=block, call=call, origin=origin))
                case 7:
                    gap = Gap(missing=2, reason="overflow", call=call, origin=origin)
                    events.append(gap)
                case _:
                    events.append(self.fragment(origin, call, named))
        if self.chance(0.9):
            error = "RateLimitError" if self.chance(0.2) else None
            usage = {"output_tokens": 3} if self.chance(0.5) else None
            events.append(CallEnded(call=call, origin=origin, error=error, usage=usage))
        return events

    def fragment(self, origin: Origin, call: Call, named: set[object]) -> ToolCallChunk:
        index = self.random.choice([0, 0, 1, None])
        is_first = index is None or (index not in named and self.chance(0.8))
        named.add(index)
        return ToolCallChunk(
            index=index,
            id=f"tc{index}" if is_first and self.chance(0.8) else None,
            name="search" if is_first else None,
            args=self.random.choice(ARGS),
            call=call,
            origin=origin,
        )

    def around(self, origin: Origin) -> Iterator[Event]:
        node = _node(origin, 1)
        if self.chance(0.4):
            yield NodeStarted(node_name=node, run_id="n1", origin=origin)
        if self.chance(0.4):
            run, tool_call = self.random.choice(["t1", "t2"]), self.random.choice([None, "tc0"])
            if self.chance(0.9):
                yield ToolStarted(
                    name="search", run_id=run, tool_call_id=tool_call, node_name=node, origin=origin
                )
            if self.chance(0.2):
                yield CustomEvent(name="progress", data={"done": 1}, node_name=node, origin=origin)
            if self.chance(0.8):
                yield ToolEnded(
                    name="search",
                    run_id=run,
                    tool_call_id=tool_call,
                    output="found",
                    node_name=node,
                    origin=origin,
                )
        if self.chance(0.4):
            yield NodeEnded(node_name=node, run_id="n1", origin=origin)
        if self.chance(0.1):
            yield GraphEvent(mode="updates", data={"a": 1}, origin=origin)
        if self.chance(0.1):
            yield Gap(missing=1, reason="lost", origin=origin)
        if self.chance(0.05):
            yield Gap(missing=None, reason="transport")


def _node(origin: Origin, ordinal: int) -> str:
    """The node of a call: the same if a reader gets the attempt a second time."""
    return NODES[(int(origin.attempt_id, 16) + ordinal) % len(NODES)]


def _placed(random: Random, events: Iterator[Event], run: str, started: int) -> Iterator[Event]:
    """Give events their cursors: some share an entry, some a millisecond."""
    time, number, position = started + 40, 0, 2
    for event in events:
        step = random.choice([0, 0, 0, 1, 7])
        if step or random.random() < 0.3:
            time, number, position = time + step, 0 if step else number + 1, 2
        else:
            position += 1
        if isinstance(event, RunContinued):
            run = event.run_id
            yield replace(event, cursor=str(Cursor(run)))
            continue
        yield replace(event, cursor=str(Cursor(run, f"{time}-{number}", position)))


# ------------------------------------------------------------------ laws

Law = Callable[[Sequence[Event], Any, Random], None]


def projected(events: Sequence[Event], projector: Any) -> tuple[list[list[Change]], View]:
    """The changes of each event, and the projector's own state."""
    made = projector()
    return [made.read(event) for event in events], made.view


def flat(lists: Sequence[Sequence[Change]]) -> list[Change]:
    """All changes, one after another."""
    return [change for changes in lists for change in changes]


def folded(changes: Sequence[Change], onto: View | None = None) -> View:
    """The state that changes lead to."""
    view = onto or View()
    for change in changes:
        view.fold(change)
    return view


def law_1_changes_lead_to_the_state(events: Sequence[Event], projector: Any, random: Random) -> None:
    """Folding the changes gives the projector's own state."""
    changes, view = projected(events, projector)

    assert folded(flat(changes)).to_json() == view.to_json()


def law_2_a_late_client_gets_the_same(events: Sequence[Event], projector: Any, random: Random) -> None:
    """What stood at any moment, and the changes since, are the whole state."""
    changes, view = projected(events, projector)
    every = flat(changes)
    cut = random.randint(0, len(every))

    late = folded(folded(every[:cut]).reopen())
    assert late.to_json() == folded(every[:cut]).to_json()
    assert folded(every[cut:], late).to_json() == view.to_json()


def law_3_items_open_grow_and_close_in_order(events: Sequence[Event], projector: Any, random: Random) -> None:
    """Opened once, grown only while open, children closed and removed with their parent, removed for good."""
    changes, _ = projected(events, projector)
    used: set[str] = set()
    view = View()
    for change in flat(changes):
        items = view.items
        open_children = [one.parent for one in items.values() if one.open]
        match change.op:
            case "open":
                assert change.id not in used
                used.add(change.id)
                assert not change.parent or items[change.parent].open
                assert change.stable not in {one.stable for one in items.values()}
                assert change.kind not in {"text", "reasoning"} or not _writes(view, change.parent)
            case "grow":
                assert change.data
                assert items[change.id].open
                assert change.at == len(items[change.id].text.encode("utf-16-le", "surrogatepass")) // 2
            case "close":
                assert items[change.id].open
                assert change.id not in open_children
            case "remove":
                assert change.data
                assert not any(items[one].open for one in change.data)
                assert len(change.node) == len(change.data)
            case "note":
                assert not change.id or change.id in items
            case _:
                assert not any(one.open for one in items.values()) or change.data == view.run or not view.run
        view.fold(change)
        assert all(not one.parent or one.parent in view.items for one in view.items.values())


def law_4_the_same_events_give_the_same_changes(
    events: Sequence[Event], projector: Any, random: Random
) -> None:
    """Also where the state is read in between, as for clients that come late."""
    changes, _ = projected(events, projector)
    again = projector()
    others = []
    for event in events:
        others.append(again.read(event))
        if random.random() < 0.2:
            again.view.reopen()
            again.view.to_json()

    assert others == changes


def law_5_joining_growths_changes_nothing(events: Sequence[Event], projector: Any, random: Random) -> None:
    """Neighbouring growths of one item may be sent as one."""
    changes, view = projected(events, projector)
    few = coalesced(flat(changes))

    assert folded(few).to_json() == view.to_json()
    assert not any(one.op == two.op == "grow" and one.id == two.id for one, two in pairwise(few))
    [some] = random.sample([one.cursor for one in few if one.cursor], 1) if few else [""]
    assert folded(_up_to(few, some)).to_json() == folded(_up_to(flat(changes), some)).to_json()
    assert [one.cursor for one in few if one.cursor][-1:] == [
        one.cursor for one in flat(changes) if one.cursor
    ][-1:]


def law_6_numbers_grow(events: Sequence[Event], projector: Any, random: Random) -> None:
    """Each change has a higher number than the one before, also if what came before is trimmed away."""
    changes, _ = projected(events, projector)
    numbers = [change.seq for change in flat(changes)]
    assert numbers == sorted(set(numbers))
    assert all(0 < number < 2**53 for number in numbers)

    times = [_time(event.cursor) for event in events]
    later = [place for place in range(1, len(events)) if max(times[:place]) < min(times[place:])]
    if later:
        cut = random.choice(later)
        before = [change.seq for change in flat(changes[:cut])]
        rest = [change.seq for change in flat(projected(events[cut:], projector)[0])]
        assert max(before, default=0) < min(rest, default=2**53)


def law_7_what_comes_twice_changes_nothing(events: Sequence[Event], projector: Any, random: Random) -> None:
    """A client that gets the changes again, from any place before its own, arrives at the same state."""
    changes, view = projected(events, projector)
    every = flat(changes)
    came = random.randint(0, len(every))
    again = random.randint(0, came)

    shown = folded(every[:came])
    for change in every[again:]:
        shown.fold(change)
        assert all(not item.parent or item.parent in shown.items for item in shown.items.values())
    assert shown.to_json() == view.to_json()


def law_8_the_text_is_what_the_model_wrote(events: Sequence[Event], projector: Any, random: Random) -> None:
    """The tokens of a call, joined, are its text; nothing stands of a superseded attempt or a failed call."""
    _, view = projected(events, projector)
    wrote = _written(events)
    if view.status is None:  # what is held back of tool calls without a name is shown when their call ends
        for calls in wrote.values():
            calls.update({key: "" for key in calls if key[1] == "tool_call"})
    shown: dict[str, dict[tuple[int, str], str]] = {}
    for item in view.items.values():
        if item.kind in {"text", "reasoning"} or (item.kind == "tool_call" and view.status is not None):
            _, attempt, call = item.parent.split(":")
            key = (int(call.partition("+")[0]), item.kind)
            mine = shown.setdefault(attempt, {})
            mine[key] = mine.get(key, "") + item.text
    assert _comparable(shown) == _comparable(wrote)
    superseded = {
        event.supersedes.attempt_id
        for event in events
        if isinstance(event, AttemptStarted) and event.supersedes and event.supersedes != event.origin
    }
    assert not [one for one in view.items if one.split(":")[1].partition("+")[0] in superseded]
    assert not [note for note in view.notes if note.id and note.id not in view.items]


def law_9_a_cursor_or_number_resumes_exactly(events: Sequence[Event], projector: Any, random: Random) -> None:
    """What comes after any cursor, or any number, is exactly the rest."""
    changes, view = projected(events, projector)
    every = flat(changes)
    places = [place for place, change in enumerate(every, 1) if change.cursor]
    assert [every[place - 1].cursor for place in places] == [
        event.cursor for event, made in zip(events, changes, strict=True) if made
    ]
    if places:
        place = random.choice(places)
        number = every[place - 1].seq
        assert [change for change in every if change.seq > number] == every[place:]
        assert folded(every[place:], folded(every[:place])).to_json() == view.to_json()


def law_10_stable_ids_survive_retries_and_resets(
    events: Sequence[Event], projector: Any, random: Random
) -> None:
    """The same call of the same activity has one `stable` in all attempts, also in the run of a reset."""
    changes, _ = projected(events, projector)
    slots: dict[str, str] = {}
    for event, made in zip(events, changes, strict=True):
        for change in made:
            if change.op == "open":
                attempt = change.id.split(":")[1].partition("+")[0]
                slots.setdefault(attempt, change.stable)
                assert change.stable.startswith(slots[attempt])
        if isinstance(event, AttemptStarted) and event.supersedes:
            older = slots.get(event.supersedes.attempt_id, slots[event.origin.attempt_id])
            assert slots[event.origin.attempt_id] == older


def law_11_filtering_changes_is_filtering_events(
    events: Sequence[Event], projector: Any, random: Random
) -> None:
    """A client that may see some nodes gets what it would get if only these had reported anything."""
    nodes = frozenset(node for node in NODES if random.random() < 0.5)
    visible = Visible(nodes=nodes)
    changes, view = projected(events, projector)
    shown = folded([seen for change in flat(changes) if (seen := visible.of(change)) is not None])
    started = {event.origin for event in events if isinstance(event, AttemptStarted)}
    if any(event.origin and event.origin not in started for event in events):
        return  # an attempt whose start was trimmed away is opened by its first event, which may be hidden
    _, expected = projected([event for event in events if _node_of(event) in {*nodes, ""}], projector)
    assert shown.to_json() == visible.view(view).to_json()
    assert _without_attempts(shown) == _without_attempts(expected)

    few = folded(
        [
            seen
            for change in flat(changes)
            if (seen := Visible(kinds=frozenset({"text"})).of(change)) is not None
        ]
    )
    assert {item.kind for item in few.items.values()} <= {"attempt", "message", "text"}
    assert [item.text for item in few.items.values() if item.kind == "text"] == [
        item.text for item in view.items.values() if item.kind == "text"
    ]
    bare = folded(
        [seen for change in flat(changes) if (seen := Visible(content=False).of(change)) is not None]
    )
    assert not any(item.text for item in bare.items.values())
    assert set(bare.items) == set(view.items)


def law_12_gaps_are_kept(events: Sequence[Event], projector: Any, random: Random) -> None:
    """Every gap of what stands is shown; those of a superseded attempt go with it."""
    _, view = projected(events, projector)
    shown = [note.data["gap"] for note in view.notes if "gap" in note.data]
    failed = {
        (event.origin.attempt_id, event.call.ordinal)
        for event in events
        if isinstance(event, CallEnded) and event.error
    }
    kept, maybe = 0, 0
    for place, event in enumerate(events):
        if not isinstance(event, Gap):
            continue
        origin = event.origin
        if origin is not None and any(
            isinstance(later, AttemptStarted)
            and later.supersedes
            and later.supersedes.attempt_id == origin.attempt_id
            for later in events[place:]
        ):
            continue
        if (
            origin is not None
            and event.call is not None
            and (origin.attempt_id, event.call.ordinal) in failed
        ):
            maybe += 1
        else:
            kept += 1
    assert kept <= len(shown) <= kept + maybe


LAWS: dict[str, Law] = {name: law for name, law in list(globals().items()) if name.startswith("law_")}


def _written(events: Sequence[Event]) -> dict[str, dict[tuple[int, str], str]]:
    """What models wrote and was not taken back, by attempt, call and kind."""
    wrote: dict[str, dict[tuple[int, str], str]] = {}
    for event in events:
        mine = wrote.setdefault(event.origin.attempt_id, {}) if event.origin else {}
        match event:
            case AttemptStarted(supersedes=Origin(attempt_id=older)):
                wrote.pop(older, None)
            case TokenEvent(token=token, call=call):
                mine[call.ordinal, "text"] = mine.get((call.ordinal, "text"), "") + token
            case ReasoningEvent(token=token, call=call):
                mine[call.ordinal, "reasoning"] = mine.get((call.ordinal, "reasoning"), "") + token
            case ToolCallChunk(args=args, call=call):
                mine[call.ordinal, "tool_call"] = mine.get((call.ordinal, "tool_call"), "") + args
            case CallEnded(error=str(), call=call):
                for kind in ("text", "reasoning", "tool_call"):
                    mine.pop((call.ordinal, kind), None)
            case _:
                pass
    return wrote


def _writes(view: View, message: str) -> bool:
    """Whether a text or reasoning of a message grows."""
    return any(
        item.open and item.parent == message and item.kind in {"text", "reasoning"}
        for item in view.items.values()
    )


def _up_to(changes: Sequence[Change], cursor: str) -> Sequence[Change]:
    """The changes up to the one with a cursor; all, without one."""
    places = [place for place, change in enumerate(changes, 1) if change.cursor == cursor]
    return changes[: places[0]] if cursor else changes


def _comparable(texts: dict[str, dict[tuple[int, str], str]]) -> dict[tuple[str, int, str], object]:
    """Texts to compare. Of tool calls, whose fragments are mixed, the characters."""
    return {
        (attempt, ordinal, kind): sorted(text) if kind == "tool_call" else joined_halves(text)
        for attempt, calls in texts.items()
        for (ordinal, kind), text in calls.items()
        if text
    }


def _node_of(event: Event) -> str:
    call = getattr(event, "call", None)
    return str(call.node_name if call is not None else getattr(event, "node_name", ""))


def _without_attempts(view: View) -> object:
    items = [item.to_json() for item in view.items.values() if item.kind != "attempt"]
    return items, [(note.id, note.data) for note in view.notes], view.status, view.run


def _time(cursor: str) -> int:
    return int(cursor.split("~")[2].partition("-")[0] or 0)
