"""Profiles of simulated devices: valid declarations, repeatable values, and the physics that a chart shows."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count, pairwise
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.operator_commands.handler import declare
from device_sim.profiles import PROFILES, Freezer, Pump, Vehicle
from wire.model import Metric, Value

START_S = 1_800_000_000.0


def values(name: str, seed: int, *, count: int = 100, step_s: float = 1.0) -> list[Mapping[str, Value]]:
    model = PROFILES[name](Random(seed))
    return [dict(model.at(START_S + i * step_s)) for i in range(count)]


@pytest.mark.parametrize("name", PROFILES)
@given(seed=st.integers(0, 2**32), step_s=st.floats(0.001, 4000))
def test_a_device_makes_a_value_of_the_right_type_for_each_metric(name: str, seed: int, step_s: float) -> None:
    """Every model answers with exactly the declared metrics, of the declared types."""
    python_type = {"float": float, "integer": int, "boolean": bool, "string": str}
    for row in values(name, seed, count=20, step_s=step_s):
        assert list(row) == [metric.name for metric in PROFILES[name].METRICS]
        for metric in PROFILES[name].METRICS:
            assert type(row[metric.name]) is python_type[metric.type], metric.name


@pytest.mark.parametrize("name", PROFILES)
def test_the_same_seed_gives_the_same_device(name: str) -> None:
    """A run can be repeated: the same seed, the same values; another seed, others."""
    assert values(name, 4) == values(name, 4)
    assert values(name, 4) != values(name, 5)


@pytest.mark.parametrize("name", PROFILES)
def test_declarations_are_valid_and_described(name: str) -> None:
    """The metrics can be said on the wire, and each says what it is."""
    for metric in PROFILES[name].METRICS:
        assert msgspec.convert(msgspec.to_builtins(metric), Metric) == metric
        assert metric.description
        assert metric.unit or metric.type in ("boolean", "string") or metric.name == "starts" or metric.name == "parts"


@pytest.mark.parametrize(
    ("name", "metric"), [("weather", "rain"), ("pump", "starts"), ("vehicle", "odometer"), ("machine", "parts")]
)
def test_a_counter_never_falls(name: str, metric: str) -> None:
    """A day long it only rises, and it does rise."""
    counted = [row[metric] for row in values(name, 3, count=2_000, step_s=40.0)]
    assert all(before <= after for before, after in pairwise(counted))  # type: ignore[operator]
    assert counted[-1] > counted[0]  # type: ignore[operator]


def test_a_pump_counts_each_start_once() -> None:
    """The count rises exactly when the motor comes on, and a running pump has more flow than a stopped one."""
    rows = values("pump", 1, count=3_000)
    for before, after in pairwise(rows):
        has_started = after["running"] is True and before["running"] is False
        assert after["starts"] == before["starts"] + int(has_started)  # type: ignore[operator]
    flows: dict[bool, list[float]] = {True: [], False: []}
    for row in rows:
        flows[bool(row["running"])].append(float(row["flow"] or 0))
    assert sum(flows[True]) / len(flows[True]) > sum(flows[False]) / len(flows[False]) + 10


def test_a_freezer_stays_cold_and_its_compressor_switches() -> None:
    """The compressor runs when it is too warm, not when it is too cold, and draws the power."""
    rows = values("freezer", 2, count=8_000, step_s=5.0)
    assert {row["compressor"] for row in rows} == {True, False}
    for row in rows:
        assert -45 < float(row["temperature"] or 0) < 10
        assert (float(row["power"] or 0) > 200) == row["compressor"]
    switched_on = [after for before, after in pairwise(rows) if after["compressor"] and not before["compressor"]]
    assert switched_on
    assert all(float(row["temperature"] or 0) > Freezer.WARMEST - 2 for row in switched_on)


def test_a_parked_vehicle_stands_still() -> None:
    """Once it has come to a stop, its odometer does not move; a driving one moves."""
    rows = values("vehicle", 5, count=3_000)
    states = {str(row["state"]) for row in rows}
    assert states == {"driving", "waiting", "parked"}
    for before, after in pairwise(rows):
        if before["state"] == after["state"] == "parked" and before["speed"] == after["speed"] == 0:
            assert after["odometer"] == before["odometer"]
    assert any(float(row["speed"] or 0) > 20 for row in rows if row["state"] == "driving")


def test_a_machine_makes_parts_only_while_it_runs() -> None:
    """A machine that is off draws next to nothing."""
    rows = values("machine", 6, count=3_000)
    for before, after in pairwise(rows):
        if after["parts"] != before["parts"]:
            assert after["state"] == "running"
    off = [float(row["power"] or 0) for row in rows if row["state"] == "off"]
    on = [float(row["power"] or 0) for row in rows if row["state"] == "running"]
    assert sum(on) / len(on) > 1
    assert all(power < 1 for power in off)


def test_a_vehicle_obeys_its_operator() -> None:
    """It reaches the speed that was set, stands still, and drives by itself again."""
    vehicle = Vehicle(Random(1))
    seconds = count(int(START_S))

    def after(duration_s: int) -> list[Mapping[str, Value]]:
        return [dict(vehicle.at(next(seconds))) for _ in range(duration_s)]

    after(60)
    vehicle.set_speed(36.0)
    rows = after(600)
    assert rows[100]["speed"] == pytest.approx(36, abs=0.1)
    assert {row["state"] for row in rows} == {"driving"}
    vehicle.stop()
    rows = after(600)
    assert (rows[-1]["state"], rows[-1]["speed"]) == ("waiting", 0)
    vehicle.start()
    rows = after(6000)
    assert rows[0]["state"] == "driving"
    assert {row["state"] for row in rows} == {"driving", "waiting", "parked"}
    assert len({row["speed"] for row in rows}) > 50


def test_a_pump_obeys_its_operator() -> None:
    """It stands still and runs as long as the operator wants, and by the demand again."""
    pump = Pump(Random(1))
    seconds = count(int(START_S))

    def after(duration_s: int) -> list[Mapping[str, Value]]:
        return [dict(pump.at(next(seconds))) for _ in range(duration_s)]

    pump.stop()
    rows = after(3000)
    assert {row["running"] for row in rows} == {False}
    assert rows[-1]["flow"] == pytest.approx(0, abs=2)
    pump.start()
    rows = after(3000)
    assert {row["running"] for row in rows} == {True}
    assert all(isinstance(row["flow"], float) and row["flow"] > 10 for row in rows[60:])
    pump.automatic()
    assert {row["running"] for row in after(3000)} == {True, False}


def test_a_pump_holds_its_target_pressure() -> None:
    """While it runs, and again after a stop; the range of the setting is what it can do."""
    pump = Pump(Random(3))
    pump.start()
    for target in (2.0, 8.0, 4.5):
        pump.set_target_pressure(target)
        assert [pump.at(time_s)["pressure"] for time_s in range(60)][-1] == pytest.approx(target, abs=0.6)
    pump.stop()
    assert [pump.at(60 + time_s)["pressure"] for time_s in range(60)][-1] == pytest.approx(1.2, abs=0.6)
    assert set(Pump.SETTINGS) == {"target_pressure"}


@pytest.mark.parametrize("name", PROFILES)
def test_commands_can_be_declared(name: str) -> None:
    """Each is a method of the model, with a description for the operator."""
    for command, details in PROFILES[name].COMMANDS.items():
        declare(
            getattr(PROFILES[name](Random(1)), command), command,
            description=details.description, limits=details.limits,
        )  # fmt: skip
        assert details.description
