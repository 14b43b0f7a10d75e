"""The jobs: sends one command to many devices, batch by batch, and stops at a share of failures.

The file decides, as for single commands: which targets have a command, and what became of it. The memory has only the
jobs that have not ended, so a hub continues with them after each restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import NamedTuple, Protocol

import structlog

from hub.ingest.command_dispatcher import CommandDispatcher, CommandRefused, NewCommand, Stored
from hub.ingest.watches import Watch, Watches
from hub.model.command import GRACE_NS
from hub.model.command_job import (
    Attempt,
    CommandJob,
    EndJob,
    JobProgress,
    JobState,
    StartTargets,
    command_id,
    ended,
    next_step,
)
from wire.errors import WireError
from wire.timestamp import NS_PER_S

RETRY_S = 1.0
"""Wait before a step is tried again: it could not be stored, or its devices are about to connect after a restart."""

MAX_SLEEP_S = 60.0
"""Longest wait for news: a corrected clock is noticed within a minute."""

MAX_WATCHES = 64
"""Requests that wait for the progress of a job. Each holds a connection; further ones are answered at once."""

log = structlog.get_logger(__name__)


class StoredJob(NamedTuple):
    """Answer of the store to a change: the job, None for an unknown one, and what was stored of its commands."""

    job: CommandJob | None
    commands: Sequence[Stored] = ()
    is_changed: bool = False


JobTransition = Callable[[CommandJob], CommandJob | None]


class CommandJobStore(Protocol):
    """Durable jobs. A future holds the answer once it is on disk; `on_stored` runs first, in commit order."""

    async def insert(self, job: CommandJob, devices: Sequence[str], on_stored: Callable[[CommandJob], None]) -> None:
        """Store a new job with its targets, in their order. Raises IdInUse, and WireError: TOO_MANY at a bound.

        No second insertion begins before the first has ended.
        """

    def progress(self, id: str) -> asyncio.Future[JobProgress]:
        """Return the progress of a job."""

    def start(
        self, id: str, attempts: Sequence[Attempt], on_stored: Callable[[StoredJob], None]
    ) -> asyncio.Future[StoredJob]:
        """Record the commands of targets that have none yet, or why they get none, in one transaction."""

    def end(
        self, id: str, transition: JobTransition, operator: str, on_stored: Callable[[StoredJob], None]
    ) -> asyncio.Future[StoredJob]:
        """Replace a job by what `transition` returns, and cancel its commands that are not sent, in one transaction."""


class CommandJobRunner:
    """Runs the jobs of a hub. Run `run()` in a task."""

    def __init__(self, store: CommandJobStore, dispatcher: CommandDispatcher, *, clock: Callable[[], int]) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._clock = clock
        self._open: dict[str, CommandJob] = {}
        self._due: dict[str, None] = {}
        self._stalled: set[str] = set()
        self._restored: set[str] = set()
        self._grace_ns = 0
        self._wake = asyncio.Event()
        self._insertion = asyncio.Lock()
        self._watches = Watches[str](MAX_WATCHES)
        dispatcher.watch_jobs(self._has_news)

    def restore(self, jobs: Iterable[CommandJob]) -> None:
        """Continue with the open jobs of the file, in their order.

        Their devices have a minute to connect again: a restart of the hub is no failure of the devices.
        """
        self._grace_ns = self._clock() + GRACE_NS
        for job in jobs:
            self._restored.add(job.id)
            self._follow(job)

    # Operators.

    def attempt(self, job: CommandJob, device: str) -> Attempt:
        """Return the command that a device of this job would get now, or why it would get none."""
        now_ns = self._clock()
        new = NewCommand(
            job.name,
            dict(job.parameters),
            job.operator,
            job.timeout_ms,
            job.life_s(now_ns),
            job.is_confirmed,
            id=command_id(job.id, device),
            job=job.id,
        )
        try:
            return Attempt(device, self._dispatcher.prepare(device, new))
        except CommandRefused as refused:
            return Attempt(device, None, refused.code, str(refused))

    async def create(self, job: CommandJob, devices: Sequence[str]) -> None:
        """Record a job; it begins at once.

        Raises IdInUse if there is a job with its id, and WireError: TOO_MANY if there are too many open jobs.
        """
        async with self._insertion:
            await self._store.insert(job, devices, self._follow)

    async def cancel(self, id: str, operator: str) -> StoredJob:
        """End a job: no further command is sent, and those that are not sent are cancelled. Raises WireError."""
        return await self._end(id, EndJob(JobState.CANCELLED, "cancelled", f"by {operator}"), operator)

    def watch(self, id: str) -> AbstractContextManager[Watch[str] | None]:
        """Yield what reports the id of a job at each progress; None at MAX_WATCHES."""
        return self._watches.watch(id)

    # Time.

    async def run(self) -> None:
        """Continue with each job when there is news of it, or its time is over, until cancelled."""
        while True:
            self._wake.clear()
            await self.advance()
            try:
                async with asyncio.timeout(self._wait_s()):
                    await self._wake.wait()
            except TimeoutError:
                self.look_at_all()

    def look_at_all(self) -> None:
        """Take a step with each open job next time, also without news: its time may be over."""
        self._due |= dict.fromkeys(self._open)

    async def advance(self) -> None:
        """Take one step with each job that has news. A job that can take another step has news again."""
        due, self._due = dict.fromkeys(self._stalled) | self._due, {}
        self._stalled.clear()
        for id in due:
            job = self._open.get(id)
            if job is None:
                continue
            try:
                await self._advance(job)
            except WireError as error:
                log.error("job cannot be stored, retrying", job=id, error=error.message)
                self._stalled.add(id)

    def _wait_s(self) -> float:
        if self._due:
            return 0
        if self._stalled:
            return RETRY_S
        now_ns = self._clock()
        left_s = ((job.deadline_ns - now_ns) / NS_PER_S for job in self._open.values())
        return max(0.0, min([MAX_SLEEP_S, *left_s]))

    async def _advance(self, job: CommandJob) -> None:
        progress = await self._store.progress(job.id)
        match next_step(job, progress, self._clock()):
            case EndJob() as end:
                await self._end(job.id, end, "the end of its job")
            case StartTargets(devices):
                attempts = [self.attempt(job, device) for device in devices]
                if job.id in self._restored and self._clock() < self._grace_ns:
                    attempts = [attempt for attempt in attempts if attempt.code != "not_connected"]
                if len(attempts) < len(devices):
                    self._stalled.add(job.id)
                if attempts:
                    await self._store.start(job.id, attempts, partial(self._stored, job.id))

    async def _end(self, id: str, end: EndJob, operator: str) -> StoredJob:
        transition = partial(ended, end=end, now_ns=self._clock())
        return await self._store.end(id, transition, operator, partial(self._stored, id))

    # The memory follows the file.

    def _stored(self, id: str, stored: StoredJob) -> None:
        if stored.job is None:
            self._open.pop(id, None)  # its row is damaged: the next start of the hub repairs it
        else:
            self._follow(stored.job)
        self._dispatcher.follow(stored.commands)

    def _follow(self, job: CommandJob) -> None:
        if job.state.is_open:
            self._open[job.id] = job
        else:
            self._open.pop(job.id, None)
            self._restored.discard(job.id)
        self._has_news(job.id)

    def _has_news(self, id: str) -> None:
        if id in self._open:
            self._due[id] = None
            self._wake.set()
        self._watches.notify(id, id)
