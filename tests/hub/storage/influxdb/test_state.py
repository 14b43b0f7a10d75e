"""The file that keeps the cursor and the counts beside InfluxDB."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from hub.model.store import ReadingCounts, StoreCursor, StoreUnavailable
from hub.storage.influxdb.state import BucketAddress, InfluxdbState, read_state, write_state

REGISTRY = "a" * 32
BUCKET = BucketAddress("http://localhost:8086", "plant", "telemetry")
STATE = InfluxdbState(
    REGISTRY, BUCKET, StoreCursor("j", 42), totals={3: ReadingCounts(5, 1, 2)}, series={"pump": b"12345678"}
)


def write(path: Path, state: InfluxdbState) -> None:
    write_state(path, msgspec.msgpack.encode(state))


def test_the_written_state_is_read_again(tmp_path: Path) -> None:
    """A later state replaces it, and no other file stays beside it."""
    path = tmp_path / "influxdb.state"
    write(path, InfluxdbState(REGISTRY, BUCKET))
    write(path, STATE)
    assert read_state(path, REGISTRY, BUCKET) == STATE
    assert list(tmp_path.iterdir()) == [path]


def test_without_a_file_the_state_is_new(tmp_path: Path) -> None:
    """Two new states share nothing that changes."""
    new, other = (read_state(tmp_path / "influxdb.state", REGISTRY, BUCKET) for _ in range(2))
    assert (new.cursor, new.totals, new.series) == (StoreCursor("", 0), {}, {})
    new.totals[1] = ReadingCounts(1, 0)
    assert other.totals == {}


@pytest.mark.parametrize("field", ["url", "org", "bucket"])
def test_the_state_of_another_bucket_is_not_used(tmp_path: Path, field: str) -> None:
    """The other bucket has none of these readings, also with another registry."""
    path = tmp_path / "influxdb.state"
    write(path, STATE)
    other = BUCKET._replace(**{field: "other"})
    for registry in (REGISTRY, "b" * 32):
        assert read_state(path, registry, other) == InfluxdbState(registry, other)


def test_the_state_of_another_registry_is_refused(tmp_path: Path) -> None:
    """Its series ids have other meanings; the error says what to do with the file."""
    path = tmp_path / "influxdb.state"
    write(path, STATE)
    with pytest.raises(StoreUnavailable, match=r"restore the registry\.db that belongs to it, or move this file away"):
        read_state(path, "b" * 32, BUCKET)


@pytest.mark.parametrize("content", [b"", b"\xff", b"\x80", msgspec.msgpack.encode(STATE)[:-3]])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """It is not taken for a new bucket, which would count every reading anew without a word."""
    path = tmp_path / "influxdb.state"
    path.write_bytes(content)
    with pytest.raises(StoreUnavailable, match=r"influxdb\.state is damaged .* move it away"):
        read_state(path, REGISTRY, BUCKET)


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    """A newer hub may have written it."""
    path = tmp_path / "influxdb.state"
    write(path, msgspec.structs.replace(STATE, version=2))
    with pytest.raises(StoreUnavailable, match="layout version 2, and this hub reads version 1"):
        read_state(path, REGISTRY, BUCKET)


def test_a_file_that_cannot_be_read_or_written_is_reported(tmp_path: Path) -> None:
    """The error names the file and the reason, and the old state stays."""
    (tmp_path / "influxdb.state").mkdir()
    with pytest.raises(StoreUnavailable, match=r"influxdb\.state: Is a directory"):
        read_state(tmp_path / "influxdb.state", REGISTRY, BUCKET)
    with pytest.raises(StoreUnavailable, match="Correct this, and the hub continues by itself"):
        write(tmp_path / "influxdb.state", STATE)
    with pytest.raises(StoreUnavailable, match="No such file"):
        write(tmp_path / "gone" / "influxdb.state", STATE)
