"""The verdict on a trial: nothing that is wrong or missing passes as harmless."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tests.damage.outcome import Observation, Outcome, Truth, verdict

TIMES = range(1, 9)
TRUTH = Truth(
    readings={device: {metric: {time: time * 0.5 for time in TIMES} for metric in ("a", "b")} for device in ("x", "y")},
    quarantined={"z e 1": "invalid 1", "z e 2": "invalid 2"},
    batch_readings=2,
    facts={"token 1": "device x", "metric x a": "float °C"},
)
PLACES = st.tuples(st.sampled_from(["x", "y"]), st.sampled_from(["a", "b"]), st.sampled_from(TIMES))


def seen(**changes: Any) -> Observation:
    """Return an observation in which everything is there, with these changes."""
    stored: list[tuple[str, str, list[int], list[Any]]] = [
        (device, metric, list(values), list(values.values()))
        for device, metrics in TRUTH.readings.items()
        for metric, values in metrics.items()
    ]
    intact = Observation(stored=stored, quarantined=dict(TRUTH.quarantined), facts=dict(TRUTH.facts))
    return msgspec.structs.replace(intact, **changes)


def without(observation: Observation, places: set[tuple[str, str, int]]) -> Observation:
    """Return the observation without the readings at these places."""
    observation.stored = [
        (
            device,
            metric,
            [time for time in times if (device, metric, time) not in places],
            [value for time, value in zip(times, values, strict=True) if (device, metric, time) not in places],
        )
        for device, metric, times, values in observation.stored
    ]
    return observation


def test_an_intact_hub_is_harmless() -> None:
    """Everything is there and nothing is reported."""
    assert verdict(TRUTH, seen()).outcome is Outcome.HARMLESS


@given(PLACES, st.floats(allow_nan=False), st.booleans())
def test_a_wrong_value_is_never_accepted(place: tuple[str, str, int], value: float, is_reported: bool) -> None:
    """One wrong value is silently wrong, also if there is a report of something."""
    observation = seen(reports=["event damage: found"] if is_reported else [])
    for device, metric, times, values in observation.stored:
        if (device, metric) == place[:2] and value != values[times.index(place[2])]:
            values[times.index(place[2])] = value
            assert verdict(TRUTH, observation).outcome is Outcome.WRONG


@given(st.sets(PLACES, min_size=1))
def test_missing_readings_are_lost_silently_without_a_report(places: set[tuple[str, str, int]]) -> None:
    """They are accepted only if they wait, are declared by number, or a report declares a loss; a log line is none."""
    assert verdict(TRUTH, without(seen(), places)).outcome is Outcome.LOST
    assert verdict(TRUTH, without(seen(reports=["log odd: line"]), places)).outcome is Outcome.LOST
    declared = {"x": 16, "y": 16}
    assert verdict(TRUTH, without(seen(declared=declared), places)).outcome is Outcome.DECLARED
    assert verdict(TRUTH, without(seen(problems={"journal": "it was cut"}), places)).outcome is Outcome.REPORTED
    assert verdict(TRUTH, without(seen(problems={"tls": "it ends soon"}), places)).outcome is Outcome.LOST
    waiting = {device: list(TIMES) for device in ("x", "y")}
    assert verdict(TRUTH, without(seen(waiting=waiting), places)).outcome is Outcome.HARMLESS


def test_a_report_about_another_device_explains_nothing() -> None:
    """Only one that names this device, or none, can be about it."""
    places = {("x", "a", 1)}
    for report, outcome in (
        ("event gap: [device y] batch 7 is lost", Outcome.LOST),
        ("event gap: [device x] batch 7 is lost", Outcome.REPORTED),
        ("event journal repaired: entries 1 to 9 are lost", Outcome.REPORTED),
        ("event token_created: x", Outcome.LOST),
    ):
        assert verdict(TRUTH, without(seen(reports=[report]), places)).outcome is outcome


def test_too_small_a_declaration_is_silent() -> None:
    """A gap of fewer readings than are missing does not declare the rest."""
    places = {("x", "a", 1), ("x", "a", 2), ("x", "a", 3)}
    assert verdict(TRUTH, without(seen(declared={"x": 2}), places)).outcome is Outcome.LOST


@given(PLACES)
def test_a_reading_that_is_stored_twice_is_wrong(place: tuple[str, str, int]) -> None:
    """Also with the right value; a reading that nobody sent is wrong, too."""
    for time in (place[2], 100):
        observation = seen()
        for device, metric, times, values in observation.stored:
            if (device, metric) == place[:2]:
                times.append(time)
                values.append(place[2] * 0.5)
        assert verdict(TRUTH, observation).outcome is Outcome.WRONG


def test_facts_and_rejected_batches_count() -> None:
    """A lost token, a changed definition and a lost rejected batch are silent unless something reports them."""
    assert verdict(TRUTH, seen(facts={"token 1": "device x"})).outcome is Outcome.LOST
    assert verdict(TRUTH, seen(facts={**TRUTH.facts, "token 1": "device y"})).outcome is Outcome.WRONG
    assert verdict(TRUTH, seen(quarantined={"z e 1": "invalid 1"})).outcome is Outcome.LOST
    assert verdict(TRUTH, seen(quarantined={**TRUTH.quarantined, "z e 1": "invalid 9"})).outcome is Outcome.WRONG
    assert verdict(TRUTH, seen(facts={}, problems={"registry": "damaged"})).outcome is Outcome.REPORTED


def test_a_hub_that_ends_must_say_why() -> None:
    """A message makes it found; a traceback alone, or no end at all, is as bad as a hub that hangs."""
    assert verdict(TRUTH, Observation(end="refused", message="log\nhub: it is damaged")).outcome is Outcome.START
    assert verdict(TRUTH, Observation(end="stopped", message="hub: it is damaged")).outcome is Outcome.READ
    assert verdict(TRUTH, Observation(end="refused", message="Traceback …")).outcome is Outcome.HUNG
    assert verdict(TRUTH, Observation(end="hung", message="no answer")).outcome is Outcome.HUNG


def test_a_report_without_a_loss_is_a_repair_or_a_finding() -> None:
    """A problem that stays is found at read; an event or a log line without one is a repair."""
    assert verdict(TRUTH, seen(reports=["event journal repaired: 1 page"])).outcome is Outcome.REPAIRED
    assert verdict(TRUTH, seen(problems={"store": "cannot be read"})).outcome is Outcome.READ
    assert verdict(TRUTH, seen(stored=[], unreadable="503")).outcome is Outcome.READ
    assert verdict(TRUTH, seen(symptoms=["the token is rejected"])).outcome is Outcome.LOST
