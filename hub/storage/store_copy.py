"""Copy between two open stores through the store's contract, and their comparison. hub.app.copy opens the stores.

The durable cursor of the target records the progress. During a copy, its journal is the name of the copy, and its
offset is made of the position of the series and the number of its copied readings. An interrupted copy continues from
there. The expired and refused counts of the source are copied, too, so that accounting balances with the target. The
last write sets the cursor of the source, so that a hub continues with the target where it stopped with the source.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from hub.model.batch import Batch, Entry, EntryKind, Series
from hub.model.store import SeriesHistory, Store, StoreCursor, StoreError
from wire.limits import MAX_TIME_NS
from wire.model import Value

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray


WRITE_READINGS = 200_000
"""Readings of one write: a few megabytes, and at most some seconds to repeat after a crash."""

_SERIES_SHIFT = 33
"""Bits of an offset for the readings of one series: eight billion, beside a million series, in 53 bits."""

ReportProgress = Callable[[int], None]
"""Receives the number of completed readings."""


class CopyResult(NamedTuple):
    """Numbers of readings: written by this copy, present before it, and refused by the target."""

    written: int
    before: int
    refused: int


class Difference(NamedTuple):
    """A series that differs between two stores, with its number of readings in each."""

    series: Series
    source: int
    target: int


async def copy_store(
    source: Store, target: Store, series: Sequence[Series], report_progress: ReportProgress
) -> CopyResult:
    """Copy every reading of these series, which must have the same order each time. Neither store may be in use.

    Raises StoreUnavailable, and StoreError if the target already contains something else.
    """
    end = await source.open()
    progress = await target.open()
    name = f"copy of {end.journal or 'nothing'} at {end.offset}"
    if progress == end and end.journal:
        return CopyResult(0, await _stored_readings(target), 0)
    if progress.journal != name and (progress.journal or await _stored_readings(target)):
        raise StoreError(
            "the target already contains readings that are not a copy of this source in its current state: copy into "
            "an empty store"
        )
    has_begun = progress.journal == name
    if not has_begun:
        # Once, into an empty store. Readings that the target itself refuses are added to these counts.
        counts = await source.counts()
        await target.import_counts([(item, counts[item.id]) for item in series if item.id in counts])
    position, skip = divmod(progress.offset, 1 << _SERIES_SHIFT) if has_begun else (0, 0)
    before = await _stored_readings(target)
    written = refused = 0
    report_progress(before)
    async for entries, offset in _writes(source, series, position=position, skip=skip):
        result = await target.write(entries, StoreCursor(name, offset))
        written += result.readings
        refused += sum(refusal.batch.readings for refusal in result.refused)
        if result.refused:
            # The refused readings are kept nowhere else: the comparison at the end reports them.
            await target.save()
        report_progress(before + written + refused)
    # This write has no entries: it only sets how far the target has the journal.
    await target.write((), end)
    await target.save()
    return CopyResult(written, before, refused)


async def differences(
    source: Store, target: Store, series: Sequence[Series], report_progress: ReportProgress
) -> list[Difference]:
    """Return the series whose readings differ between two stores, in number or in content. Reads both stores."""
    compared = 0

    def count(readings: int) -> None:
        nonlocal compared
        compared += readings
        report_progress(compared)

    in_source = await _digests(source, series, count)
    in_target = await _digests(target, series, count)
    return [
        Difference(item, in_source[item.id][0], in_target[item.id][0])
        for item in series
        if in_source[item.id] != in_target[item.id]
    ]


async def _stored_readings(store: Store) -> int:
    return sum(counts.stored for counts in (await store.counts()).values())


async def _writes(
    source: Store, series: Sequence[Series], *, position: int, skip: int
) -> AsyncIterator[tuple[list[Entry], int]]:
    """Yield the entries and the offset of each write, from the series at `position` without its first `skip`."""
    positions = {item.id: number for number, item in enumerate(series)}
    entries: list[Entry] = []
    pending = 0
    last: tuple[int, int] = (position, 0)
    async with aclosing(source.scan(series[position:], 0, MAX_TIME_NS + 1)) as pieces:
        async for piece in pieces:
            current = positions[piece.series.id]
            read = last[1] if last[0] == current else 0
            last = (current, read + len(piece.times_ns))
            skipped = min(max(0, skip - read), len(piece.times_ns)) if current == position else 0
            if skipped == len(piece.times_ns):
                continue
            offset = (current << _SERIES_SHIFT) + last[1]
            entries.append(_entry(piece, skipped, offset))
            pending += len(piece.times_ns) - skipped
            if pending >= WRITE_READINGS:
                yield entries, offset
                entries, pending = [], 0
    if entries:
        yield entries, entries[-1].offset


def _entry(piece: SeriesHistory, skipped: int, offset: int) -> Entry:
    """Return a piece as a journal entry, without its first readings."""
    series = piece.series
    times, values = piece.times_ns[skipped:], piece.values[skipped:]
    column: list[Value] | NDArray[float64] = (
        cast("NDArray[float64]", np.asarray(values, np.float64))
        if series.type == "float"
        else values
        if isinstance(values, list)
        else values.tolist()
    )
    batch = Batch(times, [(series, column)], readings=len(times), historical=True)
    return Entry(EntryKind.BATCH, series.device, "0" * 16, 1, 0, "msgpack", b"", batch=batch, offset=offset)


async def _digests(
    store: Store, series: Sequence[Series], report_progress: ReportProgress
) -> defaultdict[int, tuple[int, bytes]]:
    """Return the number of readings of each series and a digest of their times and values, by id."""
    found: defaultdict[int, tuple[int, bytes]] = defaultdict(lambda: (0, b""))
    digest = hashlib.blake2b(digest_size=16)
    async with aclosing(store.scan(series, 0, MAX_TIME_NS + 1)) as pieces:
        async for piece in pieces:
            readings, _ = found[piece.series.id]
            # One series follows the other, so one hash exists at a time.
            if not readings:
                digest = hashlib.blake2b(digest_size=16)
            digest.update(_encode(piece))
            found[piece.series.id] = readings + len(piece.times_ns), digest.digest()
            report_progress(len(piece.times_ns))
    return found


def _encode(piece: SeriesHistory) -> bytes:
    """Return times and values, reading by reading, in a form that does not depend on the store."""
    if piece.series.type == "string":
        return b"".join(
            time.to_bytes(8, "little") + len(value := str(text).encode()).to_bytes(4, "little") + value
            for time, text in zip(piece.times_ns.tolist(), piece.values, strict=True)
        )
    # Minus zero equals zero.
    values = (
        np.asarray(piece.values, np.float64) + 0.0
        if piece.series.type == "float"
        else np.asarray(piece.values, np.int64)
    )
    return np.column_stack((np.asarray(piece.times_ns, np.int64), values.view(np.int64))).tobytes()
