"""The store that the settings select."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.app.store import influxdb_connection, open_store
from hub.config.settings import Settings, load_settings
from hub.storage.duckdb.store import DuckdbStore
from hub.storage.influxdb.store import InfluxdbStore
from tests.hub.storage.readings import REGISTRY

INFLUXDB = {"url": "http://127.0.0.1:9", "bucket": "b"}


def settings(data: Path, **store: object) -> Settings:
    return load_settings(None, {"data": data, "store": store})


def test_with_a_url_the_store_is_influxdb(tmp_path: Path) -> None:
    """Without one it is DuckDB in the data directory."""
    opened = open_store(settings(tmp_path, **INFLUXDB), registry=REGISTRY, tags_of=lambda _: {}, on_set_aside=print)
    assert isinstance(opened, InfluxdbStore)
    opened = open_store(settings(tmp_path), registry=REGISTRY, tags_of=lambda _: {}, on_set_aside=print)
    assert isinstance(opened, DuckdbStore)


@pytest.mark.parametrize(
    ("given", "credentials"),
    [
        ({"token": "t", "org": "o"}, ("t", "", "")),
        ({"user": "u", "password": "p"}, ("", "u", "p")),
        ({}, ("", "", "")),
    ],
)
def test_the_connection_has_the_credentials_of_its_version(
    tmp_path: Path, given: dict[str, str], credentials: tuple[str, str, str]
) -> None:
    """A token of InfluxDB 2, a user of InfluxDB 1, or none."""
    target, found = influxdb_connection(settings(tmp_path, **INFLUXDB, **given).store)
    assert tuple(target) == ("http://127.0.0.1:9", given.get("org", ""), "b")
    assert tuple(found) == credentials
