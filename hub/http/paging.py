"""Lists in pages: `limit`, `cursor` and `next`, the same for every list. Pure.

A list has an order by keys that never change, and a cursor is the key of the last item of a page. Items that are added
or removed between two pages change nothing for the others: each of them is returned exactly once.
"""

from __future__ import annotations

import heapq
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from hub.http.problem import ProblemCode, Refusal
from wire.limits import MAX_INTEGER

T = TypeVar("T")
K = TypeVar("K", int, str, tuple[str, str], tuple[int, str])

MAX_LIMIT = 1_000
"""Items of a page, also by default: all that most hubs have, in about 300 kB. To build a thousand devices with their
metrics takes the event loop about 10 ms."""

MAX_CURSOR = 512
"""Characters. A device id and the longest metric name, both of four-byte characters, stay below it."""

LIMIT = "At most so many in one answer."

Cursor = Annotated[
    Annotated[str, Meta(max_length=MAX_CURSOR)] | None,
    Meta(description="Where to continue: `next` of the answer before. Without it, from the beginning."),
]


class PageQuery(Struct, frozen=True):
    """The parameters of a list."""

    limit: Annotated[int, Meta(ge=1, le=MAX_LIMIT, description=LIMIT)] = MAX_LIMIT
    cursor: Cursor = None


def select_page(
    items: Iterable[T], key: Callable[[T], K], query: PageQuery, *, list_name: str, kind: type[K]
) -> tuple[list[T], str | None]:
    """Return the first `limit` items after the cursor, in order of their keys, and the cursor of the next page.

    The keys are of type `kind`; the last page has no next one. Raises Refusal for a cursor of another list.
    """
    after = None if query.cursor is None else decode_cursor(query.cursor, list_name, kind)
    candidates = items if after is None else (item for item in items if key(item) > after)
    return end_page(heapq.nsmallest(query.limit + 1, candidates, key=key), key, list_name=list_name, limit=query.limit)


def end_page(found: list[T], key: Callable[[T], Any], *, list_name: str, limit: int) -> tuple[list[T], str | None]:
    """Return `limit` items and the cursor of the next page, from a list that was read up to one item more."""
    if len(found) <= limit:
        return found, None
    items = found[:limit]
    return items, encode_cursor(list_name, key(items[-1]))


def encode_cursor(list_name: str, key: Any) -> str:
    """Return the cursor after the item with this key. Clients return it unchanged and do not parse it."""
    return urlsafe_b64encode(msgspec.json.encode([list_name, key])).decode().rstrip("=")


def decode_cursor(cursor: str, list_name: str, kind: type[K]) -> K:
    """Return the key in a cursor. Raises Refusal for anything but a cursor of this list."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        name, key = msgspec.json.decode(urlsafe_b64decode(padded.encode("ascii")), type=tuple[str, Any])
        # SQLite, which counts some of the keys, has 64-bit integers; no list has a larger key.
        if name == list_name and not (isinstance(key, int) and abs(key) > MAX_INTEGER):
            return msgspec.convert(key, kind)
    except (Base64Error, UnicodeEncodeError, msgspec.DecodeError):
        pass
    detail = f"cursor: this is no cursor of {list_name}; send `next` unchanged, or leave it out to begin anew"
    raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, detail, code=ProblemCode.WRONG_CURSOR)
