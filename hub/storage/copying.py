"""Copies all readings of a store into another one, over the contract, and compares the two.

How far a copy is says the target itself, by its durable cursor: while copying, that is of a journal with the name of
the copy, at an offset made of the series' place and how many of its readings are there. A copy that is cut off goes on
there. What the source knew to be expired and refused goes along, so that the books balance with the target, too. With
the last write the cursor becomes the source's, so that a hub goes on with the target where it stopped with
the source.
"""

from __future__ import annotations

import hashlib
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
"""Readings of one write: a few megabytes, and some seconds to do again after a crash at most."""

_SERIES_SHIFT = 33
"""Readings of one series that an offset has room for: eight billion, beside a million series, in 53 bits."""

Tell = Callable[[int], None]
"""Is told how many readings are done."""


class Copied(NamedTuple):
    """What a copy did: readings written by it, those that were there before, those that the target refused."""

    written: int
    before: int
    refused: int


class Content(NamedTuple):
    """What a store has of a series: how many readings, and a digest of their times and values."""

    readings: int
    digest: bytes


class Difference(NamedTuple):
    """A series of which two stores have not the same."""

    series: Series
    source: int
    target: int


async def copy_store(source: Store, target: Store, series: Sequence[Series], tell: Tell) -> Copied:
    """Every reading of these series, which must be in the same order each time. Neither store may be in use.

    Raises StoreUnavailable, and StoreError where the target holds something else already.
    """
    end = await source.open()
    progress = await target.open()
    name = f"copy of {end.journal or 'nothing'} at {end.offset}"
    if progress == end and end.journal:
        return Copied(0, await _held(target), 0)
    if progress.journal != name and (progress.journal or await _held(target)):
        raise StoreError(
            "the target holds readings already, and not those of a copy of this source as it is now: copy into "
            "an empty one"
        )
    begun = progress.journal == name
    if not begun:
        # Once, into what is empty: what the target refuses itself is counted on top of it.
        counts = await source.counts()
        await target.import_counts([(one, counts[one.id]) for one in series if one.id in counts])
    place, skip = divmod(progress.offset, 1 << _SERIES_SHIFT) if begun else (0, 0)
    before = await _held(target)
    written = refused = 0
    tell(before)
    async for entries, offset in _writes(source, series, place=place, skip=skip):
        result = await target.write(entries, StoreCursor(name, offset))
        written += result.readings
        refused += sum(one.batch.readings for one in result.refused)
        if result.refused:
            # Nothing else has to keep what was refused: the comparison in the end tells of it.
            await target.save()
        tell(before + written + refused)
    # Nothing is in it: it only says up to where the journal is in the target.
    await target.write((), end)
    await target.save()
    return Copied(written, before, refused)


async def differences(source: Store, target: Store, series: Sequence[Series], tell: Tell) -> list[Difference]:
    """The series of which the two stores have not the same readings, in number or in content; reads both."""
    done = 0

    def told(readings: int) -> None:
        nonlocal done
        done += readings
        tell(done)

    in_source = await _contents(source, series, told)
    in_target = await _contents(target, series, told)
    nothing = Content(0, b"")
    return [
        Difference(one, in_source.get(one.id, nothing).readings, in_target.get(one.id, nothing).readings)
        for one in series
        if in_source.get(one.id, nothing) != in_target.get(one.id, nothing)
    ]


async def _held(store: Store) -> int:
    return sum(counts.stored for counts in (await store.counts()).values())


async def _writes(
    source: Store, series: Sequence[Series], *, place: int, skip: int
) -> AsyncIterator[tuple[list[Entry], int]]:
    """What is to be written, and the offset after it: from the series at `place` on, without its first readings."""
    places = {one.id: number for number, one in enumerate(series)}
    entries: list[Entry] = []
    waiting = 0
    seen: tuple[int, int] = (place, 0)
    async with aclosing(source.scan(series[place:], 0, MAX_TIME_NS + 1)) as pieces:
        async for piece in pieces:
            at = places[piece.series.id]
            done = seen[1] if seen[0] == at else 0
            seen = (at, done + len(piece.times_ns))
            left_out = min(max(0, skip - done), len(piece.times_ns)) if at == place else 0
            if left_out == len(piece.times_ns):
                continue
            offset = (at << _SERIES_SHIFT) + seen[1]
            entries.append(_entry(piece, left_out, offset))
            waiting += len(piece.times_ns) - left_out
            if waiting >= WRITE_READINGS:
                yield entries, offset
                entries, waiting = [], 0
    if entries:
        yield entries, entries[-1].offset


def _entry(piece: SeriesHistory, left_out: int, offset: int) -> Entry:
    """A piece as a journal's entry would have it, without its first readings."""
    series = piece.series
    times, values = piece.times_ns[left_out:], piece.values[left_out:]
    column: list[Value] | NDArray[float64] = (
        cast("NDArray[float64]", np.asarray(values, np.float64))
        if series.type == "float"
        else values
        if isinstance(values, list)
        else values.tolist()
    )
    batch = Batch(times, [(series, column)], readings=len(times), historical=True)
    return Entry(EntryKind.BATCH, series.device, "0" * 16, 1, 0, "msgpack", b"", batch=batch, offset=offset)


async def _contents(store: Store, series: Sequence[Series], tell: Tell) -> dict[int, Content]:
    found: dict[int, Content] = {}
    hashes: dict[int, hashlib.blake2b] = {}
    async with aclosing(store.scan(series, 0, MAX_TIME_NS + 1)) as pieces:
        async for piece in pieces:
            id = piece.series.id
            digest = hashes.get(id)
            if digest is None:
                # One series comes after the other, so one hash is alive at a time.
                hashes = {id: (digest := hashlib.blake2b(digest_size=16))}
            digest.update(_bytes(piece))
            known = found[id].readings if id in found else 0
            found[id] = Content(known + len(piece.times_ns), digest.digest())
            tell(len(piece.times_ns))
    return found


def _bytes(piece: SeriesHistory) -> bytes:
    """Times and values in one form, however the store has them, reading by reading."""
    if piece.series.type == "string":
        return b"".join(
            time.to_bytes(8, "little") + len(value := str(text).encode()).to_bytes(4, "little") + value
            for time, text in zip(piece.times_ns.tolist(), piece.values, strict=True)
        )
    # Minus nothing is nothing.
    values = (
        np.asarray(piece.values, np.float64) + 0.0
        if piece.series.type == "float"
        else np.asarray(piece.values, np.int64)
    )
    return np.column_stack((np.asarray(piece.times_ns, np.int64), values.view(np.int64))).tobytes()
