"""States of sources: since when they work or fail, whatever the clock does, within the bounds of the protocol."""

from __future__ import annotations

import logging

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.source_state import SourceHealth, SourceStates, shorten
from wire.device import Sources, SourceState, Status
from wire.limits import MAX_SOURCE_ERROR, MAX_SOURCE_NAME, MAX_SOURCES

NS = 1_000_000_000
texts = st.text(max_size=300)
errors = st.none() | st.sampled_from(["x", "y"])
reports = st.lists(st.tuples(st.integers(1, 100), st.sampled_from(["a", "b"]), errors))


@given(reports, st.integers(10_000 * NS, 2**62))
def test_a_state_begins_when_the_source_fails_or_recovers(
    reports: list[tuple[int, str, str | None]], time_ns: int
) -> None:
    """Another error of a failed source changes the error and not the time. The age is that of the monotonic clock, so a
    clock that is set later changes nothing."""
    states, now = SourceStates(), 0.0
    expected: dict[str, tuple[float, str | None]] = {}
    for pause, name, error in reports:
        now += pause
        before = expected.get(name)
        continues = before is not None and (before[1] is None) == (error is None)
        expected[name] = (before[0] if before is not None and continues else now, error)
        assert states.report(name, error, now) == (before is None or before[1] != error)
    now += 1
    for state in states.snapshot(now_s=now, time_ns=time_ns):
        since_s, error = expected.pop(state.name)
        assert (state.ok, state.error) == (error is None, error or "")
        assert state.since == max(0, time_ns - round((now - since_s) * NS))
    assert expected == {}


@given(st.lists(st.tuples(texts, st.none() | texts), max_size=40))
def test_any_report_can_be_sent(reports: list[tuple[str, str | None]]) -> None:
    """Names and errors of any length and any characters become valid states, at most MAX_SOURCES of them."""
    states = SourceStates()
    for name, error in reports:
        states.report(name, error, 0.0)
    found = states.snapshot(now_s=0.0, time_ns=0)
    assert Status(0, 1, found).sources == msgspec.json.decode(msgspec.json.encode(found), type=Sources) == found
    assert len(found) <= MAX_SOURCES
    assert all(state.name.isprintable() and state.error.isprintable() for state in found)


def test_a_source_beyond_the_bound_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The first ones stay, and can still change."""
    states = SourceStates()
    assert [states.report(str(number), None, 0.0) for number in range(MAX_SOURCES + 1)] == [True] * MAX_SOURCES + [
        False
    ]
    assert states.report("3", "broken", 1.0)
    assert len(states.snapshot(now_s=1.0, time_ns=0)) == MAX_SOURCES
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_long_texts_are_cut() -> None:
    """The beginning of an error says most, and the ellipsis that there is more."""
    states = SourceStates()
    states.report("n" * 500, "e" * 500, 0.0)
    assert states.snapshot(now_s=0.0, time_ns=7) == [
        SourceState("n" * (MAX_SOURCE_NAME - 1) + "…", False, 7, "e" * (MAX_SOURCE_ERROR - 1) + "…")
    ]
    assert shorten("", 3) == "?"


def test_a_source_works_when_no_aspect_fails() -> None:
    """Each aspect fails and recovers by itself; only changes are announced."""
    announced: list[str | None] = []
    health = SourceHealth("port", lambda health: announced.append(health.error))
    health.recover("port")
    health.fail("port", "no connection")
    health.fail("port", "no connection")
    health.fail("lines", "noise")
    health.recover("port")
    health.recover("lines")
    assert announced == ["no connection", "no connection; noise", "noise", None]


def test_another_error_is_the_same_failure() -> None:
    """The time is that of the first error; a clock at 1970 does not make it negative."""
    states = SourceStates()
    for now, error in ((1.0, "x"), (5.0, "y")):
        states.report("port", error, now)
    assert states.snapshot(now_s=9.0, time_ns=20 * NS) == [SourceState("port", False, 12 * NS, "y")]
    assert states.snapshot(now_s=9.0, time_ns=NS) == [SourceState("port", False, 0, "y")]
