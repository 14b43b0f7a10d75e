"""The learned cadence of series: what counts as periodic, when a series is stale, and what a restart keeps."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hub.live.cadence import (
    ARRIVAL_NS,
    KEPT,
    MAX_DISTRUST,
    MIN_STALE_NS,
    REGAINED,
    REGULAR_NUMBERS,
    REGULAR_STATES,
    STALE_INTERVALS,
    Cadences,
    SavedCadences,
    decode_interval,
    encode_interval,
)
from hub.model.batch import Series
from wire.model import MetricType

S = 1_000_000_000

STEP = 2 ** (1 / 10)
"""One step of the scale on which intervals are kept."""


class Sensor:
    """A series whose readings arrive as a test says, on a clock of its own."""

    def __init__(self, type: MetricType = "float", cadences: Cadences | None = None, id: int = 1) -> None:
        self.series = Series(id, "d", "m", type)
        self.cadences = cadences or Cadences()
        self.cadences.reserve(id)
        self.now = 1000 * S
        self._last = self.now
        self._arrive_ns = 0

    def arrive(self, after_ns: int, *, repeated: bool = False, elapsed_ns: int | None = None) -> None:
        """Let a reading arrive after this time."""
        self.now += after_ns
        if self.now >= self._arrive_ns:
            self._arrive_ns = self.now + ARRIVAL_NS
            elapsed_ns = self.now - self._last if elapsed_ns is None else elapsed_ns
            self.cadences.arrive(self.series, self.now, elapsed_ns, repeated=repeated)
        self._last = self.now

    def is_stale_after(self, after_ns: int) -> bool:
        """Return whether the series is stale this long after its last reading."""
        self.cadences.sweep(self.now + after_ns)
        return self.cadences.is_stale(self.series.id)

    @property
    def limit_ns(self) -> int | None:
        return self.cadences.limit_ns(self.series.id)


@given(st.integers(63_000_000, 34 * 86_400 * S))
def test_an_interval_is_kept_to_a_few_percent(interval_ns: int) -> None:
    """One byte has every interval from 0.06 seconds to 34 days."""
    assert decode_interval(encode_interval(interval_ns)) == pytest.approx(interval_ns, rel=0.04)


@given(st.integers(100_000_000, 3_600 * S), st.lists(st.floats(0.75, 1.3), min_size=60, max_size=60))
def test_a_periodic_series_is_stale_after_its_own_intervals_and_not_before(
    interval_ns: int, jitter: list[float]
) -> None:
    """With any jitter of a quarter, a few readings are enough, and the limit is within the bounds of the interval."""
    sensor = Sensor()
    for factor in jitter:
        sensor.arrive(round(interval_ns * factor))
    while sensor.limit_ns is None and sensor.now < 1_020 * S:  # a fast series is observed once in a second
        sensor.arrive(interval_ns)
    limit_ns = sensor.limit_ns
    assert limit_ns is not None
    most = max(MIN_STALE_NS, STALE_INTERVALS * max(interval_ns, 62_500_000) * 1.3 * STEP)
    assert max(MIN_STALE_NS, STALE_INTERVALS * interval_ns * 0.75 / STEP) <= limit_ns <= most
    assert not sensor.is_stale_after(limit_ns - ARRIVAL_NS)
    assert sensor.is_stale_after(limit_ns + 1)
    sensor.arrive(limit_ns + S)
    assert not sensor.is_stale_after(0)


def test_few_readings_are_enough() -> None:
    """Seven readings give six intervals. Five, where a value repeats."""
    for readings, repeated in ((7, False), (5, True)):
        sensor, limits = Sensor(), []
        for _ in range(readings):
            sensor.arrive(60 * S, repeated=repeated)
            limits.append(sensor.limit_ns)
        *earlier, limit_ns = limits
        assert earlier == [None] * (readings - 1)
        assert limit_ns is not None
        assert not sensor.is_stale_after(limit_ns)
        assert sensor.is_stale_after(limit_ns + 1)


def test_intervals_are_regular_up_to_the_double() -> None:
    """A series with larger differences reports on change, as far as six intervals show it."""
    regular, irregular = Sensor(), Sensor()
    for position in range(REGULAR_NUMBERS + 1):
        reporting = irregular.cadences.freshness(irregular.series, irregular.now).reporting
        assert reporting == "learning", position
        regular.arrive((20 if position % 2 else 10) * S)
        irregular.arrive((22 if position % 2 else 10) * S)
    assert regular.limit_ns == pytest.approx(100 * S, rel=0.05)
    assert irregular.cadences.freshness(irregular.series, irregular.now).reporting == "on_change"


def test_outliers_do_not_move_the_limit() -> None:
    """Two long intervals among sixteen, of lost readings, are no other cadence."""
    sensor = Sensor()
    for position in range(40):
        sensor.arrive(240 * S if position % 10 == 5 else 60 * S)
    assert sensor.limit_ns == pytest.approx(300 * S, rel=0.05)


def test_a_slower_cadence_is_learned() -> None:
    """A series that repeats values is stale once, and then known by its new cadence."""
    sensor = Sensor()
    for _ in range(20):
        sensor.arrive(10 * S, repeated=True)
    for _ in range(KEPT):
        sensor.arrive(100 * S, repeated=True)
    assert sensor.limit_ns == pytest.approx(500 * S, rel=0.05)


@given(st.integers(0, 2**32))
def test_random_events_are_no_cadence(seed: int) -> None:
    """A number that changes at random moments, some seconds to hours apart, is not stale however long it is quiet."""
    source = random.Random(seed)
    sensor = Sensor()
    for _ in range(40):
        sensor.arrive(round(S * math.exp(source.gauss(5, 2))) + S)
    assert sensor.limit_ns is None
    assert not sensor.is_stale_after(30 * 86_400 * S)
    assert sensor.cadences.freshness(sensor.series, sensor.now).reporting == "on_change"


def test_a_state_that_never_repeats_reports_on_change() -> None:
    """A door that opens and closes at equal intervals is still no sensor with a cadence. One that repeats a value in a
    quarter of the intervals is."""
    for every, is_periodic in ((1, True), (4, True), (8, False), (100, False)):
        sensor = Sensor("boolean")
        for position in range(REGULAR_STATES + 1):
            assert sensor.limit_ns is None
            sensor.arrive(60 * S, repeated=position % every == 1 % every)
        assert (sensor.limit_ns is not None) is is_periodic, every


def test_pauses_that_end_by_themselves_exempt_a_number_that_never_repeats() -> None:
    """A ramp that is reported on change looks periodic. After its pauses, it takes more and more intervals to count."""
    sensor, alarms = Sensor(), []
    for ramp in range(12):
        for _ in range(60):
            sensor.arrive(S)
        if sensor.is_stale_after(3_600 * S):
            alarms.append(ramp)
        sensor.arrive(3_600 * S)
    assert alarms
    assert alarms[-1] < 6
    assert sensor.limit_ns is None
    sensor.cadences._distrust[1] = MAX_DISTRUST
    for _ in range(2 * REGAINED):
        sensor.arrive(20 * S)
    assert sensor.limit_ns == pytest.approx(100 * S, rel=0.05)
    for _ in range(66_000):  # more than the counter of regular intervals has
        sensor.arrive(20 * S)
    assert sensor.limit_ns == pytest.approx(100 * S, rel=0.05)


def test_delayed_readings_teach_no_wrong_interval() -> None:
    """A backlog arrives at once, but its readings have their intervals in their times."""
    sensor = Sensor()
    for _ in range(20):
        sensor.arrive(30 * S, repeated=True)
    sensor.cadences.break_off([1])
    sensor.arrive(7_200 * S)
    for _ in range(240):
        sensor.arrive(S, elapsed_ns=30 * S, repeated=True)
    assert sensor.limit_ns == pytest.approx(150 * S, rel=0.05)


def test_a_clock_that_is_set_teaches_nothing() -> None:
    """A board without a clock begins in 1970 and gets the time later."""
    sensor = Sensor()
    for _ in range(20):
        sensor.arrive(30 * S)
    sensor.arrive(30 * S, elapsed_ns=56 * 366 * 86_400 * S)
    for elapsed_ns in (-5, *[0] * 6):
        sensor.arrive(30 * S, elapsed_ns=elapsed_ns)
    assert sensor.limit_ns == pytest.approx(150 * S, rel=0.05)


@given(st.integers(0, 86_400), st.integers(1, 30 * 86_400), st.booleans())
def test_the_time_that_the_hub_was_down_does_not_count(age_s: int, down_s: int, is_stale: bool) -> None:
    """Age, cadence and staleness continue where they were, on a monotonic clock that begins anew. Nothing becomes stale
    while devices return."""
    sensor = Sensor()
    for _ in range(20):
        sensor.arrive(3_600 * S)
    limit_ns = sensor.limit_ns
    assert limit_ns is not None
    age_ns = limit_ns + S if is_stale else min(age_s * S, limit_ns - 1)
    sensor.cadences.sweep(sensor.now + age_ns)
    saved = sensor.cadences.save(sensor.now + age_ns)

    later, start_ns, hold_ns = Cadences(), down_s * S, 60 * S
    later.restore(saved, start_ns, hold_ns=hold_ns)
    assert later.sweep(start_ns) == []
    freshness = later.freshness(sensor.series, start_ns)
    assert (freshness.is_stale, freshness.age_ns, freshness.stale_after_ns) == (is_stale, age_ns, limit_ns)
    assert later.sweep(start_ns + hold_ns - 1) == []
    due_ns = max(hold_ns, limit_ns - age_ns)
    assert later.sweep(start_ns + due_ns + 1) == ([] if is_stale else [1])
    restored = Sensor(cadences=later)
    restored.now = restored._last = start_ns
    restored.arrive(age_s * S)  # ends no interval: the hub was down in it
    assert later.sweep(restored.now) == [1]
    assert later.freshness(sensor.series, restored.now) == ("periodic", freshness.interval_ns, limit_ns, False, 0)


def test_a_damaged_state_begins_anew() -> None:
    """Columns of different lengths are no state."""
    sensor = Sensor()
    for _ in range(20):
        sensor.arrive(30 * S)
    saved = sensor.cadences.save(sensor.now)
    for column in SavedCadences.__struct_fields__:
        later = Cadences()
        later.restore(replace(saved, **{column: getattr(saved, column)[:-8]}), 0, hold_ns=0)
        assert not later.has_arrived(1), column
