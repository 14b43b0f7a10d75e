"""Detection and repair of a damaged registry, before it is opened.

A damaged file is never changed: what is intact in it continues in a new file, and the damaged file is kept beside it. A
row with one wrong bit is corrected. A row that is lost is lost alone, and the id of a lost series is never given to
another device.
"""

from __future__ import annotations

import fcntl
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import apsw
import structlog

from hub.registry.schema import (
    APPLICATION_ID,
    HUB_ID,
    SCHEMA_VERSION,
    TABLES,
    UNSEALED_VERSION,
    VERSIONS,
    TableLayout,
    create_tables,
    tables_of,
)
from integrity.checksum import Cell, corrected, row_checksum
from integrity.descriptors import sync_directory
from integrity.finding import Finding
from integrity.header import WRONG_BIT, wrong_bits
from integrity.recovery import LogRecovery, aside, beside, recover_log
from integrity.wal import newest_pages
from wire.text import plural

MAX_PROBLEMS = 8
"""Problems of SQLite's own check that are reported: the first ones show what kind of damage it is."""

MAX_CORRECTIONS = 1_000
"""Damaged rows in which a wrong bit is searched. A row of 1 kB takes 10 ms, and more rows are not one fault of a
disk."""

MAX_KEY = 64
"""Length of a damaged row's key in the log."""

BUSY_MS = 5_000
"""Wait for the transaction of another process: ours take milliseconds."""

_PAGE_BYTES = 4_096
_PAGE_COUNT = slice(28, 32)
"""Size of a page, and the bytes of the header that hold their number (https://sqlite.org/fileformat2.html)."""

_SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"

_LAST_EVENT = "SELECT coalesce((SELECT max(id) FROM events), seq) = seq FROM sqlite_sequence WHERE name = 'events'"
"""Query for 1 if the next id of an event is right: the newest event is never deleted."""

_DAMAGED = (apsw.CorruptError, apsw.NotADBError, apsw.FormatError, UnicodeDecodeError)
"""Errors of a file that SQLite cannot read."""

_REMEDY = (
    "Journal and history are not affected. Restore registry.db from a backup. To begin without its devices and tokens, "
    "move registry.db and the store's file away"
)

log = structlog.get_logger(__name__)


class Irreparable(Exception):
    """The file is damaged, and it cannot be repaired. The message says what to do."""


class Damage(NamedTuple):
    """Damage of a file: problems that SQLite's own check reports, and the number of damaged rows of each table."""

    problems: list[str]
    rows: Counter[str]

    def __str__(self) -> str:
        rows = [f"{plural(count, 'damaged row')} in {table}" for table, count in self.rows.items()]
        return "; ".join([*self.problems, *rows])


class Repair(NamedTuple):
    """Result of a repair. `unreadable` are tables with pages that cannot be read, `kept` is the damaged file."""

    corrected: int
    lost: Counter[str]
    unreadable: set[str]
    log: LogRecovery | None
    kept: str

    @property
    def lost_anything(self) -> bool:
        return bool(self.lost or self.unreadable)

    def __str__(self) -> str:
        """Return what happened and what to do, for people."""
        parts = ["registry.db was damaged"] if self.log is None else [str(self.log)]
        if self.corrected:
            parts.append(f"{plural(self.corrected, 'row')} with one wrong bit corrected")
        if self.lost:
            parts.append("lost rows: " + ", ".join(f"{count} of {table}" for table, count in self.lost.items()))
        if self.unreadable:
            parts.append(f"unreadable pages of {', '.join(sorted(self.unreadable))}")
        if not self.lost_anything:
            parts.append("nothing is lost")
        if self.kept:
            parts.append(f"the damaged file is {self.kept}")
        if self.lost_anything:
            parts.append(
                "lost tokens are not valid any more, and stored readings of lost series have no name until registry.db "
                "is restored from a backup"
            )
        return "; ".join(parts)


def repair_if_damaged(path: Path) -> Repair | None:
    """Verify the registry at this path and repair it; return what was done. One process at a time does this.

    Nothing is done while another process has the file open: that one has verified it. Raises Irreparable, apsw.Error
    and OSError.
    """
    with _only_process(path.parent):
        _finish(path)
        recovery = None
        size = path.stat().st_size
        if size < _PAGE_BYTES:
            # SQLite would take the file for a new one and delete its log.
            if not size and not beside(path, "-wal").exists():
                return None
            damage: Damage | None = Damage([f"the file is cut to {size} bytes"], Counter())
        elif _is_in_use(path):
            return None
        else:
            recovery = recover_log(path)
            with closing(_connect(path)) as connection:
                damage = find_damage(connection)
        if damage is None:
            repair = None if recovery is None else Repair(0, Counter(), set(), recovery, "")
        else:
            log.error("registry is damaged, repairing", path=str(path), damage=str(damage))
            repair = _rebuild(path, recovery)
            _finish(path, path.with_name(repair.kept))
    if repair is not None:
        log.error("registry repaired", result=str(repair))
    return repair


def verify(path: Path, connection: apsw.Connection) -> list[Finding]:
    """Verify the registry at this path through a connection that reads it, also while a hub runs."""
    damage: Damage | None
    try:
        if path.stat().st_size < _PAGE_BYTES:
            damage = Damage(["the file is empty or cut"], Counter())
        else:
            damage = find_damage(connection)
    except Irreparable as error:
        damage = Damage([str(error)], Counter())
    except (apsw.Error, OSError) as error:
        return [Finding(path.name, None, f"it cannot be read: {error}")]
    if damage is None:
        return [Finding(path.name, True, "pages, indexes and the checksum of every row are correct")]
    return [
        Finding(
            path.name,
            False,
            str(damage),
            "damaged tokens are not valid any more, and readings of damaged series may lose their names",
            "restart the hub: it continues with every intact row and keeps the damaged file; or restore a backup",
        )
    ]


def find_damage(connection: apsw.Connection) -> Damage | None:
    """Return the damage of an open file, None if there is none, or if it is a file of another version or program.

    Raises Irreparable for damage of a file without checksums.
    """
    try:
        schema = list(connection.execute(_SCHEMA))
        version = _version_of(schema)
        wrong = wrong_bits(connection, application_id=APPLICATION_ID, version=version or SCHEMA_VERSION)
        is_unsealed = not wrong_bits(connection, application_id=APPLICATION_ID, version=UNSEALED_VERSION)
    except (*_DAMAGED, apsw.SQLError) as error:
        return Damage([str(error)], Counter())
    is_ours = version is not None
    if is_unsealed and not is_ours:
        problems = _problems(connection)
        if problems:
            raise Irreparable(
                f"the file of the registry is damaged, and its rows have no checksums yet ({problems[0]}). {_REMEDY}"
            )
        return None
    # A file with our tables and one wrong bit is ours. More wrong bits are the numbers of another version or program.
    if wrong > is_ours:
        return None
    problems = _problems(connection)
    if not is_ours:
        problems.append("the definition of the tables differs")
    elif wrong:
        problems.append(WRONG_BIT)
    rows: Counter[str] = Counter()
    for table in _tables(version):
        try:
            rows[table.name] += sum(not row.is_intact for row in _rows(connection, table))
        except (*_DAMAGED, apsw.SQLError) as error:
            problems.append(f"{table.name}: {error}")
    rows += Counter()  # without zeros
    return Damage(problems, rows) if problems or rows else None


def _problems(connection: apsw.Connection) -> list[str]:
    """Return what SQLite's check of pages, types and indexes reports."""
    try:
        found = [text for (text,) in connection.execute(f"PRAGMA integrity_check({MAX_PROBLEMS})")]
        if connection.execute(_LAST_EVENT).get == 0:
            found.append("the next id of events differs")
    except (*_DAMAGED, apsw.SQLError) as error:
        found = [str(error)]
    return [text for text in found if text != "ok"]


class _Row(NamedTuple):
    """A row as it was read; texts that are not UTF-8 have surrogate escapes."""

    table: str
    cells: tuple[Cell, ...]
    checksum: int

    @property
    def is_intact(self) -> bool:
        try:
            return row_checksum((self.table, *self.cells)) == self.checksum
        except UnicodeEncodeError:
            return False

    def corrected(self) -> tuple[Cell, ...] | None:
        """Return the cells without the one wrong bit, None if it is not one."""
        if type(self.checksum) is not int:
            return None  # the wrong bit is in the types of the cells
        cells = corrected((self.table, *self.cells), self.checksum)
        return None if cells is None or cells[0] != self.table else cells[1:]


def _rows(connection: apsw.Connection, table: TableLayout, order: str = "") -> Iterator[_Row]:
    """Yield the rows in the order of their key. Raises apsw.CorruptError at the first page that cannot be read."""
    texts = {
        name for _, name, kind, *_ in connection.execute(f"PRAGMA table_info({table.name})") if kind.upper() == "TEXT"
    }
    # As bytes, because a damaged text may be no UTF-8.
    columns = [f"CAST({name} AS BLOB)" if name in texts else name for name in table.columns]
    for *cells, checksum in connection.execute(
        f"SELECT {', '.join(columns)}, checksum FROM {table.name} ORDER BY {table.key} {order}"
    ):
        decoded = (
            cell.decode("utf-8", "surrogateescape") if name in texts and isinstance(cell, bytes) else cell
            for name, cell in zip(table.columns, cells, strict=True)
        )
        yield _Row(table.name, tuple(decoded), checksum)


def _rebuild(path: Path, recovery: LogRecovery | None) -> Repair:
    """Write what is intact into a new file beside the damaged one, complete and durable; `_finish` replaces it."""
    if path.stat().st_size >= _PAGE_BYTES:
        with closing(_connect(path)) as damaged:
            if _defines_tables(damaged):
                return _write_intact(path, damaged, recovery)
    grafted = _graft(path)
    try:
        with closing(_connect(grafted)) as damaged:
            return _write_intact(path, damaged, recovery)
    finally:
        grafted.unlink()


def _defines_tables(connection: apsw.Connection) -> bool:
    try:
        return _version_of(list(connection.execute(_SCHEMA))) is not None
    except (*_DAMAGED, apsw.SQLError):
        return False


def _version_of(schema: list[tuple[object, ...]]) -> int | None:
    """Return the version of a registry with checksums that has these definitions, None for any other file."""
    return next((version for version in reversed(VERSIONS) if schema == _expected_schema(version)), None)


def _tables(version: int | None) -> Sequence[TableLayout]:
    """Return the tables of this version, or of the current one."""
    return TABLES if version is None else tables_of(version)


def _graft(path: Path) -> Path:
    """Write a copy of the file with a new first page, which contains the definitions of the tables.

    Every registry has its tables at the same pages, because it was created by the same statements. Only the tables of
    ADDITIONS are elsewhere in a registry of an earlier version, and are lost then. The checksums of the rows reject
    what is found at these pages if a file is different.
    """
    with closing(apsw.Connection(":memory:")) as template:
        create_tables(template)
        tables = template.execute("SELECT name, rootpage, sql FROM sqlite_schema WHERE type = 'table'").fetchall()
    with closing(apsw.Connection(":memory:")) as definitions:
        definitions.execute("CREATE TABLE first (page); PRAGMA writable_schema = ON; DELETE FROM sqlite_schema")
        for name, root, sql in tables:
            # Without its indexes, which are not read.
            plain = (
                str(sql)
                .replace(" UNIQUE,", ",")
                .replace(",\n  UNIQUE (device, metric)", "")
                .replace(" AUTOINCREMENT", "")
            )
            if name != "sqlite_sequence":
                definitions.execute("INSERT INTO sqlite_schema VALUES ('table', ?1, ?1, ?2, ?3)", (name, root, plain))
        page = bytearray(definitions.serialize("main")[:_PAGE_BYTES])
    content = bytearray(path.read_bytes())
    with suppress(FileNotFoundError):
        for number, data in newest_pages(beside(path, "-wal").read_bytes()).items():
            end = number * len(data)
            content.extend(bytes(max(0, end - len(content))))
            content[end - len(data) : end] = data
    page[_PAGE_COUNT] = (len(content) // _PAGE_BYTES).to_bytes(4, "big")
    content[:_PAGE_BYTES] = page
    grafted = beside(path, ".grafted")
    grafted.unlink(missing_ok=True)
    with os.fdopen(os.open(grafted, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(content)
    return grafted


def _write_intact(path: Path, damaged: apsw.Connection, recovery: LogRecovery | None) -> Repair:
    building = beside(path, ".building")
    building.unlink(missing_ok=True)
    os.close(os.open(building, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    kept = aside(path)
    with closing(apsw.Connection(os.fspath(building))) as connection:
        connection.execute("BEGIN")
        create_tables(connection, _hub_id(damaged))
        salvage = _Salvage(damaged, connection)
        for table in _tables(_version_of(list(damaged.execute(_SCHEMA)))):
            if table.name != "identity":
                salvage.copy(table)
        salvage.remove_orphans()
        repair = Repair(salvage.corrected, salvage.lost, salvage.unreadable, recovery, kept.name)
        connection.execute("COMMIT")
    # From here on the repair is complete, also after a crash.
    building.rename(beside(path, ".repaired"))
    sync_directory(path.parent)
    return repair


def _finish(path: Path, kept: Path | None = None) -> None:
    """Replace the damaged file by the repaired one if there is one. Repeated after a crash."""
    repaired = beside(path, ".repaired")
    if not repaired.exists():
        return
    kept = kept or aside(path)
    for suffix in ("-wal", ""):
        if beside(path, suffix).exists():
            beside(path, suffix).rename(beside(kept, suffix))
    beside(path, "-shm").unlink(missing_ok=True)
    repaired.rename(path)
    sync_directory(path.parent)


class _Salvage:
    """Copy of the intact and the corrected rows of a damaged file into a new one."""

    def __init__(self, damaged: apsw.Connection, new: apsw.Connection) -> None:
        self.corrected = 0
        self.lost: Counter[str] = Counter()
        self.unreadable: set[str] = set()
        self._damaged = damaged
        self._new = new
        self._attempts = 0

    def copy(self, table: TableLayout) -> None:
        """Copy a table, from both ends up to the first page that cannot be read."""
        marks = ", ".join("?" for _ in table.columns)
        insert = f"INSERT OR IGNORE INTO {table.name} ({', '.join(table.columns)}) VALUES ({marks})"
        for order in ("ASC", "DESC"):
            try:
                for row in _rows(self._damaged, table, order):
                    cells = row.cells if row.is_intact else self._correct(row)
                    if cells is not None:
                        self._new.execute(insert, cells)
                return
            except (*_DAMAGED, apsw.SQLError):
                self.unreadable.add(table.name)

    def remove_orphans(self) -> None:
        """Remove the rows of lost devices and tokens: the number of a lost device may be given to a new one."""
        for table, reference in (("series", "device"), ("sessions", "token"), ("login_codes", "token")):
            self._new.execute(f"DELETE FROM {table} WHERE {reference} NOT IN (SELECT id FROM {reference}s)")
            if self._new.changes():
                self.lost[table] += self._new.changes()

    def _correct(self, row: _Row) -> tuple[Cell, ...] | None:
        """Return the cells without the wrong bit; None if there is not exactly one."""
        self._attempts += 1
        cells = row.corrected() if self._attempts <= MAX_CORRECTIONS else None
        if cells is None:
            self.lost[row.table] += 1
            log.error("row of the registry is lost", table=row.table, key=repr(row.cells[0])[:MAX_KEY])
        else:
            self.corrected += 1
        return cells


def _hub_id(damaged: apsw.Connection) -> str:
    """Return the id of the hub from one of its two copies. Raises Irreparable."""
    for table in TABLES[:2]:
        with suppress(*_DAMAGED, apsw.SQLError):
            for row in _rows(damaged, table):
                cells = row.cells if row.is_intact else row.corrected()
                if cells is not None and (cells[0] == HUB_ID or table.name == "identity"):
                    return str(cells[-1])
    raise Irreparable(
        "the file of the registry is damaged: the id of the hub in it cannot be read, and without it history could "
        f"appear under the names of other devices. {_REMEDY}"
    )


@cache
def _expected_schema(version: int) -> list[tuple[object, ...]]:
    """Return the definition of every table, index and trigger of this version."""
    with closing(apsw.Connection(":memory:")) as connection:
        create_tables(connection, version=version)
        return list(connection.execute(_SCHEMA))


def _connect(path: Path) -> apsw.Connection:
    """Open the file only to read it."""
    connection = apsw.Connection(os.fspath(path))
    connection.set_busy_timeout(BUSY_MS)
    # Closing must not move a log to a damaged file.
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.pragma("query_only", True)
    return connection


def _is_in_use(path: Path) -> bool:
    """Return whether another connection has the file open."""
    with closing(apsw.Connection(os.fspath(path))) as connection:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        try:
            connection.pragma("locking_mode", "exclusive")
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        except apsw.BusyError:
            return True
        except _DAMAGED:
            return False
    return False


@contextmanager
def _only_process(directory: Path) -> Iterator[None]:
    """Let one process at a time verify a registry in this directory."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
