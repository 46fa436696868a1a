"""A hub gives each client, however slow, the whole state; and keeps no more of it than its bound."""

import asyncio
from dataclasses import replace
from itertools import islice
from random import Random

import pytest

from temporal_token_interceptor.errors import TransportUnavailable
from temporal_token_interceptor.events import AttemptStarted, RunContinued, TokenEvent
from temporal_token_interceptor.gateway import hub as hub_module
from temporal_token_interceptor.gateway import turns
from temporal_token_interceptor.gateway.encoder import NativeEvents, NativeLines
from temporal_token_interceptor.gateway.hub import Hub, Hubs, Key
from temporal_token_interceptor.gateway.replay import Replay
from temporal_token_interceptor.gateway.shared_writes import SharedWrites
from temporal_token_interceptor.views.changes import View
from temporal_token_interceptor.views.projector import Projector
from tests.support.frames import a_call, an_origin
from tests.support.projected import a_stream, flat, folded


async def yielded(events, gate=None):
    for event in events:
        if gate is not None:
            await gate.wait()
        await asyncio.sleep(0)
        yield event


async def in_lists(events, gate=None, size=1):
    """The same as a hub reads them."""
    coming = iter(events)
    while batch := [*islice(coming, size)]:
        if gate is not None:
            await gate.wait()
        await asyncio.sleep(0)
        yield batch


def current(lists):
    """A subscription to what is stored nowhere: all of it is new."""

    def subscribe(on_caught_up):
        on_caught_up()
        return lists

    return subscribe


async def read_slowly(hub, pauses):
    """What a client has at the end, and how often it got the state."""
    shown, states, woken = View(), 0, asyncio.Event()
    client = hub.client(None, woken)
    while True:
        await asyncio.wait_for(woken.wait(), 5)
        woken.clear()
        is_over = hub.has_ended
        taken = client.take()
        if isinstance(taken, tuple):
            states += 1
            shown = folded(taken[0].reopen())
        else:
            folded(taken, shown)
        if is_over:
            return shown, states
        for _ in range(pauses):
            await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(20))
async def test_slow_clients_are_exact(monkeypatch, seed):
    """Clients of four speeds, and a queue of five changes: all end with the same state."""
    monkeypatch.setattr(hub_module, "WAITING", 5)
    events = a_stream(Random(seed))
    projector = Projector()
    for event in events:
        projector.read(event)

    hub = Hub(current(in_lists(events, size=1 + seed % 4)))
    clients = [read_slowly(hub, pauses) for pauses in (0, 2, 10, 100)]
    shown = await asyncio.gather(*clients)
    await hub.close()

    assert [view.to_json() for view, _ in shown] == [projector.view.to_json()] * 4


async def test_a_client_that_falls_behind_gets_the_state(monkeypatch):
    """Its backlog is dropped, so a slow client costs no memory."""
    monkeypatch.setattr(hub_module, "WAITING", 5)
    events = a_stream(Random(1))

    hub = Hub(current(in_lists(events)))
    _, states = await read_slowly(hub, 1_000)
    await hub.close()

    assert states == 2


@pytest.mark.parametrize("is_new", [True, False], ids=["a new hub", "a hub that has it"])
async def test_a_client_resumes_right_after_its_cursor(monkeypatch, is_new):
    """Nothing comes twice and nothing is left out, also where the client comes to another process."""
    events = a_stream(Random(3))
    projector = Projector()
    changes = flat([projector.read(event) for event in events])
    assert len(changes) < hub_module.WAITING
    place = next(place for place in range(len(changes) // 2, len(changes)) if changes[place - 1].cursor)

    hub = Hub(current(in_lists(events)))
    if not is_new:
        await asyncio.wait({hub._reading})
    client = hub.client(changes[place - 1].cursor, asyncio.Event())
    await asyncio.wait({hub._reading})
    taken = client.take()
    await hub.close()

    assert taken == changes[place:]


class Queued:
    """A subscription whose events the test lets come, one by one."""

    def __init__(self):
        self._queue = asyncio.Queue()
        self._asked = asyncio.Event()

    async def events(self):
        while True:
            self._asked.set()
            if (event := await self._queue.get()) is None:
                return
            yield [event]

    async def comes(self, event):
        """Let an event come, and wait until the hub has asked for the next one."""
        self._asked.clear()
        self._queue.put_nowait(event)
        await asyncio.wait_for(self._asked.wait(), 5)

    def end(self):
        self._queue.put_nowait(None)


async def test_what_comes_soon_after_a_write_is_one_write(monkeypatch):
    """The first token comes at once. With many clients, those that follow closely come together."""
    monkeypatch.setattr(turns, "PACE", 0.3)
    queued, woken = Queued(), asyncio.Event()
    hub = Hub(current(queued.events()))
    client = hub.client(None, woken)
    client.take()
    woken.clear()

    was_woken = []
    for event in a_stream(Random(3))[:5]:
        await queued.comes(event)
        was_woken.append(woken.is_set())
        if woken.is_set():
            first = client.take()
        woken.clear()
    await asyncio.wait_for(woken.wait(), 5)
    rest = client.take()
    await hub.close()

    assert was_woken == [True, False, False, False, False]
    assert [*first, *rest] == hub.since(0)


async def test_the_end_waits_for_no_pace(monkeypatch):
    """A client is not kept for the rest of a pause when nothing more comes."""
    monkeypatch.setattr(turns, "PACE", 60)
    queued, woken = Queued(), asyncio.Event()
    hub = Hub(current(queued.events()))
    client = hub.client(None, woken)
    client.take()
    for event in a_stream(Random(3))[:2]:
        await queued.comes(event)
    woken.clear()

    queued.end()
    await asyncio.wait_for(woken.wait(), 5)

    assert client.has_ended
    assert client.take() == hub.since(0)
    await hub.close()


async def test_who_comes_without_a_cursor_waits_until_what_is_stored_was_read():
    """They would be shown what stood once: an attempt, perhaps, that failed long ago."""
    events = a_stream(Random(3))
    half = len(events) // 2
    queued, caught_up, woken = Queued(), [], asyncio.Event()

    def subscribe(on_caught_up):
        caught_up.append(on_caught_up)
        return queued.events()

    hub = Hub(subscribe)
    first = hub.client(None, asyncio.Event())
    for event in events[:half]:
        await queued.comes(event)
    second = hub.client(None, woken)

    assert [first.take(), second.take()] == [[], []]
    woken.clear()
    await queued.comes(events[half])
    assert not woken.is_set()
    caught_up[0]()
    assert woken.is_set()
    assert first.take() == second.take() == (hub.view, hub.cursor)
    await queued.comes(events[half + 1])
    assert not first.is_late
    await hub.close()


@pytest.mark.parametrize("is_known", [True, False], ids=["its cursor comes", "its cursor was trimmed"])
async def test_a_client_with_a_cursor_also_waits_for_the_state(is_known):
    """It goes on from its cursor as soon as that was read; a state it is given is what stands."""
    events = [event for event in a_stream(Random(3)) if event.cursor]
    projector, queued, caught_up = Projector(), Queued(), []
    changes = flat([projector.read(event) for event in events])
    first = next(change.cursor for change in changes if change.cursor)

    def subscribe(on_caught_up):
        caught_up.append(on_caught_up)
        return queued.events()

    hub = Hub(subscribe)
    client = hub.client(first if is_known else first.replace("17", "16", 1), asyncio.Event())
    early = []
    for event in events[: len(events) // 2]:
        await queued.comes(event)
        early += client.take()
    caught_up[0]()
    for event in events[len(events) // 2 :]:
        await queued.comes(event)
    late = client.take()
    await hub.close()

    if is_known:
        assert [*early, *late] == changes[[change.cursor for change in changes].index(first) + 1 :]
    else:
        assert (early, late) == ([], (hub.view, hub.cursor))


async def test_a_hub_ends_after_its_last_client():
    """And not before: a client that comes within the time finds the same one."""
    gate = asyncio.Event()
    made = []

    def subscribe(key, on_caught_up):
        made.append(key)
        on_caught_up()
        return in_lists(a_stream(Random(1)), gate)

    hubs = Hubs(subscribe, 0.05)
    async with hubs.client(Key("wf"), None, asyncio.Event()) as first:
        pass
    async with hubs.client(Key("wf"), None, asyncio.Event()) as second:
        assert second.hub is first.hub
    await asyncio.wait_for(asyncio.wait({first.hub._reading}), 5)
    async with hubs.client(Key("wf"), None, asyncio.Event()) as third:
        assert third.hub is not first.hub
    await hubs.close()

    assert made == [Key("wf")] * 2


async def read_all(events, cursor=""):
    """Everything that a replay gives, one by one, and why it ended."""
    woken, taken = asyncio.Event(), []
    replay = Replay(events, woken, cursor)
    while not replay.has_ended:
        await asyncio.wait_for(woken.wait(), 5)
        woken.clear()
        taken.append(replay.take())
    await replay.close()
    return [one for one in taken if one], replay.error


async def test_a_replay_gives_every_change_by_itself():
    """For clients that count: what came together stays apart, however late it is taken."""
    events = a_stream(Random(3))
    projector = Projector()
    expected = [made for event in events if (made := projector.read(event))]

    assert await read_all(yielded(events)) == (expected, None)


async def test_a_replay_goes_on_after_a_cursor():
    """Exactly the rest; and the state, where the cursor is not there."""
    events = [event for event in a_stream(Random(3)) if event.cursor]
    projector = Projector()
    expected = [made for event in events if (made := projector.read(event))]
    half = len(expected) // 2

    rest, _ = await read_all(yielded(events), expected[half][-1].cursor)
    [(state, cursor)], _ = await read_all(yielded(events), "1~elsewhere~5-0~2")

    assert rest == expected[half + 1 :]
    assert (state.to_json(), cursor) == (projector.view.to_json(), events[-1].cursor)


async def test_a_replay_reports_why_it_ended():
    """The error of its subscription, after all that came before it."""

    async def failing():
        yield a_stream(Random(3))[0]
        raise TransportUnavailable("away")

    [first], error = await read_all(failing())

    assert first
    assert isinstance(error, TransportUnavailable)


async def test_a_state_does_not_grow_with_the_runs(monkeypatch):
    """Of earlier runs the oldest are forgotten; the last two are whole, and nobody is sent a `remove`."""
    monkeypatch.setattr(hub_module, "KEPT_ITEMS", 12)
    runs = [f"{number}1111111-run" for number in range(9)]

    def events():
        for number, run_id in enumerate(runs):
            origin = replace(an_origin(), run_id=run_id, attempt_id=f"attempt-{number}")
            yield AttemptStarted(origin=origin, cursor=f"1~{run_id}~1700000000{number}00-0~0")
            for call in range(2):
                yield TokenEvent(
                    f"{number}.{call} ",
                    "node",
                    0,
                    origin=origin,
                    call=replace(a_call(), ordinal=call),
                    cursor=f"1~{run_id}~1700000000{number}00-0~{call + 2}",
                )
            if number + 1 < len(runs):
                after = runs[number + 1]
                yield RunContinued(run_id=after, cursor=f"1~{after}~~0")

    hub, woken = Hub(current(in_lists(list(events())))), asyncio.Event()
    client = hub.client(None, woken)
    await asyncio.wait({hub._reading})
    changes = [change.op for change in hub.since(0) or []]
    view, _ = client.take()

    texts = [item.text for item in view.items.values() if item.kind == "text"]
    assert texts == ["6.0 ", "6.1 ", "7.0 ", "7.1 ", "8.0 ", "8.1 "]
    assert "remove" not in changes
    assert all(not item.parent or item.parent in view.items for item in view.items.values())


async def test_what_is_remembered_has_a_bound_in_bytes(monkeypatch):
    """A few large changes are as much as many small ones, for the hub and for a client that waits."""
    monkeypatch.setattr(hub_module, "REMEMBERED_BYTES", 3_000)
    monkeypatch.setattr(hub_module, "WAITING_BYTES", 3_000)
    origin, call = an_origin(), a_call()
    events = [
        TokenEvent(
            "x" * 1_000, "node", at, origin=origin, call=call, cursor=f"1~run~{1_700_000_000_000 + at}-0~2"
        )
        for at in range(50)
    ]

    hub, woken = Hub(current(in_lists(events))), asyncio.Event()
    client = hub.client(None, woken)
    client.take()
    await asyncio.wait({hub._reading})

    assert 1 <= len(hub._recent._changes) <= 3
    assert hub.end >= 50
    assert client.is_late
    assert client.take() == (hub.view, hub.cursor)
    assert not client.is_late


async def test_a_hub_and_a_replay_number_alike():
    """And so do any two processes: numbers depend on the entries alone."""
    events = [event for event in a_stream(Random(3)) if event.cursor]
    projector = Projector()
    expected = flat([projector.read(event) for event in events])

    hub = Hub(current(in_lists(events)))
    await asyncio.wait({hub._reading})
    replay = Replay(yielded(events), woken := asyncio.Event())
    made = []
    while not replay.has_ended:
        await asyncio.wait_for(woken.wait(), 5)
        woken.clear()
        made += replay.take()
    await replay.close()

    assert hub.since(0) == made == expected


@pytest.mark.parametrize("seed", range(10))
async def test_what_is_encoded_once_is_what_each_would_get(seed):
    """Clients of any speed take other changes together; each gets what an encoder of its own would write."""
    random, written = Random(seed), SharedWrites()
    projector = Projector()
    changes = flat([projector.read(event) for event in a_stream(random)])

    for _ in range(200):
        begin = random.randrange(len(changes))
        few = changes[begin : begin + random.randint(1, 5)]
        encoder = random.choice([NativeEvents(), NativeLines(), NativeEvents("a"), NativeLines("b")])
        assert written.encode(encoder, few) == encoder.encode(few)
    assert len(written._kept) <= 8
