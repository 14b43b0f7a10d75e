"""Copies a hub's history from one store into another, while no hub runs on the data directory."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NamedTuple

from hub.app.errors import HubError
from hub.app.store import open_influxdb
from hub.contract.batch import Series
from hub.contract.store import Store
from hub.journal.sqlite_journal import SqliteJournal
from hub.registry import FILE_NAME, Registry
from hub.settings import Settings
from hub.stores.copying import Copied, Difference, Tell, copy_store, differences
from hub.stores.duckdb.store import DuckdbStore

DUCKDB = "duckdb"
INFLUXDB = "influxdb"


class CopyReport(NamedTuple):
    """What was copied, and where the two stores differ in the end."""

    copied: Copied
    differences: list[Difference]
    series: int


async def copy_history(settings: Settings, *, source: str, target: str, total: Tell, tell: Tell) -> CopyReport:
    """Copies and compares. A store is DUCKDB (of the data directory), INFLUXDB (of the settings), or a DuckDB file.

    `total` is told how many readings there are to copy, `tell` how many are done; of the comparison, which reads both
    stores, they are told more. Raises HubError, JournalError while a hub
    runs, RegistryError, StoreError.
    """
    if not (settings.data / FILE_NAME).exists():
        raise HubError(f"there is no hub in {settings.data}; say where its data are with --data or HUB_DATA")
    if _place(settings, source) == _place(settings, target):
        raise HubError("source and target are the same store")
    path = _place(settings, source)
    if isinstance(path, Path) and not path.exists():
        raise HubError(f"there is no DuckDB file {path} to copy from")
    async with (
        # Nothing is read from it: while it is open no hub can run, and nothing comes into the stores.
        SqliteJournal(
            settings.data / "journal.db",
            keep_bytes=settings.journal.keep_bytes,
            keep_seconds=settings.journal.keep_seconds,
            max_bytes=settings.journal.max_bytes,
        ),
        Registry(settings.data / FILE_NAME) as registry,
    ):
        series: list[Series] = sorted(registry.series.values(), key=lambda one: one.id)

        def tags_of(device: str) -> Mapping[str, str]:
            known = registry.devices.get(device)
            return {} if known is None else known.tags

        def store(name: str) -> AbstractAsyncContextManager[Store]:
            place = _place(settings, name)
            if isinstance(place, str):
                return open_influxdb(settings, registry=registry.id, tags_of=tags_of)
            # Without a retention: what is there is copied, and the hub deletes what is too old when it runs again.
            return DuckdbStore(
                place,
                registry=registry.id,
                memory_limit=settings.store.memory_limit,
                threads=settings.store.threads,
            )

        async with store(source) as from_store, store(target) as to_store:
            await from_store.open()
            readings = sum(counts.stored for counts in (await from_store.counts()).values())
            total(readings * 3)
            copied = await copy_store(from_store, to_store, series, tell)
            found = await differences(from_store, to_store, series, lambda done: tell(readings + done))
    return CopyReport(copied, found, len(series))


def _place(settings: Settings, store: str) -> Path | str:
    """The file of a DuckDB, or the URL of the InfluxDB. Raises HubError."""
    if store == INFLUXDB:
        if settings.store.url is None:
            raise HubError("which InfluxDB? Set store.url, or INFLUXDB_URL, and what belongs to it")
        return settings.store.url
    return (settings.data / "history.duckdb" if store == DUCKDB else Path(store)).resolve()
