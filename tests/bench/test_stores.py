from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb

from bench.stores import RATIO_MUST, STORE_ROWS, CaughtUp, DuckdbFile, InfluxdbBucket
from tests.services.influxdb import InfluxdbServer

OPEN = "import sys, duckdb; duckdb.connect(sys.argv[1])"


def opens(data: Path) -> bool:
    """Return whether another process can open the file, as a hub would."""
    opened = subprocess.run(
        [sys.executable, "-c", OPEN, str(data / "history.duckdb")], capture_output=True, check=False
    )
    return opened.returncode == 0


def test_an_unavailable_duckdb_cannot_be_opened(tmp_path: Path) -> None:
    """The file cannot be opened inside the block, and its size is what it takes on disk."""
    duckdb.connect(str(tmp_path / "history.duckdb")).close()
    store = DuckdbFile(tmp_path)
    with store.away():
        assert not opens(tmp_path)
    assert opens(tmp_path)
    assert 0 < store.size_bytes() <= (tmp_path / "history.duckdb").stat().st_size + 4096


def test_an_unavailable_influxdb_does_not_answer_and_returns(tmp_path: Path, influxdb2: InfluxdbServer) -> None:
    """The hub's settings name a separate bucket, in the same server before and after the outage."""
    store = InfluxdbBucket(influxdb2, tmp_path, core=0)
    url = store.environment["INFLUXDB_URL"]
    ping = [sys.executable, "-c", "import sys, httpx; httpx.get(sys.argv[1] + '/ping', trust_env=False)", url]
    with store.away():
        assert subprocess.run(ping, capture_output=True, check=False).returncode
    assert not subprocess.run(ping, capture_output=True, check=False).returncode
    assert store.environment["INFLUXDB_BUCKET"] != InfluxdbBucket(influxdb2, tmp_path, 0).environment["INFLUXDB_BUCKET"]


def test_earlier_work_does_not_count_in_the_rate() -> None:
    """The rate counts from the first write to the last."""
    assert CaughtUp(readings=900, seconds=3.0, waited_s=20.0).readings_per_s == 300


def test_every_store_has_a_row_on_each_core_it_can_be_on() -> None:
    """DuckDB runs inside the hub; InfluxDB is measured on the hub's core and on another."""
    assert [row.store_core for row in STORE_ROWS] == [None, "load", "hub"]
    assert RATIO_MUST == 1.5
