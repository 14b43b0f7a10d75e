"""Entries and marks to and from the bytes of a block. Pure.

A block contains one commit, or a part of a large one, as columns of the entries in msgpack. Rows would cost one more
object for the garbage collector per entry. Measured with 100-byte payloads: 0.16 µs an entry to encode. A table of the
distinct devices and epochs would save 25 bytes an entry, but cost 0.1 to 0.2 µs, more than writing the bytes.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from hub.ingest.partial_batch import count_readings as count_loose_readings
from hub.ingest.partial_batch import read_loosely
from hub.ingest.source_report import count_refused
from hub.ingest.validate import count_readings
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


_SEALED = 0xC1
"""First byte of sealed marks. No msgpack value begins with it: marks without it are those of an earlier version."""

_SEAL = struct.Struct(">BI")
_POSITION = struct.Struct(">5q")

SEAL_BYTES = _SEAL.size
"""Bytes by which the seal extends the marks of a block."""


class BlockDamaged(Exception):
    """The bytes are not a valid block."""


class BlockRow(NamedTuple):
    """A row of the block table. `checksum` is the CRC-32 of `entries`; the seal in `marks` covers the other columns.

    CRC-32 detects every error within 32 neighbouring bits, and zlib computes it at 1 GB/s or more.
    """

    first_offset: int
    length: int
    end_bytes: int
    received_ns: int
    checksum: int
    marks: bytes
    entries: bytes

    @classmethod
    def of(cls, row: Sequence[Any]) -> BlockRow:
        """Return a row of the table. A number that is read from a damaged page as something else becomes -1."""
        numbers = [number if isinstance(number, int) else -1 for number in row[:5]]
        return cls._make([*numbers, *row[5:]])

    @property
    def last_offset(self) -> int:
        """Return the offset of the last entry."""
        return self.first_offset + self.length - 1

    def sealed(self) -> BlockRow:
        """Return the row of a new block, whose `marks` have no seal yet, with its seal."""
        return self._replace(marks=_SEAL.pack(_SEALED, _seal(self, self.marks)) + self.marks)

    def open_marks(self) -> list[Mark]:
        """Verify the seal and return the marks. Raises BlockDamaged."""
        marks_bytes: Any = self.marks  # a damaged page may have a value of another type
        if not isinstance(marks_bytes, bytes):
            raise BlockDamaged("its marks are not bytes")
        if self.marks[:1] != bytes([_SEALED]):
            return decode_marks(self.marks)
        if len(self.marks) < SEAL_BYTES:
            raise BlockDamaged("its seal is cut")
        content = self.marks[SEAL_BYTES:]
        try:
            is_intact = _SEAL.unpack_from(self.marks)[1] == _seal(self, content)
        except struct.error:
            is_intact = False
        if not is_intact:
            raise BlockDamaged("the checksum of its marks and its position is wrong")
        return decode_marks(content)

    def open_entries(self, *, first_offset: int | None = None) -> list[Entry]:
        """Verify the row and return its entries. Raises BlockDamaged.

        With the `first_offset` that follows from the block before, the entries are valid without the seal.
        """
        entries_bytes: Any = self.entries  # a damaged page may have a value of another type
        if not isinstance(entries_bytes, bytes) or zlib.crc32(entries_bytes) != self.checksum:
            raise BlockDamaged("the checksum of its entries is wrong")
        if self.first_offset != first_offset:
            self.open_marks()
        entries = decode_block(self.entries, self.first_offset)
        if len(entries) != self.length or self.first_offset < 1:
            raise BlockDamaged(f"it has {len(entries)} entries instead of {self.length}")
        return entries


def marks_after(marks: Mapping[str, Mark], entries: Iterable[Entry]) -> list[Mark]:
    """Return the marks of the devices of these entries, which follow `marks`.

    Use it for a block with damaged marks. Duplicates and moved readings are not known then.
    """
    newer: dict[str, Mark] = {}
    for entry in entries:
        known = newer.get(entry.device, marks.get(entry.device))
        mark = Mark(entry.device, entry.epoch, 0) if known is None else known
        earlier = dict(mark.earlier)
        if entry.epoch != mark.epoch and entry.epoch not in earlier:
            mark = mark._replace(epoch=entry.epoch, seq=0, earlier=((mark.epoch, mark.seq), *mark.earlier))
        if entry.kind is EntryKind.EVENT:
            pass  # only its number counts
        elif entry.kind is EntryKind.GAP:
            mark = mark._replace(lost=mark.lost + max(0, entry.seq - mark.seq))
        elif entry.kind is EntryKind.QUARANTINE:
            readings = count_loose_readings(read_loosely(entry.payload, entry.format))
            mark = mark._replace(
                quarantined=mark.quarantined + 1,
                quarantined_readings=mark.quarantined_readings + readings,
                source_refused=mark.source_refused + count_refused(entry),
            )
        else:
            mark = mark._replace(batches=mark.batches + 1, readings=mark.readings + count_readings(entry))
        if entry.epoch == mark.epoch:
            mark = mark._replace(seq=max(mark.seq, entry.seq))
        newer[entry.device] = mark
    return list(newer.values())


def _seal(row: BlockRow, marks: bytes) -> int:
    """Return the CRC-32 of a block's position, of the checksum of its entries, and of its marks."""
    position = _POSITION.pack(row.first_offset, row.length, row.end_bytes, row.received_ns, row.checksum)
    return zlib.crc32(marks, zlib.crc32(position))


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
