"""The contents of a spool's file, and its status for other programs.

life    epoch, next_seq, claim, device     one row
batch   seq → the encoded columns
gap     the ranges of lost numbers
metric  the definitions, to declare the batches of earlier runs
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import NamedTuple, cast

import apsw
import msgspec

from device_agent.batch import EncodedBatch, decode_batch
from device_agent.errors import SpoolError
from device_agent.spool.contract import ROW_BYTES, Count, Gaps
from wire.codec import Format
from wire.device import Gap
from wire.model import Metric, MetricType

APPLICATION_ID = 0x54485350
"""SQLite application id of a spool ("THSP")."""

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE life (epoch TEXT NOT NULL, next_seq INTEGER NOT NULL, claim INTEGER NOT NULL, device TEXT NOT NULL) STRICT;
CREATE TABLE batch (
    seq INTEGER PRIMARY KEY, format TEXT NOT NULL, historical INTEGER NOT NULL, readings INTEGER NOT NULL,
    size INTEGER NOT NULL, time BLOB NOT NULL, value BLOB NOT NULL
) STRICT;
CREATE TABLE gap (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, reason TEXT NOT NULL) STRICT;
CREATE TABLE metric (
    name TEXT PRIMARY KEY, type TEXT NOT NULL, unit TEXT NOT NULL, description TEXT NOT NULL
) STRICT;
"""


class Damaged(Exception):
    """The file is not consistent."""


class Standing(NamedTuple):
    """The numbers and gaps of a spool.

    `claim` is the value of next_seq when the spool was opened, until a hub has confirmed it; 0 afterwards.
    """

    epoch: str
    device: str
    next_seq: int
    claim: int
    acked: int
    size_bytes: int
    gaps: Gaps
    lost: Count


def read_standing(connection: apsw.Connection) -> Standing:
    """Read the state of a spool. Raises Damaged if its numbers have a hole."""
    life = connection.execute("SELECT epoch, next_seq, claim, device FROM life").fetchone()
    if life is None:
        raise Damaged("the table life is empty")
    epoch, next_seq, claim, device = cast("tuple[str, int, int, str]", life)
    counted = connection.execute("SELECT count(*), min(seq), coalesce(sum(size), 0) FROM batch").fetchone()
    batches, first, size = cast("tuple[int, int | None, int]", counted)
    rows = connection.execute("SELECT first, last, reason FROM gap ORDER BY first")
    gaps = Gaps(tuple(Gap(*cast("tuple[int, int, str]", row)) for row in rows))
    acked = min(next_seq if first is None else first, *(gap.from_seq for gap in gaps.ranges), next_seq) - 1
    if batches + gaps.count() != next_seq - 1 - acked:
        raise Damaged(f"some of the batches {acked + 1} to {next_seq - 1} are missing")
    return Standing(epoch, device, next_seq, claim, acked, size + batches * ROW_BYTES, gaps, Count())


def read_metrics(connection: apsw.Connection) -> list[Metric]:
    """Read the definitions."""
    rows = connection.execute("SELECT name, type, unit, description FROM metric ORDER BY rowid")
    return [
        Metric(cast("str", name), cast("MetricType", kind), cast("str", unit), cast("str", description))
        for name, kind, unit, description in rows
    ]


def check_identity(connection: apsw.Connection, path: Path) -> None:
    """Raise SpoolError if the file belongs to another program, or to a newer version of this one."""
    application = connection.pragma("application_id")
    version = cast("int", connection.pragma("user_version"))
    tables = cast("tuple[int]", connection.execute("SELECT count(*) FROM sqlite_schema").fetchone())[0]
    if application != APPLICATION_ID and (application or version or tables):
        raise SpoolError(f"{path} is a database of another program, not a spool")
    if version > SCHEMA_VERSION:
        raise SpoolError(f"the spool {path} was written by a newer version of this program")


def create(connection: apsw.Connection, device: str, epoch: str) -> None:
    """Create a spool in an empty file, in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(_SCHEMA)
    connection.execute("INSERT INTO life (epoch, next_seq, claim, device) VALUES (?, 1, 1, ?)", (epoch, device))
    connection.pragma("application_id", APPLICATION_ID)
    connection.pragma("user_version", SCHEMA_VERSION)
    connection.execute("COMMIT")


class SpoolStatus(msgspec.Struct, frozen=True):
    """Status of a spool. `waiting` counts batches, `lost` those in gaps that the hub does not know yet.

    `oldest_seq` and `oldest_time_ns` are the number and the first time of the oldest waiting batch; None without one.
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


def read_status(path: Path) -> SpoolStatus:
    """Read the status of the spool at this path. Raises SpoolError."""
    if not path.exists():
        raise SpoolError(f"there is no spool {path}")
    try:
        connection = apsw.Connection(os.fspath(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            connection.set_busy_timeout(2000)
            check_identity(connection, path)
            standing = read_standing(connection)
            oldest = connection.execute("SELECT seq, format, time FROM batch ORDER BY seq LIMIT 1").fetchone()
        finally:
            connection.close()
    except (apsw.Error, Damaged) as error:
        raise SpoolError(f"the spool {path} cannot be read: {error}") from None
    lost = standing.gaps.count()
    files = (path, path.with_name(f"{path.name}-wal"))
    return SpoolStatus(
        str(path),
        standing.device,
        standing.epoch,
        standing.next_seq,
        standing.next_seq - 1 - standing.acked - lost,
        lost,
        standing.size_bytes,
        sum(file.stat().st_size for file in files if file.exists()),
        _is_locked(path),
        None if oldest is None else cast("int", oldest[0]),
        None if oldest is None else _first_time(cast("Format", oldest[1]), cast("bytes", oldest[2])),
    )


def _first_time(format: Format, time: bytes) -> int | None:
    """Return the first time of an encoded column; None for one that cannot be read."""
    try:
        return decode_batch(EncodedBatch(format, False, 0, time, b"{}" if format == "json" else b"\x80")).times[0]
    except (msgspec.DecodeError, IndexError):
        return None


def _is_locked(path: Path) -> bool:
    try:
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False
