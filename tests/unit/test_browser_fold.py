"""`tti.js` folds as `View` does: a browser shows what the server has."""

import gzip
import json
import subprocess
from random import Random

from temporal_token_interceptor.views.projector import Projector
from tests.support.node import SCRIPT, find_node
from tests.support.pages import ROOT
from tests.support.projected import a_stream, flat, folded, projected

CASES = 250


def cases():
    """Events for a browser, and the state that they lead to: plain, from a snapshot on, and overlapping."""
    for seed in range(CASES):
        random = Random(seed)
        changes, view = projected(a_stream(random), Projector)
        every = [change.to_json() for change in flat(changes)]
        cut = random.randint(0, len(every))
        match seed % 3:
            case 0:
                yield every, view
            case 1:
                snapshot = {"op": "snapshot", **folded(flat(changes)[:cut]).to_json()}
                yield [snapshot, *every[cut:]], view
            case _:
                yield [*every[:cut], *every[random.randint(0, cut) :]], view


def test_the_browser_arrives_at_the_same_state():
    """250 streams with retries, gaps, halves of characters, snapshots and overlapping replays."""
    made = list(cases())
    answer = subprocess.run(  # noqa: S603 - node, and our own script
        [find_node(), str(ROOT / "tests" / "unit" / "fold_corpus.mjs"), str(SCRIPT)],
        input=json.dumps([events for events, _ in made]),
        capture_output=True,
        text=True,
        check=True,
    )
    states = json.loads(answer.stdout)

    for state, (_, view) in zip(states, made, strict=True):
        texts, nodes = state.pop("texts"), state.pop("nodes")
        assert state == view.to_json()
        assert nodes == len(view.items)
        assert texts == [
            _joined("".join(part.text for part in view.items.values() if _is_text_of(part, item)))
            for item in view.items.values()
            if item.kind == "message"
        ]
    assert sum(any(event["op"] == "remove" for event in events) for events, _ in made) > CASES / 4


def test_the_script_is_small():
    """At most 3 kB, compressed."""
    assert len(gzip.compress(SCRIPT.read_bytes())) <= 3_000


def _is_text_of(part, item):
    return part.kind == "text" and part.parent == item.id


def _joined(text):
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
