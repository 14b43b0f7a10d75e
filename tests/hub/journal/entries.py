"""Entries for tests, and what is equal about two that are the same."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from hub.journal.block import BlockRow, encode_block, encode_marks
from hub.model.batch import Batch, Entry, EntryKind, Mark
from wire.codec import Format

EPOCH = "00000000000000aa"


def make_entry(
    seq: int = 1,
    *,
    device: str = "a",
    kind: EntryKind = EntryKind.BATCH,
    payload: bytes = b"payload",
    format: Format = "json",
    received_ns: int | None = None,
    reason: tuple[str, str] | None = None,
) -> Entry:
    """An entry, received just now; a BATCH has a decoded batch without content."""
    if received_ns is None:
        received_ns = time.time_ns()
    batch = Batch([], [], readings=0) if kind is EntryKind.BATCH else None
    return Entry(kind, device, EPOCH, seq, received_ns, format, payload, batch=batch, reason=reason)


def make_entries(count: int, *, first_seq: int = 1, size_bytes: int = 7) -> list[Entry]:
    """Consecutive entries of one device."""
    return [make_entry(seq, payload=bytes(size_bytes)) for seq in range(first_seq, first_seq + count)]


def make_mark(seq: int, *, device: str = "a") -> Mark:
    """A mark whose other numbers follow from seq."""
    batches, readings, duplicates, quarantined, lost, moved = (seq * factor for factor in range(1, 7))
    return Mark(device, EPOCH, seq, batches, readings, duplicates, quarantined, lost, moved, ((EPOCH[::-1], seq),))


def sealed_block(first: int, *, marks: Sequence[Mark] = (), count: int = 2) -> BlockRow:
    """Return the row of a block of entries of the device a."""
    data, encoded = encode_block(make_entries(count, first_seq=first)), encode_marks(marks)
    return BlockRow(first, count, first * 100, 0, zlib.crc32(data), encoded, data).sealed()


def content(entry: Entry) -> tuple[Any, ...]:
    """All of an entry that the file keeps."""
    return (
        entry.offset,
        entry.kind,
        entry.device,
        entry.epoch,
        entry.seq,
        entry.received_ns,
        entry.format,
        entry.payload,
        entry.reason,
    )


FORMATS: list[Format] = ["json", "msgpack"]
entries = st.builds(
    Entry,
    st.sampled_from(EntryKind),
    st.text(max_size=5),
    st.text(max_size=5),
    st.integers(1, 2**53 - 1),
    st.integers(0, 2**63 - 1),
    st.sampled_from(FORMATS),
    st.binary(max_size=50),
    reason=st.none() | st.tuples(st.text(max_size=5), st.text(max_size=5)),
)
marks = st.builds(
    Mark,
    st.sampled_from("abcdef"),
    st.text(max_size=5),
    *[st.integers(0, 2**53 - 1)] * 7,
    st.just(()) | st.tuples(st.tuples(st.text(max_size=5), st.integers(0, 2**53 - 1))),
    *[st.integers(0, 2**53 - 1)] * 4,
)
