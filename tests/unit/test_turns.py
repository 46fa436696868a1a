"""Clients of a hub take turns: none waits for the writes to all others, and none is left out."""

import asyncio
from collections import Counter

import pytest

from temporal_token_interceptor.gateway import turns as turns_module
from temporal_token_interceptor.gateway.turns import Turns


class Viewer:
    """A client that writes down when it was woken."""

    def __init__(self, place, woken):
        self._place = place
        self._woken = woken

    def wake(self):
        self._woken.append((self._place, asyncio.get_running_loop().time()))


@pytest.fixture
def pace(monkeypatch):
    """So slow that what a machine does beside it is as nothing."""
    monkeypatch.setattr(turns_module, "PACE", 0.02)
    return 0.02


async def until(woken, count):
    async with asyncio.timeout(10):
        while len(woken) < count:  # noqa: ASYNC110 - the loop's timers wake them
            await asyncio.sleep(0.001)


def some(count):
    """So many clients, and the list of their turns."""
    woken, clients = [], Turns()
    viewers = [Viewer(place, woken) for place in range(count)]
    for viewer in viewers:
        clients.add(viewer)
    return viewers, clients, woken


async def some_in_a_round(count, done):
    """The same, in the second of two rounds that began at once, of which so many have had their turn."""
    viewers, clients, woken = some(count)
    clients.begin()
    clients.begin()
    await until(woken, count + done)
    return viewers, clients, woken


@pytest.mark.usefixtures("pace")
async def test_after_a_pause_all_are_woken_at_once():
    """The first token waits for no turn, however many look on."""
    _, clients, woken = some(10)

    clients.begin()

    assert [place for place, _ in woken] == list(range(10))
    clients.stop()


async def test_what_comes_soon_afterwards_goes_round(pace):
    """Each client is woken once for it, at the pace, and those first that have waited longest."""
    _, clients, woken = some(10)
    clients.begin()
    began = asyncio.get_running_loop().time()

    clients.begin()
    assert len(woken) == 10
    await until(woken, 20)
    await asyncio.sleep(3 * pace)  # nothing shows that a turn does not come

    assert [place for place, _ in woken[10:]] == list(range(10))
    late = [when - began for _, when in woken[10:]]
    assert all(each >= (place + 1) * pace - 0.005 for place, each in enumerate(late))


@pytest.mark.usefixtures("pace")
async def test_what_comes_during_a_round_reaches_those_who_had_their_turn():
    """The round goes on from where it is, and no client is woken twice before all others were once."""
    _, clients, woken = await some_in_a_round(6, done=3)

    clients.begin()
    await until(woken, 15)

    assert [place for place, _ in woken[6:]] == [0, 1, 2, 3, 4, 5, 0, 1, 2]
    clients.stop()


@pytest.mark.usefixtures("pace")
async def test_clients_come_and_go_during_a_round():
    """Those who stay are woken, those who left are not; who comes has a turn as all others."""
    viewers, clients, woken = await some_in_a_round(6, done=1)

    clients.discard(viewers[2])
    clients.discard(viewers[0])
    clients.add(Viewer(6, woken))
    clients.begin()
    await until(woken, 12)

    assert Counter(place for place, _ in woken[7:]) == Counter([1, 3, 4, 5, 6])
    assert list(clients)
    clients.stop()


@pytest.mark.usefixtures("pace")
async def test_nobody_is_woken_after_the_end():
    """The hub ends them itself."""
    _, clients, woken = await some_in_a_round(3, done=0)

    clients.stop()
    await asyncio.sleep(0.1)  # nothing shows that a timer does not come; five paces

    assert len(woken) == 3
