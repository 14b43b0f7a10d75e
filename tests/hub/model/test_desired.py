"""Desired values of a device, its reports, and their difference."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.model.desired import (
    REPORT_RESOLUTION_NS,
    Change,
    DesiredRecord,
    DesiredRefused,
    SyncState,
    ValueSync,
    changed,
    difference,
    events_of,
    overall,
    reported,
)
from wire.device import Desired, Reported, SettingProblem
from wire.limits import MAX_SEQ, MAX_SETTINGS
from wire.setting import is_same_value

NAMES = ["pressure", "mode", "light"]
VALUES: st.SearchStrategy[Any] = st.sampled_from([1, 1.0, 2.5, True, False, "1", "eco"])


def document(**values: Any) -> DesiredRecord:
    """Return a document in which these values were set one after the other, from version 1 on."""
    record = DesiredRecord(device="pump")
    for number, (name, value) in enumerate(values.items(), 1):
        record = changes(record, {name: value}, now_ns=number)
    return record


def changes(record: DesiredRecord, values: Any, *removed: str, now_ns: int = 9, expected: int | None = None) -> Any:
    return changed(record, Change(values, removed, "operator o1", expected), now_ns)


def reports(record: DesiredRecord, version: int, values: Any, *problems: SettingProblem, now_ns: int = 10) -> Any:
    return reported(record, Reported(version, values, [*problems]), NAMES, now_ns)


def state_of(record: DesiredRecord, name: str = "pressure") -> ValueSync:
    return difference(record, name, NAMES)


def test_each_change_has_a_version() -> None:
    """Only the changed value gets it. A value that is set again is a change; a removal of nothing is none."""
    record = document(pressure=2.5, mode="eco")
    assert record.message == Desired(2, {"pressure": 2.5, "mode": "eco"})
    again = changes(record, {"pressure": 2.5})
    assert (again.version, again.values["pressure"].version, again.values["mode"].version) == (3, 3, 2)
    removed = changes(again, {}, "mode", "light")
    assert removed.message == Desired(4, {"pressure": 2.5})
    assert changes(removed, {}, "mode") is None
    assert changes(removed, {}, "pressure").message == Desired(5, {})
    assert DesiredRecord(device="pump").message is None


def test_a_change_of_another_version_than_the_expected_one_is_refused() -> None:
    """Two operators do not overwrite each other."""
    record = document(pressure=2.5)
    assert changes(record, {"pressure": 3}, expected=1).version == 2
    with pytest.raises(DesiredRefused, match="have version 1 and not 0") as refused:
        changes(record, {"pressure": 3}, expected=0)
    assert refused.value.code == "wrong_version"


def test_a_document_has_bounds() -> None:
    """Names and bytes. A removal makes room."""
    record = document(**{f"s{number}": number for number in range(MAX_SETTINGS)})
    for values, full in (({"more": 1}, record), ({f"t{n}": "t" * 1000 for n in range(20)}, document())):
        with pytest.raises(DesiredRefused) as refused:
            changes(full, values)
        assert refused.value.code == "too_many_settings"
    assert changes(record, {"more": 1}, "s0").version == MAX_SETTINGS + 1


def test_a_value_is_in_sync_when_the_device_has_processed_it() -> None:
    """Not before, although it has the same value by chance; and not when the device has changed it."""
    record = document(pressure=2.5)
    assert state_of(record) == (SyncState.UNKNOWN, "not_reported", "the device has not reported its settings")
    early = reports(record, 0, {"pressure": 2.5})
    assert state_of(early)[:2] == (SyncState.OUT_OF_SYNC, "not_processed")
    done = reports(early, 1, {"pressure": 2.5})
    assert state_of(done) == (SyncState.IN_SYNC, "", "")
    assert state_of(reports(done, 1, {"pressure": 3.0}))[:2] == (SyncState.OUT_OF_SYNC, "differs")
    assert state_of(reports(done, 1, {}))[:2] == (SyncState.UNKNOWN, "not_reported")
    # Another value changes the version of the document, and not the state of this one.
    assert state_of(changes(done, {"mode": "eco"})).state is SyncState.IN_SYNC
    assert state_of(changes(done, {"mode": "eco"}), "mode")[:2] == (SyncState.UNKNOWN, "not_reported")


def test_a_refused_value_is_rejected_and_a_retried_one_out_of_sync() -> None:
    """With the reason of the device. The next version is not rejected by an old report."""
    record = document(pressure=2.5)
    problem = SettingProblem("pressure", "refused", "The valve is locked.")
    rejected = reports(record, 1, {"pressure": 2.0}, problem)
    assert state_of(rejected) == (SyncState.REJECTED, "refused", "The valve is locked.")
    retried = reports(record, 1, {}, SettingProblem("pressure", "unavailable", "", retried=True))
    assert state_of(retried) == (SyncState.OUT_OF_SYNC, "unavailable", "")
    assert state_of(changes(rejected, {"pressure": 2.5}))[:2] == (SyncState.OUT_OF_SYNC, "not_processed")


def test_a_value_that_the_device_does_not_declare_is_unknown() -> None:
    """Also if a report names it."""
    record = document(pressure=2.5)
    assert difference(reports(record, 1, {"pressure": 2.5}), "pressure", []).code == "not_declared"


def test_a_report_about_a_document_that_the_hub_has_lost_does_not_count() -> None:
    """A hub that was restored from a copy has an older version; the next change is above that of the device.

    A version beyond the highest of the protocol is refused.
    """
    record = reports(document(pressure=2.5), 7, {"pressure": 2.5})
    assert state_of(record)[:2] == (SyncState.OUT_OF_SYNC, "not_processed")
    assert changes(record, {"pressure": 2.5}).version == 8
    newest = changes(reports(record, MAX_SEQ - 1, {}), {"pressure": 3})
    assert newest.version == MAX_SEQ
    with pytest.raises(DesiredRefused, match="maximum"):
        changes(newest, {"pressure": 2.5})


def test_a_report_without_news_is_not_stored() -> None:
    """But once a minute, for its time."""
    record = reports(document(pressure=2.5), 1, {"pressure": 2.5}, now_ns=10)
    assert reports(record, 1, {"pressure": 2.5}, now_ns=9 + REPORT_RESOLUTION_NS) is None
    assert reports(record, 1, {"pressure": 2.5}, now_ns=10 + REPORT_RESOLUTION_NS).reported_ns > record.reported_ns


def test_the_events_name_the_operator_and_both_values_and_the_first_outcomes() -> None:
    """A device that changes between two states again and again causes no more events."""
    steps: list[DesiredRecord] = [DesiredRecord(device="pump")]
    steps.append(changes(steps[-1], {"pressure": 2.5}))
    steps.append(changes(steps[-1], {"pressure": 3.0}))
    problem = SettingProblem("pressure", "refused", "locked")
    for _ in range(3):
        steps.append(reports(steps[-1], 2, {"pressure": 2.0}, problem))
        steps.append(reports(steps[-1], 2, {"pressure": 3.0}))
    steps.append(changes(steps[-1], {}, "pressure"))
    found = [event for before, after in pairwise(steps) for event in events_of(before, after, NAMES, 5)]
    assert [(event.kind, event.detail) for event in found] == [
        ("desired value", "pressure: 2.5 (version 1) by operator o1"),
        ("desired value", "pressure: 2.5 → 3.0 (version 2) by operator o1"),
        ("desired value rejected", "pressure: 3.0 (version 2): refused: locked"),
        ("desired value in force", "pressure: 3.0 (version 2)"),
        ("desired value removed", "pressure: 3.0 (version 3) by operator o1"),
    ]


def test_the_state_that_matters_most_is_that_of_the_device() -> None:
    """A rejected value first."""
    states = [SyncState.IN_SYNC, SyncState.OUT_OF_SYNC, SyncState.UNKNOWN, SyncState.REJECTED]
    assert [overall([ValueSync(state) for state in states[:count]]) for count in range(5)] == [None, *states]


@given(
    steps=st.lists(
        st.one_of(
            st.dictionaries(st.sampled_from(NAMES), VALUES, min_size=1),
            st.tuples(
                st.integers(0, 5), st.dictionaries(st.sampled_from(NAMES), VALUES), st.sets(st.sampled_from(NAMES))
            ),
        ),
        max_size=8,
    )
)
def test_in_sync_is_never_a_guess(steps: list[Any]) -> None:
    """Whatever is desired and reported: the newest report has the value, without a problem, and knows the version."""
    record = DesiredRecord(device="pump")
    for now_ns, step in enumerate(steps, 1):
        if isinstance(step, dict):
            record = changes(record, step, now_ns=now_ns)
        else:
            version, values, names = step
            problems = [SettingProblem(name, "c") for name in sorted(names)]
            record = reports(record, version, values, *problems, now_ns=now_ns) or record
        for name, desired in record.values.items():
            report = record.reported
            in_force = (
                report is not None
                and desired.version <= report.version <= record.version
                and name in report.values
                and is_same_value(report.values[name], desired.value)
                and name not in {problem.name for problem in report.problems}
            )
            assert (state_of(record, name).state is SyncState.IN_SYNC) is in_force
            assert in_force or state_of(record, name).code
