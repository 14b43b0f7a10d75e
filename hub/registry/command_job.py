"""The durable jobs: one command to many devices. The tables of jobs and of their targets are bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import apsw
import msgspec
import structlog

from hub.ingest.command_dispatcher import IdInUse, Stored
from hub.ingest.command_job_runner import JobTransition, StoredJob
from hub.model.command import KEPT_NS, cancelled
from hub.model.command_job import (
    KEPT_JOBS,
    KEPT_TARGETS,
    MAX_OPEN_JOBS,
    Attempt,
    CommandJob,
    JobProgress,
    Target,
    TargetState,
    begun,
    event_of_job,
)
from hub.registry import command, command_target
from hub.registry.database import RegistryError, RegistryThread
from hub.registry.event import insert_events
from hub.registry.schema import INTACT
from wire.errors import Code
from wire.limits import MAX_INTEGER, MAX_MESSAGE

MAX_JOB_PAGE = 100
"""Jobs in one answer."""

INSERTED_TARGETS = 500
"""Targets in one transaction, which takes about 20 ms: other requests do not wait for all targets of a job."""

log = structlog.get_logger(__name__)

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(CommandJob).decode
_COLUMNS = f"{INTACT['command_jobs']}, number, record"


class CommandJobTable:
    """The jobs in the registry. Implements hub.ingest.command_job_runner.CommandJobStore."""

    def __init__(self, thread: RegistryThread, clock: Callable[[], int]) -> None:
        self._thread = thread
        self._clock = clock

    async def open(self) -> None:
        """Repair what damage has left, and delete old jobs. Raises RegistryError."""
        now_ns = self._clock()
        await self._thread.write(lambda connection: mend(connection, now_ns))

    async def insert(self, job: CommandJob, devices: Sequence[str], on_stored: Callable[[CommandJob], None]) -> None:
        """Store a new job with its targets, in their order.

        Raises IdInUse if there is a job with its id, and RegistryError: TOO_MANY at MAX_OPEN_JOBS.

        The targets come first, in several transactions: without their job they mean nothing, also after a crash.
        """
        targets = [(number // job.batch_size, device) for number, device in enumerate(devices)]
        now_ns = self._clock()
        await self._thread.write(partial(delete_orphans, job=job.id))
        try:
            for first in range(0, len(targets), INSERTED_TARGETS):
                part = targets[first : first + INSERTED_TARGETS]
                await self._thread.write(partial(command_target.insert_targets, job=job.id, devices=part))
            await self._thread.write(lambda connection: insert_job(connection, job, now_ns), on_stored)
        except RegistryError:
            with suppress(RegistryError):  # then the next insertion with this id does it, or the next start
                await self._thread.write(partial(delete_orphans, job=job.id))
            raise

    def progress(self, id: str) -> asyncio.Future[JobProgress]:
        """Return the progress of a job. Fails with RegistryError."""
        return self._thread.read(partial(command_target.select_progress, job=id))

    def start(
        self, id: str, attempts: Sequence[Attempt], on_stored: Callable[[StoredJob], None]
    ) -> asyncio.Future[StoredJob]:
        """Record the commands of targets that have none yet, or why they get none, in one transaction."""
        now_ns = self._clock()
        return self._thread.write(lambda connection: start_targets(connection, id, attempts, now_ns), on_stored)

    def end(
        self, id: str, transition: JobTransition, operator: str, on_stored: Callable[[StoredJob], None]
    ) -> asyncio.Future[StoredJob]:
        """Replace a job by what `transition` returns, and cancel its commands that are not sent, in one transaction.

        Nothing changes if `transition` returns None. `operator` is who cancels the commands.
        """
        now_ns = self._clock()
        return self._thread.write(lambda connection: end_job(connection, id, transition, operator, now_ns), on_stored)

    async def open_jobs(self) -> list[CommandJob]:
        """Return every job that has not ended, in their order. Raises RegistryError."""
        return await self._thread.read(select_open_jobs)

    async def job(self, id: str) -> tuple[CommandJob, JobProgress] | None:
        """Return a job with its progress, None if there is none. Raises RegistryError."""
        return await self._thread.read(lambda connection: _with_progress(connection, select_job(connection, id)))

    async def jobs(self, *, limit: int, before: int | None = None) -> list[tuple[CommandJob, JobProgress]]:
        """Return the jobs before this number with their progress, the newest first. Raises RegistryError."""
        return await self._thread.read(
            lambda connection: [
                (job, command_target.select_progress(connection, job.id))
                for job in select_jobs(connection, limit=limit, before=before)
            ]
        )

    async def targets(
        self, id: str, *, limit: int, after: int | None = None, states: Sequence[TargetState] = ()
    ) -> list[Target]:
        """Return targets of a job in these states (all without one), in the order of batches. Raises RegistryError."""
        return await self._thread.read(
            lambda connection: command_target.select_targets(connection, id, limit=limit, after=after, states=states)
        )


def insert_job(
    connection: apsw.Connection, job: CommandJob, now_ns: int, *, max_open: int = MAX_OPEN_JOBS
) -> CommandJob:
    """Store a new job, whose targets are stored, and return it with its number, inside a transaction.

    Raises RegistryError(TOO_MANY).
    """
    if connection.execute("SELECT count(*) FROM command_jobs WHERE is_open").get >= max_open:
        raise RegistryError(
            Code.TOO_MANY, f"the hub has {max_open} command jobs that have not ended, the maximum: cancel one, or wait"
        )
    connection.execute(
        "INSERT INTO command_jobs (id, is_open, created_ns, targets, record) VALUES (?, ?, ?, ?, ?)",
        (job.id, True, job.created_ns, job.targets, _encode(job).decode()),
    )
    stored = msgspec.structs.replace(job, number=connection.last_insert_rowid())
    _record_event(connection, stored)
    delete_old_jobs(connection, now_ns)
    return stored


def start_targets(connection: apsw.Connection, id: str, attempts: Sequence[Attempt], now_ns: int) -> StoredJob:
    """Record the commands of pending targets of an open job, or why they get none, inside a transaction."""
    job = select_job(connection, id)
    if job is None or not job.state.is_open:
        return StoredJob(job)
    commands = []
    for attempt in attempts:
        if not command_target.is_pending(connection, id, attempt.device):
            continue
        if attempt.command is None:
            command_target.refuse_target(connection, id, attempt)
            continue
        try:
            record = command.insert_command(connection, attempt.command)
        except RegistryError as error:
            if error.code is not Code.TOO_MANY:
                raise
            refusal = Attempt(attempt.device, None, "queue_full", error.message)
            command_target.refuse_target(connection, id, refusal)
        except apsw.ConstraintError:
            refusal = Attempt(attempt.device, None, "id_in_use", "another command has the id of this one")
            command_target.refuse_target(connection, id, refusal)
        else:
            command_target.follow_command(connection, record)
            commands.append(Stored(record, True))
    return StoredJob(_replace(connection, job, begun(job, now_ns)) or job, commands, True)


def end_job(connection: apsw.Connection, id: str, transition: JobTransition, operator: str, now_ns: int) -> StoredJob:
    """Replace a job by what `transition` returns, and cancel its commands that are not sent, inside a transaction."""
    job = select_job(connection, id)
    changed = None if job is None else _replace(connection, job, transition(job))
    if job is None or changed is None:
        return StoredJob(job)
    cancel = partial(cancelled, operator=operator, now_ns=now_ns)
    commands: list[Stored] = []
    for device, queued in command_target.select_queued(connection, id):
        commands += command.change_commands(connection, device, [queued], cancel, now_ns)
    return StoredJob(changed, commands, True)


def _replace(connection: apsw.Connection, job: CommandJob, changed: CommandJob | None) -> CommandJob | None:
    if changed is not None:
        record = _encode(msgspec.structs.replace(changed, number=0)).decode()
        connection.execute(
            "UPDATE command_jobs SET is_open = ?, record = ? WHERE number = ?",
            (changed.state.is_open, record, job.number),
        )
        _record_event(connection, changed)
    return changed


def _record_event(connection: apsw.Connection, job: CommandJob) -> None:
    event = event_of_job(job)
    if event is not None:
        insert_events(connection, [event._replace(detail=event.detail[:MAX_MESSAGE])])


def mend(connection: apsw.Connection, now_ns: int) -> None:
    """Delete old jobs and targets without a job, and read again what became of open targets, inside a transaction.

    A target differs from its command only if a row was lost or damaged.
    """
    connection.execute("DELETE FROM command_targets WHERE job NOT IN (SELECT id FROM command_jobs)")
    delete_old_jobs(connection, now_ns)
    for job in select_open_jobs(connection):
        for device, id in command_target.select_differing(connection, job.id):
            record = command.select_command(connection, device, id)
            if record is None:
                command_target.lose_command(connection, job.id, device)
            else:
                command_target.follow_command(connection, record)


def delete_orphans(connection: apsw.Connection, job: str) -> None:
    """Delete what was stored of a job that does not exist, inside a transaction. Raises IdInUse if it exists."""
    if connection.execute("SELECT 1 FROM command_jobs WHERE id = ?", (job,)).get is not None:
        raise IdInUse(job)
    command_target.delete_targets(connection, job)


def delete_old_jobs(
    connection: apsw.Connection,
    now_ns: int,
    *,
    in_all: int = KEPT_JOBS,
    kept_targets: int = KEPT_TARGETS,
    kept_ns: int = KEPT_NS,
) -> None:
    """Delete the oldest ended jobs beyond these bounds with their targets, inside a transaction."""
    ended: Iterable[tuple[Any, ...]] = connection.execute(
        "SELECT number, id, created_ns, targets FROM command_jobs WHERE NOT is_open ORDER BY number DESC"
    ).fetchall()
    kept = 0
    for place, (number, id, created_ns, targets) in enumerate(ended):
        kept += targets
        if place >= in_all or kept > kept_targets or created_ns < now_ns - kept_ns:
            command_target.delete_targets(connection, id)
            connection.execute("DELETE FROM command_jobs WHERE number = ?", (number,))


def select_open_jobs(connection: apsw.Connection) -> list[CommandJob]:
    """Return every job that has not ended, in their order."""
    return _jobs(connection.execute(f"SELECT {_COLUMNS} FROM command_jobs WHERE is_open ORDER BY number"))


def select_job(connection: apsw.Connection, id: str) -> CommandJob | None:
    """Return a job, None if there is none."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM command_jobs WHERE id = ?", (id,))
    return next(iter(_jobs(rows)), None)


def select_jobs(connection: apsw.Connection, *, limit: int, before: int | None = None) -> list[CommandJob]:
    """Return at most `limit` and MAX_JOB_PAGE + 1 jobs before this number, the newest first."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM command_jobs WHERE number < ? ORDER BY number DESC LIMIT ?",
        (MAX_INTEGER if before is None else before, max(0, min(limit, MAX_JOB_PAGE + 1))),
    )
    return _jobs(rows)


def _with_progress(connection: apsw.Connection, job: CommandJob | None) -> tuple[CommandJob, JobProgress] | None:
    return None if job is None else (job, command_target.select_progress(connection, job.id))


def _jobs(rows: Iterable[tuple[object, ...]]) -> list[CommandJob]:
    """Return the intact ones of these rows. Damaged ones are left out and logged."""
    jobs = []
    for is_intact, number, record in rows:
        if is_intact:
            jobs.append(msgspec.structs.replace(_decode(str(record)), number=number))
        else:
            log.error("job is damaged and left out, the next start of the hub repairs the registry", number=number)
    return jobs
