"""The contents of a spool's file: its tables, their checksums, and how they are read.

life      epoch, next_seq, claim, device, acked     one row
batch     seq → the encoded columns; those up to `acked` are kept for a hub that lost them
gap       the ranges of lost numbers
metric    the definitions, to declare the batches of earlier runs
command   commands of operators, so that none runs twice
setting   the desired values of operators, and those in force, in one row
set_aside batches that were not sent, as they were read: damaged ones, and those that the hub could not read
incident  damage of the spool that was found, for people

The rows of the first six have a checksum over their other columns. That of a batch covers its device and epoch too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import apsw

from device_agent.batch import EncodedBatch
from device_agent.errors import SpoolError
from device_agent.spool.contract import DAMAGED_REASON, NOT_KEPT_REASON, ROW_BYTES, Count, Gaps, StoredCommand
from integrity.checksum import Cell, row_checksum
from integrity.header import WRONG_BIT, has_wrong_bit
from wire.codec import Format
from wire.device import Gap
from wire.model import Metric, MetricType

APPLICATION_ID = 0x54485350
"""SQLite application id of a spool ("THSP")."""

SCHEMA_VERSION = 4

MAX_SET_ASIDE = 64
"""Batches that are kept as they were read: a disk fault damages a few. The oldest are deleted."""

MAX_INCIDENTS = 20
"""Incidents that are kept. The oldest are deleted."""

_NEW_TABLES = """
CREATE TABLE set_aside (
    id INTEGER PRIMARY KEY, epoch TEXT NOT NULL, seq INTEGER NOT NULL, reason TEXT NOT NULL,
    format BLOB, time BLOB, value BLOB
) STRICT;
CREATE TABLE incident (id INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL, text TEXT NOT NULL) STRICT;
"""

_COMMAND_TABLE = """
CREATE TABLE command (id TEXT PRIMARY KEY, content BLOB NOT NULL, checksum INTEGER NOT NULL) STRICT;
"""

_SETTING_TABLE = """
CREATE TABLE setting (id INTEGER PRIMARY KEY CHECK (id = 1), content BLOB NOT NULL, checksum INTEGER NOT NULL) STRICT;
"""

_SCHEMA = f"""
CREATE TABLE life (
    epoch TEXT NOT NULL, next_seq INTEGER NOT NULL, claim INTEGER NOT NULL, device TEXT NOT NULL,
    acked INTEGER NOT NULL, checksum INTEGER NOT NULL
) STRICT;
CREATE TABLE batch (
    seq INTEGER PRIMARY KEY, format TEXT NOT NULL, historical INTEGER NOT NULL, readings INTEGER NOT NULL,
    size INTEGER NOT NULL, time BLOB NOT NULL, value BLOB NOT NULL, checksum INTEGER NOT NULL
) STRICT;
CREATE TABLE gap (
    first INTEGER PRIMARY KEY, last INTEGER NOT NULL, reason TEXT NOT NULL, checksum INTEGER NOT NULL
) STRICT;
CREATE TABLE metric (
    name TEXT PRIMARY KEY, type TEXT NOT NULL, unit TEXT NOT NULL, description TEXT NOT NULL, checksum INTEGER NOT NULL
) STRICT;
{_NEW_TABLES}
{_COMMAND_TABLE}{_SETTING_TABLE}"""

_FROM_VERSION_1 = f"""
ALTER TABLE life ADD COLUMN acked INTEGER NOT NULL DEFAULT 0;
ALTER TABLE life ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE batch ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE gap ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE metric ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
{_NEW_TABLES}
UPDATE life SET acked = min(
    next_seq, coalesce((SELECT min(seq) FROM batch), next_seq), coalesce((SELECT min(first) FROM gap), next_seq)
) - 1;
UPDATE life SET checksum = row_checksum(epoch, next_seq, claim, device, acked);
UPDATE batch SET checksum = batch_checksum(
    (SELECT device FROM life), (SELECT epoch FROM life), seq, format, historical, readings, time, value
);
UPDATE gap SET checksum = row_checksum(first, last, reason);
UPDATE metric SET checksum = row_checksum(name, type, unit, description);
"""

# A damaged text may not be UTF-8, which cannot be read as a text.
READ_BATCHES = "SELECT seq, CAST(format AS BLOB), historical, readings, time, value, checksum FROM batch"


class Damaged(Exception):
    """The file is not consistent."""


class Standing(NamedTuple):
    """The numbers and gaps of a spool.

    `claim` is the value of next_seq when the spool was opened, until a hub has confirmed it; 0 afterwards. `size_bytes`
    and `readings` count the batches that wait, `kept_bytes` those that are acknowledged and still in the file.
    """

    epoch: str
    device: str
    next_seq: int
    claim: int
    acked: int
    size_bytes: int
    readings: int
    kept_bytes: int
    gaps: Gaps
    lost: Count

    def gaps_of_damaged(self, after: int, end: int, intact: Iterable[int]) -> Gaps:
        """Return the gaps with the waiting numbers after `after` and before `end` that are not intact, in order."""
        first = max(after, self.acked) + 1
        return self.gaps.fill_between(first, end - 1, [seq for seq in intact if seq >= first], DAMAGED_REASON)

    def gaps_of_discarded(self, after: int, end: int, kept: Iterable[int]) -> Gaps:
        """Return the gaps with the acknowledged numbers after `after` and before `end` that are not kept, in order."""
        last = min(self.acked, end - 1)
        return self.gaps.fill_between(after + 1, last, [seq for seq in kept if seq <= last], NOT_KEPT_REASON)


def place_checksum(device: str, epoch: str, seq: int) -> int:
    """Return the part of a batch's checksum that depends on its place. A new number changes only this part."""
    return row_checksum((device, epoch, seq))


def batch_checksum(device: str, epoch: str, seq: int, batch: Sequence[Cell]) -> int:
    """Return the checksum of the five fields of an EncodedBatch at its place."""
    return row_checksum(batch) ^ place_checksum(device, epoch, seq)


class BatchRow(NamedTuple):
    """A row as it was read. `batch` is None if its checksum is wrong."""

    seq: int
    batch: EncodedBatch | None
    cells: tuple[bytes | None, bytes | None, bytes | None]


def read_batches(rows: Iterator[tuple[object, ...]], device: str, epoch: str) -> Iterator[BatchRow]:
    """Yield the rows of a READ_BATCHES, verified."""
    for seq, written, historical, readings, time, values, checksum in rows:
        cells = cast("tuple[bytes | None, bytes | None, bytes | None]", (written, time, values))
        batch = None
        try:
            fields = cast("bytes", written).decode(), bool(historical), readings, time, values
            if batch_checksum(device, epoch, cast("int", seq), cast("Sequence[Cell]", fields)) == checksum:
                batch = EncodedBatch(*cast("tuple[Format, bool, int, bytes, bytes]", fields))
        except (AttributeError, UnicodeDecodeError, TypeError, OverflowError):
            pass  # the bytes describe a value of another type
        yield BatchRow(cast("int", seq), batch, cells)


def read_life(connection: apsw.Connection) -> tuple[str, int, int, str, int]:
    """Return epoch, next_seq, claim, device and acked. Raises Damaged."""
    try:
        row = connection.execute("SELECT epoch, next_seq, claim, device, acked, checksum FROM life").fetchone()
    except UnicodeDecodeError:
        row = None
    if row is None or row_checksum(cast("Sequence[Cell]", row[:-1])) != row[-1]:
        raise Damaged("the row of its numbers is missing or damaged")
    return cast("tuple[str, int, int, str, int]", row[:-1])


def read_gaps(connection: apsw.Connection) -> Gaps:
    """Return the gaps. Raises Damaged."""
    try:
        rows = connection.execute("SELECT first, last, reason, checksum FROM gap ORDER BY first").fetchall()
    except UnicodeDecodeError:
        raise Damaged("a gap is damaged") from None
    if any(row_checksum(cast("Sequence[Cell]", row[:-1])) != row[-1] for row in rows):
        raise Damaged("a gap is damaged")
    return Gaps(tuple(Gap(*cast("tuple[int, int, str]", row[:-1])) for row in rows))


def read_standing(connection: apsw.Connection) -> Standing:
    """Read the state of a spool. Raises Damaged if a row is damaged or its numbers have a hole."""
    epoch, next_seq, claim, device, acked = read_life(connection)
    gaps = read_gaps(connection)
    select = "SELECT count(*), coalesce(sum(size), 0), coalesce(sum(readings), 0) FROM batch WHERE seq"
    waiting = connection.execute(f"{select} > ?", (acked,)).fetchone()
    kept = connection.execute(f"{select} <= ?", (acked,)).fetchone()
    batches, size, readings = cast("tuple[int, int, int]", waiting)
    kept_batches, kept_size, _ = cast("tuple[int, int, int]", kept)
    if batches + gaps.count(acked) != next_seq - 1 - acked:
        raise Damaged(f"some of the batches {acked + 1} to {next_seq - 1} are missing")
    size_bytes, kept_bytes = size + batches * ROW_BYTES, kept_size + kept_batches * ROW_BYTES
    return Standing(epoch, device, next_seq, claim, acked, size_bytes, readings, kept_bytes, gaps, Count())


def read_metrics(connection: apsw.Connection) -> list[Metric]:
    """Read the definitions, in the order of their first appearance. Raises Damaged."""
    try:
        rows = connection.execute(
            "SELECT name, type, unit, description, checksum FROM metric ORDER BY rowid"
        ).fetchall()
    except UnicodeDecodeError:
        raise Damaged("a definition is damaged") from None
    if any(row_checksum(cast("Sequence[Cell]", row[:-1])) != row[-1] for row in rows):
        raise Damaged("a definition is damaged")
    return [Metric(*cast("tuple[str, MetricType, str, str]", row[:-1])) for row in rows]


def read_commands(connection: apsw.Connection) -> list[StoredCommand]:
    """Read the commands, in the order in which they were written first. One without a readable id is left out."""
    found: list[StoredCommand] = []
    select = "SELECT CAST(id AS BLOB), content, checksum FROM command ORDER BY rowid"
    for written, content, checksum in connection.execute(select):
        try:
            id = cast("bytes", written).decode()
        except (AttributeError, UnicodeDecodeError):
            continue
        intact = row_checksum((id, cast("Cell", content))) == checksum
        found.append(StoredCommand(id, cast("bytes", content) if intact else None))
    return found


def read_settings(connection: apsw.Connection) -> bytes | None:
    """Read the settings; None if there are none. Raises Damaged."""
    row = connection.execute("SELECT content, checksum FROM setting").fetchone()
    if row is None:
        return None
    content, checksum = row
    if not isinstance(content, bytes) or row_checksum((content,)) != checksum:
        raise Damaged("the record of the settings is damaged")
    return content


def check_identity(connection: apsw.Connection, path: Path) -> None:
    """Raise SpoolError if the file belongs to another program or to a newer version, Damaged for a damaged header."""
    if has_wrong_bit(connection, application_id=APPLICATION_ID, version=SCHEMA_VERSION, schema=_SCHEMA):
        raise Damaged(WRONG_BIT)
    application = connection.pragma("application_id")
    version = cast("int", connection.pragma("user_version"))
    tables = cast("tuple[int]", connection.execute("SELECT count(*) FROM sqlite_schema").fetchone())[0]
    if application != APPLICATION_ID and (application or version or tables):
        raise SpoolError(
            f"{path} is a database of another program, and not a spool; it is unchanged. Choose another path"
        )
    if version > SCHEMA_VERSION:
        raise SpoolError(
            f"the spool {path} has format {version}, and this version of the agent reads up to {SCHEMA_VERSION}; the "
            "file is unchanged. Install the version that wrote it"
        )


def create(connection: apsw.Connection, device: str, epoch: str) -> None:
    """Create a spool in an empty file, inside a transaction."""
    connection.execute(_SCHEMA)
    life = epoch, 1, 1, device, 0
    connection.execute("INSERT INTO life VALUES (?, ?, ?, ?, ?, ?)", (*life, row_checksum(life)))
    connection.pragma("application_id", APPLICATION_ID)
    connection.pragma("user_version", SCHEMA_VERSION)


def upgrade(connection: apsw.Connection, version: int) -> None:
    """Convert a spool of an older version, inside a transaction.

    Version 3 has no settings, version 2 no commands, version 1 no checksums. What is in a file without checksums is
    taken as intact.
    """
    if version == 1:
        _add_checksums(connection)
    if version < 3:
        connection.execute(_COMMAND_TABLE)
    connection.execute(_SETTING_TABLE)
    connection.pragma("user_version", SCHEMA_VERSION)


def _add_checksums(connection: apsw.Connection) -> None:

    def of_batch(*cells: Any) -> int:
        device, epoch, seq, written, historical, *rest = cells
        return batch_checksum(device, epoch, seq, (written, bool(historical), *rest))

    connection.create_scalar_function("row_checksum", lambda *cells: row_checksum(cells))
    connection.create_scalar_function("batch_checksum", of_batch)
    connection.execute(_FROM_VERSION_1)


def record_incident(connection: apsw.Connection, time_ns: int, text: str) -> None:
    """Record what happened to the spool, inside a transaction."""
    connection.execute("INSERT INTO incident (time_ns, text) VALUES (?, ?)", (time_ns, text))
    connection.execute(
        "DELETE FROM incident WHERE id NOT IN (SELECT id FROM incident ORDER BY id DESC LIMIT ?)", (MAX_INCIDENTS,)
    )
