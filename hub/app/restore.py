"""Restore of a backup into a data directory on which no hub runs."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import NamedTuple

from hub.app.backup import check_room, copy_file, describe_error, stopped_hub
from hub.app.data_directory import DUCKDB_FILE, JOURNAL_FILE, REGISTRY_FILE, REPLACED, RESTORING
from hub.app.errors import HubError
from hub.app.manifest import Manifest, ManifestError, read_manifest, verify_files
from hub.app.verify import Observer
from hub.config.address import FILE_NAME as ADDRESS_FILE
from hub.model.journal import JournalPosition
from hub.registry.hub_run import record_restore
from hub.storage.operating_system import sync
from integrity.recovery import recover_log

IGNORED = frozenset({ADDRESS_FILE, f"{JOURNAL_FILE}.lock", RESTORING, "lost+found"})
"""Files that make no hub's data: its address and lock, an unfinished restore, and a folder of the file system."""

LAST = (DUCKDB_FILE, JOURNAL_FILE, REGISTRY_FILE)
"""Files that get their names last, in this order. A hub does not start on what an interrupted restore leaves."""


class RestoreResult(NamedTuple):
    """A finished restore: the manifest of the backup, and where the files are that were replaced; None for none."""

    manifest: Manifest
    replaced: Path | None


def restore(folder: Path, data: Path, observer: Observer, *, replace: bool) -> RestoreResult:
    """Verify a backup and put its files into the data directory. With `replace`, present files are set aside there.

    Raises HubError; then the directory is as it was, unless the message names what happened.
    """
    if folder.resolve().is_relative_to(data.resolve()) or data.resolve().is_relative_to(folder.resolve()):
        raise HubError(f"{folder} and the data directory {data} contain each other: move the backup to another place")
    try:
        manifest = read_manifest(folder)
    except ManifestError as error:
        raise HubError(str(error)) from None
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        with stopped_hub(data) as lock:
            present = [path for path in data.iterdir() if _is_data(path)]
            if present and not replace:
                raise HubError(
                    f"{data} is not empty: add --replace, which moves its {len(present)} files into a folder there, or "
                    "name another directory with --data"
                )
            observer.begin("digests", sum(file.size_bytes for file in manifest.files))
            damage = [finding for finding in verify_files(folder, manifest, observer.advance) if not finding.intact]
            if damage:
                raise HubError(f"{damage[0].file}: {damage[0].what}. Nothing was restored; use another backup")
            check_room(data, sum(file.size_bytes for file in manifest.files))
            part = data / RESTORING
            # A journal that was damaged when the backup was made has no position.
            journal = JournalPosition(manifest.journal, manifest.last_offset) if manifest.journal else None
            try:
                _copy(folder, part, manifest, observer)
                recover_log(part / REGISTRY_FILE)
                record_restore(part / REGISTRY_FILE, journal, created_ns=manifest.created_ns, now_ns=time.time_ns())
            except BaseException:
                shutil.rmtree(part, ignore_errors=True)
                raise
            # The record of the replaced journal would show that this one has lost its end.
            lock.record(*(journal or JournalPosition("", 0)))
            replaced = _set_aside(data, present)
            _take_names(part, data)
    except OSError as error:
        raise HubError(f"the backup was not restored: {describe_error(error)}") from None
    return RestoreResult(manifest, replaced)


def _is_data(path: Path) -> bool:
    """Return whether a restore has to set this file aside."""
    return path.name not in IGNORED and not path.name.startswith(REPLACED)


def _copy(folder: Path, part: Path, manifest: Manifest, observer: Observer) -> None:
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(mode=0o700)
    for file in manifest.files:
        observer.begin(file.name, file.size_bytes)
        copy_file(folder / file.name, part / file.name, observer.advance)
    _give_to_owner(part.parent, part, *part.rglob("*"))


def _give_to_owner(data: Path, *paths: Path) -> None:
    """Give files that root has created to the owner of the data directory: the hub may run as that user."""
    if os.geteuid() == 0:
        owner = data.stat()
        for path in paths:
            os.chown(path, owner.st_uid, owner.st_gid)


def _set_aside(data: Path, present: list[Path]) -> Path | None:
    if not present:
        return None
    name = f"{REPLACED}{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    # An interrupted restore may have begun in the same second.
    taken = len(list(data.glob(f"{name}*")))
    aside = data / (f"{name}-{taken + 1}" if taken else name)
    aside.mkdir(mode=0o700)
    _give_to_owner(data, aside)
    for path in present:
        path.rename(aside / path.name)
    sync(aside)
    return aside


def _take_names(part: Path, data: Path) -> None:
    names = [path.name for path in part.iterdir()]
    for name in sorted(names, key=lambda name: LAST.index(name) if name in LAST else -1):
        (part / name).rename(data / name)
    part.rmdir()
    sync(data)
