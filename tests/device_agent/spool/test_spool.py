"""The contract that every spool keeps, on disk or in memory."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.batch import EncodedBatch
from device_agent.errors import SpoolError
from device_agent.spool import Entry, MemorySpool, Spool, SqliteSpool, StoredBatch
from device_agent.spool.contract import OVERFLOW_REASON, ROW_BYTES
from tests.device_agent.batches import NUMBER, batch_of, lost, numbers
from wire.device import Gap
from wire.model import Metric

Kind = Literal["memory", "sqlite"]
KINDS: tuple[Kind, ...] = ("memory", "sqlite")

ROW = batch_of(1.0).size + ROW_BYTES


def make_spool(kind: Kind, folder: Path, *, max_bytes: int = 1 << 20) -> Spool:
    epochs = (f"{number:016x}" for number in itertools.count(1))
    new_epoch: Callable[[], str] = lambda: next(epochs)  # noqa: E731
    if kind == "memory":
        return MemorySpool(max_bytes=max_bytes, new_epoch=new_epoch)
    return SqliteSpool(folder / "test.spool", device="boiler", max_bytes=max_bytes, new_epoch=new_epoch)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    return kind


async def everything(spool: Spool) -> list[Entry]:
    entries: list[Entry] = []
    after = spool.acked
    while more := await spool.read(after, max_batches=7):
        entries += more
        after = more[-1].seq if isinstance(more[-1], StoredBatch) else more[-1].to
    return entries


async def test_numbers_begin_at_one_and_have_no_holes(kind: Kind, tmp_path: Path) -> None:
    """Each append gets the next number, and what is read comes back in that order as it was given."""
    async with make_spool(kind, tmp_path) as spool:
        assert (spool.next_seq, spool.acked, spool.waiting, spool.size_bytes) == (1, 0, 0, 0)
        batches = [batch_of(number, historical=number == 2) for number in range(4)]
        assert [await spool.append(batch) for batch in batches] == [1, 2, 3, 4]
        assert await everything(spool) == [StoredBatch(seq, batch) for seq, batch in enumerate(batches, 1)]
        assert (spool.next_seq, spool.waiting, spool.size_bytes) == (5, 4, 4 * ROW)


async def test_a_read_is_bounded_and_never_empty(kind: Kind, tmp_path: Path) -> None:
    """A read keeps to its bounds, but gives one batch even when that is larger."""
    async with make_spool(kind, tmp_path) as spool:
        for number in range(5):
            await spool.append(batch_of(number))
        size = batch_of(1).size
        assert numbers(await spool.read(1, max_batches=2)) == [(2, 2), (3, 3)]
        assert numbers(await spool.read(0, max_batches=9, max_bytes=2 * size)) == [(1, 1), (2, 2)]
        assert numbers(await spool.read(3, max_batches=9, max_bytes=1)) == [(4, 4)]
        assert await spool.read(5, max_batches=9) == []


async def test_acknowledged_batches_are_removed(kind: Kind, tmp_path: Path) -> None:
    """A trim forgets all up to its number, never more than there is, and going back changes nothing."""
    async with make_spool(kind, tmp_path) as spool:
        for number in range(3):
            await spool.append(batch_of(number))
        spool.trim(2)
        spool.trim(1)
        assert (spool.acked, spool.waiting) == (2, 1)
        assert numbers(await spool.read(spool.acked, max_batches=9)) == [(3, 3)]
        spool.trim(9)
        assert (spool.acked, spool.waiting, spool.next_seq) == (3, 0, 4)
        assert await spool.append(batch_of(3)) == 4


async def test_batches_that_do_not_fit_are_a_declared_gap(kind: Kind, tmp_path: Path) -> None:
    """Above the bound the oldest batches are removed and form one gap, however often it happens."""
    async with make_spool(kind, tmp_path, max_bytes=3 * ROW) as spool:
        for number in range(10):
            await spool.append(batch_of(number))
        entries = await everything(spool)
        assert numbers(entries) == [(1, 7), (8, 8), (9, 9), (10, 10)]
        assert lost(entries) == [(1, 7, OVERFLOW_REASON)]
        assert (spool.lost.batches, spool.lost.readings, spool.waiting) == (7, 7, 3)
        assert spool.size_bytes == 3 * ROW


async def test_a_partly_sent_gap_continues_after_the_sent_part(kind: Kind, tmp_path: Path) -> None:
    """SensorReading from within a gap gives its rest, and trimming into it keeps its rest."""
    async with make_spool(kind, tmp_path, max_bytes=ROW) as spool:
        for number in range(6):
            await spool.append(batch_of(number))
        assert lost(await spool.read(2, max_batches=1)) == [(3, 5, OVERFLOW_REASON)]
        spool.trim(3)
        assert numbers(await everything(spool)) == [(4, 5), (6, 6)]
        assert spool.waiting == 1


async def test_the_newest_batch_always_stays(kind: Kind, tmp_path: Path) -> None:
    """A batch that is larger than the whole bound is kept, and nothing beside it."""
    async with make_spool(kind, tmp_path, max_bytes=ROW) as spool:
        await spool.append(batch_of(1))
        await spool.append(batch_of(2, padding=4 * ROW))
        assert numbers(await everything(spool)) == [(1, 1), (2, 2)]
        assert spool.waiting == 1


async def test_definitions_are_kept_with_the_batches(kind: Kind, tmp_path: Path) -> None:
    """A definition is there from its batch on; a changed one takes its place, and each change shows in the revision."""
    async with make_spool(kind, tmp_path) as spool:
        before = spool.revision
        await spool.append(batch_of(1), [NUMBER, Metric("other", "string")])
        first = spool.revision
        await spool.append(batch_of(2), [Metric("n", unit="°C")])
        assert before < first < spool.revision
        assert list(spool.metrics.values()) == [Metric("n", unit="°C"), Metric("other", "string")]


async def test_a_batch_can_become_several(kind: Kind, tmp_path: Path) -> None:
    """Smaller batches take the place of one, and the numbers after it move up without a hole."""
    async with make_spool(kind, tmp_path) as spool:
        for number in range(4):
            await spool.append(batch_of(number))
        spool.trim(1)
        parts = [batch_of(10), batch_of(11), batch_of(12)]
        await spool.replace(2, parts, "too large")
        expected = [StoredBatch(2, parts[0]), StoredBatch(3, parts[1]), StoredBatch(4, parts[2])]
        assert await everything(spool) == [*expected, StoredBatch(5, batch_of(2)), StoredBatch(6, batch_of(3))]
        assert (spool.next_seq, spool.waiting) == (7, 5)
        assert await spool.append(batch_of(9)) == 7


async def test_a_batch_that_cannot_be_sent_becomes_a_gap(kind: Kind, tmp_path: Path) -> None:
    """Replaced by nothing, a batch is a gap with the reason given; numbers stay as they are."""
    async with make_spool(kind, tmp_path) as spool:
        for number in range(3):
            await spool.append(batch_of(number))
        await spool.replace(2, [], "too large")
        await spool.replace(2, [batch_of(1)], "not there any more")
        entries = await everything(spool)
        assert numbers(entries) == [(1, 1), (2, 2), (3, 3)]
        assert lost(entries) == [(2, 2, "too large")]
        assert spool.waiting == 2


async def test_a_new_epoch_keeps_what_waits(kind: Kind, tmp_path: Path) -> None:
    """It begins with the gap that declares the loss. Batches, gaps and what comes after follow with new numbers."""
    async with make_spool(kind, tmp_path, max_bytes=3 * ROW) as spool:
        for number in range(7):
            await spool.append(batch_of(number))
        spool.trim(2)
        epoch = spool.epoch
        await spool.begin_epoch("an older copy")
        assert spool.epoch != epoch
        assert (spool.acked, spool.next_seq, spool.waiting) == (0, 7, 3)
        entries = await everything(spool)
        assert numbers(entries) == [(1, 1), (2, 3), (4, 4), (5, 5), (6, 6)]
        assert lost(entries)[0] == (1, 1, "an older copy")
        assert entries[2:] == [StoredBatch(4, batch_of(4)), StoredBatch(5, batch_of(5)), StoredBatch(6, batch_of(6))]
        spool.trim(3)
        assert await spool.append(batch_of(7)) == 7
        entries = await everything(spool)
        assert (numbers(entries)[0], lost(entries), spool.waiting) == ((4, 4), [(4, 4, OVERFLOW_REASON)], 3)


async def test_waiting_for_an_entry_ends_with_it(kind: Kind, tmp_path: Path) -> None:
    """wait() returns at once for what is there, and otherwise with the append that brings it."""
    async with make_spool(kind, tmp_path) as spool:
        waiting = asyncio.create_task(spool.wait(0))
        await asyncio.sleep(0)
        assert not waiting.done()
        await spool.append(batch_of(1))
        await waiting
        await spool.wait(0)


async def test_waiting_for_room_ends_with_an_acknowledgement(kind: Kind, tmp_path: Path) -> None:
    """wait_room() returns when enough has been trimmed that a batch pushes nothing out."""
    async with make_spool(kind, tmp_path, max_bytes=3 * ROW) as spool:
        await spool.wait_room(batch_of(1).size)
        for number in range(3):
            await spool.append(batch_of(number))
        waiting = asyncio.create_task(spool.wait_room(batch_of(1).size))
        await asyncio.sleep(0)
        assert not waiting.done()
        spool.trim(1)
        await waiting
        await spool.append(batch_of(3))
        assert spool.lost.batches == 0


async def test_a_closed_spool_takes_nothing(kind: Kind, tmp_path: Path) -> None:
    """An append after the end is an error and not a loss."""
    spool = make_spool(kind, tmp_path)
    async with spool:
        await spool.append(batch_of(1))
    with pytest.raises(SpoolError, match="closed"):
        await spool.append(batch_of(2))


class Append(NamedTuple):
    padding: int
    batches: int


class Trim(NamedTuple):
    portion: float


class Replace(NamedTuple):
    portion: float
    parts: int


class BeginEpoch(NamedTuple):
    pass


class Reopen(NamedTuple):
    pass


Step = Append | Trim | Replace | BeginEpoch | Reopen

portions = st.floats(0, 1)
steps = st.one_of(
    st.builds(Append, st.integers(0, 300), st.integers(1, 8)),
    st.builds(Append, st.integers(0, 300), st.integers(1, 8)),
    st.builds(Trim, portions),
    st.builds(Replace, portions, st.integers(0, 3)),
    st.builds(BeginEpoch),
    st.builds(Reopen),
)


class Model:
    """Model of a spool: a list of batches and reasons that begins at acked + 1."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.acked = 0
        self.held: list[EncodedBatch | str] = []

    def size(self) -> int:
        return sum(item.size + ROW_BYTES for item in self.held if isinstance(item, EncodedBatch))

    def append(self, batch: EncodedBatch) -> None:
        self.held.append(batch)
        for position, item in enumerate(self.held[:-1]):
            if self.size() <= self.max_bytes:
                break
            if isinstance(item, EncodedBatch):
                self.held[position] = OVERFLOW_REASON

    def trim(self, count: int) -> None:
        del self.held[:count]
        self.acked += count


def unfolded(entries: list[Entry]) -> list[EncodedBatch | str]:
    """Entries as the model holds them: one item a number."""
    items: list[EncodedBatch | str] = []
    for entry in entries:
        items += [entry.reason] * (entry.to - entry.from_seq + 1) if isinstance(entry, Gap) else [entry.batch]
    return items


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(st.lists(steps, max_size=14))
async def test_every_number_is_a_batch_or_lost_until_it_is_acknowledged(kind: Kind, plan: list[Step]) -> None:
    """Whatever is done to a spool, it holds what the model holds: nothing vanishes, comes twice or out of order."""
    with tempfile.TemporaryDirectory() as folder:
        spool = make_spool(kind, Path(folder), max_bytes=1500)
        await spool.__aenter__()
        model = Model(1500)
        token = itertools.count()
        try:
            for step in plan:
                match step:
                    case Append(padding, count):
                        batches = [batch_of(next(token), padding=padding) for _ in range(count)]
                        seqs = await asyncio.gather(*map(spool.append, batches))
                        for batch in batches:
                            model.append(batch)
                        assert list(seqs) == list(range(seqs[0], seqs[0] + count))
                    case Trim(portion):
                        count = round(portion * len(model.held))
                        spool.trim(spool.acked + count)
                        model.trim(count)
                    case Replace(portion, parts) if model.held:
                        position = min(int(portion * len(model.held)), len(model.held) - 1)
                        smaller = [batch_of(next(token)) for _ in range(parts)]
                        if isinstance(model.held[position], EncodedBatch):
                            lost_or_split: list[EncodedBatch | str] = [*smaller] or ["too large"]
                            model.held[position : position + 1] = lost_or_split
                        await spool.replace(spool.acked + 1 + position, smaller, "too large")
                    case BeginEpoch():
                        await spool.begin_epoch("an older copy")
                        model.acked = 0
                        model.held.insert(0, "an older copy")
                    case Reopen() if kind == "sqlite":
                        await spool.__aexit__(None)
                        epoch = spool.epoch
                        spool = make_spool(kind, Path(folder), max_bytes=1500)
                        await spool.__aenter__()
                        assert spool.epoch == epoch
                    case _:
                        continue
                entries = await everything(spool)
                numbers(entries)
                assert unfolded(entries) == model.held
                assert (spool.acked, spool.next_seq) == (model.acked, model.acked + len(model.held) + 1)
                assert spool.waiting == sum(isinstance(item, EncodedBatch) for item in model.held)
        finally:
            await spool.__aexit__(None)
