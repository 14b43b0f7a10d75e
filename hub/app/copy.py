"""The copy of a hub's history that `hub store copy` runs: open the stores that are named, copy, compare and close.

It holds the lock of the journal, so no hub runs on the data directory. hub.storage.store_copy is the copy of two open
stores.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from hub.app.data_directory import check_hub
from hub.app.errors import HubError
from hub.app.services import open_journal
from hub.app.store import open_duckdb, open_influxdb
from hub.config.settings import Settings
from hub.model.batch import Series
from hub.model.store import Store
from hub.registry.database import FILE_NAME as REGISTRY_FILE
from hub.registry.registry import Registry
from hub.storage.duckdb.database import FILE_NAME as DUCKDB_FILE
from hub.storage.store_copy import CopyResult, Difference, ReportProgress, copy_store, differences

DUCKDB = "duckdb"
INFLUXDB = "influxdb"

PASSES = 3
"""Passes over each reading: it is copied, then read from each store for the comparison."""


class CopyReport(NamedTuple):
    """Result of a copy: the counts, and the series that differ between the stores."""

    copied: CopyResult
    differences: list[Difference]
    series: int


async def copy_history(
    settings: Settings, *, source: str, target: str, on_total: ReportProgress, on_progress: ReportProgress
) -> CopyReport:
    """Copy and compare. A store is DUCKDB (the data directory), INFLUXDB (the settings), or the path of a DuckDB file.

    `on_total` receives the number of readings to process, `on_progress` the number processed so far; PASSES counts each
    reading. Raises HubError, JournalError while a hub runs, RegistryError, StoreError.
    """
    check_hub(settings.data)
    begin, end = _place(settings, source), _place(settings, target)
    if begin == end:
        raise HubError("source and target are the same store: name two different stores")
    if isinstance(begin, Path) and not begin.exists():
        raise HubError(f"there is no DuckDB file {begin}: name an existing source")
    async with (
        Registry(settings.data / REGISTRY_FILE) as registry,
        # The open journal keeps a hub from starting and writing to the stores.
        open_journal(settings, hub=registry.id),
    ):
        series: list[Series] = sorted(registry.series.values(), key=attrgetter("id"))

        def open_at(place: Path | str) -> AbstractAsyncContextManager[Store]:
            if isinstance(place, str):
                return open_influxdb(settings, registry=registry.id, tags_of=registry.tags_of)
            # Without a retention: everything is copied, and the hub deletes old readings when it runs again.
            return open_duckdb(settings, place, registry=registry.id)

        async with open_at(begin) as from_store, open_at(end) as to_store:
            await from_store.open()
            readings = sum(counts.stored for counts in (await from_store.counts()).values())
            on_total(readings * PASSES)
            copied = await copy_store(from_store, to_store, series, on_progress)
            found = await differences(from_store, to_store, series, lambda compared: on_progress(readings + compared))
    return CopyReport(copied, found, len(series))


def _place(settings: Settings, store: str) -> Path | str:
    """Return the path of a DuckDB file, or the URL of InfluxDB. Raises HubError."""
    if store == INFLUXDB:
        if settings.store.url is None:
            raise HubError("store.url is missing: set it, or INFLUXDB_URL, and the other settings of InfluxDB")
        return settings.store.url
    return (settings.data / DUCKDB_FILE if store == DUCKDB else Path(store)).resolve()
