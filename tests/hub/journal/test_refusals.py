"""Readings that a sink never takes: in quarantine exactly once, whatever ends the hub in between."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from hub.journal import refusals as module
from hub.journal.journal import Journal
from hub.journal.refusals import Refusals
from hub.model.batch import Batch, Entry, EntryKind, Series
from hub.model.store import RefusedReadings
from wire.errors import Code, WireError
from wire.limits import MAX_MESSAGE

LEVEL, STATE = Series(1, "pump", "level", "float"), Series(2, "pump", "state", "string")


def opened(directory: Path) -> Journal:
    return Journal(directory / "journal.db", keep_bytes=1 << 20, keep_seconds=3600, max_bytes=1 << 30)


async def append(journal: Journal, count: int, *, device: str = "pump") -> list[Entry]:
    """Append batches with two columns, and return their entries."""
    made = []
    for seq in range(1, count + 1):
        columns = [(LEVEL, [float(seq), None]), (STATE, [None, f"s{seq}"])]
        batch = Batch([seq, seq + 1], columns, readings=2, historical=seq == 2)  # type: ignore[arg-type]
        made.append(Entry(EntryKind.BATCH, device, "e", seq, 100 + seq, "msgpack", b"%d" % seq, batch=batch))
    await journal.append(made, [])
    return made


def refused(entries: Sequence[Entry], code: str = "store_refused") -> list[RefusedReadings]:
    """Return the first column of each entry as refused."""
    found = []
    for entry in entries:
        assert entry.batch is not None
        part = Batch(entry.batch.times, entry.batch.columns[:1], readings=1, historical=entry.batch.historical)
        found.append(RefusedReadings(entry, part, code, f"not {entry.seq}"))
    return found


async def kept(journal: Journal) -> list[tuple[int, str, str]]:
    """Return seq, code and message of everything in quarantine, the oldest first."""
    page = await journal.quarantine.page(limit=10_000)
    return [(entry.seq, *(entry.reason or ("", ""))) for entry in reversed(page)]


async def test_only_the_refused_readings_are_kept_as_the_device_could_have_sent_them(tmp_path: Path) -> None:
    """A JSON message with the entry's number, times and origin, without the columns that the sink took."""
    async with opened(tmp_path) as journal:
        refusals = Refusals(journal, "store")
        await refusals.keep(refused(await append(journal, 2)))
        first, second = reversed(await journal.quarantine.page())
        assert (first.device, first.epoch, first.seq, first.received_ns, first.format) == ("pump", "e", 1, 101, "json")
        assert first.reason == ("store_refused", "not 1")
        message = {"type": "data", "seq": 1, "time": [1, 2], "values": {"level": [1.0, None]}}
        assert msgspec.json.decode(first.payload) == message
        assert msgspec.json.decode(second.payload)["historical"] is True


@pytest.mark.parametrize("page", [1, 500])
async def test_what_an_earlier_run_kept_is_not_kept_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    """After a crash before the cursor was durable the sink refuses the same again, and perhaps something more."""
    monkeypatch.setattr(module, "PAGE_ENTRIES", page)
    async with opened(tmp_path) as journal:
        entries = await append(journal, 3)
        await Refusals(journal, "store").keep(refused(entries[:2]))
    async with opened(tmp_path) as journal:
        refusals = Refusals(journal, "store")
        await refusals.keep(refused(entries[:1]))
        await refusals.keep(refused(entries[1:]))
        expected = [(seq, "store_refused", f"not {seq}") for seq in (1, 2, 3)]
        assert await kept(journal) == expected
        # The same readings for another reason are another entry.
        await refusals.keep(refused(entries[:1], "field_conflict"))
        assert await kept(journal) == [*expected, (1, "field_conflict", "not 1")]


async def test_an_entry_of_this_run_is_kept_without_a_look_at_the_quarantine(tmp_path: Path) -> None:
    """Also when the quarantine has the same content: two devices may send the same, one after the other."""
    async with opened(tmp_path) as journal:
        refusals = Refusals(journal, "store")
        await refusals.keep(refused(await append(journal, 1)))
        await refusals.keep(refused(await append(journal, 1)))
        assert len(await kept(journal)) == 2


async def test_an_entry_that_cannot_be_decoded_is_kept_as_it_is(tmp_path: Path) -> None:
    """Its payload and format stay, the reason is bounded, and a second run adds nothing."""
    errors = {1: WireError(Code.UNKNOWN_METRIC, "x" * 1_000), 2: WireError(Code.BAD_MESSAGE, "broken")}
    async with opened(tmp_path) as journal:
        entries = await append(journal, 2)
        await Refusals(journal, "store").keep_undecodable(entries, errors)
        second, first = await journal.quarantine.page()
        assert (first.payload, first.format) == (b"1", "msgpack")
        assert first.reason == ("unknown_metric", ("cannot be stored: " + "x" * 1_000)[:MAX_MESSAGE])
        assert second.reason == ("bad_message", "cannot be stored: broken")
    async with opened(tmp_path) as journal:
        await Refusals(journal, "store").keep_undecodable(entries, errors)
        assert len(await kept(journal)) == 2


async def test_the_first_refusal_of_a_device_and_code_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that is refused at every batch does not fill the log, nor do many devices."""
    monkeypatch.setattr(module, "MAX_LOGGED", 2)
    async with opened(tmp_path) as journal:
        refusals = Refusals(journal, "store")
        with capture_logs() as logs:
            entries = await append(journal, 2)
            await refusals.keep(refused(entries))
            await refusals.keep(refused(entries, "field_conflict"))
            for device in ("a", "b", "c"):
                await refusals.keep(refused(await append(journal, 1, device=device)))
        lines = [(line["device"], line["code"]) for line in logs]
        assert lines == [("pump", "store_refused"), ("pump", "field_conflict")]
        assert (logs[0]["consumer"], logs[0]["readings"]) == ("store", 1)
