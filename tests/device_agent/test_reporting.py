"""Report by exception."""

from __future__ import annotations

from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.reporting import ExceptionFilter, ReportRule, TimedRow, matching_rule
from wire.limits import MAX_METRICS
from wire.model import Value

S = 10**9

RULES = st.builds(
    ReportRule,
    deadband=st.none() | st.sampled_from([0.0, 0.5, 2.0]),
    deadband_percent=st.none() | st.sampled_from([0.0, 1.0, 50.0]),
    min_interval_s=st.sampled_from([0.0, 1.0, 5.0]),
)

VALUES: st.SearchStrategy[Value] = (
    st.integers(-5, 5) | st.floats(-5, 5) | st.booleans() | st.sampled_from(["on", "off"])
)

STEPS = st.lists(st.tuples(st.integers(0, 4), VALUES), max_size=40)
"""Seconds since the sample before, and the value."""


def samples_of(steps: list[tuple[int, Value]]) -> list[tuple[int, Value]]:
    """Return (time in seconds, value) for steps."""
    time_s, samples = 0, []
    for pause_s, value in steps:
        time_s += pause_s
        samples.append((time_s, value))
    return samples


def reported(rows: list[TimedRow]) -> list[tuple[float, Value]]:
    """Return (time in seconds, value) for rows of one metric."""
    return [(row.time_ns / S, row.values["n"]) for row in rows]


def run(filter: ExceptionFilter, samples: list[tuple[int, Value]], *, ticks: bool = False) -> list[TimedRow]:
    """Return the reports of samples that arrive at their own times, with the timer before each of them if asked."""
    rows: list[TimedRow] = []
    for time_s, value in samples:
        if ticks and filter.due_s <= time_s:
            rows += filter.due(time_s)
        rows += filter.add({"n": value}, time_s * S, time_s)
    return rows


@given(RULES, STEPS, st.booleans())
def test_every_value_is_reported_or_counted_once_and_none_is_made_up(
    rule: ReportRule, steps: list[tuple[int, Value]], ticks: bool
) -> None:
    """The reports are a part of the samples in their order; the others are counted or still held."""
    filter = ExceptionFilter("s", [rule])
    samples = samples_of(steps)
    rows = run(filter, samples, ticks=ticks)
    assert len(rows) + filter.suppressed + filter.held == len(samples)
    rows += filter.finish(1000)
    assert len(rows) + filter.suppressed == len(samples)
    assert filter.held == 0
    remaining = iter([(float(time_s), value, type(value)) for time_s, value in samples])
    assert all((time_s, value, type(value)) in remaining for time_s, value in reported(rows))


@given(RULES, STEPS.filter(bool), st.booleans())
def test_the_first_and_the_last_value_are_reported(
    rule: ReportRule, steps: list[tuple[int, Value]], ticks: bool
) -> None:
    """A record begins and ends as the sensor did."""
    filter = ExceptionFilter("s", [rule])
    samples = samples_of(steps)
    rows = reported([*run(filter, samples, ticks=ticks), *filter.finish(1000)])
    assert (rows[0], rows[-1]) == (samples[0], samples[-1])


@given(st.sampled_from([0.0, 0.5, 2.0]), STEPS)
def test_a_step_has_the_value_before_it(deadband: float, steps: list[tuple[int, Value]]) -> None:
    """Without a minimum interval each change is reported at its own time, after the value just before it."""
    rule = ReportRule(deadband=deadband)
    filter = ExceptionFilter("s", [rule])
    last: list[Value] = []
    suppressed: list[tuple[int, Value]] = []
    for time_s, value in samples_of(steps):
        rows = reported(filter.add({"n": value}, time_s * S, time_s))
        if not last or rule.is_change(last[0], value):
            assert rows == [*(sample for sample in suppressed[-1:] if sample[0] < time_s), (time_s, value)]
            last, suppressed = [value], []
        else:
            assert rows == []
            suppressed.append((time_s, value))


def test_a_chart_of_the_reports_shows_a_step() -> None:
    """A value that stays for a long time and then changes is reported before and after the change."""
    filter = ExceptionFilter("s", [ReportRule(deadband=1)])
    samples: list[tuple[int, Value]] = [(0, 20.0), (1, 20.5), (2, 19.5), (3, 30.0), (4, 30.5), (5, 32.0)]
    assert reported(run(filter, samples)) == [(0, 20.0), (2, 19.5), (3, 30.0), (4, 30.5), (5, 32.0)]
    assert filter.suppressed == 1


def test_a_value_that_does_not_change_is_reported_at_intervals() -> None:
    """The maximum interval holds with values and, by the timer, without them; nothing is made up in silence."""
    filter = ExceptionFilter("s", [ReportRule(deadband=1, max_interval_s=10)])
    rows = run(filter, [(time_s, 7.0) for time_s in range(25)])
    assert reported(rows) == [(0, 7.0), (10, 7.0), (20, 7.0)]
    assert filter.due_s <= 30
    assert filter.due(29) == []
    assert reported(filter.due(30)) == [(24, 7.0)]
    assert (filter.due_s, filter.due(99)) == (inf, [])


def test_changes_are_no_more_frequent_than_the_minimum_interval() -> None:
    """The newest value is reported when the interval ends; a peak inside it is suppressed and counted."""
    filter = ExceptionFilter("s", [ReportRule(deadband=0, min_interval_s=10)])
    assert reported(run(filter, [(0, 1), (1, 9), (2, 2)])) == [(0, 1)]
    assert filter.due(9.9) == []
    assert reported(filter.due(10)) == [(2, 2)]
    assert filter.suppressed == 1
    assert run(filter, [(11, 5), (12, 2)]) == []
    assert (filter.due_s, filter.due(30), filter.held) == (20, [], 1)  # it is again what was reported


def test_only_the_metrics_of_a_rule_are_suppressed() -> None:
    """The first rule that matches the metric and the source counts; None and what is no number are no trouble."""
    rules = [ReportRule(metrics=("raw.*",)), ReportRule(metrics=("r*", "t"), deadband=5, sources=("kiln*",))]
    filter = ExceptionFilter("kiln-1", rules)
    for time_s in range(3):
        values: dict[str, Value] = {"raw.t": 1.0, "t": 1.0 + time_s, "other": 1, "none": None}
        rows = filter.add(values, time_s * S, time_s)
    assert rows == [TimedRow(2 * S, {"raw.t": 1.0, "other": 1})]
    assert matching_rule(rules, source="boiler", metric="t") is None
    other = ExceptionFilter("boiler", rules)
    assert [len(other.add({"t": 1.0}, n, 0)) for n in range(3)] == [1, 1, 1]


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_a_value_that_the_agent_refuses_is_passed_to_it(value: float) -> None:
    """It is refused and counted there, and does not change what was reported."""
    filter = ExceptionFilter("s", [ReportRule(deadband_percent=1)])
    assert run(filter, [(0, 1.0)])
    assert len(run(filter, [(1, value), (2, value)])) == 2
    assert run(filter, [(3, 1.0)]) == []


def test_a_clock_that_is_set_back_begins_anew() -> None:
    """Its values are reported, and not suppressed until the time of the last report returns."""
    filter = ExceptionFilter("s", [ReportRule(deadband=5, min_interval_s=60)])
    assert reported(run(filter, [(100, 1.0), (101, 1.0), (50, 1.0), (51, 1.0)])) == [(100, 1.0), (50, 1.0)]


def test_memory_is_bounded() -> None:
    """Metrics beyond those that a device may have are passed on, for the agent to refuse."""
    filter = ExceptionFilter("s", [ReportRule(deadband=1)])
    for number in range(MAX_METRICS + 10):
        filter.add({f"m{number}": 1}, S, 1)
    assert filter.add({"m1": 1, f"m{MAX_METRICS + 5}": 1}, 2 * S, 2) == [TimedRow(2 * S, {f"m{MAX_METRICS + 5}": 1})]


@pytest.mark.parametrize("settings", [{"max_interval_s": 5}, {"min_interval_s": 9, "max_interval_s": 5, "deadband": 1}])
def test_a_rule_that_cannot_be_kept_is_refused(settings: dict[str, float]) -> None:
    """The message names the setting."""
    with pytest.raises(ValueError, match="max_interval_s"):
        ReportRule(**settings)  # type: ignore[arg-type]
