"""Entries and marks to and from the bytes of a block. Pure.

A block contains one commit, or a part of a large one, as columns of the entries in msgpack. Rows would cost one more
object for the garbage collector per entry. Measured with 100-byte payloads: 0.16 µs an entry to encode. A table of the
distinct devices and epochs would save 25 bytes an entry, but cost 0.1 to 0.2 µs, more than writing the bytes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import msgspec

from hub.model.batch import Entry, EntryKind, Mark
from wire.codec import Format

BLOCK_BYTES = 1024 * 1024
"""Payload bytes after which a commit begins a new block. It bounds what a reader that is behind loads at once, and what
trimming deletes at once. A single larger entry is a block of its own."""

BLOCK_ENTRIES = 16_384
"""Entries of one block: 1 MiB of 64-byte frames. Bounds the memory of a decoded block with tiny payloads."""

ENTRY_BYTES = 48
"""Size of an entry besides its payload: ids, numbers and framing."""

_FORMATS: tuple[Format, Format] = ("json", "msgpack")
_KIND_OF_NUMBER = {int(kind): kind for kind in EntryKind}

_Columns = tuple[list[str], list[str], list[int], list[int], bytes, bytes, list[bytes], dict[int, tuple[str, str]]]
_encode = msgspec.msgpack.Encoder().encode
_decode_columns = msgspec.msgpack.Decoder(_Columns).decode
_decode_marks = msgspec.msgpack.Decoder(list[Mark]).decode


class BlockDamaged(Exception):
    """The bytes are not a valid block."""


def encode_block(entries: Sequence[Entry]) -> bytes:
    """Encode the entries without their offsets and decoded batches."""
    columns = (
        [entry.device for entry in entries],
        [entry.epoch for entry in entries],
        [entry.seq for entry in entries],
        [entry.received_ns for entry in entries],
        bytes([entry.kind for entry in entries]),
        bytes([entry.format == "msgpack" for entry in entries]),
        [entry.payload for entry in entries],
        {row: entry.reason for row, entry in enumerate(entries) if entry.reason is not None},
    )
    return _encode(columns)


def decode_block(data: bytes, first_offset: int) -> list[Entry]:
    """Return the entries, numbered from `first_offset`. Raises BlockDamaged."""
    try:
        *columns, reasons = _decode_columns(data)
        devices, epochs, seqs, received, kinds, formats, payloads = columns
        if len({len(column) for column in columns}) != 1:
            raise BlockDamaged("its columns differ in length")
        entries = list(
            map(
                Entry,
                map(_KIND_OF_NUMBER.__getitem__, kinds),
                devices,
                epochs,
                seqs,
                received,
                map(_FORMATS.__getitem__, formats),
                payloads,
            )
        )
        for row, reason in reasons.items():
            entries[row].reason = reason
    except (msgspec.DecodeError, UnicodeError, LookupError) as error:
        raise BlockDamaged(f"it cannot be decoded: {error}") from None
    for offset, entry in enumerate(entries, first_offset):
        entry.offset = offset
    return entries


def encode_marks(marks: Sequence[Mark]) -> bytes:
    """Encode the marks for a block's row."""
    return _encode(marks)


def decode_marks(data: bytes) -> list[Mark]:
    """Return the marks of a block's row. Raises BlockDamaged."""
    try:
        return _decode_marks(data)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise BlockDamaged(f"its marks cannot be decoded: {error}") from None


def size_of(entries: Sequence[Entry]) -> int:
    """Return about how many bytes these entries take on disk."""
    return sum([len(entry.payload) for entry in entries]) + ENTRY_BYTES * len(entries)


def split(entries: list[Entry], size_bytes: int) -> Iterator[list[Entry]]:
    """Yield the entries in runs of one block each. `size_bytes` is size_of(entries), which the caller knows already."""
    if not entries:
        return
    if size_bytes <= BLOCK_BYTES and len(entries) <= BLOCK_ENTRIES:
        if entries:
            yield entries
        return
    start = 0
    while start < len(entries):
        run, _ = limit_entries(entries[start : start + BLOCK_ENTRIES], BLOCK_BYTES)
        yield run
        start += len(run)


def limit_entries(entries: list[Entry], max_bytes: int) -> tuple[list[Entry], int]:
    """Return the first entries that fit into `max_bytes` of payload, at least one, and their payload bytes."""
    sizes = itertools.accumulate([len(entry.payload) for entry in entries])
    used = 0
    for count, size in enumerate(sizes):
        if size > max_bytes and count:
            return entries[:count], used
        used = size
    return entries, used
