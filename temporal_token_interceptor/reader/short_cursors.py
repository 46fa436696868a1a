"""Cursors over many streams: with all their places, or short, with the places kept by the transport."""

from __future__ import annotations

from temporal_token_interceptor.errors import ConfigurationError, InvalidCursor
from temporal_token_interceptor.protocol.positions import (
    SHORT_CURSOR,
    name_in,
    name_of,
    short_form,
    unpacked,
)
from temporal_token_interceptor.transport.base import PositionStore


class ShortCursors:
    """Reads one cursor over many streams, and shortens others.

    Args:
        cursor: To go on from; None to begin.
        source: The transport; it keeps places if it is a `PositionStore`.

    Attributes:
        places: Of the cursor, by `key_of`; of a short one, from `load` on.

    Raises:
        InvalidCursor: it is no cursor over many streams.
    """

    def __init__(self, cursor: str | None, source: object) -> None:
        self._store = source if isinstance(source, PositionStore) else None
        self._name = name_in(cursor) if cursor else None
        self.places = unpacked(cursor) if cursor and self._name is None else {}

    async def load(self) -> None:
        """Ask the transport for the places of a short cursor.

        Raises:
            InvalidCursor: it does not have them (any more).
            TransportUnavailable: it was away for longer than its bound.
        """
        name, self._name = self._name, None
        if name is None:
            return
        positions = None if self._store is None else await self._store.stored_positions(name)
        if positions is None:
            raise InvalidCursor(
                "the backend does not have the places of this short cursor (any more): it keeps them as long "
                "as a stream; begin without a cursor"
            )
        self.places = unpacked(positions)

    async def shortened(self, cursor: str) -> str:
        """Return a cursor of at most 200 characters for the same places.

        Raises:
            ConfigurationError: the transport, or that there is none, keeps no places.
            TransportUnavailable: it was away for longer than its bound.
        """
        if len(cursor) <= SHORT_CURSOR:
            return cursor
        if self._store is None:
            raise ConfigurationError(
                f"the cursor has {len(cursor)} characters, and no backend keeps it: use `cursor`"
            )
        name = name_of(cursor)
        await self._store.store_positions(name, cursor)
        return short_form(name)
