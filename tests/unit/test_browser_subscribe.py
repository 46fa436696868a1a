"""`tti.js` follows streams over every fault that a network and a server have: exact, or a clear error."""

import pytest

from tests.support.node import run_node
from tests.support.pages import ROOT
from tests.support.projected import folded
from tests.support.stream_server import StreamServer, changes_of

CASES = ROOT / "tests" / "unit" / "subscribe_cases.mjs"
STREAMS = [str(seed) for seed in range(12)]


@pytest.fixture
async def server():
    async with StreamServer() as server:
        yield server


def state_of(workflow):
    return folded(changes_of(int(workflow))).to_json()


@pytest.mark.parametrize("mode", ["plain", "pieces", "late", "cut", "again", "silent", "away"])
async def test_a_page_arrives_at_the_state_over_every_fault(server, mode):
    """Cut off, sent away, answered 503, left in silence, bytes apart: nothing is missing or comes twice."""
    results = await run_node(CASES, server.url, mode, *STREAMS)

    for workflow, result in zip(STREAMS, results, strict=True):
        assert result["state"] == state_of(workflow)
        assert result["statuses"][-2:] == ["open", "closed"]
    came_again = sum(count > 1 for count in server.requests.values())
    assert (came_again > len(STREAMS) / 2) == (mode in {"cut", "again", "silent", "away"})


async def test_a_page_that_has_all_is_done(server):
    """Only the end was lost: 204 is the answer to its cursor, and it is not asked again."""
    [result] = await run_node(CASES, server.url, "over", "1")

    changes = changes_of(1)
    before = [place for place, change in enumerate(changes, 1) if change.cursor][-2]
    assert result["state"] == folded(changes[:before]).to_json()
    assert server.requests == {"over/1": 2}


@pytest.mark.parametrize(
    ("mode", "error", "problem"),
    [
        ("refused", "HTTP 403", {"status": 403, "detail": "not yours"}),
        ("page", "not an event stream", None),
        ("broken", "the codec failed", {"op": "problem", "status": 500, "detail": "the codec failed"}),
        ("bug", "a mistake of mine", None),
    ],
)
async def test_what_will_not_change_is_an_error(server, mode, error, problem):
    """Refused, another kind of page, a codec that fails, the page's own mistake: asked once, and reported."""
    [result] = await run_node(CASES, server.url, mode, "1")

    assert (result["error"], result["problem"]) == (error, problem)
    assert result["statuses"][-1] == "closed"
    assert server.requests == {f"{mode}/1": 1}


async def test_a_page_can_close_its_stream(server):
    """In the middle of it: `done` has what came until then, and no other request follows."""
    [result] = await run_node(CASES, server.url, "close", "1")

    assert "state" in result
    assert server.requests == {"close/1": 1}


async def test_several_workflows_are_followed_on_one_connection(server):
    """Over cut connections, one refused, two added later, one not wanted any more."""
    result = await run_node(CASES, server.url, "many", *STREAMS)

    assert result["problems"] == {"999": "not yours"}
    assert result["states"] == {workflow: state_of(workflow) for workflow in STREAMS}
    assert server.requests.keys() == {"many"}
    assert 1 < server.requests["many"] < 40
