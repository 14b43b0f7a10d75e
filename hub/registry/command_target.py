"""The targets of jobs: one row for each device of a job, with the state of its command.

A target follows its command in the transaction that changes the command, so both are durable together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import apsw
import structlog

from hub.model.command import CommandRecord
from hub.model.command_job import (
    MAX_STARTED,
    OPEN_TARGETS,
    Attempt,
    JobProgress,
    Target,
    TargetState,
    command_id,
    target_state,
)
from hub.registry.schema import INTACT
from wire.limits import MAX_INTEGER

MAX_TARGET_PAGE = 1_000
"""Targets in one answer."""

log = structlog.get_logger(__name__)

_NOT_ENDED = tuple(state.value for state in (TargetState.PENDING, *sorted(OPEN_TARGETS)))
_BEGUN = tuple(state.value for state in TargetState if state is not TargetState.PENDING)
_COLUMNS = f"{INTACT['command_targets']}, number, device, batch, state, command, code, message"


def insert_targets(connection: apsw.Connection, job: str, devices: Iterable[tuple[int, str]]) -> None:
    """Store targets of a job, each a batch and a device, inside a transaction."""
    connection.executemany(
        "INSERT INTO command_targets (job, device, batch, state, command, code, message) "
        "VALUES (?, ?, ?, ?, '', '', '')",
        [(job, device, batch, TargetState.PENDING.value) for batch, device in devices],
    )


def delete_targets(connection: apsw.Connection, job: str) -> None:
    """Delete every target of a job, inside a transaction."""
    connection.execute("DELETE FROM command_targets WHERE job = ?", (job,))


def is_pending(connection: apsw.Connection, job: str, device: str) -> bool:
    """Return whether this device is a target of the job that has no command yet."""
    query = "SELECT state FROM command_targets WHERE job = ? AND device = ?"
    return bool(connection.execute(query, (job, device)).get == TargetState.PENDING.value)


def refuse_target(connection: apsw.Connection, job: str, attempt: Attempt) -> None:
    """Store that a target gets no command, and why, inside a transaction."""
    _update(connection, job, attempt.device, (TargetState.REFUSED.value, "", attempt.code, attempt.message))


def follow_command(connection: apsw.Connection, record: CommandRecord) -> None:
    """Give the target of this command, if there is one, the state of the command, inside a transaction."""
    if not record.job:
        return
    state, code, message = target_state(record)
    try:
        _update(connection, record.job, record.device, (state.value, record.id, code, message))
    except apsw.ConstraintError as error:
        # Only the row of the target is damaged. The next start repairs it, and `mend_targets` reads the command.
        log.error("target of a command job is damaged", job=record.job, device=record.device, error=str(error))


def select_progress(connection: apsw.Connection, job: str) -> JobProgress:
    """Return the progress of a job, from a scan of its part of an index: a millisecond for 10,000 targets."""
    rows = connection.execute("SELECT state, count(*) FROM command_targets WHERE job = ? GROUP BY state", (job,))
    counts = {TargetState(state): count for state, count in rows}
    marks = ", ".join("?" for _ in _NOT_ENDED)
    batch = connection.execute(
        f"SELECT min(batch) FROM command_targets WHERE job = ? AND state IN ({marks})", (job, *_NOT_ENDED)
    ).get
    if batch is None:
        return JobProgress(counts)
    marks = ", ".join("?" for _ in _BEGUN)
    is_begun = connection.execute(
        f"SELECT EXISTS (SELECT 1 FROM command_targets WHERE job = ? AND state IN ({marks}) AND batch = ?)",
        (job, *_BEGUN, batch),
    ).get
    pending = connection.execute(
        "SELECT device FROM command_targets WHERE job = ? AND state = ? AND batch = ? ORDER BY number LIMIT ?",
        (job, TargetState.PENDING.value, batch, MAX_STARTED),
    )
    return JobProgress(counts, bool(is_begun), [device for (device,) in pending])


def select_queued(connection: apsw.Connection, job: str) -> list[tuple[str, str]]:
    """Return the devices of a job whose command is not sent, each with the id of the command."""
    query = "SELECT device, command FROM command_targets WHERE job = ? AND state = ? ORDER BY number"
    return list(connection.execute(query, (job, TargetState.QUEUED.value)))


def select_targets(
    connection: apsw.Connection,
    job: str,
    *,
    limit: int,
    after: int | None = None,
    states: Sequence[TargetState] = (),
) -> list[Target]:
    """Return at most `limit` and MAX_TARGET_PAGE + 1 targets of a job after this number, in the order of batches.

    Only those in these states, all without one. Damaged ones are left out and logged.
    """
    chosen = [state.value for state in states or TargetState]
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM command_targets WHERE job = ? AND number > ? "
        f"AND state IN ({', '.join('?' for _ in chosen)}) ORDER BY number LIMIT ?",
        (job, 0 if after is None else min(after, MAX_INTEGER), *chosen, max(0, min(limit, MAX_TARGET_PAGE + 1))),
    )
    targets = []
    for is_intact, number, device, batch, state, command, code, message in rows:
        if is_intact:
            targets.append(
                Target(
                    number=number,
                    device=device,
                    batch=batch,
                    state=TargetState(state),
                    command=command,
                    code=code,
                    message=message,
                )
            )
        else:
            log.error("target is damaged and left out, the next start of the hub repairs the registry", device=device)
    return targets


def select_differing(connection: apsw.Connection, job: str) -> list[tuple[str, str]]:
    """Return the devices of a job with an open command that has another state now, or is lost, and the command."""
    marks = ", ".join("?" for _ in OPEN_TARGETS)
    rows = connection.execute(
        "SELECT target.device, target.command FROM command_targets AS target LEFT JOIN commands ON commands.id = "
        f"target.command WHERE target.job = ? AND target.state IN ({marks}) AND commands.state IS NOT target.state",
        (job, *(state.value for state in OPEN_TARGETS)),
    )
    return list(rows)


def lose_command(connection: apsw.Connection, job: str, device: str) -> None:
    """Store that the command of a target is lost, inside a transaction: the target has ended without a known result."""
    message = "the command was lost when the registry was damaged: whether the device executed it is unknown"
    cells = (TargetState.TIMED_OUT.value, command_id(job, device), "command_lost", message)
    _update(connection, job, device, cells)


def _update(connection: apsw.Connection, job: str, device: str, cells: tuple[str, str, str, str]) -> None:
    connection.execute(
        "UPDATE command_targets SET state = ?, command = ?, code = ?, message = ? WHERE job = ? AND device = ?",
        (*cells, job, device),
    )
