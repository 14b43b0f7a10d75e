"""Lists that are answered a page at a time: `limit`, `cursor` and `next`, the same for all of them. Pure.

A list has an order by keys that never change, and a cursor is the key of the last item that was told. So whatever is
added or goes away between two pages, what was there all the time is told once.
"""

from __future__ import annotations

import heapq
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

import msgspec
from fastapi import Query

from hub.http.problem import ProblemCode, Refusal
from wire.limits import MAX_INTEGER

T = TypeVar("T")
K = TypeVar("K", int, str, tuple[str, str], tuple[int, str])

DEFAULT_LIMIT = 1_000
"""Items of a page where nothing is said: all that most hubs have, in some 300 kB."""

MAX_LIMIT = 1_000
"""Items of a page: to make a thousand devices with their metrics takes the event loop some 10 ms."""

MAX_CURSOR = 512
"""Characters; a device id and the longest metric name, both of four-byte characters, stay below it."""

LIMIT = "At most so many in one answer."

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description=LIMIT)]
CursorText = Annotated[
    str | None,
    Query(
        alias="cursor",
        max_length=MAX_CURSOR,
        description="Where to go on: `next` of the answer before. Without it, from the beginning.",
    ),
]


class Page(NamedTuple, Generic[T]):
    """A part of a list, and the cursor of the part that follows; None at the end."""

    items: list[T]
    next: str | None


def take_page(
    items: Iterable[T], key: Callable[[T], K], *, list_name: str, limit: int, cursor: str | None, kind: type[K]
) -> Page[T]:
    """The first `limit` items beyond the cursor, in order of their keys, which are of type `kind`.

    Raises Refusal for a cursor that is none of this list's.
    """
    after = None if cursor is None else read_cursor(cursor, list_name, kind)
    beyond = items if after is None else (item for item in items if key(item) > after)
    return end_page(heapq.nsmallest(limit + 1, beyond, key=key), key, list_name=list_name, limit=limit)


def end_page(found: list[T], key: Callable[[T], Any], *, list_name: str, limit: int) -> Page[T]:
    """The page of `limit` items, of a list that was read up to one more than that."""
    if len(found) <= limit:
        return Page(found, None)
    items = found[:limit]
    return Page(items, write_cursor(list_name, key(items[-1])))


def write_cursor(list_name: str, key: Any) -> str:
    """The cursor behind the item with this key. Callers give it back as it is and do not look inside."""
    return urlsafe_b64encode(msgspec.json.encode([list_name, key])).decode().rstrip("=")


def read_cursor(cursor: str, list_name: str, kind: type[K]) -> K:
    """The key in a cursor. Raises Refusal for what is no cursor of this list."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        name, told = msgspec.json.decode(urlsafe_b64decode(padded.encode("ascii")), type=tuple[str, Any])
        # SQLite, which counts some of the keys, has 64 bits; no list gives another cursor.
        if name == list_name and not (isinstance(told, int) and abs(told) > MAX_INTEGER):
            return msgspec.convert(told, kind)
    except (Base64Error, UnicodeEncodeError, msgspec.DecodeError):
        pass
    detail = f"cursor: this is no cursor of {list_name}; give back `next` as it came, or leave it out to begin anew"
    raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, detail, code=ProblemCode.WRONG_CURSOR)
