"""The tables of the registry, and the checksums of their rows.

Each row has the CRC-32 of its table's name and of its other cells (integrity.checksum). Triggers write it, so no
statement can forget it, and reject the change of a row that is damaged. A program without the function `row_checksum`
can read the tables but cannot write to them.

SQLite's own checksum extension (cksumvfs) was compared: it finds a wrong byte in any page, too, but then rejects the
whole page with all its rows, is not part of apsw, and needs every page rewritten. The checksum of a row also finds a
row that came from another table, costs 2 µs for a written row, and leaves the other rows of the page readable.
SQLite's integrity check, which runs at each opening, verifies what is outside the rows: the pages and the indexes.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, NamedTuple

import apsw

from integrity.checksum import row_checksum

APPLICATION_ID = 0x54485247
"""Mark of a registry file ("THRG"): another SQLite file is rejected."""

UNSEALED_VERSION = 2
"""The version before the rows had checksums."""

SEALED_VERSION = 3
"""The first version with checksums. Each later version adds tables: see ADDITIONS."""

HUB_ID = "hub_id"
"""Name of the fact that holds the id of the hub."""

_TABLES = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE tokens (
  id TEXT PRIMARY KEY,
  digest BLOB NOT NULL,
  role TEXT NOT NULL,
  pattern TEXT NOT NULL,
  label TEXT NOT NULL,
  created_ns INTEGER NOT NULL,
  used_ns INTEGER,
  expires_ns INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
  digest BLOB PRIMARY KEY,
  token TEXT NOT NULL REFERENCES tokens(id) ON DELETE CASCADE,
  created_ns INTEGER NOT NULL,
  expires_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE login_codes (
  digest BLOB PRIMARY KEY,
  token TEXT NOT NULL REFERENCES tokens(id) ON DELETE CASCADE,
  expires_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE devices (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  tags TEXT NOT NULL DEFAULT '{}',
  agent TEXT NOT NULL DEFAULT '',
  first_seen_ns INTEGER NOT NULL,
  last_seen_ns INTEGER NOT NULL,
  retired_ns INTEGER
) STRICT;
CREATE INDEX retired_devices ON devices (retired_ns) WHERE retired_ns IS NOT NULL;

CREATE TABLE series (
  id INTEGER PRIMARY KEY,
  device INTEGER NOT NULL REFERENCES devices(id),
  metric TEXT NOT NULL,
  type TEXT NOT NULL,
  unit TEXT NOT NULL,
  description TEXT NOT NULL,
  UNIQUE (device, metric)
) STRICT;

CREATE TABLE events (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  device TEXT,
  time_ns INTEGER NOT NULL,
  kind TEXT NOT NULL,
  detail TEXT NOT NULL
) STRICT;
CREATE INDEX events_of_device ON events (device, id);
"""

_COMMANDS = """
CREATE TABLE declared_commands (
  device TEXT PRIMARY KEY,
  declared TEXT NOT NULL,
  declared_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE commands (
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  device TEXT NOT NULL,
  state TEXT NOT NULL,
  created_ns INTEGER NOT NULL,
  deadline_ns INTEGER NOT NULL,
  record TEXT NOT NULL
) STRICT;
CREATE INDEX commands_of_device ON commands (device, deadline_ns, number);
CREATE INDEX commands_by_age ON commands (deadline_ns, created_ns);
"""
"""A finished command has a deadline of 0. `record` is all of it as JSON; the other columns are for the queries."""

_DESIRED = """
CREATE TABLE declared_settings (
  device TEXT PRIMARY KEY,
  declared TEXT NOT NULL,
  declared_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE desired (
  device TEXT PRIMARY KEY,
  record TEXT NOT NULL
) STRICT, WITHOUT ROWID;
"""
"""`record` is the document of a device with its newest report, as JSON."""

_COMMAND_JOBS = """
CREATE TABLE command_jobs (
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  is_open INTEGER NOT NULL,
  created_ns INTEGER NOT NULL,
  targets INTEGER NOT NULL,
  record TEXT NOT NULL
) STRICT;

CREATE TABLE command_targets (
  number INTEGER PRIMARY KEY,
  job TEXT NOT NULL,
  device TEXT NOT NULL,
  batch INTEGER NOT NULL,
  state TEXT NOT NULL,
  command TEXT NOT NULL,
  code TEXT NOT NULL,
  message TEXT NOT NULL,
  UNIQUE (job, device)
) STRICT;
CREATE INDEX command_targets_by_state ON command_targets (job, state, batch);
"""
"""`record` is all of a job as JSON; the other columns are for the queries. A target without its job means nothing."""

_IDENTITY = "CREATE TABLE identity (hub_id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID"
"""A second copy of the hub's id, in a page of its own: without the id no history can be read."""


class TableLayout(NamedTuple):
    """A table with the columns that its checksum covers, the primary key first."""

    name: str
    columns: tuple[str, ...]
    key: str = "id"

    def checksum(self, prefix: str = "") -> str:
        """Return the SQL expression of the checksum of a row."""
        return f"row_checksum('{self.name}', {', '.join(prefix + column for column in self.columns)})"


SEALED_TABLES = (
    TableLayout("facts", ("name", "value"), "name"),
    TableLayout("identity", ("hub_id",), "hub_id"),
    TableLayout("tokens", ("id", "digest", "role", "pattern", "label", "created_ns", "used_ns", "expires_ns")),
    TableLayout("sessions", ("digest", "token", "created_ns", "expires_ns"), "digest"),
    TableLayout("login_codes", ("digest", "token", "expires_ns"), "digest"),
    TableLayout("devices", ("id", "name", "tags", "agent", "first_seen_ns", "last_seen_ns", "retired_ns")),
    TableLayout("series", ("id", "device", "metric", "type", "unit", "description")),
    TableLayout("events", ("id", "device", "time_ns", "kind", "detail")),
)
"""The tables of SEALED_VERSION, referenced ones first."""


class Addition(NamedTuple):
    """The tables that a version has and the one before it has not."""

    version: int
    definitions: str
    tables: tuple[TableLayout, ...]


ADDITIONS = (
    Addition(
        4,
        _COMMANDS,
        (
            TableLayout("declared_commands", ("device", "declared", "declared_ns"), "device"),
            TableLayout(
                "commands", ("number", "id", "device", "state", "created_ns", "deadline_ns", "record"), "number"
            ),
        ),
    ),
    Addition(
        5,
        _DESIRED,
        (
            TableLayout("declared_settings", ("device", "declared", "declared_ns"), "device"),
            TableLayout("desired", ("device", "record"), "device"),
        ),
    ),
    Addition(
        6,
        _COMMAND_JOBS,
        (
            TableLayout("command_jobs", ("number", "id", "is_open", "created_ns", "targets", "record"), "number"),
            TableLayout(
                "command_targets",
                ("number", "job", "device", "batch", "state", "command", "code", "message"),
                "number",
            ),
        ),
    ),
)
"""The additions of the versions after SEALED_VERSION, in their order. The last one is SCHEMA_VERSION."""

VERSIONS = (SEALED_VERSION, *(addition.version for addition in ADDITIONS))
"""The versions with checksums."""

SCHEMA_VERSION = VERSIONS[-1]


def tables_of(version: int) -> tuple[TableLayout, ...]:
    """Return the tables of a version, referenced ones first."""
    added = (addition.tables for addition in ADDITIONS if addition.version <= version)
    return sum(added, SEALED_TABLES)


TABLES = tables_of(SCHEMA_VERSION)
"""Every table, referenced ones first."""

INTACT = {table.name: f"checksum = {table.checksum()}" for table in TABLES}
"""The condition that a row of a table is as it was written."""


def register_checksum(connection: apsw.Connection) -> None:
    """Let the statements of this connection compute checksums."""

    def checksum(*cells: Any) -> int:
        return row_checksum(cells)

    connection.create_scalar_function("row_checksum", checksum, deterministic=True, flags=apsw.SQLITE_INNOCUOUS)


def create_tables(connection: apsw.Connection, hub_id: str | None = None, *, version: int = SCHEMA_VERSION) -> None:
    """Create every table of a registry with this id, a random one by default. Inside a transaction.

    `version` is one of VERSIONS.
    """
    connection.execute(_TABLES)
    connection.execute("INSERT INTO facts (name, value) VALUES (?, ?)", (HUB_ID, hub_id or secrets.token_hex(16)))
    add_checksums(connection)
    add_tables(connection, SEALED_VERSION, version)
    connection.pragma("application_id", APPLICATION_ID)


def add_checksums(connection: apsw.Connection) -> None:
    """Add the checksums to tables of UNSEALED_VERSION, whose rows count as intact. Inside a transaction.

    A new registry takes this way, too: the texts of the schema are then the same in every file, and a difference is
    damage.
    """
    register_checksum(connection)
    connection.execute(_IDENTITY)
    connection.execute("INSERT INTO identity (hub_id) SELECT value FROM facts WHERE name = ?", (HUB_ID,))
    _seal(connection, SEALED_TABLES)
    connection.pragma("user_version", SEALED_VERSION)


def add_tables(connection: apsw.Connection, version: int, new_version: int = SCHEMA_VERSION) -> None:
    """Add to a registry of this version, one of VERSIONS, the tables of a newer one. Inside a transaction."""
    register_checksum(connection)
    for addition in ADDITIONS:
        if version < addition.version <= new_version:
            connection.execute(addition.definitions)
            _seal(connection, addition.tables)
            connection.pragma("user_version", addition.version)


def _seal(connection: apsw.Connection, tables: Sequence[TableLayout]) -> None:
    for table in tables:
        connection.execute(f"ALTER TABLE {table.name} ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0")
        connection.execute(f"UPDATE {table.name} SET checksum = {table.checksum()}")
        for statement in _triggers(table):
            connection.execute(statement)


def _triggers(table: TableLayout) -> Sequence[str]:
    name, columns = table.name, ", ".join(table.columns)
    seal = f"BEGIN UPDATE {name} SET checksum = {table.checksum('NEW.')} WHERE {table.key} = NEW.{table.key}; END"
    return (
        f"CREATE TRIGGER seal_new_{name} AFTER INSERT ON {name} {seal}",
        f"CREATE TRIGGER seal_changed_{name} AFTER UPDATE OF {columns} ON {name} {seal}",
        (
            f"CREATE TRIGGER verify_{name} BEFORE UPDATE OF {columns} ON {name} "
            f"WHEN OLD.checksum <> {table.checksum('OLD.')} BEGIN "
            f"SELECT RAISE(ABORT, 'a row of {name} is damaged: restart the hub, which repairs its registry'); END"
        ),
    )
