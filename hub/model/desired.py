"""Desired values of the settings of a device: its document, what the device reports, and their difference. Pure.

    an operator sets a value ──► OUT_OF_SYNC ──the device has processed it──► IN_SYNC | REJECTED | OUT_OF_SYNC
                                 UNKNOWN: the device does not declare the setting, or has never reported it

Model: desired and reported state with a version, as in the device shadow of AWS IoT. Each function returns the record
after something happened, or None if that changes nothing. A record is written to disk before anything follows from it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from hub.model.event import Event
from wire.command import ParameterValue, json_size
from wire.device import Desired, Reported
from wire.limits import MAX_SEQ, MAX_SETTINGS, MAX_SETTINGS_BYTES
from wire.setting import is_same_value
from wire.text import plural
from wire.timestamp import NS_PER_S

REPORT_RESOLUTION_NS = 60 * NS_PER_S
"""A report without news is stored so often, for its time: 10,000 agents that reconnect cause no writes."""


class SyncState(StrEnum):
    """State of a desired value. `IN_SYNC` is never a guess: the device has reported the value since it was set."""

    IN_SYNC = "in_sync"
    OUT_OF_SYNC = "out_of_sync"
    REJECTED = "rejected"
    UNKNOWN = "unknown"


class DesiredValue(Struct, frozen=True, omit_defaults=True):
    """A desired value: since which version of the document and when, and who set it.

    `recorded` has the outcomes that are events already.
    """

    value: ParameterValue
    version: int
    time_ns: int
    operator: str
    recorded: tuple[SyncState, ...] = ()


class DesiredRecord(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The document of a device, and its newest report. Version 0: nothing was ever desired.

    `changed_ns` is the time of the newest change, `reported_ns` that of the report, by the hub's clock; 0: none.
    `changed_by` is who made the newest change.
    """

    device: str
    version: int = 0
    changed_ns: int = 0
    changed_by: str = ""
    values: dict[str, DesiredValue] = {}
    reported: Reported | None = None
    reported_ns: int = 0

    @property
    def message(self) -> Desired | None:
        """The message to the agent; None if nothing was ever desired."""
        if not self.version:
            return None
        return Desired(self.version, {name: desired.value for name, desired in self.values.items()})


class ValueSync(NamedTuple):
    """State of a desired value, and the reason as a code and a sentence. IN_SYNC has none."""

    state: SyncState
    code: str = ""
    message: str = ""


class DesiredRefused(Exception):
    """A change that is not recorded, with the reason as a code of the API and a sentence."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class Change(NamedTuple):
    """A change of desired values by an operator: `values` are set, `removed` are no longer desired.

    `expected_version` is the version that the operator has seen; None: any.
    """

    values: Mapping[str, ParameterValue]
    removed: Collection[str]
    operator: str
    expected_version: int | None = None


def changed(record: DesiredRecord, change: Change, now_ns: int) -> DesiredRecord | None:
    """An operator changes desired values. A value that is set again gets a new version, so the device tries it again.

    Raises DesiredRefused for another version than the expected one, and beyond the bounds of a document.
    """
    if change.expected_version not in (None, record.version):
        raise DesiredRefused(
            f"the desired values of {record.device} have version {record.version} and not {change.expected_version}: "
            "somebody has changed them. Read them again",
            code="wrong_version",
        )
    values = {name: desired for name, desired in record.values.items() if name not in change.removed}
    if not change.values and len(values) == len(record.values):
        return None
    # Above what the device knows, too: it may know later versions than a hub that was restored from a copy.
    known = 0 if record.reported is None else record.reported.version
    version = max(record.version, known) + 1
    if version > MAX_SEQ:
        raise DesiredRefused(f"the version of {record.device} has reached its maximum", code="too_many_settings")
    for name, value in change.values.items():
        values[name] = DesiredValue(value, version, now_ns, change.operator)
    size = json_size({name: desired.value for name, desired in values.items()})
    if len(values) > MAX_SETTINGS or size > MAX_SETTINGS_BYTES:
        raise DesiredRefused(
            f"{record.device} would have {plural(len(values), 'desired value')} in {size:,} bytes, and at most "
            f"{MAX_SETTINGS} in {MAX_SETTINGS_BYTES:,} bytes are possible: clear some",
            code="too_many_settings",
        )
    return replace(record, version=version, changed_ns=now_ns, changed_by=change.operator, values=values)


def reported(record: DesiredRecord, report: Reported, declared: Collection[str], now_ns: int) -> DesiredRecord | None:
    """The device reported its settings. `declared` are the names of its settings."""
    if record.reported == report and now_ns - record.reported_ns < REPORT_RESOLUTION_NS:
        return None
    after = replace(record, reported=report, reported_ns=now_ns)
    values = {}
    for name, desired in record.values.items():
        state = difference(after, name, declared).state
        is_outcome = state in _OUTCOMES and state not in desired.recorded
        values[name] = replace(desired, recorded=(*desired.recorded, state)) if is_outcome else desired
    return replace(after, values=values)


_OUTCOMES = (SyncState.IN_SYNC, SyncState.REJECTED)


def difference(record: DesiredRecord, name: str, declared: Collection[str]) -> ValueSync:
    """Return the state of the desired value of a setting, which there is. `declared` are the names of the settings."""
    desired, report = record.values[name], record.reported
    if name not in declared:
        return ValueSync(SyncState.UNKNOWN, "not_declared", "the device does not declare this setting")
    if report is None:
        return ValueSync(SyncState.UNKNOWN, "not_reported", "the device has not reported its settings")
    problem = next((problem for problem in report.problems if problem.name == name), None)
    # A later version than ours is that of a document which the hub has lost: the device then gets ours.
    if desired.version <= report.version <= record.version:
        if problem is not None:
            state = SyncState.OUT_OF_SYNC if problem.retried else SyncState.REJECTED
            return ValueSync(state, problem.code, problem.message)
        if name in report.values:
            if is_same_value(report.values[name], desired.value):
                return ValueSync(SyncState.IN_SYNC)
            return ValueSync(SyncState.OUT_OF_SYNC, "differs", "the device has another value")
    elif name in report.values or problem is not None:
        return ValueSync(SyncState.OUT_OF_SYNC, "not_processed", "the device has not processed this value yet")
    return ValueSync(SyncState.UNKNOWN, "not_reported", "the device has not reported this setting")


def overall(differences: Sequence[ValueSync]) -> SyncState | None:
    """Return the state of a device that matters most to an operator; None without a desired value."""
    states = {found.state for found in differences}
    order = (SyncState.REJECTED, SyncState.UNKNOWN, SyncState.OUT_OF_SYNC, SyncState.IN_SYNC)
    return next((state for state in order if state in states), None)


def events_of(before: DesiredRecord, after: DesiredRecord, declared: Collection[str], time_ns: int) -> list[Event]:
    """Return the events of a change, for the events of the device: what an operator set, and its first outcomes."""
    events = []

    def add(kind: str, detail: str) -> None:
        events.append(Event(0, after.device, time_ns, kind, detail))

    for name, old in before.values.items():
        if name not in after.values:
            add("desired value removed", f"{name}: {_text(old.value)} (version {after.version}) by {after.changed_by}")
    for name, desired in after.values.items():
        earlier = before.values.get(name)
        if earlier is None or earlier.version != desired.version:
            words = f"{'' if earlier is None else f'{_text(earlier.value)} → '}{_text(desired.value)}"
            add("desired value", f"{name}: {words} (version {desired.version}) by {after.changed_by}")
        elif len(desired.recorded) > len(earlier.recorded):
            found = difference(after, name, declared)
            reason = "".join(f": {text}" for text in (found.code, found.message) if text)
            kind = "desired value in force" if found.state is SyncState.IN_SYNC else "desired value rejected"
            add(kind, f"{name}: {_text(desired.value)} (version {desired.version}){reason}")
    return events


def _text(value: ParameterValue) -> str:
    return json.dumps(value, ensure_ascii=False)
