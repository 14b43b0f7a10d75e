"""The settings of a device, desired and in force: a pure state machine whose changes are written before they count.

    desired ──► on disk ──► handler ──► in force
                               ├──► refused
                               └──► failed ──► handler again, after a delay

`changes` is what has to be written, and `commit` says that it is on disk. A handler gets a desired value, and the agent
reports that it has it, only after that. After a restart of the agent the handlers get the stored values again: whether
they are still in force is not known. The same holds for the values of a board that restarted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from math import inf
from typing import NamedTuple

from msgspec import Struct

from device_agent.operator_commands.log import CommandOutcome
from device_agent.source_state import shorten
from wire.command import CommandParameter, ParametersRefused, ParameterValue, json_size
from wire.device import Desired, Reported, SettingProblem
from wire.limits import MAX_MESSAGE, MAX_SETTINGS_BYTES
from wire.setting import accepted_values, is_same_value, unknown_setting

FIRST_RETRY_S = 1.0
MAX_RETRY_S = 60.0
"""Longest delays before a handler that failed is called again: the first one, and every one. The shortest is half."""

Delay = Callable[[int], float]
"""Function from the number of earlier failures to the seconds before the next attempt."""


class StoredSettings(Struct, frozen=True, omit_defaults=True):
    """Settings as they are on disk: the newest desired values, and their version."""

    version: int = 0
    desired: dict[str, ParameterValue] = {}


class Application(NamedTuple):
    """A desired value that the handler of its setting gets now."""

    name: str
    value: ParameterValue


class SettingStates:
    """The settings of a device. `delay_s` returns the time before another attempt."""

    def __init__(self, delay_s: Delay) -> None:
        self._delay_s = delay_s
        self._declared: dict[str, CommandParameter] = {}
        self._current = self._stored = StoredSettings()
        self._in_force: dict[str, ParameterValue] = {}
        """The values that the device has. One that a handler is about to replace is not in it."""
        self._problems: dict[str, SettingProblem] = {}
        self._pending: dict[str, None] = {}
        """Desired values that a handler has to get, in their order."""
        self._retries_s: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._replaced: dict[str, ParameterValue] = {}
        """Values that were in force before those that are pending, for the case that these are refused."""
        self._running: Application | None = None
        self._is_lost = False
        """The board of the setting whose handler runs has restarted meanwhile."""
        self._sent: Reported | None = None
        self._is_connected = False

    @property
    def declared(self) -> Collection[CommandParameter]:
        """The declared settings."""
        return self._declared.values()

    @property
    def stored(self) -> StoredSettings:
        """The settings on disk."""
        return self._stored

    @property
    def in_force(self) -> Mapping[str, ParameterValue]:
        """The values that the device has, as far as they are known."""
        return self._in_force

    @property
    def problems(self) -> Mapping[str, SettingProblem]:
        """The reasons why desired values are not in force, by name."""
        return self._problems

    def declare(self, setting: CommandParameter) -> None:
        """Add a setting; a value that was desired before gets to its handler."""
        self._declared[setting.name] = setting
        if setting.name in self._current.desired:
            self._want(setting.name)

    def load(self, stored: StoredSettings) -> None:
        """Continue with the settings of an earlier run: every desired value is applied again."""
        self._current = self._stored = stored
        for name in stored.desired:
            self._want(name)

    def receive(self, desired: Desired) -> None:
        """Take the desired values of the hub, possibly not for the first time.

        A value that is in force is not applied again. One with a problem is, if the version is another one: somebody
        has changed something since then.
        """
        before, self._current = self._current, StoredSettings(desired.version, dict(desired.values))
        for name in before.desired.keys() - desired.values.keys():
            self._drop(name)
        for name, value in desired.values.items():
            is_repeated = name in before.desired and is_same_value(before.desired[name], value)
            is_tried = name in self._pending or (self._running is not None and self._running.name == name)
            if is_repeated and (is_tried or name not in self._problems or desired.version == before.version):
                continue
            if self._is_in_force(name, value):
                self._drop(name)
            else:
                self._want(name)

    def lose(self, names: Collection[str], reason: str) -> None:
        """Apply that the values of these settings are not in force any more: the board that had them has restarted."""
        for name in names:
            self._in_force.pop(name, None)
            self._is_lost |= self._running is not None and self._running.name == name
            if name in self._current.desired:
                self._want(name, SettingProblem(name, "restarted", shorten(reason, MAX_MESSAGE), retried=True))
            self._replaced.pop(name, None)

    def report_value(self, name: str, value: object) -> None:
        """Apply that the device itself has this value now. Raises ParametersRefused for one that is not possible."""
        accepted = accepted_values({name: value}, self._declared.values())[name]
        if name in self._pending or (self._running is not None and self._running.name == name):
            self._replaced[name] = accepted
            return
        self._in_force[name] = accepted
        if name in self._current.desired and self._is_in_force(name, self._current.desired[name]):
            self._drop(name)

    def changes(self) -> StoredSettings | None:
        """Return what has to be written; None if all is on disk."""
        return None if self._current == self._stored else self._current

    def commit(self, written: StoredSettings) -> None:
        """Apply that this is on disk."""
        self._stored = written

    def start(self, obstacle_of: Callable[[str], str], now_s: float) -> Application | None:
        """Return the next value for a handler; None if there is none, one runs, or something is not on disk yet.

        `obstacle_of` is the reason why the handler of a setting cannot run now, such as a closed port, or empty.
        """
        for name in [name for name, retry_s in self._retries_s.items() if retry_s <= now_s]:
            del self._retries_s[name]
            self._put_aside(name)
            self._pending[name] = None
        if self._running is not None or self.changes() is not None:
            return None
        for name in list(self._pending):
            if (obstacle := obstacle_of(name)) != "":
                self._problems[name] = SettingProblem(name, "not_open", shorten(obstacle, MAX_MESSAGE), retried=True)
                continue
            del self._pending[name]
            if (problem := self._refusal(name)) is not None:
                self._problems[name] = problem
                continue
            value = accepted_values({name: self._current.desired[name]}, self._declared.values())[name]
            self._running, self._is_lost = Application(name, value), False
            return self._running
        return None

    @property
    def next_retry_s(self) -> float:
        """The time of the next attempt after a failure; infinity without one."""
        return min(self._retries_s.values(), default=inf)

    def finish(self, outcome: CommandOutcome, now_s: float) -> None:
        """Record the end of the handler that got the value of `start`."""
        assert self._running is not None
        (name, value), self._running = self._running, None
        before = self._replaced.pop(name, None)
        now = value if outcome.state == "succeeded" else before if outcome.state == "rejected" else None
        if now is not None and not self._is_lost:
            self._in_force[name] = now
        if name in self._pending:
            # Another value is desired since then, or the board has restarted.
            self._put_aside(name)
            return
        if name not in self._current.desired:
            return
        if outcome.state == "succeeded":
            self._drop(name)
            return
        code, is_retried = outcome.code or "error", outcome.state == "failed"
        self._problems[name] = SettingProblem(name, code, shorten(outcome.message, MAX_MESSAGE), retried=is_retried)
        if is_retried:
            failures = self._failures.get(name, 0)
            self._failures[name] = failures + 1
            self._retries_s[name] = now_s + self._delay_s(failures)

    def connect(self) -> None:
        """Report again, on a new connection."""
        self._is_connected = True
        self._sent = None

    def take_report(self) -> Reported | None:
        """Return the report to send on this connection; None without settings, or without news."""
        if not self._is_connected or not (self._declared or self._stored.version):
            return None
        in_force = dict(self._in_force)
        while json_size(in_force) > MAX_SETTINGS_BYTES:
            # The desired values have no more, and those that only the device has are many and long.
            in_force.popitem()
        problems = [problem for name, problem in self._problems.items() if name in self._stored.desired]
        report = Reported(self._stored.version, in_force, problems)
        if report == self._sent:
            return None
        self._sent = report
        return report

    def _want(self, name: str, problem: SettingProblem | None = None) -> None:
        """Have the desired value applied. What was in force is not known any more while the handler runs."""
        self._drop(name)
        self._put_aside(name)
        self._pending[name] = None
        self._problems[name] = problem or SettingProblem(name, "pending", "the value is being set", retried=True)

    def _drop(self, name: str) -> None:
        self._pending.pop(name, None)
        self._problems.pop(name, None)
        self._retries_s.pop(name, None)
        self._failures.pop(name, None)

    def _put_aside(self, name: str) -> None:
        """Keep the value in force for the case that its handler refuses another one."""
        if name in self._in_force:
            self._replaced[name] = self._in_force.pop(name)

    def _is_in_force(self, name: str, value: ParameterValue) -> bool:
        is_running = self._running is not None and self._running.name == name
        return not is_running and name in self._in_force and is_same_value(self._in_force[name], value)

    def _refusal(self, name: str) -> SettingProblem | None:
        if name not in self._declared:
            text = shorten(unknown_setting(name, [*self._declared]), MAX_MESSAGE)
            return SettingProblem(name, "unknown_setting", text)
        try:
            accepted_values({name: self._current.desired[name]}, self._declared.values())
        except ParametersRefused as refused:
            return SettingProblem(name, "value", shorten(str(refused), MAX_MESSAGE))
        return None
