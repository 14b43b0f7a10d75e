"""The store that the settings select: InfluxDB with a store.url, else DuckDB in the data directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from hub.config.sections import StoreSettings
from hub.config.settings import Settings
from hub.model.store import Store
from hub.storage.duckdb.database import FILE_NAME
from hub.storage.duckdb.store import DuckdbStore
from hub.storage.duckdb.upkeep import RetentionPeriods

if TYPE_CHECKING:
    from hub.storage.influxdb.client import InfluxdbCredentials
    from hub.storage.influxdb.state import BucketAddress


def open_store(
    settings: Settings,
    *,
    registry: str,
    tags_of: Callable[[str], Mapping[str, str]],
    on_set_aside: Callable[[str], None],
) -> AbstractAsyncContextManager[Store]:
    """Return the store, to be entered.

    `registry` is the id of the registry that gives the series their ids, `tags_of` returns the tags that a device
    declared. `on_set_aside` receives what happened when a damaged file was set aside.
    """
    if settings.store.url is not None:
        return open_influxdb(settings, registry=registry, tags_of=tags_of)
    retention = RetentionPeriods(settings.store.keep_raw, settings.store.keep_minutes, settings.store.keep_hours)
    return open_duckdb(
        settings, settings.data / FILE_NAME, registry=registry, retention=retention, on_set_aside=on_set_aside
    )


def open_duckdb(
    settings: Settings,
    path: Path,
    *,
    registry: str,
    retention: RetentionPeriods | None = None,
    on_set_aside: Callable[[str], None] | None = None,
) -> AbstractAsyncContextManager[Store]:
    """Return the store of a DuckDB file. Without `retention` nothing in it expires.

    Without `on_set_aside` a damaged file stays as it is.
    """
    store = settings.store
    return DuckdbStore(
        path,
        registry=registry,
        memory_limit=store.memory_limit,
        threads=store.threads,
        retention=retention,
        on_set_aside=on_set_aside,
    )


def open_influxdb(
    settings: Settings, *, registry: str, tags_of: Callable[[str], Mapping[str, str]]
) -> AbstractAsyncContextManager[Store]:
    """Return the store of the bucket that the settings name."""
    # Imported only here: its client takes a second to import.
    from hub.storage.influxdb.series_naming import SeriesNaming
    from hub.storage.influxdb.store import InfluxdbStore

    store = settings.store
    target, credentials = influxdb_connection(store)
    return InfluxdbStore(
        settings.data,
        target=target,
        credentials=credentials,
        naming=SeriesNaming(measurement=store.measurement, tags=store.tags, field=store.field, tags_of=tags_of),
        registry=registry,
        max_series_per_device=store.max_series_per_device,
        compress=store.gzip,
    )


def influxdb_connection(store: StoreSettings) -> tuple[BucketAddress, InfluxdbCredentials]:
    """Return the bucket of the settings, which have a url, and the credentials for it."""
    from hub.storage.influxdb.client import InfluxdbCredentials
    from hub.storage.influxdb.state import BucketAddress

    token = store.token.get_secret_value() if store.token is not None else ""
    password = store.password.get_secret_value() if store.password is not None else ""
    return BucketAddress(store.url or "", store.org, store.bucket), InfluxdbCredentials(token, store.user, password)
