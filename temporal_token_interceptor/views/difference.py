"""What leads from one state to a later one of the same stream: for a client that missed what was between.

Pure. A client is so never shown anything twice, in whatever form it was shown; of formats that cannot show a
whole state at once, a late client asks for nothing more than this.
"""

from __future__ import annotations

from collections.abc import Iterator

from temporal_token_interceptor.views.changes import Change, Item, View, after_units, change_of


def difference(shown: View, view: View, cursor: str = "") -> list[Change]:
    """Return the changes that lead from a state to a later one; from an empty one, all that there is.

    Args:
        shown: The earlier state.
        view: The later one, of the same stream.
        cursor: What the last change carries.
    """
    changes = [Change("run", data=view.run)] if view.run != shown.run else []
    changes += _removed(shown, view)
    for item in view.items.values():
        changes += _grown(shown.items.get(item.id), item)
    for item in reversed(view.items.values()):
        before = shown.items.get(item.id)
        if not item.open and (before is None or before.open or before.facts != item.facts):
            changes.append(change_of(item, "close", item.facts))
    known = {note.at for note in shown.notes}
    changes += [
        Change("note", note.id, data=note.data, at=note.at, node=note.node)
        for note in view.notes
        if note.at not in known
    ]
    if view.status is not None and view.status != shown.status:
        changes.append(Change("end", data=view.status))
    if changes:
        changes[-1] = changes[-1]._replace(cursor=cursor)
    return changes


def _removed(shown: View, view: View) -> Iterator[Change]:
    """Close what is gone, as a projector does, and take it back."""
    gone = [item for item in shown.items.values() if item.id not in view.items]
    for item in reversed(gone):
        if item.open:
            yield change_of(item, "close", {"superseded": True})
    if gone:
        ids, nodes = tuple(item.id for item in gone), tuple(item.node for item in gone)
        yield Change("remove", data=ids, by={}, node=nodes)


def _grown(before: Item | None, item: Item) -> Iterator[Change]:
    if before is None or (item.open and not before.open):
        yield change_of(item, "open", item.data)
    length = before.length if before is not None else 0
    if item.length > length:
        yield change_of(item, "grow", after_units(item.text, length))._replace(at=length)
