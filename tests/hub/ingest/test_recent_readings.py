"""Recent readings of a bridge: repeated ones are known, and their number is bounded."""

from __future__ import annotations

from hub.ingest.recent_readings import RecentReadings


def test_an_accepted_value_is_known() -> None:
    """Another value, metric or time is new."""
    recent = RecentReadings()
    recent.add("d", 5, {"a": 1.0, "b": True})
    assert recent.new_values("d", 5, {"a": 1.0, "b": True}) == {}
    assert recent.new_values("d", 5, {"a": 2.0, "b": True, "c": 1.0}) == {"a": 2.0, "c": 1.0}
    assert recent.new_values("e", 5, {"a": 1.0}) == recent.new_values("d", 6, {"a": 1.0}) == {"a": 1.0}


def test_a_value_that_was_stored_later_is_known() -> None:
    """If several values have one time, the second is stored 1 ns later and the third 2 ns later."""
    recent = RecentReadings()
    for time_ns, value in ((5, 1.0), (6, 2.0), (7, 3.0)):
        recent.add_stored("d", time_ns, {"a": value})
    assert recent.new_values("d", 5, {"a": 3.0}) == recent.new_values("d", 7, {"a": 3.0}) == {}
    assert recent.new_values("d", 5, {"a": 4.0}) == {"a": 4.0}
    assert recent.new_values("d", 8, {"a": 3.0}) == {"a": 3.0}


def test_many_values_with_one_time_are_bounded() -> None:
    """A device whose clock stands still gives all readings the same time."""
    recent = RecentReadings(100)
    for value in range(1_000):
        recent.add("d", 5, {"a": float(value)})
    known = sum(not recent.new_values("d", 5, {"a": float(value)}) for value in range(1_000))
    assert 0 < known <= 100


def test_only_new_values_are_accepted() -> None:
    """An accepted value is known from then on, and the bound holds."""
    recent = RecentReadings(3)
    assert recent.accept("d", 5, {"a": 1.0}) == {"a": 1.0}
    assert recent.accept("d", 5, {"a": 1.0, "b": 2.0}) == {"b": 2.0}
    assert recent.accept("d", 5, {"a": 1.0, "b": 2.0}) == {}
    assert recent.accept("d", 6, {"a": 1.0, "b": 2.0}) == {"a": 1.0, "b": 2.0}
    assert recent.accept("d", 5, {"a": 1.0}) == {"a": 1.0}


def test_the_number_of_values_is_bounded() -> None:
    """The oldest are dropped first."""
    recent = RecentReadings(2)
    for time_ns in (1, 2, 3):
        recent.add("d", time_ns, {"a": 1.0})
    assert recent.new_values("d", 1, {"a": 1.0}) == {"a": 1.0}
    assert recent.new_values("d", 2, {"a": 1.0}) == {}
