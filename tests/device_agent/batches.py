"""Batches for tests."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from device_agent.batch import EncodedBatch, ReadingColumns, encode_batch
from device_agent.spool import Entry, StoredBatch
from wire.device import Gap
from wire.model import Metric

NUMBER = Metric("n")


def batch_of(number: float, *, padding: int = 0, historical: bool = False) -> EncodedBatch:
    """Return a batch identified by its number, with a text of `padding` characters if any."""
    columns = ReadingColumns([1], {"n": [float(number)]}, historical)
    if padding:
        columns.values["padding"] = ["x" * padding]
    return encode_batch(columns, {"n": NUMBER, "padding": Metric("padding", "string")}, "msgpack")


def numbers(entries: Sequence[Entry]) -> list[tuple[int, int]]:
    """The range of each entry, after asserting that nothing is missing between them."""
    ranges = [
        (entry.seq, entry.seq) if isinstance(entry, StoredBatch) else (entry.from_seq, entry.to) for entry in entries
    ]
    for (_, before), (first, _) in itertools.pairwise(ranges):
        assert first == before + 1
    return ranges


def lost(entries: Sequence[Entry]) -> list[tuple[int, int, str]]:
    """The gaps among entries."""
    return [(entry.from_seq, entry.to, entry.reason) for entry in entries if isinstance(entry, Gap)]
