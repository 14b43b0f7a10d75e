"""Commands between operators and devices, whatever crashes, repeats, arrives in another order or restarts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hub.ingest.command_dispatcher import CommandDispatcher, CommandRefused, NewCommand
from hub.model.command import GRACE_NS, MAX_OPEN_PER_DEVICE, SENT_ONCE, CommandPhase, CommandRecord
from hub.registry.command import select_command, select_open
from hub.registry.database import RegistryError
from hub.registry.event import select_events
from tests.hub.ingest.file_store import CommandFileStore
from tests.hub.ingest.model_devices import ForgetfulDevice, Link, ModelDevice
from wire.command import CommandDeclaration, CommandParameter
from wire.device import CommandRecorded, CommandState
from wire.limits import MAX_COMMANDS_SENT
from wire.timestamp import NS_PER_S

DEVICE = "pump-7"
DECLARED = [
    CommandDeclaration("stop"),
    CommandDeclaration("set_speed", parameters=[CommandParameter("speed", unit="m/s", min=0, max=30)]),
    CommandDeclaration("erase", confirm=True),
]


MOVES: dict[str, Callable[[Any], None]] = {
    "send a call": lambda machine: machine.send(None, 1),
    "queue": lambda machine: machine.send(30, 1),
    "commit": lambda machine: machine.commit(1),
    "commit more": lambda machine: machine.commit(3),
    "arrive at the device": lambda machine: machine.arrive_at_device(2),
    "arrive at the hub": lambda machine: machine.arrive_at_hub(2),
    "start": lambda machine: machine.device.start(),
    "finish": lambda machine: machine.device.finish("succeeded", machine.link),
}


class CommandMachine(RuleBasedStateMachine):
    """One device, its hub, their connection and an operator.

    The device is an agent, or a client without a memory. Each can take the place of the other.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.store = CommandFileStore(self.loop)
        self.executed: Counter[str] = Counter()
        self.agent, self.client = ModelDevice(self.executed), ForgetfulDevice(self.executed)
        self.device: ModelDevice | ForgetfulDevice = self.agent
        self.link: Link | None = None
        self.accepted: list[str] = []
        self.sent_before: dict[str, int] = {}
        """When the newest hub started, for the commands that an earlier one sent."""
        self.tasks: set[asyncio.Task[Any]] = set()
        self.hub = self._new_hub()

    def _new_hub(self) -> CommandDispatcher:
        hub = CommandDispatcher(
            self.store,
            declared=lambda device: DECLARED,
            clock=lambda: self.store.now_ns,
        )
        opened = select_open(self.store.connection)
        hub.restore(opened)
        self.sent_before |= {r.id: self.store.now_ns for r in opened if r.state is not CommandPhase.QUEUED}
        return hub

    def _turn(self) -> None:
        for _ in range(4):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    def _begin(self, work: Any) -> None:
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._done)
        self._turn()

    def _done(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            assert isinstance(task.exception(), CommandRefused | RegistryError)

    # ── the operator ─────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(ttl_s=st.none() | st.integers(1, 60), times=st.sampled_from([1, 3, 20]))
    def send(self, ttl_s: int | None, times: int) -> None:
        async def send() -> None:
            new = NewCommand("set_speed", {"speed": 3}, "operator o1", 10_000, ttl_s)
            self.accepted.append((await self.hub.send(DEVICE, new)).id)

        for _ in range(times):
            self._begin(send())

    @precondition(lambda self: self.accepted)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self._begin(self.hub.cancel(DEVICE, data.draw(st.sampled_from(self.accepted)), "operator o1"))

    # ── the hub ──────────────────────────────────────────────────────────────────────────────────────────────────────

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
        self.link = None
        self.store.lose(written)
        for task in list(self.tasks):
            task.cancel()
        self._turn()
        self.hub = self._new_hub()

    @rule(seconds=st.sampled_from([1, 5, 20, 60]))
    def time_passes(self, seconds: int) -> None:
        self.store.now_ns += seconds * NS_PER_S
        self.hub.pass_deadlines()
        self.hub.retry()
        self._turn()

    # ── the connection ───────────────────────────────────────────────────────────────────────────────────────────────

    @rule()
    def connect(self) -> None:
        self.link = Link(self.device.repeats)
        self.hub.connected(DEVICE, self.link)
        if self.device is self.agent:
            self.link.to_hub.extend(state for id, state in self.agent.known.items() if id in self.agent.unrecorded)

    @rule()
    def another_program_takes_the_place_of_the_device(self) -> None:
        self.device_crashes()
        self.device = self.client if self.device is self.agent else self.agent
        self.connect()

    @rule()
    def disconnect(self) -> None:
        if self.link is not None:
            self.hub.disconnected(DEVICE, self.link)
        self.link = None

    @rule(count=st.integers(1, 5))
    def arrive_at_device(self, count: int) -> None:
        for _ in range(count):
            if self.link is not None and self.link.to_device:
                self.device.receive(self.link.to_device.popleft(), self.link)

    @rule(count=st.integers(1, 5))
    def arrive_at_hub(self, count: int) -> None:
        for _ in range(count):
            if self.link is not None and self.link.to_hub:
                self._begin(self._report(self.link, self.link.to_hub.popleft()))

    async def _report(self, link: Link, state: CommandState) -> None:
        try:
            assert await self.hub.report(DEVICE, state)
        except RegistryError:
            if link is self.link:  # the session ends, and the device repeats its states
                self.disconnect()
            return
        link.send(CommandRecorded(state.id, state.state))

    @precondition(lambda self: self.link is not None)
    @rule(data=st.data())
    def repeat_and_reorder(self, data: st.DataObject) -> None:
        assert self.link is not None
        for queue in (self.link.to_device, self.link.to_hub):
            # No network repeats a message by itself. An agent does, and may have to.
            if queue and (self.link.repeats or queue is self.link.to_hub):
                messages = [*queue, data.draw(st.sampled_from(list(queue)))]
                queue.clear()
                queue.extend(data.draw(st.permutations(messages)) if len(messages) < 6 else messages)

    # ── the device ───────────────────────────────────────────────────────────────────────────────────────────────────

    @rule()
    def device_starts(self) -> None:
        self.device.start()

    @rule(state=st.sampled_from(["succeeded", "failed", "rejected"]))
    def device_finishes(self, state: str) -> None:
        self.device.finish(state, self.link)

    @rule()
    def device_crashes(self) -> None:
        self.device.crash()
        self.disconnect()

    # ── all ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(moves=st.lists(st.sampled_from(sorted(MOVES)), min_size=10, max_size=30))
    def go_on(self, moves: list[str]) -> None:
        """Let many things happen between two interruptions."""
        if self.link is None:
            self.connect()
        for move in moves:
            MOVES[move](self)

    # ── what always holds ────────────────────────────────────────────────────────────────────────────────────────────

    def _answer_of(self, id: str) -> CommandState | None:
        """Return what the device knows of a command, or has answered."""
        return self.client.finished.get(id) or self.agent.known.get(id)

    def _stored(self, id: str) -> CommandRecord:
        record = select_command(self.store.connection, DEVICE, id)
        assert record is not None, "an accepted command is lost"
        return record

    @invariant()
    def no_command_is_executed_twice(self) -> None:
        assert all(count == 1 for count in self.executed.values())

    @invariant()
    def every_state_is_true_and_explained(self) -> None:
        for id in self.accepted:
            record = self._stored(id)
            changes = [change.state for change in record.changes]
            assert changes[0] is CommandPhase.QUEUED
            assert len(changes) == len(set(changes)) <= 6
            assert [change.time_ns for change in record.changes] == sorted(change.time_ns for change in record.changes)
            known = self._answer_of(id)
            match record.state:
                case CommandPhase.SUCCEEDED | CommandPhase.FAILED | CommandPhase.REJECTED:
                    assert known is not None
                    assert (record.state.value, record.result) == (known.state, known.result)
                    assert record.late is (CommandPhase.TIMED_OUT in changes)
                case CommandPhase.RECEIVED:
                    assert known is not None
                case CommandPhase.EXPIRED | CommandPhase.CANCELLED | CommandPhase.QUEUED:
                    assert known is None, "the device has a command that was never sent"
                    assert id not in self.executed
            if record.state in (CommandPhase.EXPIRED, CommandPhase.CANCELLED, CommandPhase.TIMED_OUT):
                assert record.reason.code
                assert record.reason.message

    @invariant()
    def none_times_out_too_early(self) -> None:
        """A device that received a queued command has its time-out, and one that returns after an outage a minute."""
        for id in self.accepted:
            record = self._stored(id)
            times = {change.state: change.time_ns for change in record.changes}
            if CommandPhase.TIMED_OUT not in times:
                continue
            ended_ns, received_ns = times[CommandPhase.TIMED_OUT], times.get(CommandPhase.RECEIVED)
            if record.mode == "queue" and any(change.code == SENT_ONCE for change in record.changes):
                assert ended_ns >= times[CommandPhase.SENT] + 10 * NS_PER_S
            else:
                assert received_ns is not None or ended_ns >= record.expires_ns
            if record.mode == "queue" and received_ns is not None and received_ns < ended_ns:
                assert ended_ns >= received_ns + 10 * NS_PER_S
            started_ns = self.sent_before.get(id)
            if started_ns is not None and started_ns < ended_ns and (received_ns or 0) < started_ns:
                assert ended_ns >= started_ns + GRACE_NS

    @invariant()
    def no_more_is_sent_than_the_limit(self) -> None:
        opened = select_open(self.store.connection)
        assert sum(self.store.now_ns < record.held_until_ns for record in opened) <= MAX_COMMANDS_SENT

    def _is_moving(self) -> bool:
        assert self.link is not None
        return bool(self.store.waiting or self.link.to_device or self.link.to_hub or self.device.is_executing)

    def teardown(self) -> None:
        """With a connection that holds, every command gets the end that the device reports."""
        if self.link is None:
            self.connect()
        self._end_all()
        if self.device is self.client:
            self.another_program_takes_the_place_of_the_device()
            self._end_all()
        self.every_state_is_true_and_explained()
        self.no_command_is_executed_twice()
        for id in self.accepted:
            self._check_end(id)
        assert not self.agent.unrecorded
        events = select_events(self.store.connection, DEVICE)
        for id in self.accepted[-20:]:  # the events of a device are bounded
            kinds = [event.kind for event in events if id in event.detail]
            assert kinds[0] == f"command {self._stored(id).state.value.replace('_', ' ')}"
        self.loop.close()

    def _check_end(self, id: str) -> None:
        """Check that a command has the end that the device reported. A client without a memory reports only once."""
        record, known = self._stored(id), self._answer_of(id)
        if record.state is CommandPhase.TIMED_OUT:
            assert known is None or any(change.code == SENT_ONCE for change in record.changes)
            return
        assert record.state.is_final
        assert known is None or known.state == record.state.value

    def _forgotten(self, opened: Sequence[CommandRecord]) -> list[CommandRecord]:
        """Return the commands that the connected device should have answered, or got, by now."""
        on_way = sum(self.store.now_ns < record.held_until_ns for record in opened)
        on_way += sum(record.state is CommandPhase.RECEIVED for record in opened)
        in_time = [record for record in opened if self.store.now_ns < record.expires_ns]
        queued = [record for record in in_time if record.state is CommandPhase.QUEUED]
        answered = [record for record in in_time if record.state is not CommandPhase.QUEUED and not record.is_sent_once]
        return (queued if on_way < MAX_COMMANDS_SENT else []) + (answered if self.device is self.agent else [])

    def _end_all(self) -> None:
        """Let everything happen until no command is open."""
        turns = 0
        assert self.link is not None
        while self._is_moving() or select_open(self.store.connection):
            turns += 1
            assert turns < 1_000, "the commands never end"
            if not self._is_moving():
                # The end of a command that could not be stored is tried again a second later. Nothing else is left.
                # After a start of the hub, it waits for the result of a command that an earlier run sent.
                assert not self._forgotten(select_open(self.store.connection)), "a command is forgotten"
                self.time_passes(GRACE_NS // NS_PER_S if turns % 2 else 1)
            self.time_passes(0)
            self.commit(5)
            self.arrive_at_device(5)
            self.arrive_at_hub(5)
            self.device.start()
            self.device.finish("succeeded", self.link)


def test_a_command_that_could_not_be_stored_as_sent_is_sent_when_the_disk_has_room() -> None:
    """Nothing else has to happen at the device, and it is written once, whatever connects meanwhile."""
    machine = CommandMachine()
    machine.send(30, 1)
    machine.commit(1)
    machine.connect()
    machine.connect()
    assert len(machine.store.waiting) == 1
    machine.disk_is_full()
    assert machine.link is not None
    assert not machine.link.to_device
    machine.time_passes(1)
    machine.commit(1)
    assert len(machine.link.to_device) == 1
    machine.teardown()


def test_a_command_for_a_connected_device_is_queued_and_sent_in_one_write() -> None:
    """As long as there is room and nothing waits: the order of the commands stays."""
    machine = CommandMachine()
    machine.connect()
    assert machine.link is not None
    machine.send(None, MAX_COMMANDS_SENT + 2)
    assert not machine.link.to_device
    machine.commit(MAX_COMMANDS_SENT + 2)
    assert not machine.store.waiting
    assert [message.id for message in machine.link.to_device] == machine.accepted[:MAX_COMMANDS_SENT]
    states = [[change.state.value for change in machine._stored(id).changes] for id in machine.accepted]
    assert states == [["queued", "sent"]] * MAX_COMMANDS_SENT + [["queued"]] * 2
    machine.arrive_at_device(1)
    machine.arrive_at_hub(1)
    machine.send(None, 1)
    machine.commit(9)
    assert [record.state.value for record in map(machine._stored, machine.accepted[-3:])] == [
        "sent",
        "queued",
        "queued",
    ]
    machine.teardown()


def test_a_slow_device_executes_a_full_queue() -> None:
    """Each command takes almost its time-out. None is refused as busy, and none times out while it waits."""
    machine = CommandMachine()
    machine.send(86_400, MAX_OPEN_PER_DEVICE)
    machine.commit(MAX_OPEN_PER_DEVICE)
    machine.connect()
    assert machine.link is not None
    for _ in range(MAX_OPEN_PER_DEVICE):
        machine.device.start()
        machine.time_passes(9)
        machine.device.finish("succeeded", machine.link)
        while machine.store.waiting or machine.link.to_device or machine.link.to_hub:
            machine.commit(1)
            machine.arrive_at_device(1)
            machine.arrive_at_hub(1)
    machine.teardown()
    assert {machine._stored(id).state for id in machine.accepted} == {CommandPhase.SUCCEEDED}
    assert not any(machine._stored(id).late for id in machine.accepted)


def test_an_outage_of_the_hub_does_not_time_out_what_a_device_has_executed() -> None:
    """Its result waits in the agent until the agent returns."""
    machine = CommandMachine()
    machine.connect()
    machine.send(None, 2)
    machine.commit(2)
    machine.arrive_at_device(1)
    machine.hub_crashes(0)
    machine.device.start()
    machine.device.finish("succeeded", None)
    machine.time_passes(600)
    machine.hub_crashes(0)
    machine.time_passes(50)
    executed, lost = machine.accepted
    assert not machine.store.waiting
    machine.connect()
    machine.arrive_at_hub(1)
    machine.commit(1)
    assert (machine._stored(executed).state, machine._stored(executed).late) == (CommandPhase.SUCCEEDED, False)
    machine.time_passes(10)
    machine.commit(1)
    assert machine._stored(lost).reason.code == "not_confirmed"
    machine.teardown()


def test_a_device_that_never_answers_gets_later_commands() -> None:
    """As soon as the time-out of the earlier ones is over, without any other event."""
    machine = CommandMachine()
    machine.connect()
    machine.send(60, MAX_COMMANDS_SENT + 1)
    machine.commit(2 * MAX_COMMANDS_SENT)
    assert machine.link is not None
    assert len(machine.link.to_device) == MAX_COMMANDS_SENT
    machine.store.now_ns += 10 * NS_PER_S
    machine.hub.pass_deadlines()
    machine.commit(1)
    assert len(machine.link.to_device) == MAX_COMMANDS_SENT + 1
    machine.teardown()


def test_what_an_agent_may_have_is_not_sent_to_a_client_without_a_memory() -> None:
    """Nor is what such a client may have sent to an agent: neither recognises what the other has executed."""
    machine = CommandMachine()
    machine.connect()
    for sent in ([0], [1], [0, 2]):  # the agent gets its own command again
        machine.send(60, 1)
        machine.commit(2)
        assert machine.link is not None
        assert [message.id for message in machine.link.to_device] == [machine.accepted[number] for number in sent]
        machine.another_program_takes_the_place_of_the_device()
    machine.teardown()


TestCommands = CommandMachine.TestCase
TestCommands.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
