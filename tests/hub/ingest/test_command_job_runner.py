"""Jobs over operators, hub, disk and devices, whatever crashes, repeats or restarts."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hub.ingest.command_dispatcher import CommandDispatcher
from hub.ingest.command_job_runner import CommandJobRunner, JobTransition, StoredJob
from hub.model.command_job import (
    Attempt,
    CommandJob,
    JobProgress,
    JobState,
    Target,
    TargetState,
    command_id,
    new_job,
    target_state,
)
from hub.registry.command import select_command, select_commands, select_open
from hub.registry.command_job import (
    delete_orphans,
    end_job,
    insert_job,
    mend,
    select_job,
    select_open_jobs,
    start_targets,
)
from hub.registry.command_target import insert_targets, select_progress, select_targets
from hub.registry.database import RegistryError
from tests.hub.ingest.file_store import CommandFileStore
from wire.command import CommandDeclaration, CommandParameter
from wire.device import Command, CommandState
from wire.timestamp import NS_PER_S


def set_speed(maximum: int) -> list[CommandDeclaration]:
    return [CommandDeclaration("set_speed", parameters=[CommandParameter("speed", min=0, max=maximum)])]


DECLARED = {**{f"pump-{number}": set_speed(30) for number in range(5)}, "slow": set_speed(2), "mute": []}
"""One device refuses the speed of the jobs, and one has no commands."""


class JobFileStore(CommandFileStore):
    """The tables of commands and jobs. Both stores of a hub."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.jobs = JobStore(self)


class JobStore:
    """The part of the store that has the jobs."""

    def __init__(self, file: JobFileStore) -> None:
        self._file = file
        self._connection = file.connection

    async def insert(self, job: CommandJob, devices: Sequence[str], on_stored: Callable[[CommandJob], None]) -> None:
        targets = [(number // job.batch_size, device) for number, device in enumerate(devices)]
        try:
            await self._file.wait(lambda: insert_targets(self._connection, job.id, targets[:3]))
            await self._file.wait(lambda: insert_targets(self._connection, job.id, targets[3:]))
            await self._file.wait(lambda: insert_job(self._connection, job, self._file.now_ns), on_stored)
        except RegistryError:
            with suppress(RegistryError):
                await self._file.wait(lambda: delete_orphans(self._connection, job.id))
            raise

    def progress(self, id: str) -> asyncio.Future[JobProgress]:
        return self._file.wait(lambda: select_progress(self._connection, id))

    def start(
        self, id: str, attempts: Sequence[Attempt], on_stored: Callable[[StoredJob], None]
    ) -> asyncio.Future[StoredJob]:
        return self._file.wait(lambda: start_targets(self._connection, id, attempts, self._file.now_ns), on_stored)

    def end(
        self, id: str, transition: JobTransition, operator: str, on_stored: Callable[[StoredJob], None]
    ) -> asyncio.Future[StoredJob]:
        return self._file.wait(
            lambda: end_job(self._connection, id, transition, operator, self._file.now_ns), on_stored
        )


class ModelDevice:
    """A device that remembers the ids of its commands, also while it is not connected. Its own link."""

    repeats = True

    def __init__(self) -> None:
        self.arrived: deque[Command] = deque()
        self.reports: dict[str, CommandState] = {}
        self.executed: Counter[str] = Counter()
        self.is_connected = False

    def send(self, message: Command) -> None:
        if self.is_connected:
            self.arrived.append(message)

    def execute(self, state: Any) -> CommandState | None:
        """Execute the oldest command that has arrived, unless it is known, and return its state."""
        if not self.arrived:
            return None
        command = self.arrived.popleft()
        if command.id not in self.reports:
            self.executed[command.id] += 1
            self.reports[command.id] = CommandState(command.id, state, 1)
        return self.reports[command.id]


class JobMachine(RuleBasedStateMachine):
    """Some devices, their hub and an operator."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.store = JobFileStore(self.loop)
        self.devices = {device: ModelDevice() for device in DECLARED}
        self.made: list[str] = []
        self.tasks: set[asyncio.Task[Any]] = set()
        self.step: asyncio.Task[Any] | None = None
        self.begun: dict[str, int] = {}
        self.at_end: dict[str, tuple[CommandJob, int]] = {}
        self._open_hub()

    def _open_hub(self) -> None:
        mend(self.store.connection, self.store.now_ns)
        clock = lambda: self.store.now_ns  # noqa: E731
        self.hub = CommandDispatcher(self.store, declared=lambda device: DECLARED[device], clock=clock)
        self.hub.restore(select_open(self.store.connection))
        self.runner = CommandJobRunner(self.store.jobs, self.hub, clock=clock)
        self.runner.restore(select_open_jobs(self.store.connection))
        self.step = None

    def _turn(self) -> None:
        for _ in range(4):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    def _begin(self, work: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._done)
        self._turn()
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            assert isinstance(task.exception(), RegistryError), task.exception()

    # ── the operator ─────────────────────────────────────────────────────────────────────────────────────────────────

    @initialize(
        batch_size=st.integers(1, 4),
        stop_share=st.sampled_from([None, 0.0, 0.5, 1.0]),
        ttl_s=st.sampled_from([None, 20]),
        devices=st.permutations(sorted(DECLARED)),
    )
    def begin(self, batch_size: int, stop_share: float | None, ttl_s: float | None, devices: Sequence[str]) -> None:
        """Begin with a job that is recorded, and connected devices."""
        self.connect(DECLARED)
        self.create(batch_size, stop_share, ttl_s, 600, devices)
        self.commit(3)

    @precondition(lambda self: len(self.made) < 3)
    @rule(
        batch_size=st.integers(1, 4),
        stop_share=st.sampled_from([None, 0.0, 0.5, 1.0]),
        ttl_s=st.sampled_from([None, 20]),
        life_s=st.sampled_from([15, 600]),
        devices=st.permutations(sorted(DECLARED)),
    )
    def create(
        self, batch_size: int, stop_share: float | None, ttl_s: float | None, life_s: int, devices: Sequence[str]
    ) -> None:
        job = new_job(
            id=f"{len(self.made):032x}", to=["*"], name="set_speed", parameters={"speed": 3}, operator="operator o1",
            now_ns=self.store.now_ns, life_s=life_s, timeout_ms=10_000, ttl_s=ttl_s, is_confirmed=False,
            batch_size=batch_size, stop_share=stop_share, targets=len(devices),
        )  # fmt: skip
        self.made.append(job.id)
        self._begin(self.runner.create(job, devices))

    @precondition(lambda self: self.made)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self._begin(self.runner.cancel(data.draw(st.sampled_from(self.made)), "operator o1"))

    # ── the hub ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @rule()
    def advance(self) -> None:
        """Begin a step, unless the one before waits for the disk."""
        if self.step is None or self.step.done():
            self.step = self._begin(self.runner.advance())

    @rule(count=st.integers(1, 5))
    def commit(self, count: int) -> None:
        for _ in range(count):
            if self.store.waiting:
                self.store.commit()
                self._turn()

    @rule()
    def disk_is_full(self) -> None:
        if self.store.waiting:
            self.store.fail()
            self._turn()

    @rule(written=st.integers(0, 3))
    def hub_crashes(self, written: int) -> None:
        for device in self.devices.values():
            device.is_connected = False
            device.arrived.clear()
        self.store.lose(written)
        for task in list(self.tasks):
            task.cancel()
        self._turn()
        self._open_hub()

    @rule(seconds=st.sampled_from([1, 5, 20]))
    def time_passes(self, seconds: int) -> None:
        self.store.now_ns += seconds * NS_PER_S
        self.hub.pass_deadlines()
        self.hub.retry()
        self.runner.look_at_all()
        self._turn()

    # ── the devices ──────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(names=st.sets(st.sampled_from(sorted(DECLARED)), min_size=3))
    def connect(self, names: Iterable[str]) -> None:
        for name in sorted(names):
            device = self.devices[name]
            device.is_connected = True
            self.hub.connected(name, device)

    @rule(name=st.sampled_from(sorted(DECLARED)))
    def disconnect(self, name: str) -> None:
        self.devices[name].is_connected = False
        self.devices[name].arrived.clear()
        self.hub.disconnected(name, self.devices[name])

    @rule(states=st.lists(st.sampled_from(["succeeded", "succeeded", "failed"]), min_size=1, max_size=4))
    def execute(self, states: Sequence[str]) -> None:
        """Let the devices execute what has arrived. The report is lost if the disk is full."""
        for number, (name, device) in enumerate(self.devices.items()):
            report = device.execute(states[number % len(states)])
            if report is not None:
                self._begin(self.hub.report(name, report))

    @rule(moves=st.lists(st.sampled_from(["advance", "commit one", "commit", "execute"]), min_size=8, max_size=25))
    def continue_without_trouble(self, moves: list[str]) -> None:
        """Let many things happen between two interruptions."""
        self.connect(DECLARED)
        self.continue_with(moves)

    def continue_with(self, moves: Iterable[str]) -> None:
        for move in moves:
            match move:
                case "advance":
                    self.advance()
                case "execute":
                    self.execute(["succeeded"])
                case _:
                    self.commit(1 if move == "commit one" else 4)

    # ── what always holds ────────────────────────────────────────────────────────────────────────────────────────────

    def _jobs(self) -> list[tuple[CommandJob, list[Target]]]:
        jobs = [select_job(self.store.connection, id) for id in self.made]
        return [(job, select_targets(self.store.connection, job.id, limit=100)) for job in jobs if job is not None]

    @invariant()
    def each_target_has_at_most_one_command(self) -> None:
        for name, device in self.devices.items():
            assert all(count == 1 for count in device.executed.values())
            found = select_commands(self.store.connection, name, limit=100)
            assert len({record.job for record in found}) == len(found)
            assert all(record.id == command_id(record.job, name) for record in found)
            assert {*device.executed} <= {record.id for record in found}

    @invariant()
    def a_target_has_the_state_of_its_command(self) -> None:
        for job, targets in self._jobs():
            assert len(targets) == job.targets
            assert select_progress(self.store.connection, job.id).counts == Counter(t.state for t in targets)
            for target in targets:
                record = select_command(self.store.connection, target.device, command_id(job.id, target.device))
                if record is None:
                    assert target.state in (TargetState.PENDING, TargetState.REFUSED)
                    assert bool(target.code and target.message) is (target.state is TargetState.REFUSED)
                else:
                    assert (target.state, target.code, target.message) == target_state(record)
                    assert target.command == record.id

    @invariant()
    def batches_begin_one_after_the_other_and_not_after_too_many_failures(self) -> None:
        for job, targets in self._jobs():
            begun = [target for target in targets if target.state is not TargetState.PENDING]
            last = max((target.batch for target in begun), default=-1)
            earlier = [target for target in targets if target.batch < last]
            assert all(target.state.is_end for target in earlier)
            if last > self.begun.get(job.id, 0):
                self.begun[job.id] = last
                failed = sum(target.state.is_failure for target in earlier)
                assert job.stop_share is None or not failed or failed < job.stop_share * len(earlier)
            if job.state.is_open:
                assert job.id not in self.at_end
            else:
                assert (job, len(begun)) == self.at_end.setdefault(job.id, (job, len(begun)))

    def teardown(self) -> None:
        """With a hub, a disk and connections that hold, every job ends, for a reason that is true."""
        for turn in range(1_000):
            if not (
                select_open_jobs(self.store.connection) or select_open(self.store.connection) or self.store.waiting
            ):
                break
            self.connect(DECLARED)
            self.continue_without_trouble(["advance", "commit", "execute", "commit"])
            if turn % 10 == 9:
                self.time_passes(1)
        self.advance()
        assert not self.store.waiting, "a job that has ended takes further steps"
        for job, targets in self._jobs():
            assert not job.state.is_open, "the job never ends"
            assert not any(target.state.is_open for target in targets)
            match job.state:
                case JobState.COMPLETED:
                    assert all(target.state.is_end for target in targets)
                case JobState.STOPPED:
                    assert job.reason.code in ("too_many_failures", "deadline")
                    assert (
                        any(target.state is TargetState.PENDING for target in targets) or job.reason.code == "deadline"
                    )
                case JobState.CANCELLED:
                    assert "operator o1" in job.reason.message
            for target in targets:
                executed = self.devices[target.device].executed[command_id(job.id, target.device)]
                assert executed or target.state not in (TargetState.SUCCEEDED, TargetState.FAILED)
        self.each_target_has_at_most_one_command()
        self.a_target_has_the_state_of_its_command()
        self.batches_begin_one_after_the_other_and_not_after_too_many_failures()
        self.loop.close()


def test_a_job_over_all_devices_ends_when_all_have_answered() -> None:
    """Devices that do not accept the command are refused, with the reason."""
    machine = JobMachine()
    machine.connect(DECLARED)
    machine.create(batch_size=3, stop_share=None, ttl_s=None, life_s=600, devices=sorted(DECLARED))
    machine.commit(3)
    for _ in range(20):
        machine.continue_without_trouble(["advance", "commit", "execute"])
    ((job, targets),) = machine._jobs()
    assert [change.state.value for change in job.changes] == ["pending", "running", "completed"]
    assert Counter(target.state.value for target in targets) == {"succeeded": 5, "refused": 2}
    assert [target.code for target in targets if target.code] == ["unknown_command", "wrong_parameters"]
    machine.teardown()


def test_a_job_that_is_cancelled_during_a_step_sends_nothing() -> None:
    """The step has read the progress before, and its commands come to the disk after the end of the job."""
    machine = JobMachine()
    machine.connect(DECLARED)
    machine.create(batch_size=3, stop_share=None, ttl_s=None, life_s=600, devices=sorted(DECLARED))
    machine.commit(3)
    machine.advance()
    machine._begin(machine.runner.cancel(machine.made[0], "operator o1"))
    machine.commit(5)
    ((job, targets),) = machine._jobs()
    assert (job.state, job.reason.message) == (JobState.CANCELLED, "by operator o1")
    assert {target.state for target in targets} == {TargetState.PENDING}
    machine.teardown()


def test_a_cancelled_job_cancels_the_commands_that_are_not_sent() -> None:
    """In the transaction that ends the job: a crash after it cannot send them."""
    machine = JobMachine()
    machine.create(batch_size=4, stop_share=None, ttl_s=20, life_s=600, devices=sorted(DECLARED))
    machine.commit(3)
    machine.advance()
    machine.commit(2)
    assert len(select_open(machine.store.connection)) == 3
    machine._begin(machine.runner.cancel(machine.made[0], "operator o1"))
    machine.hub_crashes(1)
    machine.connect(DECLARED)
    machine.commit(5)
    assert not any(device.arrived for device in machine.devices.values())
    ((_, targets),) = machine._jobs()
    assert Counter(target.state.value for target in targets) == {"cancelled": 3, "refused": 1, "pending": 3}
    machine.teardown()


def test_a_job_without_news_is_looked_at_at_its_deadline() -> None:
    """Its first batch waits for devices that are not connected."""
    machine = JobMachine()
    machine.create(batch_size=4, stop_share=None, ttl_s=20, life_s=15, devices=sorted(DECLARED))
    machine.time_passes(5)
    machine.continue_with(["commit", "advance"] * 8)
    assert machine.runner._wait_s() == 10
    machine.teardown()


def test_devices_have_a_minute_to_connect_again_after_a_restart_of_the_hub() -> None:
    """Until then a call waits for them; without the restart it is refused at once."""
    machine = JobMachine()
    machine.connect(DECLARED)
    machine.create(batch_size=3, stop_share=0.0, ttl_s=None, life_s=600, devices=["pump-0", "pump-1", "pump-2"])
    machine.commit(3)
    machine.hub_crashes(0)
    machine.connect(["pump-0"])
    machine.continue_with(["advance", "commit", "execute"] * 4)
    assert [target.state for target in machine._jobs()[0][1]] == ["succeeded", "pending", "pending"]
    machine.time_passes(20)
    machine.connect(["pump-1"])
    machine.continue_with(["advance", "commit", "execute"] * 4)
    assert [target.state for target in machine._jobs()[0][1]] == ["succeeded", "succeeded", "pending"]
    machine.time_passes(40)
    machine.continue_with(["advance", "commit", "execute"] * 4)
    ((job, targets),) = machine._jobs()
    assert job.state is JobState.COMPLETED
    assert (targets[2].state, targets[2].code) == (TargetState.REFUSED, "not_connected")
    machine.teardown()


TestJobs = JobMachine.TestCase
TestJobs.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
