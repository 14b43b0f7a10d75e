"""What is in a spool's file, and how it is recognised.

life    epoch, next_seq, claim, device     one row
batch   seq → the encoded columns
gap     the numbers that were lost
metric  the definitions, so that a batch of an earlier run can be declared
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, cast

import apsw

from device_agent.errors import SpoolError
from device_agent.spool.contract import ROW_BYTES, Lost
from device_agent.spool.gaps import Gaps
from wire.device import Gap
from wire.model import Metric, MetricType

APPLICATION_ID = 0x54485350
"""Says that a SQLite file is a spool ("THSP"), in the place that SQLite's file format keeps for it."""

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
    """The file is not what a spool wrote."""


class Standing(NamedTuple):
    """What is known of a spool without reading its batches.

    `claim` is what next_seq was when the spool was opened, until a hub has confirmed it; 0 from then on.
    """

    epoch: str
    device: str
    next_seq: int
    claim: int
    acked: int
    size_bytes: int
    gaps: tuple[Gap, ...]
    lost: Lost


def read_standing(connection: apsw.Connection) -> Standing:
    """What a spool's file says of itself. Raises Damaged when its numbers have a hole."""
    life = connection.execute("SELECT epoch, next_seq, claim, device FROM life").fetchone()
    if life is None:
        raise Damaged("its first page is there, but not its life")
    epoch, next_seq, claim, device = cast("tuple[str, int, int, str]", life)
    counted = connection.execute("SELECT count(*), min(seq), coalesce(sum(size), 0) FROM batch").fetchone()
    batches, first, size = cast("tuple[int, int | None, int]", counted)
    gaps = [
        Gap(cast("int", first_lost), cast("int", last_lost), cast("str", reason))
        for first_lost, last_lost, reason in connection.execute("SELECT first, last, reason FROM gap ORDER BY first")
    ]
    firsts = [seq for seq in (first, gaps[0].from_seq if gaps else None) if seq is not None]
    acked = min(firsts, default=next_seq) - 1
    if batches + Gaps(gaps).count() != next_seq - 1 - acked:
        raise Damaged(f"of the numbers {acked + 1} to {next_seq - 1} some are missing")
    return Standing(epoch, device, next_seq, claim, acked, size + batches * ROW_BYTES, tuple(gaps), Lost())


def read_metrics(connection: apsw.Connection) -> list[Metric]:
    """The definitions in a spool's file."""
    rows = connection.execute("SELECT name, type, unit, description FROM metric ORDER BY rowid")
    return [
        Metric(cast("str", name), cast("MetricType", kind), cast("str", unit), cast("str", description))
        for name, kind, unit, description in rows
    ]


def check_identity(connection: apsw.Connection, path: Path) -> None:
    """Raises SpoolError when a SQLite file is somebody else's, or of a version that is not known yet."""
    application = connection.pragma("application_id")
    version = cast("int", connection.pragma("user_version"))
    tables = cast("tuple[int]", connection.execute("SELECT count(*) FROM sqlite_schema").fetchone())[0]
    if application != APPLICATION_ID and (application or version or tables):
        raise SpoolError(f"{path} is a database of another program, not a spool")
    if version > SCHEMA_VERSION:
        raise SpoolError(f"the spool {path} was written by a newer version of this program")


def create(connection: apsw.Connection, device: str, epoch: str) -> None:
    """Makes an empty file a spool, all or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(_SCHEMA)
    connection.execute("INSERT INTO life (epoch, next_seq, claim, device) VALUES (?, 1, 1, ?)", (epoch, device))
    connection.pragma("application_id", APPLICATION_ID)
    connection.pragma("user_version", SCHEMA_VERSION)
    connection.execute("COMMIT")
