from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.storage.implementations import Implementation, duckdb, influxdb
from tests.hub.storage.small_disk import SmallDisk


@pytest.fixture(scope="session", params=["duckdb", "influxdb1", "influxdb2"])
def implementation(request: pytest.FixtureRequest) -> Implementation:
    """Return each store in turn."""
    name: str = request.param
    return duckdb() if name == "duckdb" else influxdb(name, request.getfixturevalue(name))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Provide a disk of 24 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    path = tmp_path / "disk"
    path.mkdir()
    disk = SmallDisk(path, 24_000_000)
    yield disk
    disk.unmount()
