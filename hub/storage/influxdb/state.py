"""State that InfluxDB cannot keep for the hub, in a small file: the cursor, and the counts of each series.

The file is written after InfluxDB has answered, so after a crash it may be behind. Then some batches are written again,
which changes nothing in InfluxDB, and they are counted once, because the counts are as old as the cursor.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import NamedTuple

import msgspec

from hub.model.store import ReadingCounts, StoreCursor, StoreUnavailable
from hub.storage.operating_system import sync
from integrity.finding import Finding

VERSION = 1
"""Version of the file's layout."""

FILE_NAME = "influxdb.state"

AFTER_REMOVAL = (
    "The hub then writes the journal's entries again, which changes nothing in InfluxDB, and restarts its counts"
)


_SEAL = b"CRC1"
"""Bytes before the checksum at the end of the file. Files of older versions have neither."""

LOST_STATE = "the store stays closed, and readings wait in the journal"


class BucketAddress(NamedTuple):
    """The bucket to write to. For InfluxDB 1, `org` is empty and `bucket` is DATABASE or DATABASE/RETENTION_POLICY."""

    url: str
    org: str
    bucket: str

    @property
    def database(self) -> str:
        """Return the database of InfluxDB 1."""
        return self.bucket.partition("/")[0]

    @property
    def retention_policy(self) -> str:
        """Return the retention policy of InfluxDB 1; empty for the default of the database."""
        return self.bucket.partition("/")[2]


class InfluxdbState(msgspec.Struct):
    """The contents of the file. `series` contains, by device, the joined digests of its series in InfluxDB."""

    registry: str
    target: BucketAddress
    cursor: StoreCursor = StoreCursor("", 0)
    totals: dict[int, ReadingCounts] = {}
    series: dict[str, bytes] = {}
    version: int = VERSION


def read_state(path: Path, registry: str, target: BucketAddress) -> InfluxdbState:
    """Return the state of this bucket; a new state if the file belongs to another bucket or does not exist.

    Raises StoreUnavailable, with what to do, for a file that cannot be used.
    """
    new = InfluxdbState(registry, target)
    try:
        state = _decode(path.read_bytes())
    except FileNotFoundError:
        return new
    except OSError as error:
        raise StoreUnavailable(f"{path}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise StoreUnavailable(f"{path} is damaged ({error}): move it away. {AFTER_REMOVAL}") from error
    if state.version != VERSION:
        raise StoreUnavailable(
            f"{path} has layout version {state.version}, and this hub reads version {VERSION}: move it away. "
            f"{AFTER_REMOVAL}"
        )
    if state.target != target:
        return new
    if state.registry != registry:
        raise StoreUnavailable(
            f"{path} was written with another registry.db, which assigned other series ids: restore the registry.db "
            f"that belongs to it, or move this file away. {AFTER_REMOVAL}"
        )
    return state


def _decode(content: bytes) -> InfluxdbState:
    """Return the state of these bytes. Raises msgspec.DecodeError if they are damaged."""
    body, seal, checksum = content[:-8], content[-8:-4], content[-4:]
    if seal == _SEAL:
        if zlib.crc32(body).to_bytes(4, "big") != checksum:
            raise msgspec.DecodeError("its checksum is wrong")
        content = body
    return msgspec.msgpack.decode(content, type=InfluxdbState)


def verify_state(path: Path) -> Finding:
    """Return whether the file is intact."""
    try:
        state = _decode(path.read_bytes())
    except OSError as error:
        return Finding(path.name, None, f"the file cannot be read: {error.strerror}")
    except msgspec.MsgspecError as error:
        return Finding(path.name, False, f"the file is damaged: {error}", LOST_STATE, f"move it away. {AFTER_REMOVAL}")
    return Finding(path.name, True, f"InfluxDB has the journal up to offset {state.cursor.offset}")


def write_state(path: Path, content: bytes) -> None:
    """Replace the file atomically and durably, with a checksum. Raises StoreUnavailable."""
    beside = path.with_name(f"{path.name}.new")
    try:
        beside.write_bytes(content + _SEAL + zlib.crc32(content).to_bytes(4, "big"))
        sync(beside)
        beside.replace(path)
        sync(path.parent)
    except OSError as error:
        raise StoreUnavailable(f"{path}: {error.strerror}. Correct this, and the hub continues by itself") from error
