"""The rebuilding of a DuckDB history that `hub store rebuild` runs: collect the sources, rebuild, and count the result.

It holds the lock of the journal, so no hub runs on the data directory. hub.storage.duckdb.rebuild writes the file.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from hub.app.continuity import check_owner
from hub.app.data_directory import check_hub, check_restored
from hub.app.errors import HubError
from hub.app.services import decoder, open_journal
from hub.app.store import open_duckdb
from hub.config.settings import Settings
from hub.ingest.validate import count_readings
from hub.journal.consumer import EntryReader
from hub.journal.journal import Journal
from hub.model.journal import JournalPosition
from hub.model.store import StoreCursor
from hub.registry.database import FILE_NAME as REGISTRY_FILE
from hub.registry.registry import Registry
from hub.storage.duckdb.database import FILE_NAME, files_set_aside, remove
from hub.storage.duckdb.rebuild import RebuildResult, farthest_cursor, mark_rebuilt, open_or_set_aside, rebuild
from hub.storage.operating_system import keep_files_private

ReportProgress = Callable[[int], None]

SCRATCH = "journal"
"""Name of the journal in the cursor of the file with the journal's entries: it is no history of a hub."""


class RebuildReport(NamedTuple):
    """Result: what was written, from which files, and the readings of each device that are in none of them."""

    result: RebuildResult
    sources: Sequence[str]
    missing: dict[str, int]


async def rebuild_history(
    settings: Settings, *, copy: Path | None, on_total: ReportProgress, on_progress: ReportProgress
) -> RebuildReport:
    """Rebuild the history in the data directory from the damaged files there, a copy, and the journal.

    `on_total` receives the number of rows to read, `on_progress` the rows read since its last call. Raises HubError,
    JournalError while a hub runs, RegistryError, StoreError.
    """
    keep_files_private()
    path = settings.data / FILE_NAME
    _check(settings, copy)
    memory_limit, threads = settings.store.memory_limit, settings.store.threads
    async with (
        Registry(settings.data / REGISTRY_FILE) as registry,
        open_journal(settings, hub=registry.id) as journal,
    ):
        check_owner(registry, journal, JournalPosition("", 0))
        await asyncio.to_thread(partial(open_or_set_aside, path, memory_limit=memory_limit, threads=threads))
        damaged = files_set_aside(path)
        if not damaged and copy is None:
            raise HubError(f"no damaged history is set aside in {settings.data}: name a copy with --from")
        files = [*reversed(damaged), *([copy] if copy else []), *([path] if path.exists() else [])]
        find_cursor = partial(farthest_cursor, files, journal.id, memory_limit=memory_limit, threads=threads)
        cursor = await asyncio.to_thread(find_cursor)
        scratch = path.with_name(path.name + ".journal")
        try:
            await _write_entries(settings, scratch, journal, registry, up_to=cursor.offset)
            result = await asyncio.to_thread(
                partial(
                    rebuild,
                    path,
                    [*files, scratch],
                    registry=registry.id,
                    cursor=cursor,
                    report_total=on_total,
                    report_progress=on_progress,
                    memory_limit=memory_limit,
                    threads=threads,
                )
            )
        finally:
            remove(scratch)
        # A file that could not be read stays a problem, unless a copy took its place.
        has_copy = copy is not None and copy not in result.rejected
        done = [file for file in damaged if has_copy or file not in result.rejected]
        await asyncio.to_thread(mark_rebuilt, path, done)
        missing = await _missing(settings, journal, registry, cursor)
        await _count_damaged(journal, missing, is_loss_known=bool(result.unreadable or result.rejected))
    missing = {device: count for device, count in missing.items() if count > 0}
    used = [file for file in files if file not in result.rejected and file not in result.without_rows]
    # A copy often has the name of the history.
    return RebuildReport(result, [str(file) if file == copy else file.name for file in used], missing)


def _check(settings: Settings, copy: Path | None) -> None:
    """Raise HubError for a hub without DuckDB, a directory without a hub, and a copy that does not exist."""
    if settings.store.url is not None:
        raise HubError("the store is InfluxDB: restore its own backup, or use `hub store resend`")
    check_hub(settings.data)
    check_restored(settings.data)
    if copy is not None and (not copy.is_file() or copy.resolve() == (settings.data / FILE_NAME).resolve()):
        raise HubError(f"{copy} is no copy of the history: name another DuckDB file")


async def _write_entries(
    settings: Settings, scratch: Path, journal: Journal, registry: Registry, *, up_to: int
) -> None:
    """Write the journal's entries up to this offset into a file of their own."""
    remove(scratch)
    reader = EntryReader(journal, decoder(registry))
    async with open_duckdb(settings, scratch, registry=registry.id) as store:
        await store.open()
        async for entries in reader.read_range(journal.first_offset - 1, min(up_to, journal.last_offset)):
            await store.write([entry for entry in entries if entry.batch], StoreCursor(SCRATCH, entries[-1].offset))


async def _count_damaged(journal: Journal, missing: dict[str, int], *, is_loss_known: bool) -> None:
    """Count missing readings as damaged where a source could not be read, and found ones (negative) no longer.

    Without such a source the difference stays visible: nobody knows why it exists.
    """
    marks = journal.marks()
    changed = [
        marks[id]._replace(damaged=max(0, marks[id].damaged + count))
        for id, count in missing.items()
        if id in marks and (is_loss_known or count < 0)
    ]
    if changed:
        await journal.append([], changed)


async def _missing(settings: Settings, journal: Journal, registry: Registry, cursor: StoreCursor) -> dict[str, int]:
    """Return by how many readings each device's accounting differs: more are accepted, or (negative) more are there."""
    left = Counter({device: mark.readings - mark.damaged for device, mark in journal.marks().items()})
    async with open_duckdb(settings, settings.data / FILE_NAME, registry=registry.id) as store:
        await store.open()
        for id, counts in (await store.counts()).items():
            if id in registry.series:
                left[registry.series[id].device] -= sum(counts)
    reader = EntryReader(journal, decoder(registry))
    async for entries in reader.read_range(max(cursor.offset, journal.first_offset - 1), journal.last_offset):
        for entry in entries:
            left[entry.device] -= count_readings(entry)
    return {device: count for device, count in left.items() if count}
