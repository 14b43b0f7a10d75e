"""Rebuilding of a history whose file was damaged, from every file that has a part of it.

The sources are the damaged file as far as it can be read, the file that the hub began after it, copies, and a file with
the journal's entries. The new file gets each reading that is in at least one of them, as often as the source that has
it most often: two readings of one series have different times, so equal ones are the same. Building it again from the
same sources gives the same file. Rollups are computed again; those of readings that a retention deleted are copied.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import structlog

from hub.model.store import StoreCursor, StoreError
from hub.storage.duckdb import schema
from hub.storage.duckdb.database import LOCAL, Database, DatabaseDamaged, DuckdbConfig, explain, remove, set_aside
from hub.storage.duckdb.tables import Tables
from hub.storage.operating_system import sync
from hub.storage.query import Array
from wire.model import MetricType

SLICE_ROWS = 122_880
"""Rows copied by one statement: a row group of DuckDB, the unit in which its blocks belong together."""

LEAST_ROWS = 2_048
"""Rows that are given up together if they cannot be read: DuckDB decodes no fewer at once."""

ReportProgress = Callable[[int], None]
"""Receives the number of rows that were read, or given up, since its last call."""

log = structlog.get_logger(__name__)


class RebuildResult(NamedTuple):
    """Readings in the new file, rows of the sources that could not be read, and the reason for each rejected source.

    `without_rows` are the sources of which no row could be read.
    """

    readings: int
    unreadable: int
    rejected: dict[Path, str]
    without_rows: tuple[Path, ...] = ()


def open_or_set_aside(path: Path, *, memory_limit: str, threads: int) -> None:
    """Move the write-ahead log of the present file into it; set the file aside if it is damaged.

    Nothing happens if there is no file. Raises StoreUnavailable for a file that is in use or too new.
    """
    if not path.exists():
        return
    try:
        Database(path, memory_limit=memory_limit, threads=threads).close()
    except DatabaseDamaged as error:
        log.warning("history is damaged and is set aside", kept=set_aside(path).name, error=str(error))


class SourceFile:
    """An open source. Its errors stay in a database of its own, which is opened read-only."""

    def __init__(self, path: Path, *, memory_limit: str, threads: int) -> None:
        """Open the file, without its write-ahead log if that is damaged. Raises StoreError."""
        config: DuckdbConfig = {"memory_limit": memory_limit, "threads": threads, **LOCAL}
        self._link: Path | None = None
        try:
            self._connection = duckdb.connect(path, read_only=True, config=config)
        except duckdb.Error as error:
            if not path.with_name(path.name + ".wal").exists():
                raise explain(error, path) from error
            # The journal has what is in the log, or the log alone had it.
            log.warning("write-ahead log of a source is left out", source=path.name, error=str(error))
            self._link = path.with_name(path.name + ".without-log")
            self._link.unlink(missing_ok=True)
            os.link(path, self._link)
            try:
                self._connection = duckdb.connect(self._link, read_only=True, config=config)
            except duckdb.Error as second:
                self._link.unlink()
                raise explain(second, path) from second
        try:
            self.version, self.registry, journal, position = self._row(
                "SELECT version, registry, journal, position FROM store"
            )
        except duckdb.Error as error:
            self.close()
            raise explain(error, path) from error
        self.path = path
        self.cursor = StoreCursor(journal, position)
        self.unreadable = 0
        self.was_read = False

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
        if self._link is not None:
            self._link.unlink()

    def rows(self) -> int:
        """Return the number of rows that a copy reads."""
        tables = [schema.table(resolution, type) for resolution in schema.RESOLUTIONS for type in schema.TYPES]
        return sum(self._number(f"SELECT count(*) FROM {table}") for table in tables)

    def tiers(self) -> list[int]:
        """Return the times of the table `tiers`; zeros, which keep everything, if they cannot be read."""
        try:
            return list(self._row("SELECT raw_from_ns, minute_from_ns, hour_from_ns, clock_ns FROM tiers"))
        except duckdb.Error:
            self.unreadable += 1
            return [0, 0, 0, 0]

    def summaries(self, type: MetricType) -> dict[str, Array]:
        """Return the expired and refused counts of each series that has any; none if they cannot be read."""
        with contextlib.suppress(duckdb.Error):
            return self._columns(
                f"SELECT series, expired, refused FROM {schema.summary_table(type)} WHERE expired > 0 OR refused > 0"
            )
        return {}

    def slices(self, table: str, columns: str, where: str) -> Iterator[tuple[int, dict[str, Array]]]:
        """Yield the rows of a table in pieces, each with the number of rows that were read or given up for it."""
        last = self._number(f"SELECT coalesce(max(rowid), -1) FROM {table}")
        for first in range(0, last + 1, SLICE_ROWS):
            yield from self._slice(table, columns, where, first, min(first + SLICE_ROWS, last + 1))

    def _slice(
        self, table: str, columns: str, where: str, first: int, end: int
    ) -> Iterator[tuple[int, dict[str, Array]]]:
        try:
            found = self._columns(
                f"SELECT {columns} FROM {table} WHERE rowid BETWEEN {first} AND {end - 1} AND {where}"
            )
        except duckdb.Error as error:
            if not isinstance(explain(error, self.path), DatabaseDamaged):
                raise explain(error, self.path) from error
        else:
            self.was_read |= len(found["time_ns"]) > 0
            yield end - first, found
            return
        if end - first <= LEAST_ROWS:
            self.unreadable += end - first
            yield end - first, {}
            return
        middle = first + (end - first) // 2
        yield from self._slice(table, columns, where, first, middle)
        yield from self._slice(table, columns, where, middle, end)

    def _columns(self, sql: str) -> dict[str, Array]:
        columns: dict[str, Array] = self._connection.execute(sql).fetchnumpy()
        return columns

    def _row(self, sql: str) -> tuple[Any, ...]:
        (row,) = self._connection.execute(sql).fetchall()
        values: tuple[Any, ...] = row
        return values

    def _number(self, sql: str) -> int:
        """Return a number; 0 if it cannot be read, and then the rows that it is about cannot be read either."""
        try:
            (number,) = self._row(sql)
        except duckdb.Error:
            self.unreadable += 1
            return 0
        return int(number)


def rebuild(
    path: Path,
    sources: Sequence[Path],
    *,
    registry: str,
    cursor: StoreCursor,
    memory_limit: str,
    threads: int,
    report_total: ReportProgress,
    report_progress: ReportProgress,
) -> RebuildResult:
    """Write a new file from the sources and replace the file at `path`, which must be closed, by it.

    Its cursor will be `cursor`. Until the end nothing changes but a file beside it. Raises StoreError.
    """
    new_path = path.with_name(path.name + ".rebuilding")
    remove(new_path)
    with contextlib.ExitStack() as opened:
        rejected: dict[Path, str] = {}
        parts = list(_open_sources(sources, registry, rejected, opened, memory_limit=memory_limit, threads=threads))
        if not parts:
            raise StoreError(f"no source can be read: {'; '.join(rejected.values()) or 'there is none'}")
        report_total(sum(part.rows() for part in parts))
        database = Database(new_path, memory_limit=memory_limit, threads=threads)
        try:
            readings = _Rebuild(database.writer, parts, report_progress).run(registry, cursor)
        except (duckdb.Error, OSError) as error:
            raise explain(error, new_path) from error
        finally:
            database.close()
        unreadable = sum(part.unreadable for part in parts)
    sync(new_path)
    new_path.rename(path)
    sync(path.parent)
    without_rows = tuple(part.path for part in parts if part.unreadable and not part.was_read)
    return RebuildResult(readings, unreadable, rejected, without_rows)


def _open_sources(
    paths: Sequence[Path], registry: str, rejected: dict[Path, str], opened: contextlib.ExitStack, **options: Any
) -> Iterator[SourceFile]:
    for path in paths:
        try:
            source = SourceFile(path, **options)
        except StoreError as error:
            rejected[path] = str(error)
            continue
        opened.callback(source.close)
        if source.version != schema.VERSION:
            rejected[path] = f"{path.name} has layout version {source.version} instead of {schema.VERSION}"
        elif source.registry not in ("", registry):
            rejected[path] = f"{path.name} belongs to the registry of hub {source.registry}, and this is {registry}"
        else:
            yield source


def farthest_cursor(paths: Sequence[Path], journal: str, *, memory_limit: str, threads: int) -> StoreCursor:
    """Return the farthest cursor of these files in the journal; the start if none of them has been filled from it."""
    found = [StoreCursor("", 0)]
    for path in paths:
        with (
            contextlib.suppress(StoreError),
            closing(SourceFile(path, memory_limit=memory_limit, threads=threads)) as source,
        ):
            if source.cursor.journal == journal:
                found.append(source.cursor)
    return max(found, key=attrgetter("offset"))


def mark_rebuilt(path: Path, files: Sequence[Path]) -> None:
    """Rename damaged files whose readings are in the history now, so that they count as problems no longer."""
    for file in files:
        name = file.name.replace(f"{path.name}.damaged-", f"{path.name}.rebuilt-")
        for suffix in (".wal", ""):
            if (old := file.with_name(file.name + suffix)).exists():
                old.rename(path.with_name(name + suffix))


class _Rebuild:
    """The writing of a new file from open sources."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, sources: Sequence[SourceFile], report_progress: ReportProgress
    ) -> None:
        self._connection = connection
        self._sources = sources
        self._report_progress = report_progress
        self._base = max(sources, key=lambda source: source.tiers())
        """The source whose retention deleted most: what it deleted exists as its rollups and counts only."""

    def run(self, registry: str, cursor: StoreCursor) -> int:
        """Copy everything, and return the number of readings."""
        raw_from_ns, minute_from_ns, *_ = self._base.tiers()
        # What has no finer table any more is copied; everything else is rolled up again from the finer table.
        ends: dict[schema.Tier, int] = {"minute": raw_from_ns, "hour": minute_from_ns}
        for type in schema.TYPES:
            for number, source in enumerate(self._sources):
                self._add_readings(source, type, raw_from_ns, is_first=number == 0)
            for tier, end_ns in ends.items():
                table = schema.table(tier, type)
                for rows, columns in self._base.slices(table, "*", f"time_ns < {end_ns}"):
                    self._insert(table, columns)
                    self._report_progress(rows)
            self._add_counts(type)
        self._remove_widened()
        self._set_positions(registry, cursor)
        tables = Tables(self._connection, registry=registry)
        tables.rollups.roll_up_all()
        tables.rollups.fold_all()
        tables.save()
        self._connection.execute("CHECKPOINT")
        return sum(tables.stored.values())

    def _add_readings(self, source: SourceFile, type: MetricType, raw_from_ns: int, *, is_first: bool) -> None:
        table = schema.table("raw", type)
        for rows, columns in source.slices(table, "series, time_ns, value", f"time_ns >= {raw_from_ns}"):
            self._insert(table, columns, only_new=not is_first)
            self._report_progress(rows)

    def _insert(self, table: str, columns: dict[str, Array], *, only_new: bool = False) -> None:
        if not columns or not len(columns["time_ns"]):
            return
        # Only rows of the same times can be equal, and DuckDB skips the row groups of other times.
        known = (
            f" EXCEPT ALL SELECT * FROM {table} WHERE time_ns BETWEEN (SELECT min(time_ns) FROM slice) "
            "AND (SELECT max(time_ns) FROM slice)"
        )
        self._connection.register("slice", columns)
        try:
            self._connection.execute(f"INSERT INTO {table} SELECT * FROM slice{known if only_new else ''}")
        finally:
            self._connection.unregister("slice")

    def _remove_widened(self) -> None:
        """Remove floats that are an integer reading of another source.

        A metric that has become float since: the journal's entries are read as floats now, and the damaged file has
        them as the integers that they were.
        """
        integers, floats = schema.table("raw", "integer"), schema.table("raw", "float")
        self._connection.execute(
            f"DELETE FROM {floats} WHERE series IN (SELECT DISTINCT series FROM {integers}) "
            f"AND (series, time_ns) IN (SELECT (series, time_ns) FROM {integers})"
        )

    def _add_counts(self, type: MetricType) -> None:
        """Take over the expired and refused counts of the base. The summaries are computed at the opening."""
        columns = self._base.summaries(type)
        if columns and len(columns["series"]):
            self._connection.register("slice", columns)
            self._connection.execute(
                f"INSERT INTO {schema.summary_table(type)} SELECT series, 0, 0, 0, "
                f"CAST('0' AS {schema.TYPES[type]}), expired, refused FROM slice"
            )
            self._connection.unregister("slice")

    def _set_positions(self, registry: str, cursor: StoreCursor) -> None:
        counts = [
            self._connection.execute(f"SELECT count(*) FROM {schema.table('raw', type)}").fetchall()[0][0]
            for type in schema.TYPES
        ]
        self._connection.execute("UPDATE store SET registry = ?", [registry])
        # No reading is in the saved summaries or in a minute yet, and no minute is in an hour.
        self._connection.execute(schema.UPDATE_STORE, [*cursor, *(count for count in counts for _ in range(2))])
        for type in schema.TYPES:
            table = schema.table("minute", type)
            self._connection.execute(f"UPDATE rollup SET made = (SELECT count(*) FROM {table}) WHERE type = ?", [type])
        self._connection.execute(
            "UPDATE tiers SET raw_from_ns = ?, minute_from_ns = ?, hour_from_ns = ?, clock_ns = ?", self._base.tiers()
        )
