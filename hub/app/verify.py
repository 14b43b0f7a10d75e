"""Verification of a data directory: of a stopped hub, of a running hub, or of a backup.

A running hub continues meanwhile. Its databases are read in snapshots. One process at a time can open the file of
DuckDB, so a running hub reads that file itself, and the caller passes the function that asks it.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from hub.app.data_directory import (
    BRIDGE_FILES,
    DUCKDB_FILE,
    INFLUXDB_FILE,
    JOURNAL_FILE,
    LIBRARIES,
    REGISTRY_FILE,
    RESTORING,
    interrupted_restore,
    set_aside_files,
)
from hub.app.errors import HubError
from hub.app.manifest import FILE_NAME as MANIFEST_FILE
from hub.app.manifest import ManifestError, read_manifest, verify_files
from hub.journal.continuity import find_discontinuity, find_foreign_owner
from hub.journal.lock import read_record
from hub.journal.verify import JournalFacts
from hub.journal.verify import verify_snapshot as verify_journal
from hub.model.journal import JournalPosition
from hub.mqtt.subscriptions import verify_subscriptions
from hub.registry.last_state import read_state
from hub.registry.verify import RegistryFacts
from hub.registry.verify import verify_snapshot as verify_registry
from hub.storage.accounting import CONSUMER
from hub.storage.duckdb.database import files_set_aside
from hub.storage.duckdb.verify import StoreFacts, verify_file
from hub.storage.influxdb.state import verify_state
from integrity.database import DatabaseSnapshot, ReportBytes, SnapshotError
from integrity.finding import Finding
from integrity.recovery import beside, examine_log
from wire.text import plural

ReportShare = Callable[[float], None]
"""Receives the share that is verified, from 0 to 1."""

_RESTORE = (
    "the hub does not start with this file",
    "stop the hub, keep a copy of the directory, and restore a backup with `hub restore`",
)

RECORD_ATTEMPTS = 3
"""Further attempts to read a small file that a running hub may be writing."""

Facts = TypeVar("Facts")


class Observer(NamedTuple):
    """Receivers of the progress: the name and the bytes of a file before work on it, the bytes since, and findings."""

    begin: Callable[[str, int], None]
    advance: ReportBytes
    found: Callable[[Finding], None]


class _DirectoryState(NamedTuple):
    """State of the directory: a hub runs on it, or it is certain that no process writes it."""

    is_running: bool
    is_static: bool


class DirectoryFacts(NamedTuple):
    """Facts about the three files that must fit together; None for a file that is missing or cannot be read."""

    registry: RegistryFacts | None
    journal: JournalFacts | None
    store: StoreFacts | None

    def without_records(self) -> DirectoryFacts:
        """Return the facts without what the registry and the lock's file have recorded of the journal.

        In a backup, and in the directory of a running hub, they may be newer than the snapshot of the journal.
        """
        registry, journal, store = self
        return DirectoryFacts(
            None if registry is None else registry._replace(journal=None),
            None if journal is None else journal._replace(recorded=None),
            store,
        )


def verify_directory(
    data: Path,
    observer: Observer,
    verify_history: Callable[[ReportShare], list[Finding]] | None = None,
    *,
    is_backup: bool = False,
) -> DirectoryFacts:
    """Report a finding for each file, and for each damage of it. Raises HubError if there is no hub in the directory.

    `verify_history` verifies the history of the hub that runs on the directory; None if no hub runs there. No process
    writes a backup; a directory with a manifest is one.
    """
    if (interrupted := interrupted_restore(data)) is not None:
        what, _, next_step = interrupted.partition(". ")
        observer.found(Finding(f"{RESTORING}/", False, what, "the hub does not start", next_step))
    elif not any((data / name).exists() for name in (REGISTRY_FILE, JOURNAL_FILE, MANIFEST_FILE)):
        raise HubError(f"there is no hub in {data}: set --data or HUB_DATA to its data directory")
    if (data / MANIFEST_FILE).exists():
        is_backup = True
        _verify_backup(data, observer)
    state = _DirectoryState(is_running=verify_history is not None, is_static=is_backup)
    facts = DirectoryFacts(
        _verify_database(data / REGISTRY_FILE, verify_registry, observer, state),
        _verify_database(data / JOURNAL_FILE, verify_journal, observer, state),
        _verify_history(data / DUCKDB_FILE, observer, verify_history),
    )
    if not is_backup:
        _verify_records(data, facts, observer, is_running=state.is_running)
    for finding in compare(facts.without_records() if is_backup or state.is_running else facts):
        observer.found(finding)
    _verify_small_files(data, observer)
    return facts


def compare(facts: DirectoryFacts) -> Iterator[Finding]:
    """Yield what does not fit together, although each file may be intact: one was lost, or is of another time. Pure."""
    registry, journal, store = facts
    if registry is not None and store is not None:
        if store.registry not in ("", registry.id):
            yield Finding(
                DUCKDB_FILE,
                False,
                "the file belongs to another registry.db",
                "the hub keeps the store closed, because history would appear under the names of other devices",
                f"restore {REGISTRY_FILE} and {DUCKDB_FILE} of the same time",
            )
        elif unknown := {id for id, _ in store.series} - {id for id, _ in registry.series}:
            yield Finding(
                REGISTRY_FILE,
                False,
                f"it does not know {plural(len(unknown), 'series', 'series')} of {DUCKDB_FILE}",
                "it is older than the store: their readings are stored and have no name",
                "restore the registry.db of the same time",
            )
        elif retyped := store.series - registry.series:
            yield Finding(
                REGISTRY_FILE,
                False,
                f"it does not know a type of {plural(len(retyped), 'series', 'series')} of {DUCKDB_FILE}",
                "it is older than the store: their readings of this type are stored and not shown",
                "restore the registry.db of the same time, or give the metrics this type again: `hub metric retype`",
            )
    if journal is not None:
        stored = JournalPosition("", 0) if store is None else JournalPosition(*store.cursor)
        yield from _compare_owners(journal, registry, stored) or _compare_positions(
            journal, None if registry is None else registry.journal, stored
        )


def _compare_owners(journal: JournalFacts, registry: RegistryFacts | None, stored: JournalPosition) -> list[Finding]:
    if registry is None:
        return []
    foreign = find_foreign_owner(
        JournalPosition(journal.id, journal.last_offset),
        owner=journal.hub,
        hub=registry.id,
        registry=registry.journal,
        lock=journal.recorded,
        store=stored,
    )
    return [] if foreign is None else [Finding(JOURNAL_FILE, False, *foreign)]


def _compare_positions(
    journal: JournalFacts, recorded: JournalPosition | None, stored: JournalPosition
) -> Iterator[Finding]:
    present = JournalPosition(journal.id, journal.last_offset)
    acknowledged = journal.cursors.get(CONSUMER, 0)
    consumed = max(journal.cursors.values(), default=0)
    lost = find_discontinuity(present, registry=recorded, lock=journal.recorded, store=stored, consumed=consumed)
    if lost is not None:
        yield Finding(
            JOURNAL_FILE,
            False,
            lost.reason,
            "accepted readings that are neither in it nor in the store are lost, unless their agents still keep them",
            "start the hub, which declares what is lost and requests it from the agents, or restore a backup",
        )
    elif stored.id == journal.id and stored.offset < acknowledged:
        missing = max(0, journal.first_offset - 1 - stored.offset)
        yield Finding(
            DUCKDB_FILE,
            False,
            f"it has the journal up to offset {stored.offset:,}, and it had it up to {acknowledged:,}",
            f"the store has lost its newest writes, and the journal {plural(missing, 'entry', 'entries')} of them",
            "start the hub, which writes what the journal still has, and restore a backup for the rest",
        )


def _verify_backup(folder: Path, observer: Observer) -> None:
    try:
        manifest = read_manifest(folder)
    except ManifestError as error:
        observer.found(Finding(MANIFEST_FILE, False, str(error), "the backup cannot be restored", "use another backup"))
        return
    observer.begin(MANIFEST_FILE, sum(file.size_bytes for file in manifest.files))
    for finding in verify_files(folder, manifest, observer.advance):
        if not finding.intact:
            observer.found(finding)


def _verify_database(
    path: Path,
    verify: Callable[[str, DatabaseSnapshot, ReportBytes], tuple[list[Finding], Facts | None]],
    observer: Observer,
    state: _DirectoryState,
) -> Facts | None:
    if not path.exists():
        observer.found(_missing(path.name))
        return None
    observer.begin(path.name, path.stat().st_size)
    try:
        damage = None if state.is_running else examine_log(path)
        with DatabaseSnapshot(path, is_static=state.is_static) as snapshot:
            findings, facts = verify(path.name, snapshot, observer.advance)
    except SnapshotError as error:
        finding = (
            Finding(path.name, False, str(error), *_RESTORE)
            if error.is_damage
            else Finding(path.name, None, str(error))
        )
        observer.found(finding)
        return None
    except OSError as error:
        observer.found(Finding(path.name, None, f"the file cannot be read: {error.strerror}"))
        return None
    for finding in findings:
        observer.found(finding)
    if damage is None:
        return facts
    observer.found(
        Finding(
            beside(path, "-wal").name,
            False,
            f"frame {damage.frame} of the write-ahead log is damaged, {plural(damage.commits, 'commit')} behind it",
            "the next start of the hub repairs the log and keeps these commits; the damaged page may stay wrong",
            "check the disk, start the hub, and verify again",
        )
    )
    return None  # without the commits behind the damage, these facts are too old


def _verify_history(
    path: Path, observer: Observer, verify_running: Callable[[ReportShare], list[Finding]] | None
) -> StoreFacts | None:
    if not path.exists():
        # With InfluxDB there is none.
        if not path.with_name(INFLUXDB_FILE).exists():
            observer.found(_missing(path.name))
        return None
    size_bytes, reported = path.stat().st_size, 0
    observer.begin(path.name, size_bytes)

    def report(share: float) -> None:
        nonlocal reported
        observer.advance(round(share * size_bytes) - reported)
        reported = round(share * size_bytes)

    if verify_running is not None:
        findings, facts = verify_running(report), None
    else:
        findings, facts = verify_file(path, report)
    for finding in findings:
        observer.found(finding)
    return facts


def _verify_records(data: Path, facts: DirectoryFacts, observer: Observer, *, is_running: bool) -> None:
    """Verify the two small files that show at a start what a database has lost. A backup has none."""
    read: Callable[[Path], object]
    for database, suffix, read, loss in (
        (data / JOURNAL_FILE, ".lock", read_record, "the loss of the journal's newest entries"),
        (data / REGISTRY_FILE, ".state", read_state, "a lost or older registry.db"),
    ):
        path = beside(database, suffix)
        if not path.exists() or path.stat().st_size == 0:
            continue
        observer.begin(path.name, path.stat().st_size)
        # The hub may be writing it.
        if any(read(database) is not None for _ in range(1 + RECORD_ATTEMPTS * is_running)):
            observer.found(Finding(path.name, True, "its checksum is correct"))
        else:
            meaning = (
                f"{loss} is not noticed from this file",
                "check the disk; the next start of the hub writes it again",
            )
            observer.found(Finding(path.name, False, "its checksum is wrong", *meaning))
    if facts.registry is not None and facts.registry.loss is not None and not is_running:
        consequence = "tokens and devices may be missing, and revoked tokens may be valid again"
        next_step = "look at `hub token list`, or restore a backup with `hub restore`"
        observer.found(Finding(REGISTRY_FILE, False, facts.registry.loss, consequence, next_step))


def _verify_small_files(data: Path, observer: Observer) -> None:
    for name, verify in ((INFLUXDB_FILE, verify_state), (BRIDGE_FILES, verify_subscriptions)):
        for path in sorted(data.glob(name)):
            observer.begin(path.name, path.stat().st_size)
            observer.found(verify(path))
    for path in sorted((data / LIBRARIES).glob("*.whl")):
        observer.begin(path.name, path.stat().st_size)
        observer.found(_verify_wheel(path))
    waiting = files_set_aside(data / DUCKDB_FILE)
    for path in set_aside_files(data):
        observer.found(_set_aside(path, is_needed=path in waiting))


def _set_aside(path: Path, *, is_needed: bool) -> Finding:
    """Return the finding for a file that was set aside. `is_needed`: it is a history that was not rebuilt yet."""
    if not is_needed:
        return Finding(
            path.name, True, "set aside by a repair or a restore: delete it when you do not need it any more"
        )
    return Finding(
        path.name,
        False,
        "a damaged history that was set aside and is not rebuilt yet: keep it",
        "the history lacks its readings, except those that the journal still had",
        "stop the hub and run `hub store rebuild`, which needs this file",
    )


def _verify_wheel(path: Path) -> Finding:
    name = f"{LIBRARIES}/{path.name}"
    try:
        with zipfile.ZipFile(path) as wheel:
            damaged = wheel.testzip()
    except (OSError, zipfile.BadZipFile) as error:
        damaged = str(error)
    if damaged is None:
        return Finding(name, True, "every file in it has its checksum")
    return Finding(
        name, False, f"damaged: {damaged}", "devices cannot install it", "download it again, as docs/README.md says"
    )


def _missing(name: str) -> Finding:
    return Finding(
        name,
        False,
        "the file is missing",
        "the hub begins a new one at its start, and what only this file contained is lost",
        "restore a backup with `hub restore`",
    )
