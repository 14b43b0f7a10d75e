"""Buckets of real servers in the form that the store uses, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hub.storage.influxdb.client import InfluxdbClient, InfluxdbCredentials
from hub.storage.influxdb.series_naming import SeriesNaming
from hub.storage.influxdb.state import BucketAddress
from hub.storage.influxdb.store import InfluxdbStore
from tests.hub.storage.readings import REGISTRY
from tests.services.influxdb import Access

NO_TAGS: Mapping[str, str] = {}


def target_of(access: Access) -> BucketAddress:
    """Return the address of the bucket."""
    return BucketAddress(access.url, access.org, access.bucket)


def credentials_of(access: Access) -> InfluxdbCredentials:
    """Return credentials with all permissions."""
    return InfluxdbCredentials(access.token, access.user, access.password)


def client_of(access: Access) -> InfluxdbClient:
    """Return a client of the bucket, to be entered."""
    return InfluxdbClient(target_of(access), credentials_of(access))


def store_of(
    directory: Path,
    access: Access,
    *,
    tags: Mapping[str, str] = NO_TAGS,
    max_series_per_device: int = 1_000,
    **options: Any,
) -> InfluxdbStore:
    """Return the store of a bucket, with its state in `directory`; each device has these tags."""
    given: dict[str, Any] = {"target": target_of(access), "credentials": credentials_of(access)}
    return InfluxdbStore(
        directory,
        naming=SeriesNaming(tags_of=lambda _: tags),
        registry=REGISTRY,
        max_series_per_device=max_series_per_device,
        **{**given, **options},
    )
