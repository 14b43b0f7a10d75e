"""Checksums of rows in a database.

CRC-32 detects every error within 32 neighbouring bits, and any other with a probability of 1 - 2^-32. zlib computes it
at 1 GB/s or more. A cryptographic digest would be slower, and an attacker could replace it as well.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import msgspec

_encode = msgspec.msgpack.Encoder().encode

Cell = int | str | bytes | None

_WIDTHS = (1, 2, 3, 4, 6, 8)
"""Bytes in which SQLite stores an integer."""

MAX_CORRECTED_BYTES = 8_192
"""Longest row in which a wrong bit is searched. Below 11 kB, the CRC-32 of two rows that differ in up to three bits
differs, so at most one single bit explains a wrong checksum."""


def row_checksum(cells: Sequence[Cell]) -> int:
    """Return the CRC-32 of the cells of a row, with their types and lengths."""
    return zlib.crc32(_encode(cells))


def corrected(cells: Sequence[Cell], checksum: int) -> tuple[Cell, ...] | None:
    """Return the cells as they were written if at most one bit of them or of the checksum is wrong, else None.

    A text that is not UTF-8 contains surrogate escapes.
    """
    if _difference(cells, checksum).bit_count() <= 1:
        return tuple(cells)
    if sum(len(cell) for cell in cells if isinstance(cell, str | bytes)) > MAX_CORRECTED_BYTES:
        return None
    for position, cell in enumerate(cells):
        for other in _with_one_bit_flipped(cell):
            candidate = (*cells[:position], other, *cells[position + 1 :])
            if not _difference(candidate, checksum):
                return candidate
    return None


def _difference(cells: Sequence[Cell], checksum: int) -> int:
    """Return the bits in which the checksum of the cells differs from this one; all bits if it cannot be computed."""
    try:
        return (row_checksum(cells) ^ checksum) & 0xFFFFFFFF
    except UnicodeEncodeError:
        return 0xFFFFFFFF


def _with_one_bit_flipped(cell: Cell) -> Iterator[Cell]:
    match cell:
        case int():
            for width in _WIDTHS:
                if -(1 << (8 * width - 1)) <= cell < 1 << (8 * width - 1):
                    stored = cell.to_bytes(width, "big", signed=True)
                    yield from (int.from_bytes(flipped, "big", signed=True) for flipped in _flipped(stored))
        case bytes():
            yield from _flipped(cell)
        case str():
            for flipped in _flipped(cell.encode("utf-8", "surrogateescape")):
                yield flipped.decode("utf-8", "surrogateescape")


def _flipped(data: bytes) -> Iterator[bytes]:
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)
