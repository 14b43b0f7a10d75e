"""Simulated signals of sensors and the route of a vehicle: pure functions of a seed and of times.

Call each signal with increasing times (seconds since 1970 UTC). The same random source and the same times give the same
values. No signal reads a clock. Values stay within the physical bounds that the signal was made with, and have the
resolution of a real sensor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from random import Random
from typing import NamedTuple

DAY_S = 86_400.0
WARMEST_S = 15 * 3600.0
"""The daily maximum is in the afternoon; times of day are UTC."""
MAX_STEP_S = 3600.0
"""A longer pause counts as an hour: by then a signal does not depend on its past."""
EARTH_METRES_PER_DEGREE = 111_320.0
"""Length of a degree of latitude, and of longitude at the equator."""


class _Pace:
    """The time since the last call of a signal; 0 at the first call."""

    def __init__(self) -> None:
        self._last_s: float | None = None

    def step(self, time_s: float) -> float:
        step_s = 0.0 if self._last_s is None else min(max(time_s - self._last_s, 0.0), MAX_STEP_S)
        self._last_s = time_s
        return step_s


@dataclass
class Level:
    """A quantity that varies around a daily curve: air temperature, pressure, humidity, the level of a tank.

    The variation is an Ornstein-Uhlenbeck process with deviation `spread` and time constant `memory_s`. `noise` is the
    noise of the sensor, independent for every reading.
    """

    random: Random
    mean: float
    _: KW_ONLY
    low: float
    high: float
    daily: float = 0.0
    spread: float = 0.0
    memory_s: float = 3600.0
    noise: float = 0.0
    resolution: float = 0.01

    def __post_init__(self) -> None:
        self._drift = self.random.gauss(0.0, self.spread)
        self._pace = _Pace()

    def at(self, time_s: float, shift: float = 0.0) -> float:
        """Return the value at this time plus `shift`, the effect of the device on the quantity."""
        keep = math.exp(-self._pace.step(time_s) / self.memory_s)
        if self.spread:
            self._drift = self._drift * keep + self.random.gauss(0.0, self.spread) * math.sqrt(1.0 - keep * keep)
        wave = self.daily * math.cos(2.0 * math.pi * (time_s - WARMEST_S) / DAY_S) if self.daily else 0.0
        value = self.mean + wave + self._drift + shift
        if self.noise:
            value += self.random.gauss(0.0, self.noise)
        return quantised(min(max(value, self.low), self.high), self.resolution)


class Inertia:
    """A quantity that follows another slowly: a motor's temperature follows its load, a freezer's its compressor."""

    def __init__(self, start: float, *, constant_s: float) -> None:
        self._value = start
        self._constant_s = constant_s
        self._pace = _Pace()

    def at(self, time_s: float, target: float) -> float:
        """Return the value at this time after it followed `target` since the last call."""
        self._value += (target - self._value) * -math.expm1(-self._pace.step(time_s) / self._constant_s)
        return self._value


class Vibration:
    """Vibration velocity (mm/s, root mean square): a floor that grows as the bearing wears, and bursts that ring down.

    `wear_s` is the running time after which the floor has doubled; a worn bearing is replaced at five times the floor.
    """

    HIGH = 45.0
    """Upper limit of usual sensors (ISO 10816 takes machines out of service far below)."""
    BURST_EVERY_S = 90.0
    RING_DOWN_S = 2.0
    REPLACED_AT = 5.0

    def __init__(self, random: Random, *, floor: float, wear_s: float) -> None:
        self._random = random
        self._floor = floor
        self._wear_s = wear_s
        self._wear = random.uniform(1.0, 3.0)
        self._burst = 0.0
        self._pace = _Pace()

    def at(self, time_s: float, load: float) -> float:
        """Return the value at this time under `load` (0: stopped, 1: full load)."""
        step_s = self._pace.step(time_s)
        self._burst *= math.exp(-step_s / self.RING_DOWN_S)
        if load > 0.0:
            self._wear *= 2.0 ** (step_s * load / self._wear_s)
            if self._wear > self.REPLACED_AT:
                self._wear = 1.0
            if self._random.random() < -math.expm1(-step_s / self.BURST_EVERY_S):
                self._burst += self._random.expovariate(1.0 / (4.0 * self._floor * self._wear))
        ripple = abs(self._random.gauss(1.0, 0.08))
        value = self._floor * (0.03 + load * self._wear * ripple) + self._burst * load
        return quantised(min(value, self.HIGH), 0.001)


@dataclass
class States:
    """A state machine with exponentially distributed stays and weighted transitions. An operator can hold a state."""

    random: Random
    state: str
    stay_s: Mapping[str, float]
    transitions: Mapping[str, Mapping[str, float]]
    _until_s: float | None = None
    _is_held: bool = False

    def hold(self, state: str) -> None:
        """Change to a state and keep it until `release`."""
        self.state = state
        self._is_held = True

    def release(self, state: str) -> None:
        """Change to a state and leave it as after any other change."""
        self.state = state
        self._is_held = False
        self._until_s = None

    def at(self, time_s: float) -> str:
        """Return the state at this time after all transitions since the last call."""
        if self._is_held:
            return self.state
        if self._until_s is None or time_s - self._until_s > DAY_S:
            self._until_s = time_s + self._stay(self.state)
        while time_s >= self._until_s:
            following = self.transitions[self.state]
            (self.state,) = self.random.choices(list(following), list(following.values()))
            self._until_s += self._stay(self.state)
        return self.state

    def _stay(self, state: str) -> float:
        # A second is the shortest stay: no plant is faster, and the loop above must end.
        return 1.0 + self.random.expovariate(1.0 / self.stay_s[state])


class Counter:
    """A whole number that only rises: parts made, pulses of a meter, starts."""

    def __init__(self, random: Random, *, start: int = 0) -> None:
        self._random = random
        self._rest = random.random()
        self._pace = _Pace()
        self.value = start

    def at(self, time_s: float, rate: float) -> int:
        """Return the count after it increased by about `rate` per second since the last call."""
        self._rest += self._pace.step(time_s) * rate * self._random.uniform(0.9, 1.1)
        whole = int(self._rest)
        self._rest -= whole
        self.value += whole
        return self.value


class Battery:
    """The charge (%) of a battery, charged by daylight or replaced when it is nearly empty."""

    EXCHANGED_AT = 8.0

    def __init__(self, random: Random, *, days: float, solar: bool) -> None:
        self._charge = random.uniform(40.0, 100.0)
        self._drain = 100.0 / (days * DAY_S)
        self._solar = solar
        self._pace = _Pace()

    def at(self, time_s: float) -> float:
        """Return the charge at this time."""
        step_s = self._pace.step(time_s)
        light = max(0.0, math.cos(2.0 * math.pi * (time_s - DAY_S / 2) / DAY_S)) if self._solar else 0.0
        charge = self._charge + step_s * self._drain * (4.0 * light - 1.0)
        self._charge = 100.0 if charge < self.EXCHANGED_AT else min(charge, 100.0)
        return quantised(self._charge, 0.1)


def quantised(value: float, resolution: float) -> float:
    """Round to the resolution of a sensor, without the digits that binary fractions add."""
    return round(float(round(value / resolution) * resolution), 6)


ARRIVED_M = 60.0
"""At this distance the vehicle has arrived and chooses its next destination."""
TURN_S = 4.0
ACCELERATION_S = 12.0
"""Time constants of the heading and the speed of a lorry in traffic."""


class Position(NamedTuple):
    """Position (degrees, WGS 84), speed, direction (degrees from north) and total distance of a vehicle."""

    latitude: float
    longitude: float
    speed_kmh: float
    heading: float
    odometer_m: int


class VehicleRoute:
    """The route of a vehicle that drives within `radius_m` of its depot."""

    MAX_SPEED = 110.0 / 3.6

    def __init__(self, random: Random, *, latitude: float, longitude: float, radius_m: float) -> None:
        self._random = random
        self._depot = (latitude, longitude)
        self._radius_m = radius_m
        self._north_m, self._east_m = self._somewhere()
        self._place = self._somewhere()
        self._heading = random.uniform(0.0, 2.0 * math.pi)
        self._speed = 0.0
        self._wish = random.uniform(8.0, 25.0)
        self._odometer_m = random.uniform(1e6, 3e8)
        self.ordered_speed: float | None = None
        """Speed in m/s that an operator wants; None for that of the traffic."""
        self._pace = _Pace()

    def at(self, time_s: float, *, driving: bool) -> Position:
        """Return the position after the vehicle drove, or stood, since the last call."""
        step_s = self._pace.step(time_s)
        north, east = self._place[0] - self._north_m, self._place[1] - self._east_m
        way_m = math.hypot(north, east)
        if way_m < ARRIVED_M:
            self._place = self._somewhere()
            self._wish = self._random.uniform(8.0, 25.0)
        turn = math.remainder(math.atan2(east, north) - self._heading, 2.0 * math.pi)
        self._heading += turn * -math.expm1(-step_s / TURN_S)
        wish = min(self._wish * self._random.uniform(0.9, 1.1), self.MAX_SPEED) if driving else 0.0
        if driving and self.ordered_speed is not None:
            wish = self.ordered_speed
        self._speed += (wish - self._speed) * -math.expm1(-step_s / ACCELERATION_S)
        # Never beyond the destination: with long steps the vehicle would leave its region.
        driven_m = min(self._speed * step_s, way_m)
        self._north_m += driven_m * math.cos(self._heading)
        self._east_m += driven_m * math.sin(self._heading)
        self._odometer_m += driven_m
        if (away_m := math.hypot(self._north_m, self._east_m)) > self._radius_m:
            self._north_m *= self._radius_m / away_m
            self._east_m *= self._radius_m / away_m
        latitude = self._depot[0] + self._north_m / EARTH_METRES_PER_DEGREE
        longitude = self._depot[1] + self._east_m / (EARTH_METRES_PER_DEGREE * math.cos(math.radians(self._depot[0])))
        return Position(
            round(latitude, 6),
            round(longitude, 6),
            round(self._speed * 3.6, 1),
            round(math.degrees(self._heading) % 360.0, 1) % 360.0,
            int(self._odometer_m),
        )

    def _somewhere(self) -> tuple[float, float]:
        angle, distance = self._random.uniform(0.0, 2.0 * math.pi), math.sqrt(self._random.random()) * self._radius_m
        return distance * math.cos(angle), distance * math.sin(angle)
