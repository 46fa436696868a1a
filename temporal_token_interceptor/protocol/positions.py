"""Places in many streams, as one string that is compressed and checks itself.

A place in one stream takes some thirty bytes that no compression shortens: a run id is random, and so is how
far each stream has come. So the places of a hundred runs take some thousands of characters. Where a cursor
has to be short, a transport keeps them under the name that `name_of` gives, and the name is the cursor.
"""

from __future__ import annotations

import re
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

import orjson

from temporal_token_interceptor.errors import InvalidCursor
from temporal_token_interceptor.protocol.cursor import CURSOR_VERSION, Cursor

MAX_POSITIONS = 1_000_000
"""Characters of all places together, at most, and bytes once they are not compressed."""

SHORT_CURSOR = 200
"""Characters up to which a cursor is short."""

_WHOLE: Final = f"m{CURSOR_VERSION}."  # the places follow
_NAME: Final = f"s{CURSOR_VERSION}."  # the name follows under which a transport keeps them
_NAMED = re.compile(rf"{re.escape(_NAME)}(?P<name>[0-9a-f]{{32}})")


def key_of(*identity: str) -> str:
    """Return what stands for a stream in a cursor: short, and the same in every process."""
    digest = blake2b(b"\0".join(part.encode(errors="surrogatepass") for part in identity), digest_size=9)
    return urlsafe_b64encode(digest.digest()).decode()


def packed(places: Mapping[str, str]) -> str:
    """Return places by their keys as one string. What no cursor shows is left out by the caller.

    Args:
        places: By `key_of`: an event's cursor, or a run id alone where that run's stream has ended.
    """
    shortened = {key: place.removeprefix(f"{CURSOR_VERSION}~") for key, place in places.items()}
    return _WHOLE + _text(zlib.compress(orjson.dumps(shortened, option=orjson.OPT_SORT_KEYS), level=9))


def unpacked(cursor: str) -> dict[str, str]:
    """Return the places of a cursor, as `packed` was given them.

    Raises:
        InvalidCursor: it is no cursor over many streams, or it was changed on its way.
    """
    if not isinstance(cursor, str) or not cursor.startswith(_WHOLE) or len(cursor) > MAX_POSITIONS:
        raise _refused(cursor)
    try:
        data = urlsafe_b64decode(cursor.removeprefix(_WHOLE) + "==")
        reading = zlib.decompressobj()
        places = orjson.loads(reading.decompress(data, MAX_POSITIONS))
    except (NotBase64, ValueError, zlib.error):
        raise _refused(cursor) from None
    # zlib's own checksum stands at the end; base64 reads more than one text as the same bytes.
    if not reading.eof or reading.unused_data or _WHOLE + _text(data) != cursor:
        raise _refused(cursor)
    if not isinstance(places, dict) or not all(isinstance(place, str) for place in places.values()):
        raise _refused(cursor)
    return {key: _checked(place) for key, place in places.items()}


def name_of(cursor: str) -> str:
    """Return the name under which a transport keeps the places of a cursor: the same for the same places."""
    return blake2b(cursor.encode(), digest_size=16).hexdigest()


def short_form(name: str) -> str:
    """Return the cursor that stands for places which a transport keeps."""
    return _NAME + name


def name_in(cursor: str) -> str | None:
    """Return the name that a short cursor has; None for another."""
    match = _NAMED.fullmatch(cursor)
    return match and match["name"]


def _checked(place: str) -> str:
    if "~" not in place:  # the run alone: its stream has ended
        Cursor.parse(str(Cursor(place)))
        return place
    return str(Cursor.parse(f"{CURSOR_VERSION}~{place}"))


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def _refused(cursor: object) -> InvalidCursor:
    shown = repr(cursor[:40]) if isinstance(cursor, str) else type(cursor).__name__
    return InvalidCursor(
        f"cursor {shown} is no cursor over several workflows, or was changed on its way: pass what "
        "`.cursor` or `.short_cursor()` of such a subscription returned, unchanged, or none to begin"
    )
