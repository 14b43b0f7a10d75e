"""The status of a spool, read by another program while its agent may run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import apsw
import msgspec

from device_agent.batch import EncodedBatch, decode_batch
from device_agent.errors import SpoolError
from device_agent.spool.layout import SCHEMA_VERSION, Damaged, check_identity, read_metrics, read_standing
from device_agent.spool.lock import is_locked
from integrity.recovery import beside
from wire.codec import Format
from wire.model import Metric

MAX_OTHERS = 5
"""Spools that the error for a missing one names."""


class Incident(msgspec.Struct, frozen=True):
    """Damage of a spool that was found, and when."""

    time_ns: int
    text: str


class SpoolStatus(msgspec.Struct, frozen=True):
    """Status of a spool. `waiting` counts batches, `lost` those in gaps that the hub does not know yet.

    `oldest_seq` and `oldest_time_ns` are the number and the first time of the oldest waiting batch; None without one.
    `incidents` are the last damages that were found, the newest first. `set_aside` counts the batches that are
    kept as they were read.
    """

    path: str
    device: str
    epoch: str
    next_seq: int
    waiting: int
    lost: int
    size_bytes: int
    file_bytes: int
    in_use: bool
    oldest_seq: int | None
    oldest_time_ns: int | None
    set_aside: int
    incidents: list[Incident]


@contextmanager
def _reading(path: Path) -> Iterator[apsw.Connection]:
    """Open the spool at this path for reading. Raises SpoolError."""
    if not path.exists():
        others = sorted(path.parent.glob(f"*{path.suffix}"))[:MAX_OTHERS] if path.suffix else []
        hint = f"; beside it: {', '.join(other.name for other in others)}" if others else ""
        raise SpoolError(f"there is no spool {path}: name the device with --device, or the file with --spool{hint}")
    try:
        connection = apsw.Connection(os.fspath(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            connection.set_busy_timeout(2000)
            check_identity(connection, path)
            if connection.pragma("user_version") != SCHEMA_VERSION:
                raise SpoolError(f"the spool {path} was written by an older version; its agent converts it")
            yield connection
        finally:
            connection.close()
    except (apsw.Error, Damaged) as error:
        raise SpoolError(f"the spool {path} cannot be read: {error}") from None


def read_definitions(path: Path) -> list[Metric]:
    """Read the definitions of metrics in the spool at this path. Raises SpoolError."""
    with _reading(path) as connection:
        return read_metrics(connection)


def earlier_metrics(path: Path) -> list[Metric]:
    """Return the metrics of a spool; none if there is no spool that can be read."""
    try:
        return read_definitions(path)
    except SpoolError:
        return []


def read_status(path: Path) -> SpoolStatus:
    """Read the status of the spool at this path. Raises SpoolError."""
    with _reading(path) as connection:
        standing = read_standing(connection)
        oldest = connection.execute(
            "SELECT seq, format, time FROM batch WHERE seq > ? ORDER BY seq LIMIT 1", (standing.acked,)
        ).fetchone()
        set_aside = cast("tuple[int]", connection.execute("SELECT count(*) FROM set_aside").fetchone())[0]
        rows = connection.execute("SELECT time_ns, text FROM incident ORDER BY id DESC").fetchall()
    lost = standing.gaps.count(standing.acked)
    files = (path, beside(path, "-wal"))
    return SpoolStatus(
        str(path),
        standing.device,
        standing.epoch,
        standing.next_seq,
        standing.next_seq - 1 - standing.acked - lost,
        lost,
        standing.size_bytes,
        sum(file.stat().st_size for file in files if file.exists()),
        is_locked(path),
        None if oldest is None else cast("int", oldest[0]),
        None if oldest is None else _first_time(cast("Format", oldest[1]), cast("bytes", oldest[2])),
        set_aside,
        [Incident(*cast("tuple[int, str]", row)) for row in rows],
    )


def _first_time(format: Format, time: bytes) -> int | None:
    """Return the first time of an encoded column; None for one that cannot be read."""
    try:
        return decode_batch(EncodedBatch(format, False, 0, time, b"{}" if format == "json" else b"\x80")).times[0]
    except (msgspec.DecodeError, IndexError):
        return None
