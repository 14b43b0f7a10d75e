"""What InfluxDB cannot keep for the hub, in a small file: up to where it has the journal, and the counts by series.

The file is written after InfluxDB has answered, so after a crash it may be behind: then some batches are written again,
which changes nothing there, and they are counted once, because the counts went back with the cursor.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from hub.model.store import ReadingCounts, StoreCursor, StoreUnavailable
from hub.storage.influxdb.answer import Target

VERSION = 1
"""Of the file's layout."""

FILE_NAME = "influxdb.state"

DIGEST_BYTES = 8
"""Of a series' name in InfluxDB: among the thousands of one device no two are alike."""


class Totals(msgspec.Struct, array_like=True):
    """Of one series: its readings in InfluxDB, those deleted, and those it refused."""

    stored: int = 0
    expired: int = 0
    refused: int = 0

    def counts(self) -> ReadingCounts:
        """As the contract has them."""
        return ReadingCounts(self.stored, self.expired, self.refused)


class State(msgspec.Struct):
    """What the file holds. `series` has, by device, digests of the series that it has in InfluxDB, joined."""

    registry: str
    target: Target
    cursor: StoreCursor = StoreCursor("", 0)
    totals: dict[int, Totals] = {}
    series: dict[str, bytes] = {}
    version: int = VERSION


def read_state(path: Path, *, registry: str, target: Target) -> State:
    """The state of this bucket; a new one where the file is that of another bucket, or is not there.

    Raises StoreUnavailable for a file that cannot be used, with what to do.
    """
    new = State(registry, target)
    try:
        state = msgspec.msgpack.decode(path.read_bytes(), type=State)
    except FileNotFoundError:
        return new
    except OSError as error:
        raise StoreUnavailable(f"{path}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise StoreUnavailable(
            f"{path} is damaged ({error}): move it away; what the journal has is then written again, which changes "
            "nothing in InfluxDB, and counting begins anew"
        ) from error
    if state.version != VERSION:
        raise StoreUnavailable(
            f"{path} is of layout {state.version}, this hub knows {VERSION}: move it away, so that a new one begins"
        )
    if state.target != target:
        return new
    if state.registry != registry:
        raise StoreUnavailable(
            f"{path} was written with another registry.db, which gave the series other ids: put back the registry.db "
            "that belongs to it, or move this file away; what the journal has is then written again, which changes "
            "nothing in InfluxDB, and counting begins anew"
        )
    return state


def write_state(path: Path, content: bytes) -> None:
    """Puts the file there as a whole or not at all, durable when this returns. Raises StoreUnavailable."""
    beside = path.with_name(f"{path.name}.new")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise StoreUnavailable(f"{path}: {error.strerror}; make this right, and the hub goes on by itself") from error


def encode_state(state: State) -> bytes:
    """The file's content."""
    return msgspec.msgpack.encode(state)
