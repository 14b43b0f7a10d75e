"""The settings of an agent: a state machine of operator, hub, link, disk, agent and board, and its rules one by one."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from device_agent.operator_commands.desired import Application, SettingStates, StoredSettings
from device_agent.operator_commands.log import CommandOutcome
from wire.command import CommandParameter, ParametersRefused, ParameterValue
from wire.device import Desired, Reported

PRESSURE = CommandParameter("pressure", min=0, max=9)
MODE = CommandParameter("mode", "integer", choices=[1, 2, 3])

SUCCEEDED = CommandOutcome("succeeded")
REFUSED = CommandOutcome("rejected", "lid_open", "the lid is open")
FAILED = CommandOutcome("failed", "not_written", "the port was lost")


class Device:
    """The settings of an agent with its disk, and a board that has the values; None: it has its default."""

    def __init__(self, *declared: CommandParameter) -> None:
        self.declared = declared or (PRESSURE, MODE)
        self.disk = StoredSettings()
        self.now_s = 0.0
        self.closed: set[str] = set()
        self.board: dict[str, ParameterValue] = {}
        self.applied: list[Application] = []
        self.begin()

    def begin(self) -> None:
        self.running: Application | None = None
        self.settings = SettingStates(lambda failures: 2.0**failures)
        for setting in self.declared:
            self.settings.declare(setting)
        self.settings.load(self.disk)

    def start(self) -> None:
        """Call the next handler, if one can be called."""
        application = self.settings.start(self.obstacle_of, self.now_s)
        if application is not None:
            assert self.disk.desired[application.name] == application.value, "a handler gets what is not on disk"
            self.running = application

    def obstacle_of(self, name: str) -> str:
        return "the port is not open" if name in self.closed else ""

    def write(self) -> None:
        changes = self.settings.changes()
        if changes is not None:
            self.disk = msgspec.msgpack.decode(msgspec.msgpack.encode(changes), type=StoredSettings)
            self.settings.commit(changes)

    def end(self, outcome: CommandOutcome, *, has_effect: bool = True) -> None:
        assert self.running is not None
        application, self.running = self.running, None
        if outcome is SUCCEEDED or (outcome is FAILED and has_effect):
            self.board[application.name] = application.value
        self.applied.append(application)
        self.settings.finish(outcome, self.now_s)

    def settle(self, outcome: CommandOutcome = SUCCEEDED) -> None:
        """Write and call handlers until nothing is left to do now."""
        for _ in range(20):
            self.write()
            self.start()
            if self.running is not None:
                self.end(outcome)
        assert self.settings.changes() is None

    def report(self) -> Reported:
        self.settings.connect()
        report = self.settings.take_report()
        assert report is not None
        assert self.settings.take_report() is None, "nothing is reported twice"
        return report

    def states(self) -> dict[str, object]:
        """Return what the agent reports: a value, or the code of the problem and whether it is retried."""
        report = self.report()
        return {**report.values, **{problem.name: (problem.code, problem.retried) for problem in report.problems}}


class SettingsOfADevice(RuleBasedStateMachine):
    """Operator, hub, link, disk, agent and board. Whatever is reported as in force, the board has."""

    def __init__(self) -> None:
        super().__init__()
        self.device = Device()
        self.version = 0
        self.desired: dict[str, ParameterValue] = {}
        self.to_agent: list[Desired] = []

    @rule(name=st.sampled_from(["pressure", "mode", "other"]), value=st.sampled_from([1, 2, 3, 40]))
    def operator_sets(self, name: str, value: int) -> None:
        self.version += 1
        self.desired = {**self.desired, name: value}
        self.to_agent.append(Desired(self.version, self.desired))

    @precondition(lambda self: self.desired)
    @rule(data=st.data())
    def operator_clears(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.desired)))
        self.version += 1
        self.desired = {other: value for other, value in self.desired.items() if other != name}
        self.to_agent.append(Desired(self.version, self.desired))

    @rule()
    def link_breaks(self) -> None:
        self.to_agent = []

    @rule()
    def link_connects(self) -> None:
        self.to_agent = [Desired(self.version, self.desired)] if self.version else []

    @precondition(lambda self: self.to_agent)
    @rule()
    def desired_arrives(self) -> None:
        self.device.settings.receive(self.to_agent.pop(0))

    @rule()
    def write(self) -> None:
        self.device.write()

    @precondition(lambda self: self.device.running is None)
    @rule()
    def start(self) -> None:
        self.device.start()

    @precondition(lambda self: self.device.running is not None)
    @rule(outcome=st.sampled_from([SUCCEEDED, REFUSED, FAILED]), has_effect=st.booleans())
    def handler_ends(self, outcome: CommandOutcome, has_effect: bool) -> None:
        self.device.end(outcome, has_effect=has_effect)

    @rule(outcome=st.sampled_from([SUCCEEDED, REFUSED, FAILED]))
    def all_settles(self, outcome: CommandOutcome) -> None:
        if self.device.running is None:
            self.device.settle(outcome)

    @rule(name=st.sampled_from(["pressure", "mode"]))
    def board_restarts(self, name: str) -> None:
        self.device.board.pop(name, None)
        self.device.settings.lose([name], "the board has restarted")

    @precondition(lambda self: self.device.running is None)
    @rule(value=st.sampled_from([1, 2, 3]))
    def board_changes_its_mode(self, value: int) -> None:
        self.device.board["mode"] = value
        self.device.settings.report_value("mode", value)

    @rule(name=st.sampled_from(["pressure", "mode"]))
    def port_opens_or_closes(self, name: str) -> None:
        self.device.closed ^= {name}

    @rule(is_on_disk=st.booleans(), has_effect=st.booleans())
    def agent_is_killed(self, is_on_disk: bool, has_effect: bool) -> None:
        if is_on_disk:
            self.device.write()
        if self.device.running is not None and has_effect:
            self.device.board[self.device.running.name] = self.device.running.value
        self.to_agent = []
        self.device.begin()

    @rule(seconds=st.sampled_from([1.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.device.now_s += seconds

    @invariant()
    def nothing_is_in_force_falsely(self) -> None:
        report = self.device.report()
        running = self.device.running
        for name, value in report.values.items():
            assert self.device.board.get(name) == value
            assert running is None or running.name != name
        assert {problem.name for problem in report.problems} <= self.device.disk.desired.keys()

    def teardown(self) -> None:
        """When everything works and something is set, each valid value is in force, unless the board changed it."""
        if self.device.running is not None:
            self.device.end(SUCCEEDED)
        self.device.closed.clear()
        self.device.settings.receive(Desired(self.version + 1, self.desired))
        self.device.settle()
        self.device.now_s += 1e9
        self.device.settle()
        states = self.device.states()
        for name, value in self.desired.items():
            if name == "other":
                assert states[name] == ("unknown_setting", False)
            elif value == 40:
                assert states[name] == ("value", False)
            else:
                assert states[name] == self.device.board[name]
                assert states[name] == value or name == "mode"


SettingsOfADevice.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestSettingsOfADevice = SettingsOfADevice.TestCase


@pytest.fixture
def device() -> Device:
    return Device()


def test_a_desired_value_is_on_disk_before_its_handler_gets_it(device: Device) -> None:
    """The handler, the disk and the report follow each other, and a report is not ahead of the disk."""
    device.settings.receive(Desired(1, {"pressure": 2}))
    device.start()
    assert (device.running, device.report()) == (None, Reported(0))
    device.write()
    device.start()
    assert device.running == Application("pressure", 2.0)
    assert device.states() == {"pressure": ("pending", True)}
    device.end(SUCCEEDED)
    assert device.report() == Reported(1, {"pressure": 2.0})


def test_a_value_in_force_is_not_set_again(device: Device) -> None:
    """Neither by a repeated document nor by a change of another setting; the handler of that one is called."""
    device.settings.receive(Desired(1, {"pressure": 2}))
    device.settle()
    for desired in (Desired(1, {"pressure": 2}), Desired(2, {"pressure": 2.0, "mode": 1})):
        device.settings.receive(desired)
        device.settle()
    assert device.applied == [Application("pressure", 2.0), Application("mode", 1)]
    assert device.report() == Reported(2, {"pressure": 2.0, "mode": 1})


def test_a_restarted_agent_sets_everything_again(device: Device) -> None:
    """The values count as in force when their handlers have returned."""
    device.settings.receive(Desired(1, {"pressure": 2}))
    device.settle()
    device.settings.report_value("mode", 3)
    device.begin()
    assert device.states() == {"pressure": ("pending", True)}
    device.settle()
    assert device.applied == [Application("pressure", 2.0)] * 2
    assert device.states() == {"pressure": 2.0}


def test_a_restarted_board_gets_its_values_again(device: Device) -> None:
    """Until it has confirmed them, they are not in force; a value that nobody desires is not known any more."""
    device.settings.receive(Desired(1, {"pressure": 2}))
    device.settings.report_value("mode", 3)
    device.settle()
    device.settings.lose(["pressure", "mode"], "the board has restarted")
    assert device.states() == {"pressure": ("restarted", True)}
    device.settle()
    assert device.states() == {"pressure": 2.0}


def test_a_board_that_restarts_while_it_gets_a_value_gets_it_again(device: Device) -> None:
    """Nobody knows whether the handler took effect before or after the restart."""
    device.settings.receive(Desired(1, {"pressure": 2}))
    device.write()
    device.start()
    device.settings.lose(["pressure"], "the board has restarted")
    device.end(SUCCEEDED)
    assert device.states() == {"pressure": ("restarted", True)}
    device.settle()
    assert device.applied == [Application("pressure", 2.0)] * 2


def test_a_refused_value_leaves_the_one_before_in_force(device: Device) -> None:
    """It is not tried again before somebody changes a setting."""
    device.settings.receive(Desired(1, {"pressure": 2}))
    device.settle()
    device.settings.receive(Desired(2, {"pressure": 5}))
    device.settle(REFUSED)
    report = device.report()
    assert (report.values, [problem.message for problem in report.problems]) == ({"pressure": 2.0}, ["the lid is open"])
    assert device.states() == {"pressure": ("lid_open", False)}
    device.settings.receive(Desired(2, {"pressure": 5}))
    device.settle()
    assert len(device.applied) == 2
    device.settings.receive(Desired(3, {"pressure": 5}))
    device.settle()
    assert device.states() == {"pressure": 5.0}


def test_a_refused_value_leaves_nothing_in_force_after_a_restart_of_the_board(device: Device) -> None:
    """The one before was lost with the restart, while the new one waited for its handler."""
    device.settings.receive(Desired(1, {"pressure": 2}))
    device.settle()
    device.settings.receive(Desired(2, {"pressure": 5}))
    device.settings.lose(["pressure"], "the board has restarted")
    device.settle(REFUSED)
    assert device.states() == {"pressure": ("lid_open", False)}
    assert device.report().values == {}


def test_a_failure_is_tried_again_later(device: Device) -> None:
    """With a delay that grows, until it succeeds; then the delay begins anew."""
    device.settings.receive(Desired(1, {"pressure": 2}))
    device.settle(FAILED)
    assert (device.states(), device.settings.next_retry_s) == ({"pressure": ("not_written", True)}, 1.0)
    device.now_s = 1.0
    device.settle(FAILED)
    assert device.settings.next_retry_s == 3.0
    device.now_s = 3.0
    device.settle()
    assert (device.states(), len(device.applied)) == ({"pressure": 2.0}, 3)


def test_a_closed_port_is_waited_for(device: Device) -> None:
    """The reason is reported, other settings are set meanwhile, and the value is set when the port opens."""
    device.closed = {"pressure"}
    device.settings.receive(Desired(1, {"pressure": 2, "mode": 1}))
    device.settle()
    assert device.states() == {"pressure": ("not_open", True), "mode": 1}
    device.closed.clear()
    device.settle()
    assert device.states() == {"pressure": 2.0, "mode": 1}


def test_the_newest_value_wins(device: Device) -> None:
    """A value that changes while its handler runs is set again, also back to the one that runs."""
    device.settings.receive(Desired(1, {"pressure": 2}))
    device.write()
    device.start()
    for version, value in ((2, 3), (3, 2)):
        device.settings.receive(Desired(version, {"pressure": value}))
    device.end(SUCCEEDED)
    device.settle()
    assert device.applied == [Application("pressure", 2.0)] * 2
    assert device.report() == Reported(3, {"pressure": 2.0})


def test_a_value_that_is_no_longer_desired_stays_in_force(device: Device) -> None:
    """A failure of it is forgotten; a smaller version of a hub that was restored counts, too."""
    device.settings.receive(Desired(5, {"pressure": 2, "mode": 1}))
    device.settle()
    device.settings.receive(Desired(4, {"mode": 2}))
    device.settle(FAILED)
    device.settings.receive(Desired(3, {}))
    device.settle()
    assert device.settings.next_retry_s == float("inf")
    assert device.report() == Reported(3, {"pressure": 2.0})


def test_the_device_changes_a_value_itself(device: Device) -> None:
    """It is reported as it is; back at the desired value it is in force again, and the handler is not called."""
    device.settings.receive(Desired(1, {"mode": 1}))
    device.settle()
    device.settings.report_value("mode", 2)
    device.settle()
    assert device.report() == Reported(1, {"mode": 2})
    device.settings.report_value("mode", 1.0)
    device.settle()
    assert (device.report(), len(device.applied)) == (Reported(1, {"mode": 1}), 1)
    for name, value in (("mode", 4), ("other", 1)):
        with pytest.raises(ParametersRefused):
            device.settings.report_value(name, value)


def test_a_setting_that_is_declared_later_gets_its_value() -> None:
    """Before that, the hub learns that there is none."""
    device = Device(PRESSURE)
    device.settings.receive(Desired(1, {"mode": 1}))
    device.settle()
    assert device.states() == {"mode": ("unknown_setting", False)}
    device.settings.declare(MODE)
    device.settle()
    assert device.states() == {"mode": 1}


def test_reported_values_fit_into_a_message() -> None:
    """The hub refuses more; those that only the device has are left out."""
    names = [f"text{number}" for number in range(20)]
    device = Device(*(CommandParameter(name, "string") for name in names))
    for name in names:
        device.settings.report_value(name, "x" * 1024)
    device.settle()
    assert 0 < len(device.report().values) < 20


def test_an_agent_without_settings_reports_nothing() -> None:
    """A hub that knows no settings of it gets no message about them."""
    states = SettingStates(float)
    states.connect()
    assert states.take_report() is None
