"""Signals: what a sensor would have measured, as pure functions of a seed and the times asked for.

Each signal is asked with rising times (seconds since 1970 UTC) and answers with its value there; the same random source
and the same times give the same values. Nothing here knows a clock. Values stay within the physical bounds that the
signal was made with, and have the resolution of a real sensor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from random import Random

DAY_S = 86_400.0
WARMEST_S = 15 * 3600.0
"""A day's maximum comes in the afternoon; times of day are UTC."""
MAX_STEP_S = 3600.0
"""A signal that was not asked for longer than this goes on as after an hour: its past is forgotten by then."""
EARTH_METRES_PER_DEGREE = 111_320.0
"""Length of a degree of latitude, and of longitude at the equator."""


class _Pace:
    """Tells how much time went by since the signal was asked last; nothing at the first time."""

    __slots__ = ("_last_s",)

    def __init__(self) -> None:
        self._last_s: float | None = None

    def step(self, time_s: float) -> float:
        step_s = 0.0 if self._last_s is None else min(max(time_s - self._last_s, 0.0), MAX_STEP_S)
        self._last_s = time_s
        return step_s


class Level:
    """A quantity that wanders about a daily curve: air temperature, pressure, humidity, a tank's level.

    The wandering is an Ornstein-Uhlenbeck process: `spread` is its deviation, `memory_s` how long it remembers.
    `noise` is the sensor's own, new with every reading.
    """

    __slots__ = (
        "_daily", "_drift", "_high", "_low", "_mean", "_memory_s", "_noise", "_pace", "_random", "_resolution",
        "_spread",
    )  # fmt: skip

    def __init__(
        self,
        random: Random,
        mean: float,
        *,
        low: float,
        high: float,
        daily: float = 0.0,
        spread: float = 0.0,
        memory_s: float = 3600.0,
        noise: float = 0.0,
        resolution: float = 0.01,
    ) -> None:
        self._random = random
        self._mean = mean
        self._low = low
        self._high = high
        self._daily = daily
        self._spread = spread
        self._memory_s = memory_s
        self._noise = noise
        self._resolution = resolution
        self._drift = random.gauss(0.0, spread)
        self._pace = _Pace()

    def at(self, time_s: float, shift: float = 0.0) -> float:
        """The value at this time, moved by `shift` (what the device itself does to the quantity)."""
        keep = math.exp(-self._pace.step(time_s) / self._memory_s)
        if self._spread:
            self._drift = self._drift * keep + self._random.gauss(0.0, self._spread) * math.sqrt(1.0 - keep * keep)
        wave = self._daily * math.cos(2.0 * math.pi * (time_s - WARMEST_S) / DAY_S) if self._daily else 0.0
        value = self._mean + wave + self._drift + shift
        if self._noise:
            value += self._random.gauss(0.0, self._noise)
        return quantised(min(max(value, self._low), self._high), self._resolution)


class Inertia:
    """A quantity that follows another slowly: a motor's temperature follows its load, a freezer's its compressor."""

    __slots__ = ("_constant_s", "_pace", "_value")

    def __init__(self, start: float, *, constant_s: float) -> None:
        self._value = start
        self._constant_s = constant_s
        self._pace = _Pace()

    def at(self, time_s: float, target: float) -> float:
        """The value at this time when it has been drawn to `target` since the last."""
        self._value += (target - self._value) * -math.expm1(-self._pace.step(time_s) / self._constant_s)
        return self._value


class Vibration:
    """Vibration velocity (mm/s, root mean square): a floor that grows as the bearing wears, and bursts that ring down.

    `wear_s` is the running time after which the floor has doubled; a worn bearing is replaced at five times the floor.
    """

    __slots__ = ("_burst", "_floor", "_pace", "_random", "_wear", "_wear_s")

    HIGH = 45.0
    """What the usual sensors measure at most (ISO 10816 takes machines out of service far below)."""
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
        """The value at this time under `load` (0 standing still, 1 full load)."""
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


class States:
    """A state that stays for a while and then goes over to another: exponential stays, weighted transitions."""

    __slots__ = ("_random", "_stay_s", "_transitions", "_until_s", "state")

    def __init__(
        self,
        random: Random,
        start: str,
        stay_s: Mapping[str, float],
        transitions: Mapping[str, Mapping[str, float]],
    ) -> None:
        self._random = random
        self._stay_s = stay_s
        self._transitions = transitions
        self._until_s: float | None = None
        self.state = start

    def at(self, time_s: float) -> str:
        """The state at this time; of several transitions since the last time all are gone through."""
        if self._until_s is None or time_s - self._until_s > DAY_S:
            self._until_s = time_s + self._stay(self.state)
        while time_s >= self._until_s:
            following = self._transitions[self.state]
            (self.state,) = self._random.choices(list(following), list(following.values()))
            self._until_s += self._stay(self.state)
        return self.state

    def _stay(self, state: str) -> float:
        # A second is the shortest stay: no plant changes its state faster, and the loop above must come to an end.
        return 1.0 + self._random.expovariate(1.0 / self._stay_s[state])


class Counter:
    """A whole number that only rises: parts made, pulses of a meter, starts."""

    __slots__ = ("_pace", "_random", "_rest", "value")

    def __init__(self, random: Random, *, start: int = 0) -> None:
        self._random = random
        self._rest = random.random()
        self._pace = _Pace()
        self.value = start

    def at(self, time_s: float, rate: float) -> int:
        """The count at this time, after it rose by about `rate` a second since the last."""
        self._rest += self._pace.step(time_s) * rate * self._random.uniform(0.9, 1.1)
        whole = int(self._rest)
        self._rest -= whole
        self.value += whole
        return self.value


class Battery:
    """A battery's charge (%) that drains, and is charged by daylight or, when it is nearly empty, exchanged."""

    __slots__ = ("_charge", "_drain", "_pace", "_solar")

    EXCHANGED_AT = 8.0

    def __init__(self, random: Random, *, days: float, solar: bool) -> None:
        self._charge = random.uniform(40.0, 100.0)
        self._drain = 100.0 / (days * DAY_S)
        self._solar = solar
        self._pace = _Pace()

    def at(self, time_s: float) -> float:
        """The charge at this time."""
        step_s = self._pace.step(time_s)
        light = max(0.0, math.cos(2.0 * math.pi * (time_s - DAY_S / 2) / DAY_S)) if self._solar else 0.0
        self._charge += step_s * self._drain * (4.0 * light - 1.0)
        if self._charge < self.EXCHANGED_AT:
            self._charge = 100.0
        self._charge = min(self._charge, 100.0)
        return quantised(self._charge, 0.1)


def quantised(value: float, resolution: float) -> float:
    """The value as a sensor of this resolution gives it, without the digits that binary fractions add."""
    return round(float(round(value / resolution) * resolution), 6)
