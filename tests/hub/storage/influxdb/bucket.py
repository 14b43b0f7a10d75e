"""Buckets of real servers as the store sees them, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hub.storage.influxdb.answer import Target
from hub.storage.influxdb.influxdb_store import InfluxdbStore
from hub.storage.influxdb.naming import Naming
from hub.storage.influxdb.server import Credentials
from tests.hub.storage.readings import REGISTRY
from tests.services.influxdb import Access

NO_TAGS: Mapping[str, str] = {}


def target_of(access: Access) -> Target:
    """Which bucket it is."""
    return Target(access.url, access.org, access.bucket)


def credentials_of(access: Access) -> Credentials:
    """Those of somebody who may do everything."""
    return Credentials(access.token, access.user, access.password)


def store_of(
    directory: Path,
    access: Access,
    *,
    tags: Mapping[str, str] = NO_TAGS,
    max_series_per_device: int = 1_000,
    **options: Any,
) -> InfluxdbStore:
    """The store of a bucket, with its state in `directory`; each device has these tags."""
    given: dict[str, Any] = {"target": target_of(access), "credentials": credentials_of(access)}
    return InfluxdbStore(
        directory,
        naming=Naming(tags_of=lambda _: tags),
        registry=REGISTRY,
        max_series_per_device=max_series_per_device,
        **{**given, **options},
    )
