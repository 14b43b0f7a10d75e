"""The record of commands: a state machine of operator, hub, link, disk and agent, and its bounds."""

from __future__ import annotations

from collections import deque

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from device_agent.operator_commands.log import (
    KEPT_NS,
    MAX_KEPT,
    MAX_OPEN,
    MAX_WAITING,
    Changes,
    CommandEntry,
    CommandLog,
    CommandOutcome,
    Now,
)
from wire.device import Command, CommandRecorded, CommandState
from wire.limits import MAX_COMMANDS_SENT

TIMEOUT_MS = 10_000
BEGIN_S = 1000.0
EPOCH_NS = 10**18
"""Time of the hub's clock at 0 of the one that never jumps."""

SUCCEEDED = CommandOutcome("succeeded", result={"speed": 3})
FAILED = CommandOutcome("failed", "handler_failed", "the motor is hot")


def command(
    number: int,
    name: str = "set_speed",
    timeout_ms: int = TIMEOUT_MS,
    *,
    is_queued: bool = False,
    created_s: float = BEGIN_S,
) -> Command:
    created_ns = EPOCH_NS + round(created_s * 1e9)
    return Command(f"{number:016x}", name, {"speed": number}, created_ns, timeout_ms, is_queued)


def is_concurrent(name: str) -> bool:
    return name == "blink"


class Device:
    """An agent's log with its disk: `write` is the commit that the real agent waits for.

    The clock of the hub is right, and that of the device can be wrong. A killed agent does not know the clock of the
    hub before it is connected.
    """

    def __init__(self) -> None:
        self.log = CommandLog(is_durable=True)
        self.disk: dict[str, CommandEntry] = {}
        self.monotonic_s = BEGIN_S
        self.offset_ns = 0
        self.knows_hub_time = True
        self.started: list[str] = []
        self.closed: set[str] = set()
        """Commands whose port is closed."""

    @property
    def now(self) -> Now:
        true_ns = EPOCH_NS + round(self.monotonic_s * 1e9)
        return Now(true_ns + self.offset_ns, self.monotonic_s, true_ns if self.knows_hub_time else 0)

    def apply(self, changes: Changes) -> None:
        for entry in changes.written:
            self.disk[entry.id] = msgspec.msgpack.decode(msgspec.msgpack.encode(entry), type=CommandEntry)
        for id in changes.deleted:
            self.disk.pop(id, None)

    def tick(self) -> Changes:
        self.log.expire(self.now, lambda name: "the port is not open" if name in self.closed else "")
        self.log.admit(self.now)
        self.log.start(is_concurrent, lambda name: name not in self.closed, self.now)
        self.log.forget(self.now)
        return self.log.changes()

    def write_once(self) -> None:
        changes = self.tick()
        self.apply(changes)
        self.started += [entry.id for entry in self.log.commit(changes, self.now)]

    def write(self) -> None:
        """Write until nothing changes."""
        while any(changes := self.tick()):
            self.apply(changes)
            self.started += [entry.id for entry in self.log.commit(changes, self.now)]

    def kill(self) -> None:
        self.knows_hub_time = False
        self.log = CommandLog(is_durable=True)
        self.log.load(list(self.disk.values()), self.now)

    def connect(self) -> None:
        self.knows_hub_time = True
        self.log.connect()
        self.log.date(self.now)

    def wait(self, seconds: float) -> None:
        self.monotonic_s += seconds

    def states(self) -> list[tuple[str, str]]:
        return [(report.state, report.code) for report in self.log.take_reports()]


class CommandsOfADevice(RuleBasedStateMachine):
    """Operator, hub, link, disk and agent. Each message can be lost with its link, each write with the process."""

    def __init__(self) -> None:
        super().__init__()
        self.device = Device()
        self.commands: dict[str, Command] = {}
        self.at_hub: dict[str, str] = {}
        self.to_agent: deque[Command | CommandRecorded] = deque()
        self.to_hub: deque[CommandState] = deque()
        self.is_connected = False
        self.writing: Changes | None = None
        self.handlers: list[str] = []
        self.ended: list[str] = []
        """Handlers whose end is recorded (a time limit), and that occupy their place still."""
        self.executions: dict[str, int] = {}
        self.arrived_s: dict[str, float] = {}

    @rule(
        name=st.sampled_from(["set_speed", "blink"]),
        timeout_ms=st.sampled_from([1000, TIMEOUT_MS]),
        is_queued=st.booleans(),
    )
    def operator_sends(self, name: str, timeout_ms: int, is_queued: bool) -> None:
        created_s = self.device.monotonic_s
        sent = command(len(self.commands) + 1, name, timeout_ms, is_queued=is_queued, created_s=created_s)
        self.commands[sent.id] = sent
        self.at_hub[sent.id] = "sent"
        if self.is_connected:
            self.to_agent.append(sent)

    @precondition(lambda self: not self.is_connected)
    @rule()
    def connect(self) -> None:
        self.is_connected = True
        self.device.connect()
        self.to_agent.extend(self.commands[id] for id, state in self.at_hub.items() if state == "sent")

    @rule()
    def disconnect(self) -> None:
        self.is_connected = False
        self.to_agent.clear()
        self.to_hub.clear()

    @precondition(lambda self: self.to_agent)
    @rule(count=st.integers(1, 3))
    def messages_arrive_at_agent(self, count: int) -> None:
        for _ in range(min(count, len(self.to_agent))):
            self.message_arrives_at_agent()

    def message_arrives_at_agent(self) -> None:
        message = self.to_agent.popleft()
        if isinstance(message, CommandRecorded):
            self.device.log.record(message)
        else:
            self.arrived_s.setdefault(message.id, self.device.monotonic_s)
            self.device.log.receive(message, None, self.device.now)

    @precondition(lambda self: self.is_connected)
    @rule()
    def agent_reports(self) -> None:
        for report in self.device.log.take_reports():
            entry = self.device.disk.get(report.id)
            if report.code != "not_stored":
                assert entry is not None
                assert report.state == ("received" if entry.outcome is None else entry.outcome.state)
            self.to_hub.append(report)

    @precondition(lambda self: self.to_hub)
    @rule(count=st.integers(1, 3))
    def reports_arrive_at_hub(self, count: int) -> None:
        for _ in range(min(count, len(self.to_hub))):
            self.report_arrives_at_hub()

    def report_arrives_at_hub(self) -> None:
        report = self.to_hub.popleft()
        before = self.at_hub[report.id]
        if before in ("sent", "received"):
            self.at_hub[report.id] = report.state
        else:
            assert report.state in (before, "received"), "a final state changes"
        assert report.state != "rejected" or report.id not in self.executions
        assert report.code != "busy" or not self.commands[report.id].queued
        self.to_agent.append(CommandRecorded(report.id, report.state))

    @precondition(lambda self: self.writing is None)
    @rule()
    def write_begins(self) -> None:
        self.writing = self.device.tick()

    @rule(count=st.integers(1, 3))
    def writes_pass(self, count: int) -> None:
        for _ in range(count):
            if self.writing is None:
                self.write_begins()
            self.write_ends()

    @rule(name=st.sampled_from(["set_speed", "blink"]), writes=st.integers(0, 3), is_queued=st.booleans())
    def command_arrives(self, name: str, writes: int, is_queued: bool) -> None:
        """Several steps at once, so that the search gets to the end of a command more often."""
        if not self.is_connected:
            self.connect()
        self.operator_sends(name, TIMEOUT_MS, is_queued)
        while self.to_agent:
            self.message_arrives_at_agent()
        if writes:
            self.writes_pass(writes)

    @precondition(lambda self: self.writing is not None)
    @rule()
    def write_ends(self) -> None:
        changes, self.writing = self.writing, None
        assert changes is not None
        self.device.apply(changes)
        for entry in self.device.log.commit(changes, self.device.now):
            self.executions[entry.id] = self.executions.get(entry.id, 0) + 1
            self.handlers.append(entry.id)
            assert entry.queued or self.waited_s(entry.id) < entry.timeout_s, "a call runs too late"

    def waited_s(self, id: str) -> float:
        """Return the age of a call, and the time since a queued command has arrived."""
        sent = self.commands[id]
        begin_s = self.arrived_s[id] if sent.queued else (sent.created - EPOCH_NS) / 1e9
        return self.device.monotonic_s - begin_s

    @precondition(lambda self: self.writing is not None)
    @rule()
    def write_fails(self) -> None:
        changes, self.writing = self.writing, None
        assert changes is not None
        self.device.log.refuse_unstored(changes, "the disk is full", self.device.now)

    @precondition(lambda self: self.handlers)
    @rule(outcome=st.sampled_from([SUCCEEDED, FAILED]), is_over=st.booleans())
    def handler_ends(self, outcome: CommandOutcome, is_over: bool) -> None:
        id = self.handlers.pop(0)
        self.device.log.finish(id, outcome, self.device.now)
        if is_over:
            self.device.log.release(id)
        else:
            self.ended.append(id)

    @precondition(lambda self: self.ended)
    @rule()
    def place_is_released(self) -> None:
        self.device.log.release(self.ended.pop())

    @rule(seconds=st.sampled_from([0.5, 3.0, 20.0, 86_400.0]))
    def time_passes(self, seconds: float) -> None:
        self.device.wait(seconds)

    @rule(seconds=st.sampled_from([-1e9, -20.0, 20.0, 1e9]))
    def device_clock_is_set(self, seconds: float) -> None:
        self.device.offset_ns += round(seconds * 1e9)

    @rule(is_on_disk=st.booleans())
    def agent_is_killed(self, is_on_disk: bool) -> None:
        if self.writing is not None and is_on_disk:
            self.device.apply(self.writing)
        self.writing = None
        self.handlers.clear()
        self.ended.clear()
        self.disconnect()
        self.device.kill()
        for id in self.arrived_s.keys() - self.device.disk.keys():
            del self.arrived_s[id]

    @rule()
    def agent_stops(self) -> None:
        """In order: a write that waits ends in the order of the calls, and a last one follows."""
        if self.writing is not None:
            self.device.apply(self.writing)
        self.device.log.stop(self.device.now)
        self.device.apply(self.device.log.changes())
        assert all(entry.step != "running" for entry in self.device.disk.values())
        self.writing = None
        self.agent_is_killed(is_on_disk=False)

    @invariant()
    def nothing_runs_twice_or_together(self) -> None:
        assert all(times == 1 and self.at_hub[id] != "rejected" for id, times in self.executions.items())
        alone = [id for id in (*self.handlers, *self.ended) if not is_concurrent(self.commands[id].name)]
        assert len(alone) <= 1

    @invariant()
    def nothing_is_too_late_before_its_time(self) -> None:
        for entry in self.device.log.changes().written:
            if entry.outcome is not None and entry.outcome.code == "too_late":
                assert self.waited_s(entry.id) >= entry.timeout_s

    def teardown(self) -> None:
        """When everything works again, the hub learns the end of every command, and why."""
        for _ in range(4):
            if not self.is_connected:
                self.connect()
            for _ in range(4 + 2 * len(self.commands)):
                while self.to_agent:
                    self.message_arrives_at_agent()
                if self.writing is None:
                    self.write_begins()
                self.write_ends()
                while self.handlers:
                    self.handler_ends(SUCCEEDED, is_over=True)
                while self.ended:
                    self.place_is_released()
                self.agent_reports()
                while self.to_hub:
                    self.report_arrives_at_hub()
                self.nothing_runs_twice_or_together()
            self.disconnect()
        assert set(self.at_hub.values()) <= {"succeeded", "failed", "rejected"}
        assert not any(self.device.tick())
        assert {entry.step for entry in self.device.disk.values()} <= {"recorded"}


CommandsOfADevice.TestCase.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestCommandsOfADevice = CommandsOfADevice.TestCase


@pytest.fixture
def device() -> Device:
    return Device()


def test_a_command_is_reported_when_it_is_on_disk(device: Device) -> None:
    """Nothing is reported and nothing runs before the write has ended."""
    device.log.receive(command(1), None, device.now)
    received = device.tick()
    assert device.states() == []
    assert device.log.commit(received, device.now) == []
    assert device.states() == [("received", "")]
    running = device.tick()
    assert [entry.step for entry in running.written] == ["running"]
    assert [entry.id for entry in device.log.commit(running, device.now)] == [command(1).id]
    device.log.finish(command(1).id, SUCCEEDED, device.now)
    assert device.states() == []
    device.write()
    (report,) = device.log.take_reports()
    assert (report.state, report.result) == ("succeeded", {"speed": 3})


def test_a_killed_agent_reports_what_it_does_not_know(device: Device) -> None:
    """A command that ran is `interrupted`; one that waited runs."""
    for number in (1, 2):
        device.log.receive(command(number), None, device.now)
    device.write()
    device.states()
    device.kill()
    device.connect()
    device.write()
    assert device.started == [command(1).id, command(2).id]
    assert device.states() == [("failed", "interrupted"), ("received", "")]


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_command_that_waited_for_too_long_does_not_run(device: Device, is_restarted: bool) -> None:
    """Neither behind another command nor after a restart."""
    device.log.receive(command(1), None, device.now)
    device.write()
    device.log.receive(command(2), None, device.now)
    device.write()
    device.wait(TIMEOUT_MS / 1000)
    if is_restarted:
        device.kill()
        device.connect()
    device.write()
    assert device.started == [command(1).id]
    assert ("rejected", "too_late") in device.states()


@pytest.mark.parametrize(("waited_s", "started"), [(9.0, [command(1).id]), (11.0, [])])
@pytest.mark.parametrize("clock_s", [-50 * 365 * 86_400.0, 0.0, 3600.0])
def test_a_clock_that_is_set_changes_no_deadline(
    device: Device, clock_s: float, waited_s: float, started: list[str]
) -> None:
    """A command of an earlier run waits until the clock of the hub is known, and its age is right then."""
    device.log.receive(command(1), None, device.now)
    device.write_once()
    device.wait(waited_s - 1)
    device.offset_ns = round(clock_s * 1e9)
    device.kill()
    device.write()
    assert device.started == []
    device.wait(1)
    device.connect()
    device.offset_ns = 0
    device.write()
    assert device.started == started


def test_a_command_waits_for_its_port(device: Device) -> None:
    """Others run meanwhile, and it runs when the port opens; if that is not in time, it says so."""
    device.closed = {"set_speed"}
    device.log.receive(command(1, timeout_ms=2000), None, device.now)
    device.log.receive(command(2), None, device.now)
    device.log.receive(command(3, "stop"), None, device.now)
    device.write()
    assert device.started == [command(3).id]
    device.log.finish(command(3).id, SUCCEEDED, device.now)
    device.log.release(command(3).id)
    device.wait(2)
    device.write()
    (late,) = [report for report in device.log.take_reports() if report.id == command(1).id]
    assert (late.code, late.message) == ("not_open", "the port is not open; nothing was sent")
    device.closed.clear()
    device.write()
    assert device.started == [command(3).id, command(2).id]


def test_an_agent_that_does_not_connect_in_time_rejects(device: Device) -> None:
    """A command that waited for the whole time-out in this run alone is too late."""
    device.log.receive(command(1), None, device.now)
    device.write_once()
    device.kill()
    device.wait(TIMEOUT_MS / 1000)
    device.write()
    assert (device.started, device.states()) == ([], [("rejected", "too_late")])


def test_queued_commands_of_a_slow_device_all_run(device: Device) -> None:
    """The time-out of each begins when its turn comes; the hub keeps what the agent has no room for."""
    count = 3 * MAX_WAITING
    queue = [command(number, is_queued=True) for number in range(count)]
    unanswered: list[Command] = []
    for number in range(count):
        while queue and len(unanswered) < MAX_COMMANDS_SENT:
            unanswered.append(queue.pop(0))
            device.log.receive(unanswered[-1], None, device.now)
        device.write()
        unanswered = [sent for sent in unanswered if sent.id not in device.disk]
        assert len(device.disk) <= number + 1 + MAX_WAITING
        device.wait(TIMEOUT_MS / 1000 - 1)
        device.log.finish(command(number).id, SUCCEEDED, device.now)
        device.log.release(command(number).id)
    device.write()
    assert device.started == [command(number).id for number in range(count)]
    assert {state for state, _ in device.states()} == {"succeeded"}


def test_a_queued_command_behind_one_that_was_too_late_is_too_late(device: Device) -> None:
    """After a long stop, the turns of all have passed, as the hub sees it; and after a short one they have not."""
    for number in range(3):
        device.log.receive(command(number, is_queued=True), None, device.now)
    device.write_once()
    device.wait(2.5 * TIMEOUT_MS / 1000)
    device.kill()
    device.connect()
    device.write()
    assert device.started == [command(2).id]
    assert [code for _, code in device.states()] == ["too_late", "too_late", ""]


def test_the_turn_of_a_queued_command_outlives_the_agent(device: Device) -> None:
    """It began when the command before it ended, in an earlier run."""
    for number in range(2):
        device.log.receive(command(number, is_queued=True), None, device.now)
    device.write_once()
    device.wait(8)
    device.log.finish(command(0).id, SUCCEEDED, device.now)
    device.apply(device.log.changes())
    device.wait(8)
    device.kill()
    device.connect()
    device.write()
    assert device.started == [command(1).id]


def test_a_turn_begins_again_if_nobody_knows_when_it_began(device: Device) -> None:
    """The agent was killed while the command before it ran, and again before it had a connection."""
    for number in range(2):
        device.log.receive(command(number, is_queued=True), None, device.now)
    device.write()
    device.wait(60)
    for _ in range(2):
        device.kill()
        device.apply(device.log.changes())
    device.connect()
    device.write()
    assert device.started == [command(0).id, command(1).id]


def test_a_parked_command_is_repeated_by_the_hub(device: Device) -> None:
    """With the next connection, so the agent discards it; it keeps no more than the hub sends."""
    for number in range(MAX_WAITING + 2 * MAX_COMMANDS_SENT):
        device.log.receive(command(number, is_queued=True), None, device.now)
    device.write_once()
    device.connect()
    device.log.receive(command(MAX_WAITING, is_queued=True), None, device.now)
    for number in range(MAX_WAITING):
        device.log.finish(command(number).id, SUCCEEDED, device.now)
    device.write()
    assert list(device.disk) == [command(number).id for number in range(MAX_WAITING + 1)]


def test_a_full_disk_delays_a_command_until_it_is_too_late(device: Device) -> None:
    """It does not start before that is recorded, and nothing is reported that is not."""
    device.log.receive(command(1), None, device.now)
    device.write_once()
    device.states()
    running = device.tick()
    device.log.refuse_unstored(running, "the disk is full", device.now)
    assert device.states() == []
    device.wait(TIMEOUT_MS / 1000)
    device.write()
    assert device.started == []
    assert device.states() == [("rejected", "too_late")]


def test_a_command_that_was_not_started_waits_after_the_end_of_the_agent(device: Device) -> None:
    """The agent ends in order while the start is being written."""
    device.log.receive(command(1), None, device.now)
    device.write_once()
    assert [entry.step for entry in device.tick().written] == ["running"]
    device.log.stop(device.now)
    device.apply(device.log.changes())
    device.kill()
    device.connect()
    device.write()
    assert device.started == [command(1).id]


def test_a_new_connection_gets_every_state_again(device: Device) -> None:
    """Except those that the hub has recorded."""
    for number in (1, 2):
        device.log.receive(command(number), None, device.now)
    device.write()
    device.log.finish(command(1).id, SUCCEEDED, device.now)
    device.write()
    expected = [("succeeded", ""), ("received", "")]
    assert [device.states(), device.states()] == [expected, []]
    device.log.connect()
    assert device.states() == expected
    device.log.record(CommandRecorded(command(1).id, "succeeded"))
    device.log.record(CommandRecorded(command(2).id, "received"))
    device.write()
    device.log.connect()
    assert device.states() == []


def test_a_repeated_command_is_answered_with_its_state(device: Device) -> None:
    """While it waits, after its end, and after the hub has recorded it and lost the record."""
    device.log.receive(command(1), None, device.now)
    device.write()
    for expected in ("received", "received"):
        assert device.states() == [(expected, "")]
        device.log.receive(command(1), None, device.now)
    device.log.finish(command(1).id, SUCCEEDED, device.now)
    device.write()
    assert device.states() == [("succeeded", "")]
    device.log.record(CommandRecorded(command(1).id, "succeeded"))
    device.write()
    device.log.receive(command(1), None, device.now)
    device.write()
    assert device.states() == [("succeeded", "")]
    device.log.record(CommandRecorded(command(1).id, "succeeded"))
    device.write()
    assert device.disk[command(1).id].step == "recorded"
    assert device.started == [command(1).id]


def test_only_so_many_commands_wait(device: Device) -> None:
    """One more is rejected, and those that wait run in their order."""
    device.log.receive(command(0), None, device.now)
    device.write()
    for number in range(1, MAX_WAITING + 2):
        device.log.receive(command(number), None, device.now)
    device.write()
    assert device.states()[-1] == ("rejected", "busy")
    for number in range(MAX_WAITING + 1):
        device.log.finish(command(number).id, SUCCEEDED, device.now)
        device.log.release(command(number).id)
        device.write()
    assert device.started == [command(number).id for number in range(MAX_WAITING + 1)]


def test_a_hub_that_records_nothing_gets_no_further_answers(device: Device) -> None:
    """The number of results that wait for the hub is bounded; a later command is ignored until there is room."""
    refusal = CommandOutcome("rejected", "unknown_command", "there is none")
    for number in range(MAX_OPEN + 1):
        device.log.receive(command(number), refusal, device.now)
    device.write()
    assert len(device.states()) == MAX_OPEN
    device.log.record(CommandRecorded(command(0).id, "rejected"))
    device.log.receive(command(MAX_OPEN), refusal, device.now)
    device.write()
    assert device.states() == [("rejected", "unknown_command")]


def test_ids_are_forgotten_beyond_the_bounds(device: Device) -> None:
    """The newest thousand stay, and none for longer than a week."""
    for number in range(MAX_KEPT + 50):
        device.log.receive(command(number), FAILED, device.now)
        device.write()
        device.log.record(CommandRecorded(command(number).id, "failed"))
    device.write()
    assert list(device.disk) == [command(number).id for number in range(50, MAX_KEPT + 50)]
    device.kill()
    device.write()
    assert len(device.disk) == MAX_KEPT
    device.wait(KEPT_NS / 1e9)
    device.write()
    assert device.disk == {}


def test_a_damaged_record_is_reported(device: Device) -> None:
    """Its id is known, and whether it ran is not."""
    device.log.add_damaged(command(1).id, device.now)
    device.log.receive(command(1), None, device.now)
    device.write()
    assert device.states() == [("failed", "record_damaged")]
    assert device.started == []


def test_a_log_in_memory_says_so() -> None:
    """The operator sees that a restart of the agent loses the command."""
    log, now = CommandLog(is_durable=False), Now(1, 1.0)
    log.receive(command(1), None, now)
    log.commit(log.changes(), now)
    (report,) = log.take_reports()
    assert (report.state, report.code) == ("received", "not_durable")
