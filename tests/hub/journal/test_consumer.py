"""The consumer loop with sinks of every kind, on a real journal; and the sink of the documentation."""

from __future__ import annotations

import asyncio
import csv
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hub.journal.consumer import Consumer, EntryReader, Sink, SinkClosed, SinkLimits, SinkPace, SinkUnavailable
from hub.journal.journal import Journal
from hub.model.batch import Batch, Entry, EntryKind, Series
from hub.model.store import RefusedReadings
from tests.tasks import running_task
from wire.errors import Code, WireError

DOCUMENT = Path(__file__).parents[3] / "docs" / "architecture.md"
LEVEL = Series(1, "d", "level", "float")


def make(number: int) -> Entry:
    batch = Batch([number], [(LEVEL, [float(number)])], readings=1)
    return Entry(EntryKind.BATCH, "d", "e", number, 1, "json", b"%d" % number, batch=batch)


def decode(entry: Entry) -> Batch:
    return make(int(entry.payload)).batch or Batch([], [], readings=0)


async def append(journal: Journal, *numbers: int) -> None:
    await journal.append([make(number) for number in numbers], [])


def open_journal(directory: Path) -> Journal:
    return Journal(directory / "journal.db", keep_bytes=1 << 20, keep_seconds=3600, max_bytes=1 << 30)


class ListSink:
    """Sink in memory. `outcomes` are raised by the next writes; it acknowledges when `acknowledges` is set."""

    def __init__(self, *outcomes: Exception, entries: int = 100, acknowledges: bool = True) -> None:
        self.limits = SinkLimits(entries, 1 << 20, finish_s=5.0)
        self.pace = SinkPace()
        self.written: list[float] = []
        self.undecoded: list[int] = []
        self.sizes: list[int] = []
        self.opened = self.flushed = self.closed = 0
        self.acknowledge: Callable[[int], None] = lambda offset: None
        self._outcomes = list(outcomes)
        self._acknowledges = acknowledges
        self.start: int | None = None
        self.first_opening = asyncio.Event()
        self.refuses: set[float] = set()

    async def open(self, acknowledge: Callable[[int], None]) -> int | None:
        self.opened += 1
        self.acknowledge = acknowledge
        self.first_opening.set()
        return self.start

    async def write(self, entries: Sequence[Entry]) -> Sequence[RefusedReadings]:
        await asyncio.sleep(0)
        if self._outcomes:
            raise self._outcomes.pop(0)
        refused = []
        self.sizes.append(len(entries))
        for entry in entries:
            if entry.kind is not EntryKind.BATCH:
                continue
            if entry.batch is None:
                self.undecoded.append(entry.offset)
                continue
            (value,) = entry.batch.columns[0][1]
            if value in self.refuses:
                refused.append(RefusedReadings(entry, entry.batch, "store_refused", "not this one"))
            else:
                self.written.append(float(value or 0))
        if self._acknowledges:
            self.acknowledge(entries[-1].offset)
        return refused

    async def flush(self) -> None:
        self.flushed += 1

    async def close(self) -> None:
        self.closed += 1


@asynccontextmanager
async def consuming(journal: Journal, sink: Sink, **options: Any) -> AsyncIterator[Consumer]:
    consumer = Consumer(journal, "sink", sink, **{"decode": decode, "random": lambda: 0.0, **options})
    async with running_task(consumer.run()):
        yield consumer


def cursor(journal: Journal) -> int:
    return next(state.offset for state in journal.consumers() if state.name == "sink")


async def test_entries_arrive_once_in_order_and_within_the_limits(tmp_path: Path) -> None:
    """Entries from memory and from the file look the same, and no write is larger than the sink allows."""
    async with open_journal(tmp_path) as journal:
        await append(journal, *range(1, 31))
    async with open_journal(tmp_path) as journal:
        sink = ListSink(entries=7)
        async with consuming(journal, sink) as consumer:
            await append(journal, *range(31, 61))
            await consumer.reached(60)
            await consumer.reached(60, acknowledged=True)
        assert sink.written == [float(number) for number in range(1, 61)]
        assert max(sink.sizes) <= 7
        assert (cursor(journal), sink.closed) == (60, 1)


async def test_the_cursor_waits_for_the_acknowledgement(tmp_path: Path) -> None:
    """Entries that are written and not acknowledged are written again after a restart; acknowledged ones are not."""
    async with open_journal(tmp_path) as journal:
        await append(journal, 1, 2, 3)
        sink = ListSink(acknowledges=False)
        async with consuming(journal, sink) as consumer:
            await consumer.reached(3)
            assert cursor(journal) == 0
            sink.acknowledge(2)
            await consumer.reached(2, acknowledged=True)
            assert (consumer.status.offset, consumer.status.acknowledged, cursor(journal)) == (3, 2, 2)
    async with open_journal(tmp_path) as journal:
        sink = ListSink()
        async with consuming(journal, sink) as consumer:
            await consumer.reached(3)
        assert sink.written == [3.0]


async def test_an_acknowledgement_of_an_earlier_opening_is_ignored(tmp_path: Path) -> None:
    """A late answer on a closed connection must not move the cursor past what the next connection writes again."""
    async with open_journal(tmp_path) as journal:
        await append(journal, 1, 2)
        sink = ListSink(SinkClosed(), acknowledges=False)
        async with consuming(journal, sink) as consumer:
            await sink.first_opening.wait()
            late = sink.acknowledge
            await consumer.reached(2)
            late(2)
            assert (sink.opened, cursor(journal)) == (2, 0)


async def test_an_unavailable_sink_is_tried_until_it_takes_everything(tmp_path: Path) -> None:
    """The status says why it waits; nothing is left out or repeated."""
    async with open_journal(tmp_path) as journal:
        await append(journal, 1, 2, 3)
        sink = ListSink(SinkUnavailable("away"), SinkUnavailable("still away"))
        seen: list[str | None] = []

        def jitter() -> float:
            seen.append(consumer.status.last_error)
            return 0.0

        async with consuming(journal, sink, random=jitter) as consumer:
            await consumer.reached(3)
            await append(journal, 4)
            await consumer.reached(4)
            assert (consumer.status.phase, consumer.status.last_error) == ("running", None)
        assert (sink.written, sink.opened, seen) == ([1.0, 2.0, 3.0, 4.0], 3, ["away", "still away"])


async def test_a_new_consumer_can_begin_at_the_end(tmp_path: Path) -> None:
    """It gets only what is committed after its registration, also when it starts later."""
    async with open_journal(tmp_path) as journal:
        await append(journal, 1, 2)
        sink = ListSink()
        consumer = Consumer(journal, "sink", sink, decode=decode)
        consumer.register(at_end=True)
        await append(journal, 3)
        async with consuming(journal, sink) as running:
            await running.reached(3)
        assert sink.written == [3.0]


async def test_refused_readings_are_in_quarantine_before_the_cursor_passes(tmp_path: Path) -> None:
    """The others are written, and the sink is flushed so that it can acknowledge."""
    async with open_journal(tmp_path) as journal:
        await append(journal, 1, 2, 3)
        sink = ListSink()
        sink.refuses = {2.0}
        async with consuming(journal, sink) as consumer:
            await consumer.reached(4)
        assert (sink.written, sink.flushed) == ([1.0, 3.0], 1)
        (entry,) = await journal.quarantine.page()
        assert (entry.reason, entry.seq) == (("store_refused", "not this one"), 2)


@pytest.mark.parametrize(("quarantine", "codes"), [(True, {"unknown_metric": 1}), (False, {})])
async def test_an_entry_that_cannot_be_decoded_is_passed_over(
    tmp_path: Path, quarantine: bool, codes: dict[str, int]
) -> None:
    """It arrives without a batch and is counted as missed; only a consumer with a quarantine puts it there."""

    def refuse(entry: Entry) -> Batch:
        if entry.offset == 2:
            raise WireError(Code.UNKNOWN_METRIC, "level was not declared")
        return decode(entry)

    async with open_journal(tmp_path) as journal:
        await append(journal, 1, 2, 3)
    async with open_journal(tmp_path) as journal:
        sink = ListSink()
        async with consuming(journal, sink, decode=refuse, quarantine=quarantine) as consumer:
            await consumer.reached(3)
            assert consumer.status.missed == 1
        assert (sink.written, sink.undecoded) == ([1.0, 3.0], [2])
        assert journal.quarantine.totals == codes


async def test_entries_that_a_sink_does_not_use_are_not_decoded(tmp_path: Path) -> None:
    """They keep their place in the order, and cost no decoding."""
    async with open_journal(tmp_path) as journal:
        await append(journal, 1, 2, 3)
    async with open_journal(tmp_path) as journal:
        sink = ListSink()
        async with consuming(journal, sink, needs_batch=lambda entry: entry.offset != 2) as consumer:
            await consumer.reached(3)
            assert consumer.status.missed == 0
        assert (sink.written, sink.undecoded) == ([1.0, 3.0], [2])


async def test_a_range_is_read_in_pieces_up_to_its_end(tmp_path: Path) -> None:
    """Deleted entries at the beginning are left out, and entries after the end are not read."""
    async with open_journal(tmp_path) as journal:
        await append(journal, *range(1, 21))
    async with open_journal(tmp_path) as journal:
        reader = EntryReader(journal, decode)
        pieces = [piece async for piece in reader.read_range(5, 12)]
        assert [entry.offset for piece in pieces for entry in piece] == list(range(6, 13))
        assert all(entry.batch is not None for piece in pieces for entry in piece)


def csv_sink(path: Path) -> Sink:
    """Return the sink of the document, made from the code that is printed there."""
    section = DOCUMENT.read_text(encoding="utf-8").partition("### Write a sink")[2]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert code is not None
    namespace: dict[str, Any] = {}
    exec(compile(code[1], str(DOCUMENT), "exec"), namespace)
    sink: Sink = namespace["CsvSink"](path)
    return sink


async def test_the_sink_of_the_documentation_writes_every_reading(tmp_path: Path) -> None:
    """Over a restart, and after a time in which its folder did not exist, each reading is in the file once."""
    path = tmp_path / "missing" / "readings.csv"
    async with open_journal(tmp_path) as journal:
        await append(journal, 1, 2, 3)
        waiting = asyncio.Event()

        def jitter() -> float:
            waiting.set()
            return 0.0

        async with consuming(journal, csv_sink(path), random=jitter) as consumer:
            await waiting.wait()
            assert "No such file or directory" in str(consumer.status.last_error)
            path.parent.mkdir()
            await consumer.reached(3, acknowledged=True)
    async with open_journal(tmp_path) as journal, consuming(journal, csv_sink(path)) as consumer:
        await append(journal, 4, 5)
        await consumer.reached(5, acknowledged=True)
    rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    assert rows == [["d", "level", f"{number}", f"{number}.0"] for number in range(1, 6)]
