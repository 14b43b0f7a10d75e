"""A reported status in the hub: times by its own clock, events, and a bound for them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hub.ingest.source_report import (
    EVENT_BURST,
    EVENT_PERIOD_NS,
    SAME_NS,
    EventBudget,
    count_refused,
    states_by_hub_clock,
    transitions,
)
from hub.model.batch import SOURCE_REFUSED, Entry, EntryKind
from wire import device as messages
from wire.codec import AGENT_MESSAGES, Format
from wire.device import Refused, SourceRefusal, SourceState

NS = 1_000_000_000
NOW = 1_767_225_600 * NS
times = st.integers(0, 2**63 - 1)
states = st.builds(SourceState, st.sampled_from("abc"), st.booleans(), times, st.sampled_from(["", "e"]))
reports = st.lists(states, max_size=3, unique_by=lambda state: state.name)


@given(times, reports, reports)
def test_times_are_within_the_hub_s_past(time_ns: int, known: list[SourceState], reported: list[SourceState]) -> None:
    """Whatever the device's clock says, a state began before now and not before 1970; the rest is as reported."""
    found = states_by_hub_clock(known, messages.Status(time_ns, 1, reported), NOW)
    assert [(s.name, s.ok, s.error) for s in found] == [(s.name, s.ok, s.error) for s in reported]
    for state in found:
        assert 0 <= state.since <= NOW or state.since in [old.since for old in known]


def test_a_device_without_a_clock_reports_exact_ages() -> None:
    """Its clock stands at 1970, or was set by years between two reports: the age is what counts."""
    at_start = messages.Status(60 * NS, 1, [SourceState("port", False, 55 * NS)])
    first = states_by_hub_clock((), at_start, NOW)
    assert [state.since for state in first] == [NOW - 5 * NS]
    set_later = messages.Status(NOW, 1, [SourceState("port", False, NOW - 15 * NS)])
    assert states_by_hub_clock(first, set_later, NOW + 10 * NS) == first


def test_a_state_that_continues_is_no_change() -> None:
    """The way of a report takes different times; a new failure within the same report period has its own time."""
    known = states_by_hub_clock((), messages.Status(NOW, 1, [SourceState("port", False, NOW)]), NOW)
    late = messages.Status(NOW + NS, 1, [SourceState("port", False, NOW)])
    assert states_by_hub_clock(known, late, NOW + NS + SAME_NS) == known
    again = messages.Status(NOW + 60 * NS, 1, [SourceState("port", False, NOW + 50 * NS)])
    assert states_by_hub_clock(known, again, NOW + 60 * NS)[0].since == NOW + 50 * NS


@given(st.lists(reports, max_size=8))
def test_each_failure_has_one_event_and_each_recovery(reports: list[list[SourceState]]) -> None:
    """In the order of reports, failures and recoveries of a source alternate, and begin with a failure."""
    known: list[SourceState] = []
    kinds: dict[str, list[str]] = {}
    for report in reports:
        for kind, detail in transitions(known, report):
            kinds.setdefault(detail.partition(":")[0], []).append(kind)
        known = [*report, *(state for state in known if state.name not in {new.name for new in report})]
    for name, found in kinds.items():
        assert found == ["source failed" if number % 2 == 0 else "source recovered" for number in range(len(found))], (
            name
        )


def test_events_say_what_happened() -> None:
    """The error of a failure, and the time until a recovery."""
    failed = SourceState("port", False, NOW, "no connection")
    assert [*transitions((), [failed])] == [("source failed", "port: no connection")]
    assert [*transitions([failed], [SourceState("port", True, NOW + 90 * NS)])] == [
        ("source recovered", "port: after 90 s")
    ]
    assert [*transitions((), [SourceState("port", True, NOW)])] == []


@given(st.lists(st.integers(0, 3 * EVENT_PERIOD_NS), max_size=60))
def test_events_are_rare_after_a_burst(pauses: list[int]) -> None:
    """In any interval there are at most the burst and one event a period, and no refused event is forgotten."""
    budget, now = EventBudget(), 0
    allowed: list[int] = []
    told = refused = 0
    for pause in pauses:
        now += pause
        before = budget.spend(now)
        if before is None:
            refused += 1
        else:
            allowed.append(now)
            told += before
            assert told == refused
    for first, begin in enumerate(allowed):
        for last, end in enumerate(allowed[first:], first):
            assert last - first + 1 <= EVENT_BURST + (end - begin) // EVENT_PERIOD_NS + 1


def test_a_burst_is_available_at_once() -> None:
    """All sources of a device can fail in one moment."""
    budget = EventBudget()
    assert [budget.spend(5) for _ in range(EVENT_BURST + 1)] == [0] * EVENT_BURST + [None]
    assert budget.spend(5 + EVENT_PERIOD_NS) == 1


def test_a_report_in_the_journal_has_its_count() -> None:
    """Damaged marks are made from the entries; any other entry has no refusals of a source."""
    report = Refused(1, "port", 0, 1, [SourceRefusal("type", 5, ""), SourceRefusal("syntax", 2, "")])
    formats: tuple[Format, Format] = ("json", "msgpack")
    for format in formats:
        frame = AGENT_MESSAGES[format].encode(report)
        entry = Entry(EntryKind.QUARANTINE, "d", "e", 1, 0, format, frame, reason=(SOURCE_REFUSED, ""))
        assert count_refused(entry) == 7
        entry.reason = ("bad_message", "")
        assert count_refused(entry) == 0
    assert count_refused(Entry(EntryKind.GAP, "d", "e", 1, 0, "json", b"{}")) == 0
    assert count_refused(Entry(EntryKind.QUARANTINE, "d", "e", 1, 0, "json", b"{", reason=(SOURCE_REFUSED, ""))) == 0
