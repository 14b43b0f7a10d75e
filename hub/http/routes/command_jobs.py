"""Jobs, which send a command to many devices in batches: to begin, list, show and cancel them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from operator import attrgetter
from typing import Annotated, Protocol

from msgspec import Meta, Struct

from hub.http import paging
from hub.http.command_answers import CommandKey, Wait
from hub.http.command_job_answers import (
    CommandJobCandidate,
    CommandJobDetails,
    CommandJobDryRun,
    CommandJobRequest,
    CommandJobsPage,
    CommandJobTargetsPage,
    CommonCommands,
    DeviceTerms,
    TargetStateName,
    job_details,
    target_details,
)
from hub.http.common_commands import CommonDeclarations
from hub.http.long_poll import LongPolls
from hub.http.problem import ProblemCode, Refusal
from hub.http.routes.commands import REFUSALS
from hub.http.routing import Operation
from hub.http.status import Status
from hub.ingest.command_dispatcher import IdInUse
from hub.ingest.command_job_runner import CommandJobRunner
from hub.live.selection import device_matcher
from hub.model.command_job import MAX_TARGETS, Attempt, CommandJob, JobProgress, JobState, Target, TargetState, new_job
from hub.model.identity import Action, Identity
from wire.command import CommandDeclaration, json_size
from wire.limits import MAX_COMMAND_BYTES, MAX_COMMANDS
from wire.text import plural

MAX_JOB_PAGE = 100
"""The hub keeps about as many ended jobs."""

MAX_TARGET_PAGE = 1_000

ATTEMPTS = 100
"""Targets that are checked before the event loop serves others: 5 ms."""


class ReadCommandJobs(Protocol):
    """Reads jobs from the registry."""

    async def job(self, id: str) -> tuple[CommandJob, JobProgress] | None:
        """Return a job with its progress, None if there is none."""

    async def jobs(self, *, limit: int, before: int | None = None) -> Sequence[tuple[CommandJob, JobProgress]]:
        """Return the jobs before this number with their progress, the newest first."""

    async def targets(
        self, id: str, *, limit: int, after: int | None = None, states: Sequence[TargetState] = ()
    ) -> Sequence[Target]:
        """Return targets of a job in these states (all without one), in the order of batches."""


class ReadDeclared(Protocol):
    """Reads the declared commands."""

    def declared(self, device: str) -> Sequence[CommandDeclaration]:
        """Return the commands that a device declares, in the order of their declaration."""


class CommonCommandsQuery(Struct, frozen=True):
    """The selection whose declared commands are listed."""

    to: DeviceTerms


class CommandJobsQuery(Struct, frozen=True):
    """The parameters of the list of jobs."""

    limit: Annotated[int, Meta(ge=1, le=MAX_JOB_PAGE, description=paging.LIMIT)] = 20
    cursor: paging.Cursor = None


class CommandJobQuery(Struct, frozen=True):
    """The parameters of one job."""

    wait_s: Wait = 0
    seen: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="Wait until more than so many targets have ended. Without it, wait until the job has ended."),
    ] = None


class CommandJobTargetsQuery(Struct, frozen=True):
    """The parameters of the list of a job's targets."""

    state: Annotated[list[TargetStateName] | None, Meta(description="States to return. All without it.")] = None
    limit: Annotated[int, Meta(ge=1, le=MAX_TARGET_PAGE, description=paging.LIMIT)] = 100
    cursor: paging.Cursor = None


@dataclass(frozen=True)
class CommandJobRoutes:
    """The operations about jobs."""

    status: Status
    runner: CommandJobRunner
    table: ReadCommandJobs
    commands: ReadDeclared
    long_polls: LongPolls

    @Operation("POST", "/api/v1/command-jobs", may=Action.OPERATE, status=201, errors=(409, 503))
    async def create_command_job(self, caller: Identity, body: CommandJobRequest) -> CommandJobDetails:
        """Send a command to many devices, batch by batch. The answer is the job as it is recorded. It is refused if the
        hub would refuse each of the devices. A request with the `id` of a recorded job sends nothing and returns that
        job."""
        known = await self._known(body)
        if known is not None:
            return known
        devices = self._selected(body.to)
        job = self._new_job(caller, body, len(devices))
        first: Attempt | None = None
        async for attempt in self._attempts(job, devices):
            if attempt.command is not None:
                break
            first = first or attempt
        else:
            assert first is not None
            status, code = REFUSALS[first.code]
            none = f"none of {plural(len(devices), 'selected device')} can get the command"
            raise Refusal(status, f"{none}. {first.device}: {first.message}", code=code)
        try:
            await self.runner.create(job, devices)
        except IdInUse:  # the same request was recorded meanwhile
            known = await self._known(body)
            if known is None:
                raise
            return known
        return job_details(job, JobProgress({TargetState.PENDING: len(devices)}))

    @Operation("POST", "/api/v1/command-jobs/dry-run", may=Action.OPERATE)
    async def try_command_job(self, caller: Identity, body: CommandJobRequest) -> CommandJobDryRun:
        """Return the devices that a job would have as targets, and which of them the hub would refuse now."""
        devices = self._selected(body.to)
        job = self._new_job(caller, body, len(devices))
        found: list[CommandJobCandidate] = []
        declarations = CommonDeclarations()
        async for attempt in self._attempts(job, devices):
            batch = len(found) // body.batch_size + 1
            found.append(CommandJobCandidate(attempt.device, batch, attempt.code, attempt.message))
            for declaration in self.commands.declared(attempt.device):
                if declaration.name == body.name:
                    declarations.add(declaration)
        common = declarations.command(body.name)
        return CommandJobDryRun(
            targets=len(devices),
            batches=job.batches,
            refused=sum(bool(candidate.code) for candidate in found),
            command=None if common is None else common.command,
            units=[] if common is None else common.units,
            devices=found,
        )

    @Operation("GET", "/api/v1/command-jobs/declared", may=Action.READ)
    async def common_commands(self, query: CommonCommandsQuery) -> CommonCommands:
        """Return the commands that the selected devices declare, at most 128, those of the most devices first."""
        devices = self._matching(query.to)
        declarations = CommonDeclarations()
        for number, device in enumerate(devices, 1):
            for declaration in self.commands.declared(device):
                declarations.add(declaration)
            if number % ATTEMPTS == 0:
                await asyncio.sleep(0)
        return CommonCommands(len(devices), declarations.commands(MAX_COMMANDS))

    @Operation("GET", "/api/v1/command-jobs", may=Action.READ, errors=(503,))
    async def command_jobs(self, query: CommandJobsQuery) -> CommandJobsPage:
        """Return the jobs, newest first."""
        before = None if query.cursor is None else paging.decode_cursor(query.cursor, "command_jobs", int)
        found = [*await self.table.jobs(limit=query.limit + 1, before=before)]
        page, following = paging.end_page(found, lambda row: row[0].number, list_name="command_jobs", limit=query.limit)
        return CommandJobsPage(jobs=[job_details(job, progress) for job, progress in page], next=following)

    @Operation("GET", "/api/v1/command-jobs/{job}", may=Action.READ, errors=(503,))
    async def command_job(self, job: CommandKey, query: CommandJobQuery) -> CommandJobDetails:
        """Return one job, or wait for its progress."""
        with self.runner.watch(job) as watch:
            async with self.long_polls.within(query.wait_s):
                while watch is not None and query.wait_s:
                    found, progress = await self._job(job)
                    if not found.state.is_open or (query.seen is not None and progress.ended > query.seen):
                        return job_details(found, progress)
                    await watch.next()
        return job_details(*await self._job(job))

    @Operation("GET", "/api/v1/command-jobs/{job}/targets", may=Action.READ, errors=(503,))
    async def command_job_targets(self, job: CommandKey, query: CommandJobTargetsQuery) -> CommandJobTargetsPage:
        """Return the targets of a job with the states of their commands, in the order of batches."""
        await self._job(job)
        after = None if query.cursor is None else paging.decode_cursor(query.cursor, "command_targets", int)
        states = [TargetState(state) for state in query.state or ()]
        found = [*await self.table.targets(job, limit=query.limit + 1, after=after, states=states)]
        key = attrgetter("number")
        page, following = paging.end_page(found, key, list_name="command_targets", limit=query.limit)
        return CommandJobTargetsPage(targets=[*map(target_details, page)], next=following)

    @Operation("POST", "/api/v1/command-jobs/{job}/cancel", may=Action.OPERATE, errors=(409, 503))
    async def cancel_command_job(self, caller: Identity, job: CommandKey) -> CommandJobDetails:
        """End a job: no further command is sent, and those that are not sent are cancelled."""
        stored = await self.runner.cancel(job, caller.operator)
        if stored.job is None:
            raise _unknown(job)
        if not stored.is_changed and stored.job.state is not JobState.CANCELLED:
            raise Refusal(HTTPStatus.CONFLICT, f"the job is {stored.job.state.value}: it has ended already")
        return job_details(*await self._job(job))

    def _selected(self, to: Sequence[str]) -> list[str]:
        """Return the ids of the devices in service that are selected, in order. Raises Refusal if there is none."""
        found = self._matching(to)
        if not found:
            detail = (
                f"no device in service matches {' '.join(to)}: `hub device list --json` and `GET /api/v1/devices` list "
                "the devices with their tags"
            )
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
        return found

    def _matching(self, to: Sequence[str]) -> list[str]:
        """Return the ids of the devices in service that are selected, in order. Raises Refusal if they are too many."""
        is_selected = device_matcher(to)
        devices = (device for device in self.status.devices if not device.retired)
        found = sorted(device.id for device in devices if is_selected(device.id, device.tags))
        if len(found) > MAX_TARGETS:
            detail = (
                f"{plural(len(found), 'device')} match, and a job has at most {MAX_TARGETS:,} targets: select fewer"
            )
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
        return found

    def _new_job(self, caller: Identity, body: CommandJobRequest, targets: int) -> CommandJob:
        if json_size(body.parameters) > MAX_COMMAND_BYTES:
            detail = f"parameters: they have more than {MAX_COMMAND_BYTES:,} bytes"
            raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
        return new_job(
            id=body.id or secrets.token_hex(16),
            to=body.to,
            name=body.name,
            parameters=body.parameters,
            operator=caller.operator,
            now_ns=self.status.devices.clock(),
            life_s=body.deadline_s,
            timeout_ms=round(body.timeout_s * 1000),
            ttl_s=body.ttl_s if body.mode == "queue" else None,
            is_confirmed=body.confirmed,
            batch_size=body.batch_size,
            stop_share=body.stop_share,
            targets=targets,
        )

    async def _attempts(self, job: CommandJob, devices: Sequence[str]) -> AsyncIterator[Attempt]:
        """Yield what would become of each device now."""
        for number, device in enumerate(devices, 1):
            yield self.runner.attempt(job, device)
            if number % ATTEMPTS == 0:
                await asyncio.sleep(0)

    async def _known(self, body: CommandJobRequest) -> CommandJobDetails | None:
        """Return the recorded job with the id of a request, None if there is none."""
        found = await self.table.job(body.id) if body.id else None
        if found is None:
            return None
        job = found[0]
        if (job.to, job.name, job.parameters, job.mode) != (tuple(body.to), body.name, body.parameters, body.mode):
            detail = f"the id is that of another job: {job.name} to {' '.join(job.to)}. Use a new id for each job"
            raise Refusal(HTTPStatus.CONFLICT, detail, code=ProblemCode.ID_IN_USE)
        return job_details(*found)

    async def _job(self, id: str) -> tuple[CommandJob, JobProgress]:
        found = await self.table.job(id)
        if found is None:
            raise _unknown(id)
        return found


def _unknown(id: str) -> Refusal:
    return Refusal(HTTPStatus.NOT_FOUND, f"there is no job {id}: it never was, or the hub does not keep it any more")
