"""Backup of a data directory while its hub runs, or is stopped.

The files belong together, so their order matters. The files of the store come first, during a hold in which nothing
changes them. The snapshot of the journal begins before the hold ends. Until then the position of the store stands
still: the journal has every entry behind it, and cannot have deleted one. The registry comes last, so that it knows
every series of these entries.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from hub.app.data_directory import (
    DATABASES,
    JOURNAL_FILE,
    REGISTRY_FILE,
    STORE_FILES,
    check_hub,
    check_restored,
    plain_files,
)
from hub.app.errors import HubError
from hub.app.manifest import PIECE_BYTES, Manifest, describe_file, write_manifest
from hub.app.verify import Observer, verify_directory
from hub.journal.lock import Lock
from hub.model.journal import JournalError
from hub.storage.operating_system import sync
from integrity.database import DatabaseSnapshot, SnapshotError
from integrity.finding import Finding
from integrity.recovery import beside, examine_log

PARTIAL = ".partial"
"""End of the name of an unfinished backup. The next backup of the same name removes it."""

RESERVE_BYTES = 64 << 20
"""Space that a backup or a restore leaves free, so that a hub on the same disk can still write."""

Hold = AbstractContextManager[Callable[[], None]]
"""Context in which the files of the store do not change. It yields a function to call often, at least every 10 seconds.

Both the function and the end of the context raise HubError if the files may have changed.
"""


class BackupResult(NamedTuple):
    """A finished backup: its manifest, and the findings of the verification of its files."""

    manifest: Manifest
    findings: list[Finding]


@contextmanager
def stopped_hub(data: Path) -> Iterator[Lock]:
    """Keep a hub from starting on this directory within the context. Raises HubError if one runs."""
    try:
        lock = Lock(data / JOURNAL_FILE)
    except JournalError as error:
        raise HubError(str(error)) from None
    try:
        yield lock
    finally:
        lock.release()


def back_up(data: Path, target: Path, hold: Hold, observer: Observer, *, is_running: bool) -> BackupResult:
    """Copy the data directory to the new folder `target`, and verify the copy.

    The folder has its name only when it is complete. Damaged files are copied as they are, and the findings report
    them. Raises HubError; then there is no folder.
    """
    check_hub(data)
    check_restored(data)
    if target.resolve().is_relative_to(data.resolve()):
        raise HubError(
            f"{target} is in the data directory {data}: a restore would move it away. Name a folder outside, on "
            "another disk if there is one"
        )
    if target.exists():
        raise HubError(f"{target} exists already: name a new folder")
    part = target.with_name(target.name + PARTIAL)
    try:
        shutil.rmtree(part, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        part.mkdir(mode=0o700)
        check_room(target.parent, sum(_size(data / name) for name in _copied_names(data)))
        _copy_files(data, part, hold, observer, is_running=is_running)
        result = _describe(part, observer)
        write_manifest(part, result.manifest)
        sync(part)
        part.rename(target)
        sync(target.parent)
    except (OSError, SnapshotError) as error:
        raise HubError(f"the backup was not made: {describe_error(error)}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return result


def check_room(folder: Path, needed_bytes: int) -> None:
    """Raise HubError if the disk of this folder has no room for so many bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes + RESERVE_BYTES:
        raise HubError(
            f"{needed_bytes // 1_000_000} MB and {RESERVE_BYTES // 1_000_000} MB of reserve are needed in {folder}, "
            f"and {free // 1_000_000} MB are free: free some space, or name a folder on another disk"
        )


def copy_file(source: Path, target: Path, between: Callable[[int], None]) -> None:
    """Copy a file durably. `between` receives the number of bytes of each piece that was copied. Raises OSError."""
    target.parent.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with source.open("rb") as file, os.fdopen(descriptor, "wb", buffering=0) as copy:
        while piece := file.read(PIECE_BYTES):
            copy.write(piece)
            between(len(piece))
        os.fsync(descriptor)


def describe_error(error: Exception) -> str:
    """Return an error of the system or of a database, for people, with the next step if the disk is full."""
    text = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
    is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return f"{text}. Free some space, and repeat the command" if is_full else text


def _copied_names(data: Path) -> list[str]:
    """Return the names of the files whose bytes are copied. A log has bytes that the copy of its database gets."""
    return [*STORE_FILES, *DATABASES, *(f"{name}-wal" for name in DATABASES), *plain_files(data)]


def _copy_files(data: Path, part: Path, hold: Hold, observer: Observer, *, is_running: bool) -> None:
    # The logs of a running hub are being written. SQLite reads them through its index and not by their checksums.
    raw = [] if is_running else [name for name in DATABASES if examine_log(data / name) is not None]
    with hold as renew:

        def between(copied_bytes: int) -> None:
            renew()
            observer.advance(copied_bytes)

        for name in STORE_FILES:
            if (data / name).exists():
                observer.begin(name, _size(data / name))
                copy_file(data / name, part / name, between)
        renew()
        journal = None if JOURNAL_FILE in raw else DatabaseSnapshot(data / JOURNAL_FILE)
    for name, snapshot in ((JOURNAL_FILE, journal), (REGISTRY_FILE, None)):
        if name in raw:
            # The next start repairs the log, also of a copy.
            for path in (data / name, beside(data / name, "-wal")):
                observer.begin(path.name, _size(path))
                copy_file(path, part / path.name, observer.advance)
        else:
            with snapshot or DatabaseSnapshot(data / name) as opened:
                observer.begin(name, opened.size_bytes)
                opened.copy(part / name, observer.advance)
    for name in plain_files(data):
        copy_file(data / name, part / name, lambda copied_bytes: None)


def _describe(part: Path, observer: Observer) -> BackupResult:
    """Return the manifest of the files of a new backup, and what their verification finds."""
    names = sorted(str(path.relative_to(part)) for path in part.rglob("*") if path.is_file())
    observer.begin("digests", sum(_size(part / name) for name in names))
    files = [describe_file(part, name, observer.advance) for name in names]
    findings: list[Finding] = []
    facts = verify_directory(part, observer._replace(found=findings.append), is_backup=True)
    # The index of a damaged log, which was copied with its database.
    for path in part.glob("*-shm"):
        path.unlink()
    manifest = Manifest(
        hub=facts.registry.id if facts.registry is not None else "",
        version=version("telemetry-hub"),
        created_ns=time.time_ns(),
        journal=facts.journal.id if facts.journal is not None else "",
        last_offset=facts.journal.last_offset if facts.journal is not None else 0,
        damage=[f"{finding.file}: {finding.what}" for finding in findings if not finding.intact],
        files=files,
    )
    return BackupResult(manifest, findings)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
