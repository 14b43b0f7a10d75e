"""A vehicle's way: from place to place around its depot, with a speed that has inertia. Pure, like the signals."""

from __future__ import annotations

import math
from random import Random
from typing import NamedTuple

from device_sim.signals import EARTH_METRES_PER_DEGREE, MAX_STEP_S

ARRIVED_M = 60.0
"""Nearer than this the vehicle is at its place and chooses the next one."""
TURN_S = 4.0
ACCELERATION_S = 12.0
"""How fast heading and speed follow what they shall be: time constants of a lorry in traffic."""


class Position(NamedTuple):
    """Where a vehicle is (degrees, WGS 84), its speed, its direction (degrees from north) and how far it came."""

    latitude: float
    longitude: float
    speed_kmh: float
    heading: float
    odometer_m: int


class Track:
    """A vehicle that drives within `radius_m` of its depot; the same random source and times give the same way."""

    __slots__ = (
        "_depot", "_east_m", "_heading", "_last_s", "_north_m", "_odometer_m", "_place", "_radius_m", "_random",
        "_speed", "_wish",
    )  # fmt: skip

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
        self._last_s: float | None = None

    def at(self, time_s: float, *, driving: bool) -> Position:
        """The position at this time, after the vehicle drove, or stood, since the last."""
        step_s = 0.0 if self._last_s is None else min(max(time_s - self._last_s, 0.0), MAX_STEP_S)
        self._last_s = time_s
        north, east = self._place[0] - self._north_m, self._place[1] - self._east_m
        way_m = math.hypot(north, east)
        if way_m < ARRIVED_M:
            self._place = self._somewhere()
            self._wish = self._random.uniform(8.0, 25.0)
        turn = math.remainder(math.atan2(east, north) - self._heading, 2.0 * math.pi)
        self._heading += turn * -math.expm1(-step_s / TURN_S)
        wish = min(self._wish * self._random.uniform(0.9, 1.1), self.MAX_SPEED) if driving else 0.0
        self._speed += (wish - self._speed) * -math.expm1(-step_s / ACCELERATION_S)
        # Never beyond the place: with long steps the vehicle would leave its region.
        driven_m = min(self._speed * step_s, way_m)
        self._north_m += driven_m * math.cos(self._heading)
        self._east_m += driven_m * math.sin(self._heading)
        self._odometer_m += driven_m
        if (away_m := math.hypot(self._north_m, self._east_m)) > self._radius_m:
            self._north_m *= self._radius_m / away_m
            self._east_m *= self._radius_m / away_m
        return self._position()

    def _position(self) -> Position:
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
