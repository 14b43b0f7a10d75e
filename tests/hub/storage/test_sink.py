from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from hub.journal.journal import Journal
from hub.model.batch import Batch, Entry, EntryKind, Mark
from hub.model.journal import EntrySource, JournalError
from hub.model.store import HistoryQuery, StoreCursor
from hub.storage.accounting import CONSUMER
from hub.storage.duckdb.store import DuckdbStore
from hub.storage.sink import LINGER_ENTRIES, MAX_ENTRIES, StoreSink
from tests.conditions import until
from tests.hub.storage.duckdb.locked_file import locked_by_another_process
from tests.hub.storage.killed_consumer import (
    INTEGER,
    STRING,
    accounting_of,
    append,
    consumer_of,
    decode,
    open_journal,
    running,
)
from tests.hub.storage.readings import REGISTRY, entry, open_store, stored
from tests.hub.storage.retries import Retries
from tests.hub.storage.small_disk import SmallDisk
from wire.errors import Code, WireError

FOR_EVER_S = 3600.0
KILLS = 5


class Committed:
    """Listener that collects what the journal commits."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def committed(
        self, entries: Sequence[Entry], submitted: Sequence[Entry], marks: Mapping[EntrySource, Mark]
    ) -> None:
        assert not submitted
        assert not marks
        self.entries += entries

    def commit_failed(self, sources: set[EntrySource], error: JournalError) -> None:
        raise error


async def numbers(store: DuckdbStore) -> list[int]:
    """The numbers of the entries that are stored."""
    history = await store.query(HistoryQuery([INTEGER, STRING], 0, 2**63, None))
    integers, strings = (
        part.values if isinstance(part.values, list) else part.values.tolist() for part in history.series
    )
    assert strings == [f"{number}" for number in integers]
    return [int(str(number)) for number in integers]


def consumed(journal: Journal) -> int:
    return next(cursor.offset for cursor in journal.consumers() if cursor.name == CONSUMER)


async def test_entries_of_the_journal_are_stored_once(tmp_path: Path) -> None:
    """Entries from before and during the run are stored in order, and the journal's cursor follows."""
    async with open_journal(tmp_path) as journal, open_store(tmp_path) as store:
        await append(journal, 10)
        async with running(consumer_of(journal, store)) as consumer:
            for _ in range(20):
                await append(journal, 7)
            await consumer.reached(150)
            assert store.cursor == StoreCursor(journal.id, 150)
            assert consumed(journal) == 150
            state = consumer.status
            assert (state.phase, state.offset, state.lag, state.last_error) == ("running", 150, 0, None)
        assert await numbers(store) == list(range(1, 151))


async def test_an_old_journal_is_decoded(tmp_path: Path) -> None:
    """Entries that are in memory no more are read from the file and decoded, off the event loop."""
    async with open_journal(tmp_path) as journal:
        await append(journal, 300)
    decoded_in = set()

    def decode_there(cold: Entry) -> Batch:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        decoded_in.add(cold.offset)
        return decode(cold)

    async with open_journal(tmp_path) as journal, open_store(tmp_path) as store:
        async with running(consumer_of(journal, store, decode=decode_there)) as consumer:
            await consumer.reached(300)
        assert await numbers(store) == list(range(1, 301)) == sorted(decoded_in)


async def test_gaps_and_quarantine_are_passed(tmp_path: Path) -> None:
    """Entries without readings need no decoding and are dealt with in their turn."""
    async with open_journal(tmp_path) as journal, open_store(tmp_path) as store:
        gap, bad = entry(0, None, EntryKind.GAP), entry(0, None, EntryKind.QUARANTINE)
        gap.seq, bad.seq = 1, 2
        bad.reason = ("bad_message", "not a batch")
        await journal.append([gap, bad], [Mark("device", "0" * 16, 2)])
        await append(journal, 1)
        async with running(consumer_of(journal, store)) as consumer:
            await consumer.reached(3)
        assert await numbers(store) == [3]


async def test_small_writes_are_put_together(tmp_path: Path) -> None:
    """After a write the next one waits for its time or for enough entries; a drain does not."""
    async with open_journal(tmp_path) as journal, open_store(tmp_path) as store:
        async with running(consumer_of(journal, store, linger_s=FOR_EVER_S)) as consumer:
            await append(journal, 1)
            await consumer.reached(1)
            await append(journal, 5)
            await journal.wait(5)
            assert await stored(store) == {INTEGER.id: 1, STRING.id: 1}
            assert consumer.status.lag == 5
            assert await consumer.drain(FOR_EVER_S)
            assert consumer.status.lag == 0
            await append(journal, LINGER_ENTRIES - 1)
            await journal.wait(LINGER_ENTRIES)
            assert await numbers(store) == list(range(1, 7))
            await append(journal, 1)
            await consumer.reached(LINGER_ENTRIES + 6)
        assert await numbers(store) == list(range(1, LINGER_ENTRIES + 7))


async def test_a_writer_that_is_behind_does_not_pause(tmp_path: Path) -> None:
    """One write follows the other, each as large as it may be, until one has taken all there was; then it pauses."""
    async with open_journal(tmp_path) as journal, open_store(tmp_path) as store:
        await append(journal, behind := 2 * MAX_ENTRIES + 10)
        async with running(consumer_of(journal, store, interval_s=FOR_EVER_S, linger_s=FOR_EVER_S)) as consumer:
            written = [0]
            while written[-1] < behind:
                await consumer.reached(written[-1] + 1)
                written.append(consumer.status.offset)
            assert written == [0, MAX_ENTRIES, 2 * MAX_ENTRIES, behind]
            await append(journal, 1)
            await journal.wait(behind)
            assert await stored(store) == {INTEGER.id: behind, STRING.id: behind}
            assert consumer.status.lag == 1


async def test_a_store_that_comes_later_gets_everything(tmp_path: Path) -> None:
    """While the store cannot be opened the writer waits and says why; then it stores what came meanwhile."""
    async with open_store(tmp_path) as store:
        await store.open()
    async with open_journal(tmp_path) as journal:
        with locked_by_another_process(tmp_path / "history.duckdb"):
            store = await open_store(tmp_path).__aenter__()
            consumer = consumer_of(journal, store, retries=(retries := Retries()))
            state = consumer.status
            assert (state.phase, state.last_error) == ("opening", None)
            task = asyncio.create_task(consumer.run())
            await append(journal, 20)
            await retries.again()
            state = consumer.status
            assert (state.phase, state.lag, state.since_ns) == ("waiting", 20, 77)
            assert "in use by another process" in str(state.last_error)
            assert not await consumer.drain(0)
        await consumer.reached(20)
        assert await numbers(store) == list(range(1, 21))
        state = consumer.status
        assert (state.phase, state.lag, state.last_error) == ("running", 0, None)
        task.cancel()
        await asyncio.wait([task])
        await store.__aexit__(None, None, None)


async def test_a_full_disk_delays_and_drops_nothing(tmp_path: Path, small_disk: SmallDisk) -> None:
    """While the store's disk is full the journal takes in entries and keeps them; with room again all are stored."""
    path = small_disk.path / "history.duckdb"
    async with (
        open_journal(tmp_path) as journal,
        DuckdbStore(path, registry=REGISTRY, min_free_bytes=4_000_000) as store,
    ):
        async with running(consumer_of(journal, store, retries=(retries := Retries()))) as consumer:
            await append(journal, 10)
            await consumer.reached(10)
            with small_disk.filled(leaving_bytes=3_000_000):
                await append(journal, 10)
                await retries.again()
                assert "no room on the disk" in str(consumer.status.last_error)
                await append(journal, 10)
                assert consumed(journal) == 10
            await consumer.reached(30)
        assert await numbers(store) == list(range(1, 31))


async def test_cancelling_finishes_the_write_under_way(tmp_path: Path) -> None:
    """After a cancelled run, journal and store agree on what is stored."""
    async with open_journal(tmp_path) as journal, open_store(tmp_path) as store:
        for turns in range(0, 60, 3):
            task = asyncio.create_task(consumer_of(journal, store).run())
            await append(journal, 500)
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            assert consumed(journal) == store.cursor.offset
        async with running(consumer_of(journal, store)) as consumer:
            assert await consumer.drain(FOR_EVER_S)
        assert await numbers(store) == list(range(1, 10_001))


async def test_the_store_knows_better_than_the_journal(tmp_path: Path) -> None:
    """If the cursors of journal and store differ, the store's holds: nothing twice, nothing left out."""
    async with open_journal(tmp_path) as journal, open_store(tmp_path) as store:
        await append(journal, 10)
        async with running(consumer_of(journal, store)) as consumer:
            await consumer.reached(10)
        for believed in (3, 10):
            journal.advance(CONSUMER, believed)
            await append(journal, 5)
            async with running(consumer_of(journal, store)) as consumer:
                await consumer.reached(journal.last_offset)
        assert await numbers(store) == list(range(1, 21))


async def test_a_new_store_gets_what_the_journal_has(tmp_path: Path) -> None:
    """A store that was moved away is made anew, from the oldest entry that is there."""
    async with open_journal(tmp_path) as journal:
        async with open_store(tmp_path) as store, running(consumer_of(journal, store)) as consumer:
            await append(journal, 10)
            await consumer.reached(10)
        (tmp_path / "history.duckdb").unlink()
        async with open_store(tmp_path) as store, running(consumer_of(journal, store)) as consumer:
            await consumer.reached(10)
            assert await numbers(store) == list(range(1, 11))
            assert consumer.status.missed == 0


async def test_entries_deleted_by_the_journal_are_counted(tmp_path: Path) -> None:
    """A store restored from a copy resumes with the oldest entry that exists, and the hole is counted."""
    copy = tmp_path / "copy.duckdb"
    async with open_journal(tmp_path, keep_bytes=0) as journal:
        async with open_store(tmp_path) as store, running(consumer_of(journal, store)) as consumer:
            await append(journal, 10)
            await consumer.reached(10)
        shutil.copy(tmp_path / "history.duckdb", copy)
        async with open_store(tmp_path) as store, running(consumer_of(journal, store)) as consumer:
            while journal.first_offset < 100:
                await append(journal, 1000)
                assert await consumer.drain(FOR_EVER_S)
        copy.replace(tmp_path / "history.duckdb")
        first, last = journal.first_offset, journal.last_offset
        async with open_store(tmp_path) as store, running(consumer_of(journal, store)) as consumer:
            await consumer.reached(last)
            assert await numbers(store) == [*range(1, 11), *range(first, last + 1)]
            assert consumer.status.missed == first - 11


async def test_a_journal_put_back_is_noticed(tmp_path: Path) -> None:
    """A journal that would use offsets again that the store knows already is not stored as if they were the same."""
    async with open_journal(tmp_path) as journal:
        await append(journal, 5)
    shutil.copytree(tmp_path, tmp_path / "copy")
    async with open_journal(tmp_path) as journal, open_store(tmp_path) as store:
        await append(journal, 5)
        async with running(consumer_of(journal, store)) as consumer:
            await consumer.reached(10)
    async with open_journal(tmp_path / "copy") as journal, open_store(tmp_path) as store:
        async with running(consumer_of(journal, store, retries=(retries := Retries()))) as consumer:
            await retries.again()
            await append(journal, 20)
            await retries.again()
            assert "the journal was restored from a copy" in str(consumer.status.last_error)
            assert not await consumer.drain(0)
        assert await numbers(store) == list(range(1, 11))


async def test_an_entry_that_cannot_be_decoded_is_quarantined_and_passed_over(tmp_path: Path) -> None:
    """Entries behind it are stored; it is quarantined with its frame and reason, counted, and reported to the
    listener."""
    async with open_journal(tmp_path) as journal:
        await append(journal, 3)

    def refuse(cold: Entry) -> Batch:
        if cold.offset == 2:
            raise WireError(Code.UNKNOWN_METRIC, "nobody knows it")
        return decode(cold)

    async with open_journal(tmp_path) as journal, open_store(tmp_path) as store:
        journal.listen(committed := Committed())
        async with running(consumer_of(journal, store, decode=refuse)) as consumer:
            await consumer.reached(4)
            assert consumer.status.missed == 1
        assert await numbers(store) == [1, 3]
        (kept,) = await journal.quarantine.page()
        (lost,) = await journal.read(1, max_entries=1)
        assert (kept.device, kept.epoch, kept.seq, kept.payload) == (lost.device, lost.epoch, lost.seq, lost.payload)
        assert kept.reason == ("unknown_metric", "cannot be stored: nobody knows it")
        assert [entry.offset for entry in committed.entries] == [kept.offset] == [4]


async def test_an_entry_is_quarantined_once_while_the_store_is_tried_again(
    tmp_path: Path, small_disk: SmallDisk
) -> None:
    """A write that fails is made again with all its entries: what is in quarantine already is not put there again."""
    async with open_journal(tmp_path) as journal:
        await append(journal, 3)

    def refuse(cold: Entry) -> Batch:
        raise WireError(Code.UNKNOWN_METRIC, "nobody knows it")

    small = DuckdbStore(small_disk.path / "history.duckdb", registry=REGISTRY, min_free_bytes=4_000_000)
    async with open_journal(tmp_path) as journal, small as store:
        await store.open()
        with small_disk.filled(leaving_bytes=1_000_000):
            retries = Retries()
            async with running(consumer_of(journal, store, decode=refuse, retries=retries)) as consumer:
                await retries.again()
                await retries.again()
                assert "no room" in str(consumer.status.last_error)
        assert journal.quarantine.totals == {"unknown_metric": 3}
        assert journal.last_offset == 6


@pytest.mark.deadline(300)
async def test_killed_at_any_moment_every_entry_is_stored_once(tmp_path: Path) -> None:
    """After kill -9 the store holds the journal's entries up to its cursor, and after a drain all of them, once."""
    for kill in range(KILLS):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.hub.storage.killed_consumer", tmp_path, f"{kill}"
        )
        assert await child.wait() == -signal.SIGKILL
        async with open_journal(tmp_path) as journal, open_store(tmp_path) as store:
            cursor = await store.open()
            assert cursor.offset <= journal.last_offset
            assert await numbers(store) == list(range(1, cursor.offset + 1))
            if kill % 2:
                async with running(consumer_of(journal, store)) as consumer:
                    assert await consumer.drain(FOR_EVER_S)
                assert await numbers(store) == list(range(1, journal.last_offset + 1))


async def test_a_store_that_lost_what_the_journal_has_deleted_reports_it(tmp_path: Path) -> None:
    """Its file was removed: what the journal still has is written again, and the rest is declared once."""
    async with (
        open_journal(tmp_path, keep_bytes=0) as journal,
        open_store(tmp_path) as store,
        running(consumer_of(journal, store)) as consumer,
    ):
        for _ in range(3):
            await append(journal, 100)
            await consumer.reached(journal.last_offset, acknowledged=True)
        await until(lambda: journal.first_offset > 1)
    (tmp_path / "history.duckdb").unlink()
    for expected in (1, 0):
        losses: list[str] = []
        async with open_journal(tmp_path, keep_bytes=0) as journal, open_store(tmp_path) as store:
            await store.open()
            sink = StoreSink(journal, store, accounting_of(journal, store), on_loss=losses.append)
            assert await sink.open(lambda offset: journal.advance(CONSUMER, offset)) == journal.first_offset - 1
            assert len(losses) == expected
            if losses:
                assert losses == [sink.loss]
                assert "up to offset 0, and it had it up to 300" in losses[0]
                assert f"{journal.first_offset - 1} entries of these are not in the journal" in losses[0]
                await store.write([], StoreCursor(journal.id, journal.first_offset - 1))
