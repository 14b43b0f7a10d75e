"""Desired values between operators and devices, whatever crashes, repeats, arrives in another order or restarts."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hub.ingest.desired_dispatcher import DesiredDispatcher, DesiredTransition, NewValues
from hub.model.desired import DesiredRecord, DesiredRefused, SyncState, difference
from hub.registry.database import RegistryError
from hub.registry.desired import change_desired, select_all, select_desired
from tests.hub.ingest.file_store import FileStore
from wire.command import CommandParameter
from wire.device import Desired, Reported, SettingProblem
from wire.timestamp import NS_PER_S

DEVICE = "pump-7"
DECLARED = [CommandParameter("pressure", min=0, max=9), CommandParameter("level", "integer", min=0, max=9)]
NAMES = [setting.name for setting in DECLARED]
REFUSED = 5
"""The device rejects larger values than this, although it declares more."""

VALUES = st.sampled_from([1, 3, 6])
"""Few, so that a value is desired again, or is in force by chance."""


class DesiredFileStore(FileStore):
    """The tables of desired values. Implements hub.ingest.desired_dispatcher.DesiredStore."""

    def change(
        self, device: str, transition: DesiredTransition, on_stored: Callable[[DesiredRecord], None]
    ) -> asyncio.Future[DesiredRecord]:
        now_ns = self.now_ns
        return self.wait(lambda: change_desired(self.connection, device, transition, NAMES, now_ns), on_stored)


class Link:
    """A connection: what is on its way, in both directions."""

    def __init__(self) -> None:
        self.to_device: deque[Desired] = deque()
        self.to_hub: deque[Reported] = deque()

    def send(self, message: Desired) -> None:
        self.to_device.append(message)


class ModelDevice:
    """A device by the rules of docs/protocol.md. `stored` is on its disk, `force` in its board."""

    def __init__(self) -> None:
        self.stored: Desired | None = None
        self.processed: Desired | None = None
        self.force: dict[str, Any] = {"pressure": 1.0}
        self.problems: dict[str, SettingProblem] = {}
        self.is_open = True
        self.history: list[Desired] = []
        self.made: list[Reported] = []

    def report(self) -> Reported:
        version = 0 if self.processed is None else self.processed.version
        made = Reported(version, dict(self.force), [*self.problems.values()])
        self.made.append(made)
        return made

    def process(self) -> bool:
        """Apply the newest document; return whether something is to report."""
        if self.stored is None or not self.has_work:
            return False
        self.processed = self.stored
        self.history.append(self.stored)
        self.problems = {}
        for name, value in self.stored.values.items():
            assert not isinstance(value, str)
            if value > REFUSED:
                self.problems[name] = SettingProblem(name, "refused", "too much")
            elif not self.is_open:
                self.problems[name] = SettingProblem(name, "unavailable", "the port is closed", retried=True)
            else:
                self.force[name] = value
        return True

    def crash(self) -> None:
        """Start again with what is on the disk; the board loses what it does not keep."""
        self.processed = None
        self.problems = {}
        self.force.pop("level", None)

    @property
    def has_work(self) -> bool:
        retries = self.is_open and any(problem.retried for problem in self.problems.values())
        return self.stored is not self.processed or retries


MOVES: dict[str, Callable[[Any], None]] = {
    "set": lambda machine: machine.set({"pressure": 3}, None),
    "set both": lambda machine: machine.set({"pressure": 1, "level": 3}, None),
    "commit": lambda machine: machine.commit(1),
    "commit more": lambda machine: machine.commit(3),
    "arrive at the device": lambda machine: machine.arrive_at_device(2),
    "arrive at the hub": lambda machine: machine.arrive_at_hub(2),
    "process": lambda machine: machine.device_processes(),
}


class DesiredMachine(RuleBasedStateMachine):
    """One device, its hub, their connection and an operator."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.store = DesiredFileStore(self.loop)
        self.device = ModelDevice()
        self.link: Link | None = None
        self.old_links: list[Link] = []
        self.accepted: list[DesiredRecord] = []
        self.copy: bytes | None = None
        self.was_restored = False
        self.tasks: set[asyncio.Task[Any]] = set()
        self.hub = self._new_hub()

    def _new_hub(self) -> DesiredDispatcher:
        hub = DesiredDispatcher(self.store, declared=lambda device: DECLARED, clock=lambda: self.store.now_ns)
        hub.restore(select_all(self.store.connection))
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
            assert isinstance(task.exception(), DesiredRefused | RegistryError)

    # ── the operator ─────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(
        values=st.dictionaries(st.sampled_from(NAMES), VALUES, min_size=1),
        expected=st.none() | st.integers(0, 3),
    )
    def set(self, values: dict[str, Any], expected: int | None) -> None:
        self._begin(self._change(NewValues(values, (), "operator o1", expected)))

    @rule(name=st.sampled_from(NAMES))
    def clear(self, name: str) -> None:
        self._begin(self._change(NewValues({}, [name], "operator o1")))

    async def _change(self, new: NewValues) -> None:
        record = await self.hub.change(DEVICE, new)
        assert new.expected_version is None or record.version == new.expected_version + 1
        self.accepted.append(record)

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
        self._lose_link()
        self.store.lose(written)
        for task in list(self.tasks):
            task.cancel()
        self._turn()
        self.hub = self._new_hub()

    @rule()
    def hub_is_copied(self) -> None:
        self.copy = self.store.connection.serialize("main")

    @precondition(lambda self: self.copy is not None)
    @rule()
    def hub_is_restored(self) -> None:
        """The copy lacks later changes, so they are no longer promised."""
        self._lose_link()
        self.store.lose(0)
        for task in list(self.tasks):
            task.cancel()
        self._turn()
        assert self.copy is not None
        self.store.connection.deserialize("main", self.copy)
        self.accepted.clear()
        self.was_restored = True
        self.hub = self._new_hub()

    @rule(seconds=st.sampled_from([1, 100]))
    def time_passes(self, seconds: int) -> None:
        self.store.now_ns += seconds * NS_PER_S

    # ── the connection ───────────────────────────────────────────────────────────────────────────────────────────────

    @rule()
    def connect(self) -> None:
        """The older connection may end later than the new one begins."""
        self._lose_link()
        self.link = Link()
        self.hub.connected(DEVICE, self.link)
        assert not self.hub.is_current(DEVICE), "a report of an older connection counts for this one"
        self.link.to_hub.append(self.device.report())

    @rule()
    def disconnect(self) -> None:
        if self.link is not None:
            self.hub.disconnected(DEVICE, self.link)
        self._lose_link()

    def _lose_link(self) -> None:
        if self.link is not None:
            self.old_links = [*self.old_links[-1:], self.link]
        self.link = None

    @rule()
    def frames_of_old_connections_arrive(self) -> None:
        """They do not count: another connection has taken over."""
        for link in self.old_links:
            while link.to_hub:
                before = len(self.store.waiting)
                self._begin(self.hub.report(DEVICE, link, link.to_hub.popleft()))
                assert len(self.store.waiting) == before or self.hub._links.get(DEVICE) is link

    @rule(count=st.integers(1, 5))
    def arrive_at_device(self, count: int) -> None:
        for _ in range(count):
            if self.link is not None and self.link.to_device:
                self.device.stored = self.link.to_device.popleft()

    @rule(count=st.integers(1, 5))
    def arrive_at_hub(self, count: int) -> None:
        for _ in range(count):
            if self.link is not None and self.link.to_hub:
                self._begin(self._report(self.link, self.link.to_hub.popleft()))

    async def _report(self, link: Link, report: Reported) -> None:
        try:
            await self.hub.report(DEVICE, link, report)
        except RegistryError:
            if link is self.link:  # the session ends, and the device reports again
                self.disconnect()

    @precondition(lambda self: self.link is not None)
    @rule(data=st.data())
    def repeat_and_reorder(self, data: st.DataObject) -> None:
        """Documents arrive in any order. Reports are repeated at once: a connection keeps their order."""
        assert self.link is not None
        documents, reports = self.link.to_device, self.link.to_hub
        if documents:
            messages = data.draw(st.permutations([*documents, documents[0]][:6]))
            documents.clear()
            documents.extend(messages)
        if reports:
            reports.appendleft(reports[0])

    # ── the device ───────────────────────────────────────────────────────────────────────────────────────────────────

    @rule()
    def device_processes(self) -> None:
        if self.device.process():
            self._device_reports()

    @rule(is_open=st.booleans())
    def port_changes(self, is_open: bool) -> None:
        self.device.is_open = is_open

    @rule(name=st.sampled_from(NAMES), value=VALUES)
    def value_changes_on_the_device(self, name: str, value: int) -> None:
        self.device.force[name] = value
        self._device_reports()

    @rule()
    def device_crashes(self) -> None:
        self.device.crash()
        self.disconnect()

    def _device_reports(self) -> None:
        report = self.device.report()
        if self.link is not None:
            self.link.to_hub.append(report)

    # ── all ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(moves=st.lists(st.sampled_from(sorted(MOVES)), min_size=10, max_size=30))
    def go_on(self, moves: list[str]) -> None:
        """Let many things happen between two interruptions."""
        self._keep_connected()
        for move in moves:
            MOVES[move](self)

    # ── what always holds ────────────────────────────────────────────────────────────────────────────────────────────

    def _stored(self) -> DesiredRecord:
        return select_desired(self.store.connection, DEVICE) or DesiredRecord(device=DEVICE)

    @invariant()
    def a_promised_change_is_on_the_disk(self) -> None:
        """Nothing that was answered is lost, and versions only grow."""
        versions = [record.version for record in self.accepted]
        assert versions == sorted(versions)
        if self.accepted:
            assert self._stored().version >= versions[-1]
            if self._stored().version == versions[-1]:
                assert self._stored().message == self.accepted[-1].message

    @invariant()
    def what_is_shown_is_on_the_disk(self) -> None:
        """The memory is what a new hub would read: it shows nothing that is only about to be written."""
        assert self.hub.record(DEVICE) == self._stored()

    @invariant()
    def nothing_is_sent_before_it_is_on_the_disk(self) -> None:
        if self.link is not None:
            for message in self.link.to_device:
                assert message.version <= self._stored().version

    @invariant()
    def in_sync_is_true(self) -> None:
        """The device has made the newest report, and it has processed the document with this value before."""
        record = self._stored()
        for name, desired in record.values.items():
            if difference(record, name, NAMES).state is not SyncState.IN_SYNC:
                continue
            assert record.reported in self.device.made
            assert record.reported is not None
            assert record.reported.values[name] == desired.value
            assert record.reported.version >= desired.version
            known = [document for document in self.device.history if document.version == record.reported.version]
            assert known
            assert self.was_restored or known[0].values[name] == desired.value

    def _keep_connected(self) -> None:
        if self.link is None:
            self.connect()

    def teardown(self) -> None:
        """With a connection that holds, the hub shows what is in force, and the device has what is desired."""
        self.device.is_open = True
        self.connect()
        assert self.link is not None
        turns = 0
        while self.store.waiting or self.link.to_device or self.link.to_hub or self.device.has_work:
            turns += 1
            assert turns < 1_000, "the values never converge"
            self.commit(5)
            self.arrive_at_device(5)
            self.device_processes()
            self.arrive_at_hub(5)
            self._keep_connected()
        record = self._stored()
        for name, desired in record.values.items():
            found = difference(record, name, NAMES)
            assert not isinstance(desired.value, str)
            if desired.value > REFUSED:
                assert found.state is SyncState.REJECTED
            elif self.device.force[name] == desired.value:
                assert found.state is SyncState.IN_SYNC
            else:
                assert found[:2] == (SyncState.OUT_OF_SYNC, "differs")
        assert record.message is None or self.device.stored == record.message
        assert self.hub.is_current(DEVICE)
        self.a_promised_change_is_on_the_disk()
        self.what_is_shown_is_on_the_disk()
        self.in_sync_is_true()
        self.loop.close()


def test_a_value_for_a_setting_that_does_not_exist_is_refused() -> None:
    """With those that there are; a value beyond its range with the range. One that is only desired can be removed."""
    machine = DesiredMachine()

    def refused(values: dict[str, object], *removed: str) -> tuple[str, str]:
        with pytest.raises(DesiredRefused) as error:
            machine.loop.run_until_complete(machine.hub.change(DEVICE, NewValues(values, removed, "operator o1")))
        return error.value.code, str(error.value)

    assert refused({"volume": 1}) == (
        "unknown_setting", 'the device has no setting "volume": it has level, pressure (2 settings)'
    )  # fmt: skip
    assert refused({}, "volume")[0] == "unknown_setting"
    assert refused({"pressure": 10}) == ("wrong_value", "pressure: 10 is above 9")
    machine.set({"level": 1}, None)
    machine.commit(1)
    machine.hub._declared = lambda device: []
    machine.clear("level")
    machine.commit(1)
    assert machine.hub.record(DEVICE).values == {}
    machine.loop.close()


TestDesiredValues = DesiredMachine.TestCase
TestDesiredValues.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
