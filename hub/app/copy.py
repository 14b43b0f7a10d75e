"""Copies a hub's history from one store into another, while no hub runs on the data directory."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NamedTuple

from hub.app.errors import HubError
from hub.app.journal import open_journal
from hub.app.store import open_duckdb, open_influxdb
from hub.config import Settings
from hub.model.batch import Series
from hub.model.store import Store
from hub.registry import FILE_NAME as REGISTRY_FILE
from hub.registry import Registry
from hub.storage.duckdb.database import FILE_NAME as DUCKDB_FILE
from hub.storage.store_copy import CopyResult, Difference, ReportProgress, copy_store, differences

DUCKDB = "duckdb"
INFLUXDB = "influxdb"

PASSES = 3
"""Times that a reading is gone through: copied, then compared in the one store and in the other."""


class CopyReport(NamedTuple):
    """What was copied, and where the two stores differ in the end."""

    copied: CopyResult
    differences: list[Difference]
    series: int


async def copy_history(
    settings: Settings, *, source: str, target: str, total: ReportProgress, tell: ReportProgress
) -> CopyReport:
    """Copies and compares. A store is DUCKDB (of the data directory), INFLUXDB (of the settings), or a DuckDB file.

    `total` is told how many readings there are to go through, `tell` how many are done: each is copied once and, to be
    compared, read from both stores. Raises HubError, JournalError while a hub runs, RegistryError, StoreError.
    """
    if not (settings.data / REGISTRY_FILE).exists():
        raise HubError(f"there is no hub in {settings.data}; say where its data are with --data or HUB_DATA")
    begin, end = _place(settings, source), _place(settings, target)
    if begin == end:
        raise HubError("source and target are the same store")
    if isinstance(begin, Path) and not begin.exists():
        raise HubError(f"there is no DuckDB file {begin} to copy from")
    async with (
        # Nothing is read from it: while it is open no hub can run, and nothing comes into the stores.
        open_journal(settings),
        Registry(settings.data / REGISTRY_FILE) as registry,
    ):
        series: list[Series] = sorted(registry.series.values(), key=lambda one: one.id)

        def open_at(place: Path | str) -> AbstractAsyncContextManager[Store]:
            if isinstance(place, str):
                return open_influxdb(settings, registry=registry.id, tags_of=registry.tags_of)
            # Without a retention: what is there is copied, and the hub deletes what is too old when it runs again.
            return open_duckdb(settings, place, registry=registry.id)

        async with open_at(begin) as from_store, open_at(end) as to_store:
            await from_store.open()
            readings = sum(counts.stored for counts in (await from_store.counts()).values())
            total(readings * PASSES)
            copied = await copy_store(from_store, to_store, series, tell)
            found = await differences(from_store, to_store, series, lambda done: tell(readings + done))
    return CopyReport(copied, found, len(series))


def _place(settings: Settings, store: str) -> Path | str:
    """The file of a DuckDB, or the URL of the InfluxDB. Raises HubError."""
    if store == INFLUXDB:
        if settings.store.url is None:
            raise HubError("which InfluxDB? Set store.url, or INFLUXDB_URL, and what belongs to it")
        return settings.store.url
    return (settings.data / DUCKDB_FILE if store == DUCKDB else Path(store)).resolve()
