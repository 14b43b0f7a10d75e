"""Rebuilding the history of a data directory: the sources, what is missing, and the accounting."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hub.app.errors import HubError
from hub.app.rebuild import RebuildReport, rebuild_history
from hub.app.services import decoder, open_journal
from hub.config.settings import Settings, load_settings
from hub.journal.consumer import EntryReader
from hub.model.batch import Entry, EntryKind, Mark
from hub.model.journal import JournalError
from hub.model.store import StoreCursor
from hub.registry.registry import Registry
from hub.storage.duckdb.store import DuckdbStore
from tests.hub.storage.duckdb.damaged_file import flip_readings
from wire.codec import AGENT_MESSAGES
from wire.device import Data
from wire.model import Metric

ENTRIES, READINGS = 5, 30_000


@pytest.fixture
async def settings(tmp_path: Path) -> Settings:
    """A data directory whose store has every entry, and whose journal has only the newest, because it was replaced."""
    settings = load_settings(None, {"data": tmp_path, "journal": {"keep_bytes": 0, "resend_seconds": 0}})
    async with Registry(tmp_path / "registry.db") as registry, open_journal(settings) as journal:
        journal.consumer("store")  # the journal keeps what the store does not have
        await registry.declare("boiler", [Metric("t", "float")])
        path = tmp_path / "history.duckdb"
        async with DuckdbStore(path, registry=registry.id) as store:
            await store.open()
            for number in range(1, ENTRIES + 1):
                times = [number * READINGS + row for row in range(READINGS)]
                message = Data(number, times, {"t": [time * 0.618 % 1 for time in times]})
                payload = AGENT_MESSAGES["msgpack"].encode(message)
                entry = Entry(EntryKind.BATCH, "boiler", "0" * 16, number, number, "msgpack", payload)
                await journal.append(
                    [entry], [Mark("boiler", "0" * 16, number, batches=number, readings=number * READINGS)]
                )
            entries, _ = await EntryReader(journal, decoder(registry)).read(0, max_bytes=1 << 30)
            for entry in entries:
                await store.write([entry], StoreCursor(journal.id, entry.offset))
        journal.advance("store", ENTRIES)
    return settings


async def rebuild(settings: Settings, copy: Path | None = None) -> RebuildReport:
    return await rebuild_history(settings, copy=copy, on_total=lambda rows: None, on_progress=lambda rows: None)


async def damaged_count(settings: Settings) -> int:
    async with open_journal(settings) as journal:
        return journal.marks()["boiler"].damaged


async def test_missing_readings_are_counted_until_a_copy_has_them(settings: Settings, tmp_path: Path) -> None:
    """A block that neither the journal nor another file has is declared as damaged; a copy brings it back."""
    path, copy = tmp_path / "history.duckdb", tmp_path / "copy.duckdb"
    shutil.copy(path, copy)
    async with open_journal(settings) as journal:
        await journal.append([], list(journal.marks().values()))
        assert journal.first_offset > 1
    flip_readings(path)
    path.rename(tmp_path / "history.duckdb.damaged-1")
    report = await rebuild(settings)
    lost = report.missing["boiler"]
    assert 0 < lost < ENTRIES * READINGS
    assert report.result.readings == ENTRIES * READINGS - lost
    assert await damaged_count(settings) == lost
    assert not list(tmp_path.glob("*.damaged-*"))
    report = await rebuild(settings, copy)
    assert report.result.readings == ENTRIES * READINGS
    assert report.sources == [str(copy), "history.duckdb"]
    async with open_journal(settings):
        with pytest.raises(JournalError, match="usually a running hub: stop it first"):
            await rebuild(settings, copy)
    assert await damaged_count(settings) == 0


async def test_without_a_damaged_file_a_copy_has_to_be_named(settings: Settings, tmp_path: Path) -> None:
    """The error says what to do, and nothing changes."""
    with pytest.raises(HubError, match="name a copy with --from"):
        await rebuild(settings)
    with pytest.raises(HubError, match="is no copy of the history"):
        await rebuild(settings, tmp_path / "history.duckdb")
