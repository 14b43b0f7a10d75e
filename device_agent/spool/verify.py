"""Verification of a spool's file, while its agent may run: its structure, and the checksum of every row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import apsw

from device_agent.errors import SpoolError
from device_agent.spool.layout import (
    READ_BATCHES,
    SCHEMA_VERSION,
    Damaged,
    check_identity,
    read_batches,
    read_commands,
    read_life,
    read_metrics,
    read_settings,
    read_standing,
)
from device_agent.spool.lock import is_locked
from integrity.database import DatabaseSnapshot, SnapshotError
from integrity.finding import Finding
from integrity.recovery import beside, examine_log
from wire.text import plural

_DECLARED = (
    "the agent declares what is damaged as a gap, keeps its bytes, and sends the rest",
    "start the agent if it does not run, and check the disk; docs/operations.md describes each case",
)
_ACKNOWLEDGED = (
    "the hub has acknowledged them and the agent kept them as a copy only, so nothing is lost",
    "check the disk; the running agent deletes them with the next batches that the hub acknowledges, after 10 minutes",
)
_COMMANDS = (
    "the agent reports these commands as failed: whether they took effect is not known, and they are not run again",
    "start the agent if it does not run, and check the disk",
)
_SETTINGS = (
    "the agent sets no value after its start until it is connected: the hub sends the desired values then",
    "start the agent if it does not run, and check the disk",
)
_REPAIRED = (
    "the next start of the agent repairs the log; a batch on the damaged page becomes a gap",
    "check the disk, start the agent, and verify again",
)


def verify_spool(path: Path) -> list[Finding]:
    """Return a finding for the spool at this path, or one for each damage."""
    name = path.name
    if not path.exists():
        return [Finding(name, None, f"there is no spool {path}")]
    try:
        # The log of a running agent is being written; SQLite reads it through its index.
        damage = None if is_locked(path) else examine_log(path)
        with DatabaseSnapshot(path) as snapshot:
            check_identity(snapshot.connection, path)
            if snapshot.connection.pragma("user_version") != SCHEMA_VERSION:
                return [Finding(name, None, "an older version wrote it; its agent converts it")]
            problems = [f"SQLite's own check: {problem}" for problem in snapshot.structure_problems()]
            problems += _problems(snapshot.connection)
            acknowledged, waiting = _damaged_batches(snapshot.connection)
            settings = _damage_of(lambda: read_settings(snapshot.connection))
            commands = sum(command.content is None for command in read_commands(snapshot.connection))
            batches = snapshot.connection.execute("SELECT count(*) FROM batch").get
    except Damaged as fault:
        return [Finding(name, False, str(fault), *_DECLARED)]
    except SnapshotError as error:
        return [Finding(name, False, str(error), *_DECLARED) if error.is_damage else Finding(name, None, str(error))]
    except (SpoolError, OSError) as error:
        return [Finding(name, None, str(error))]
    except apsw.Error as error:
        return [Finding(name, False, f"the file cannot be read: {error}", *_DECLARED)]
    findings = [Finding(name, False, problem, *_DECLARED) for problem in [*problems, *waiting]]
    findings += [Finding(name, False, problem, *_ACKNOWLEDGED) for problem in acknowledged]
    if commands:
        what = plural(commands, "record of a command is damaged", "records of commands are damaged")
        findings.append(Finding(name, False, what, *_COMMANDS))
    if settings is not None:
        findings.append(Finding(name, False, settings, *_SETTINGS))
    if damage is not None:
        what = f"frame {damage.frame} of the write-ahead log is damaged"
        findings.append(Finding(beside(path, "-wal").name, False, what, *_REPAIRED))
    return findings or [Finding(name, True, f"{plural(batches, 'batch', 'batches')} and all numbers are intact")]


def _problems(connection: apsw.Connection) -> Iterator[str]:
    for read in (read_standing, read_metrics):
        problem = _damage_of(partial(read, connection))
        if problem is not None:
            yield problem


def _damage_of(read: Callable[[], object]) -> str | None:
    try:
        read()
    except Damaged as damage:
        return str(damage)
    return None


def _damaged_batches(connection: apsw.Connection) -> tuple[list[str], list[str]]:
    """Return what is damaged of the batches that the hub has acknowledged, and of those that wait."""
    try:
        epoch, _, _, device, acked = read_life(connection)
    except Damaged:
        return [], []  # the checksum of a batch covers them
    damaged = [row.seq for row in read_batches(connection.execute(READ_BATCHES), device, epoch) if row.batch is None]
    acknowledged = [seq for seq in damaged if seq <= acked]
    waiting = [seq for seq in damaged if seq > acked]
    return _report(acknowledged, "acknowledged "), _report(waiting, "")


def _report(numbers: list[int], what: str) -> list[str]:
    if not numbers:
        return []
    return [f"{plural(len(numbers), f'{what}batch is', f'{what}batches are')} damaged, the first is {numbers[0]}"]
