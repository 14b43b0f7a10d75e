"""The kinds of damage that a file can suffer. Pure: bytes in, bytes out, the places come from seeds."""

from __future__ import annotations

import random
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

FLIPS = 200
"""Places of a flipped bit in each file."""

FEW_FLIPS = 20
"""Places in a file that the program writes anew at each start: indexes of logs, ids of processes, and addresses."""

ZEROED_PAGES = 10
CUTS = 10

PAGE_BYTES = 4096
"""A page of zeros is what a disk returns for a block that it lost."""


class Kind(StrEnum):
    """A kind of damage."""

    NONE = "none"
    FLIP = "flipped bit"
    ZEROS = "page of zeros"
    CUT = "truncated"
    EMPTIED = "emptied"
    REMOVED = "removed"
    OLDER = "older copy"


PLACES = {Kind.FLIP: FLIPS, Kind.ZEROS: ZEROED_PAGES, Kind.CUT: CUTS, Kind.EMPTIED: 1, Kind.REMOVED: 1, Kind.OLDER: 1}
"""Number of places of each kind of damage, in each file."""


class Damage(NamedTuple):
    """A kind of damage at a place of a file. `number` selects the place."""

    kind: Kind
    number: int

    def __str__(self) -> str:
        return f"{self.kind} {self.number}" if PLACES.get(self.kind, 1) > 1 else str(self.kind)


def damages(*, flips: int = FLIPS) -> Iterator[Damage]:
    """Yield every damage of one file."""
    for kind, places in PLACES.items():
        for number in range(flips if kind is Kind.FLIP else places):
            yield Damage(kind, number)


def damaged(content: bytes, damage: Damage, *, name: str, older: bytes | None) -> bytes | None:
    """Return the content of a file after the damage; None for a file that is gone.

    The same name, damage and length give the same place. `older` is the content of an older copy; None if the file did
    not exist then.
    """
    places = random.Random(f"{name} {damage.kind} {damage.number}")
    match damage.kind:
        case Kind.FLIP if content:
            at, bit = place_of_flip(content, damage.number, name=name)
            return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]
        case Kind.ZEROS:
            return _zeroed(content, places, among_data=damage.number % 2 == 0)
        case Kind.CUT:
            # Every second file ends at a page, as after a lost extension; the others anywhere.
            length = places.randrange(len(content)) if content else 0
            return content[: length // PAGE_BYTES * PAGE_BYTES if damage.number % 2 else length]
        case Kind.EMPTIED:
            return b""
        case Kind.REMOVED:
            return None
        case Kind.OLDER:
            return older
    return content


def place_of_flip(content: bytes, number: int, *, name: str) -> tuple[int, int]:
    """Return the byte and the bit that the flip with this number changes. `content` is not empty.

    An even number selects a byte that is not zero, if there is one: many bytes are unused.
    """
    places = random.Random(f"{name} {Kind.FLIP} {number}")
    at = places.randrange(len(content))
    if number % 2 == 0 and any(content):
        while not content[at]:
            at = places.randrange(len(content))
    return at, places.randrange(8)


def _zeroed(content: bytes, places: random.Random, *, among_data: bool) -> bytes:
    """Return the content with a page of zeros. `among_data` selects a page that is not all zeros already."""
    pages = [content[at : at + PAGE_BYTES] for at in range(0, len(content), PAGE_BYTES)]
    numbers = [number for number, page in enumerate(pages) if any(page) or not among_data]
    if numbers:
        number = places.choice(numbers)
        pages[number] = bytes(len(pages[number]))
    return b"".join(pages)
