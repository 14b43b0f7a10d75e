"""The registry's file: how it is opened, its tables, what a transaction is; for the hub and the commands alike."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from hub.registry.errors import RegistryError, translated
from wire.errors import Code

FILE_NAME = "registry.db"
"""In the data directory."""

BUSY_TIMEOUT_MS = 5_000
"""How long to wait for another process's transaction. Ours take milliseconds; whoever holds the lock for longer than
this hangs, and then the request fails with BUSY and can be made again."""

MAX_BYTES = 1 << 30
"""The file's bound. All that is in it is bounded on its own (a million series are about 70 MB, all events about
100 MB); beyond this, writing fails with STORAGE_FULL like on a full disk."""

MAX_WAL_BYTES = 16 << 20
"""What is left of the write-ahead log after a checkpoint: a burst of declarations must not keep its disk space."""

WAL_ATTEMPTS = 100
"""How often a new file is tried to be put in WAL mode while others do the same; each attempt waits for one of them."""

SCHEMA_VERSION = 2
APPLICATION_ID = 0x54485247
"""Marks the file as ours ("THRG"), so that another SQLite file is never taken for a registry."""

SCHEMA = """
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


def open_database(path: Path, *, max_bytes: int = MAX_BYTES) -> apsw.Connection:
    """A connection to the registry at this path, made with its tables when it is not there yet. Raises RegistryError.

    Only its owner can read the file: it holds nothing that opens a door by itself, but it tells who has keys.
    """
    try:
        # Only a new file may be opened here: closing it would drop the locks of this process's other connections.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise RegistryError(Code.STORAGE_FAILED, f"{path} cannot be opened: {error.strerror}") from error
    with translated():
        connection = apsw.Connection(os.fspath(path))
        try:
            _prepare(connection, max_bytes)
        except BaseException:
            connection.close()
            raise
    return connection


def _prepare(connection: apsw.Connection, max_bytes: int) -> None:
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    _use_write_ahead_log(connection)
    connection.pragma("synchronous", "FULL")
    connection.pragma("foreign_keys", True)
    connection.pragma("temp_store", "MEMORY")
    connection.pragma("journal_size_limit", MAX_WAL_BYTES)
    connection.pragma("max_page_count", max_bytes // connection.pragma("page_size"))
    if connection.pragma("user_version") == SCHEMA_VERSION and connection.pragma("application_id") == APPLICATION_ID:
        return
    with transaction(connection):
        version = connection.pragma("user_version")
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").get
        if version == 0 and tables == 0:
            connection.execute(SCHEMA)
            connection.execute("INSERT INTO facts VALUES ('hub_id', ?)", (secrets.token_hex(16),))
            connection.pragma("application_id", APPLICATION_ID)
            connection.pragma("user_version", SCHEMA_VERSION)
        elif connection.pragma("application_id") != APPLICATION_ID:
            raise RegistryError(Code.STORAGE_FAILED, f"{connection.filename} is not a registry")
        elif version != SCHEMA_VERSION:
            raise RegistryError(
                Code.STORAGE_FAILED,
                f"{connection.filename} has format {version}, but this program knows {SCHEMA_VERSION}: use a newer one",
            )


def _use_write_ahead_log(connection: apsw.Connection) -> None:
    """The one change that SQLite refuses instead of waiting when several processes open a new file at once."""
    for _ in range(WAL_ATTEMPTS):
        try:
            connection.pragma("journal_mode", "wal")
        except apsw.BusyError:
            connection.execute("BEGIN IMMEDIATE")  # this does wait, for whoever was first
            connection.execute("ROLLBACK")
        else:
            return
    raise RegistryError(Code.BUSY, "other processes keep the registry's lock; try again")


def hub_id(connection: apsw.Connection) -> str:
    """The hub's id: 128 random bits in hexadecimal, made with the file."""
    value = connection.execute("SELECT value FROM facts WHERE name = 'hub_id'").get
    return str(value)


def data_version(connection: apsw.Connection) -> int:
    """A number that is another one when another connection has committed; our own commits do not change it."""
    # The pragma, and not the connection's method of that name: the method counts our own commits, too.
    version: int = connection.pragma("data_version")
    return version


@contextmanager
def transaction(connection: apsw.Connection) -> Iterator[None]:
    """All that happens inside is durable when this ends, or, when it raises, has not happened. Raises RegistryError."""
    with translated():
        # IMMEDIATE: waits for the lock here, where nothing has been read yet that could be out of date.
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            # A full disk has rolled back already.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
