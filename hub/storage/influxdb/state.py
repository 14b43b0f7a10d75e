"""State that InfluxDB cannot keep for the hub, in a small file: the cursor, and the counts of each series.

The file is written after InfluxDB has answered, so after a crash it may be behind. Then some batches are written again,
which changes nothing in InfluxDB, and they are counted once, because the counts are as old as the cursor.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from hub.model.store import ReadingCounts, StoreCursor, StoreUnavailable
from hub.storage.influxdb.client import BucketAddress
from hub.storage.operating_system import sync

VERSION = 1
"""Version of the file's layout."""

FILE_NAME = "influxdb.state"

AFTER_REMOVAL = (
    "The hub then writes the journal's entries again, which changes nothing in InfluxDB, and restarts its counts"
)


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
        state = msgspec.msgpack.decode(path.read_bytes(), type=InfluxdbState)
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


def write_state(path: Path, content: bytes) -> None:
    """Replace the file atomically and durably. Raises StoreUnavailable."""
    beside = path.with_name(f"{path.name}.new")
    try:
        beside.write_bytes(content)
        sync(beside)
        beside.replace(path)
        sync(path.parent)
    except OSError as error:
        raise StoreUnavailable(f"{path}: {error.strerror}. Correct this, and the hub continues by itself") from error
