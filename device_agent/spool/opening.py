"""The opening of a spool: its file is created, converted or repaired first, and every loss is declared.

A file that SQLite cannot read is moved aside, never deleted, and what is intact in it continues in a new file.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, cast

import apsw

from device_agent.errors import SpoolError
from device_agent.spool.contract import Gaps
from device_agent.spool.file import SpoolFile
from device_agent.spool.layout import (
    SCHEMA_VERSION,
    Damaged,
    Standing,
    check_identity,
    create,
    read_metrics,
    read_standing,
    upgrade,
)
from device_agent.spool.lock import acquire_lock
from device_agent.spool.salvage import LastState, Salvage, read_last_state, salvage
from integrity.recovery import aside, beside, recover_log
from wire.device import Gap
from wire.limits import MAX_REASON

WAL_LIMIT_BYTES = 4 * 1024 * 1024
"""Size of the log after a checkpoint. The log grows while a large backlog is written, and would not shrink."""

BUSY_MS = 5000
"""Longest wait for a `status` command that reads the file."""


class OpenedSpool(NamedTuple):
    """An open file. `moved_to` is the new path of a damaged one, None if the file was intact."""

    file: SpoolFile
    moved_to: Path | None


class _Loss(NamedTuple):
    """The state with which a spool continues after a loss, and what happened to it."""

    standing: Standing
    incident: str


def open_spool(path: Path, *, device: str, max_bytes: int, new_epoch: Callable[[], str]) -> OpenedSpool:
    """Open the spool of a device, and lock it until it is closed. Raises SpoolError."""
    lock = acquire_lock(path)
    try:
        last = read_last_state(path, device)
        recovery = recover_log(path)
        incidents = [] if recovery is None else [str(recovery)]
        moved_to, salvaged = None, None
        try:
            connection, standing = _connect(path, device, new_epoch)
            loss = _find_loss(standing, last)
        except Damaged as damage:
            moved_to = _move_aside(path)
            salvaged = _salvage(moved_to, device, last)
            connection, standing = _connect(path, device, new_epoch)
            loss = _after_damage(standing, salvaged, last, str(damage), moved_to.name)
        if loss is not None:
            standing = loss.standing
            incidents.append(loss.incident)
        standing = standing._replace(claim=standing.claim or standing.next_seq)
        file = SpoolFile(path, connection, standing, lock, max_bytes=max_bytes, new_epoch=new_epoch)
        try:
            if incidents:
                file.record_recovery(salvaged, incidents)
        except BaseException:
            connection.close()
            raise
        file.write_last_state()
    except BaseException as error:
        os.close(lock)
        if isinstance(error, apsw.Error | OSError | Damaged):
            raise SpoolError(f"the spool {path} cannot be opened: {error}") from None
        raise
    return OpenedSpool(file, moved_to)


def _connect(path: Path, device: str, new_epoch: Callable[[], str]) -> tuple[apsw.Connection, Standing]:
    """Open the file, create or convert its tables, and read its state. Raises Damaged, SpoolError and apsw.Error."""
    connection = apsw.Connection(os.fspath(path))
    try:
        check_identity(connection, path)
        connection.set_busy_timeout(BUSY_MS)
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "full")
        connection.pragma("journal_size_limit", WAL_LIMIT_BYTES)
        version = cast("int", connection.pragma("user_version"))
        if version and connection.pragma("quick_check", 1) != "ok":
            raise Damaged("SQLite's own check failed")
        if version != SCHEMA_VERSION:
            connection.execute("BEGIN IMMEDIATE")
            if version:
                upgrade(connection, version)
            else:
                create(connection, device, new_epoch())
            connection.execute("COMMIT")
        standing = read_standing(connection)
        read_metrics(connection)
        if standing.device != device:
            raise SpoolError(
                f"the spool {path} belongs to the device {standing.device!r}; "
                f"its readings must not be sent as {device!r}"
            )
    except (apsw.CorruptError, apsw.NotADBError, apsw.FormatError, UnicodeDecodeError) as error:
        connection.close()
        raise Damaged(str(error)) from None
    except BaseException:
        connection.close()
        raise
    return connection, standing


def _find_loss(standing: Standing, last: LastState | None) -> _Loss | None:
    """Return the loss that an intact file shows when it is compared with the last known numbers. Pure."""
    if last is None:
        return None
    if standing.epoch != last.epoch and standing.next_seq == 1:
        return _after_unknown_loss(standing, f"the spool was removed or emptied: {last}")
    if standing.epoch != last.epoch or standing.next_seq >= last.next_seq:
        return None
    first, end = standing.next_seq, last.next_seq - 1
    gaps = standing.gaps.add(first, end, "missing in the spool, which was cut or is an older copy")
    # New batches begin behind all numbers of this life, so the hello need not claim less.
    return _Loss(
        standing._replace(next_seq=last.next_seq, claim=0, gaps=gaps, lost=standing.lost.plus(end - first + 1, 0)),
        f"the spool was cut or replaced by an older copy: batches {first} to {end} are missing",
    )


def _after_damage(
    new: Standing, salvaged: Salvage | None, last: LastState | None, damage: str, kept_name: str
) -> _Loss:
    """Return what continues in the new file of a damaged spool. Pure."""
    if salvaged is not None:
        text = f"the spool was damaged ({damage}); intact batches continue, and the file is {kept_name}"
        return _Loss(salvaged.standing, text)
    held = "its contents are unknown" if last is None else str(last)
    return _after_unknown_loss(new, f"the spool was damaged ({damage}): {held}")


def _after_unknown_loss(new: Standing, text: str) -> _Loss:
    """Declare the loss of an unknown number of batches as a gap of one number, with its reason. Pure."""
    return _Loss(new._replace(next_seq=2, gaps=Gaps((Gap(1, 1, text[:MAX_REASON]),))), text)


def _move_aside(path: Path) -> Path:
    free = aside(path)
    path.rename(free)
    for suffix in ("-wal", "-shm"):
        if beside(path, suffix).exists():
            beside(path, suffix).rename(beside(free, suffix))
    return free


def _salvage(path: Path, device: str, last: LastState | None) -> Salvage | None:
    try:
        return salvage(path, device, last)
    except apsw.Error:
        return None
