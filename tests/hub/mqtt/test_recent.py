"""What comes again is known by its device, time and value."""

from __future__ import annotations

from hub.mqtt.inbound import RecentReadings


def test_what_was_accepted_is_known() -> None:
    """The same value of the same metric at the same time; anything else is new."""
    recent = RecentReadings()
    recent.add("d", 5, {"a": 1.0, "b": True})
    assert recent.new_values("d", 5, {"a": 1.0, "b": True}) == {}
    assert recent.new_values("d", 5, {"a": 2.0, "b": True, "c": 1.0}) == {"a": 2.0, "c": 1.0}
    assert recent.new_values("e", 5, {"a": 1.0}) == recent.new_values("d", 6, {"a": 1.0}) == {"a": 1.0}


def test_what_was_moved_on_is_known_too() -> None:
    """Of values with one time the second is stored 1 ns later, the third 2 ns."""
    recent = RecentReadings()
    for time_ns, value in ((5, 1.0), (6, 2.0), (7, 3.0)):
        recent.add_stored("d", time_ns, {"a": value})
    assert recent.new_values("d", 5, {"a": 3.0}) == recent.new_values("d", 7, {"a": 3.0}) == {}
    assert recent.new_values("d", 5, {"a": 4.0}) == {"a": 4.0}
    assert recent.new_values("d", 8, {"a": 3.0}) == {"a": 3.0}


def test_many_values_of_one_time_are_bounded_too() -> None:
    """A device whose clock stands still says all of its readings at one time."""
    recent = RecentReadings(100)
    for value in range(1_000):
        recent.add("d", 5, {"a": float(value)})
    known = sum(not recent.new_values("d", 5, {"a": float(value)}) for value in range(1_000))
    assert 0 < known <= 100


def test_what_is_taken_back_is_new_again() -> None:
    """Nothing of it was stored."""
    recent = RecentReadings()
    recent.add("d", 5, {"a": 1.0})
    recent.remove("d", 5, {"a": 1.0})
    assert recent.new_values("d", 5, {"a": 1.0}) == {"a": 1.0}


def test_only_so_many_are_kept() -> None:
    """The oldest go first."""
    recent = RecentReadings(2)
    for time_ns in (1, 2, 3):
        recent.add("d", time_ns, {"a": 1.0})
    assert recent.new_values("d", 1, {"a": 1.0}) == {"a": 1.0}
    assert recent.new_values("d", 2, {"a": 1.0}) == {}
