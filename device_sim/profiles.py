"""Device profiles: the metrics of a simulated device, and the model of its parts. Pure and seeded.

Call `at` of a model with increasing times (seconds since 1970 UTC) to get a value for each metric.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import NamedTuple, TypeAlias

from device_agent import Limits
from device_sim.signals import Battery, Counter, Inertia, Level, States, VehicleRoute, Vibration, quantised
from wire.model import Metric, Value


class SimulatedCommand(NamedTuple):
    """A command that a model executes by its method of the same name."""

    description: str
    confirm: bool = False
    limits: Mapping[str, Limits] = {}


NO_SETTINGS: Mapping[str, Limits] = {}

DEPOTS = ((53.5413, 9.9840), (48.8190, 2.3260), (51.9060, 4.3550), (41.3420, 2.1300))
"""Latitude and longitude of harbours and goods yards, in degrees."""


class WeatherStation:
    """A weather station: a warm afternoon is dry, and rain comes with low pressure."""

    SITES = ("hill", "harbour", "airfield", "forest")
    METRICS = (
        Metric("temperature", unit="°C", description="Air temperature at 2 m"),
        Metric("humidity", unit="%", description="Relative humidity"),
        Metric("pressure", unit="hPa", description="Air pressure, reduced to sea level"),
        Metric("wind_speed", unit="m/s", description="Wind speed at 10 m"),
        Metric("rain", unit="mm", description="Rain since the station was set up"),
        Metric("battery", unit="%", description="Charge of the battery"),
    )
    COMMANDS: Mapping[str, SimulatedCommand] = {}
    SETTINGS = NO_SETTINGS

    def __init__(self, random: Random) -> None:
        self._temperature = Level(
            random, random.uniform(6, 16), low=-40, high=60, daily=6, spread=2, memory_s=7200, noise=0.03
        )
        self._humidity = Level(random, 68, low=5, high=100, spread=8, memory_s=5400, noise=0.2, resolution=0.1)
        self._pressure = Level(random, 1013, low=870, high=1085, spread=8, memory_s=40_000, noise=0.02, resolution=0.01)
        self._wind = Level(random, 4, low=0, high=60, daily=1.5, spread=2, memory_s=120, noise=0.4, resolution=0.1)
        self._gauge = Counter(random)
        self._battery = Battery(random, days=9, solar=True)

    def at(self, time_s: float) -> Mapping[str, Value]:
        temperature, pressure = self._temperature.at(time_s), self._pressure.at(time_s)
        tips = self._gauge.at(time_s, max(0.0, 1008.0 - pressure) / 2000.0)
        return {
            "temperature": temperature,
            "humidity": self._humidity.at(time_s, shift=-2.5 * (temperature - 11.0)),
            "pressure": pressure,
            "wind_speed": self._wind.at(time_s),
            "rain": quantised(tips * 0.2, 0.1),
            "battery": self._battery.at(time_s),
        }


class Pump:
    """A pump that runs and stops; pressure, flow, heat and vibration follow."""

    SITES = ("waterworks", "basement", "plant-1", "plant-2")
    METRICS = (
        Metric("running", "boolean", description="Whether the motor is on"),
        Metric("flow", unit="m³/h", description="Flow at the outlet"),
        Metric("pressure", unit="bar", description="Pressure at the outlet"),
        Metric("motor_temperature", unit="°C", description="Temperature of the winding"),
        Metric("vibration", unit="mm/s", description="Vibration velocity at the bearing, RMS"),
        Metric("starts", "integer", description="How often the motor was started"),
    )
    COMMANDS: Mapping[str, SimulatedCommand] = {
        "start": SimulatedCommand("Run until another command"),
        "stop": SimulatedCommand("Stand still until another command", confirm=True),
        "automatic": SimulatedCommand("Run and stop by the demand, as before the first command"),
    }
    REST_BAR, LIFT_BAR = 1.2, 6.0
    """Pressure at rest, and what the full load adds."""
    SETTINGS: Mapping[str, Limits] = {
        "target_pressure": Limits(2, 8, unit="bar", description="Pressure to hold while the pump runs"),
    }

    def __init__(self, random: Random) -> None:
        stay_s = {"running": 240, "stopped": 90}
        self._states = States(random, "running", stay_s, {"running": {"stopped": 1}, "stopped": {"running": 1}})
        self._load = Inertia(1.0, constant_s=3.0)
        self._demand = Level(random, 0.8, low=0.3, high=1.0, daily=0.1, spread=0.1, memory_s=600, resolution=0.001)
        self._heat = Inertia(45.0, constant_s=180.0)
        self._flow = Level(random, 0, low=0, high=120, noise=0.4, resolution=0.1)
        self._pressure = Level(
            random, self.REST_BAR, low=0, high=16, spread=0.1, memory_s=300, noise=0.02, resolution=0.01
        )
        self._temperature = Level(random, 0, low=-20, high=140, noise=0.1, resolution=0.1)
        self._vibration = Vibration(random, floor=1.2, wear_s=20 * 86_400)
        self._starts = Counter(random, start=random.randrange(200, 9000))
        self._was_running = True
        self._target_load: float | None = None

    def set_target_pressure(self, value: float) -> None:
        """Hold this pressure, in bar, while the pump runs, whatever the demand is."""
        self._target_load = (value - self.REST_BAR) / self.LIFT_BAR

    def start(self) -> dict[str, Value]:
        """Run until another command. Returns what it sets, as the metric shows it."""
        self._states.hold("running")
        return {"running": True}

    def stop(self) -> dict[str, Value]:
        """Stand still until another command. Returns what it sets, as the metric shows it."""
        self._states.hold("stopped")
        return {"running": False}

    def automatic(self) -> None:
        """Run and stop by the demand."""
        self._states.release(self._states.state)

    def at(self, time_s: float) -> Mapping[str, Value]:
        running = self._states.at(time_s) == "running"
        if running and not self._was_running:
            self._starts.value += 1
        self._was_running = running
        wanted = self._demand.at(time_s) if running else 0.0
        if running and self._target_load is not None:
            wanted = self._target_load
        load = self._load.at(time_s, wanted)
        return {
            "running": running,
            "flow": self._flow.at(time_s, shift=85.0 * load),
            "pressure": self._pressure.at(time_s, shift=self.LIFT_BAR * load),
            "motor_temperature": self._temperature.at(time_s, shift=self._heat.at(time_s, 22.0 + 48.0 * load)),
            "vibration": self._vibration.at(time_s, load),
            "starts": self._starts.value,
        }


class Vehicle:
    """A lorry that drives, waits with the engine running, and parks."""

    SITES = ("depot-north", "depot-south")
    METRICS = (
        Metric("latitude", unit="°", description="Position, WGS 84"),
        Metric("longitude", unit="°", description="Position, WGS 84"),
        Metric("speed", unit="km/h", description="Speed over ground"),
        Metric("heading", unit="°", description="Direction of travel, clockwise from north"),
        Metric("odometer", "integer", unit="m", description="Distance driven in all"),
        Metric("state", "string", description="driving, waiting or parked"),
        Metric("fuel", unit="%", description="Level of the tank"),
        Metric("engine_temperature", unit="°C", description="Temperature of the coolant"),
    )
    COMMANDS: Mapping[str, SimulatedCommand] = {
        "set_speed": SimulatedCommand("Drive at this speed", limits={"speed": Limits(0, 110, unit="km/h")}),
        "stop": SimulatedCommand("Stand still with the engine running until another command", confirm=True),
        "start": SimulatedCommand("Drive on with the speed of the traffic"),
    }
    SETTINGS = NO_SETTINGS

    def __init__(self, random: Random) -> None:
        stay_s = {"driving": 420, "waiting": 45, "parked": 200}
        ways = {"driving": {"waiting": 3, "parked": 1}, "waiting": {"driving": 1}, "parked": {"driving": 1}}
        self._states = States(random, "driving", stay_s, ways)
        latitude, longitude = random.choice(DEPOTS)
        self._track = VehicleRoute(random, latitude=latitude, longitude=longitude, radius_m=9000)
        self._engine = Inertia(70.0, constant_s=150.0)
        self._temperature = Level(random, 0, low=-40, high=130, noise=0.2, resolution=0.1)
        self._fuel = Battery(random, days=2.5, solar=False)

    def set_speed(self, speed: float) -> dict[str, Value]:
        """Drive at this speed, in km/h, until another command. Returns the speed."""
        self._track.ordered_speed = speed / 3.6
        self._states.hold("driving")
        return {"speed": speed}

    def stop(self) -> dict[str, Value]:
        """Stand still until another command. Returns what it sets, as the metric shows it."""
        self._track.ordered_speed = None
        self._states.hold("waiting")
        return {"state": "waiting"}

    def start(self) -> dict[str, Value]:
        """Drive with the speed of the traffic, and wait and park as before. Returns what it sets."""
        self._track.ordered_speed = None
        self._states.release("driving")
        return {"state": "driving"}

    def at(self, time_s: float) -> Mapping[str, Value]:
        state = self._states.at(time_s)
        position = self._track.at(time_s, driving=state == "driving")
        warm = {"driving": 91.0, "waiting": 84.0, "parked": 15.0}[state]
        return {
            "latitude": position.latitude,
            "longitude": position.longitude,
            "speed": position.speed_kmh,
            "heading": position.heading,
            "odometer": position.odometer_m,
            "state": state,
            "fuel": self._fuel.at(time_s),
            "engine_temperature": self._temperature.at(time_s, shift=self._engine.at(time_s, warm)),
        }


class Freezer:
    """A cold store: the compressor keeps the temperature between two limits, and an open door warms it."""

    SITES = ("kitchen", "warehouse", "shop")
    METRICS = (
        Metric("temperature", unit="°C", description="Air temperature inside"),
        Metric("door_open", "boolean", description="Whether the door is open"),
        Metric("compressor", "boolean", description="Whether the compressor is on"),
        Metric("power", unit="W", description="Electric power drawn"),
    )
    COMMANDS: Mapping[str, SimulatedCommand] = {}
    SETTINGS = NO_SETTINGS
    COLDEST, WARMEST = -21.0, -17.5

    def __init__(self, random: Random) -> None:
        stay_s = {"open": 12, "closed": 260}
        self._door = States(random, "closed", stay_s, {"open": {"closed": 1}, "closed": {"open": 1}})
        self._inside = random.uniform(self.COLDEST, self.WARMEST)
        self._air = Inertia(self._inside, constant_s=600.0)
        self._probe = Level(random, 0, low=-45, high=40, noise=0.04, resolution=0.05)
        self._power = Level(random, 18, low=0, high=900, noise=1.5, resolution=0.1)
        self._compressor = random.random() < 0.5

    def at(self, time_s: float) -> Mapping[str, Value]:
        door_open = self._door.at(time_s) == "open"
        if self._inside > self.WARMEST:
            self._compressor = True
        elif self._inside < self.COLDEST:
            self._compressor = False
        target = (-34.0 if self._compressor else 4.0) + (45.0 if door_open else 0.0)
        self._inside = self._air.at(time_s, target)
        return {
            "temperature": self._probe.at(time_s, shift=self._inside),
            "door_open": door_open,
            "compressor": self._compressor,
            "power": self._power.at(time_s, shift=410.0 * self._compressor + 25.0 * door_open),
        }


class Machine:
    """A machine tool: it is set up, runs, waits for parts, and sometimes has a fault."""

    SITES = ("hall-1", "hall-2")
    METRICS = (
        Metric("state", "string", description="off, setup, running, waiting or fault"),
        Metric("spindle_speed", unit="1/min", description="Speed of the spindle"),
        Metric("spindle_temperature", unit="°C", description="Temperature of the spindle's bearing"),
        Metric("vibration", unit="mm/s", description="Vibration velocity at the spindle, RMS"),
        Metric("power", unit="kW", description="Electric power drawn"),
        Metric("parts", "integer", description="Parts made in all"),
    )
    COMMANDS: Mapping[str, SimulatedCommand] = {}
    SETTINGS = NO_SETTINGS
    STAYS_S: Mapping[str, float] = {"off": 180, "setup": 60, "running": 300, "waiting": 40, "fault": 50}
    WAYS: Mapping[str, Mapping[str, float]] = {
        "off": {"setup": 1},
        "setup": {"running": 9, "off": 1},
        "running": {"waiting": 12, "setup": 4, "fault": 2, "off": 1},
        "waiting": {"running": 9, "off": 1},
        "fault": {"setup": 3, "off": 1},
    }

    def __init__(self, random: Random) -> None:
        self._states = States(
            random, random.choice(("running", "running", "waiting", "setup")), self.STAYS_S, self.WAYS
        )
        self._spindle = Inertia(0.0, constant_s=2.5)
        self._speed = Level(random, 0, low=0, high=12_000, noise=4, resolution=1)
        self._wish = Level(random, 6500, low=1500, high=11_000, spread=1500, memory_s=120, resolution=100)
        self._heat = Inertia(30.0, constant_s=240.0)
        self._temperature = Level(random, 0, low=-10, high=120, noise=0.05, resolution=0.1)
        self._vibration = Vibration(random, floor=0.7, wear_s=12 * 86_400)
        self._power = Level(random, 0.4, low=0, high=30, noise=0.03, resolution=0.01)
        self._parts = Counter(random, start=random.randrange(1000, 90_000))

    def at(self, time_s: float) -> Mapping[str, Value]:
        state = self._states.at(time_s)
        running = state == "running"
        speed = self._spindle.at(time_s, self._wish.at(time_s) if running else 0.0)
        load = min(speed / 11_000.0, 1.0)
        drawn = 0.0 if state == "off" else 0.6 + 14.0 * load
        return {
            "state": state,
            "spindle_speed": self._speed.at(time_s, shift=speed),
            "spindle_temperature": self._temperature.at(time_s, shift=self._heat.at(time_s, 24.0 + 42.0 * load)),
            "vibration": self._vibration.at(time_s, load),
            "power": self._power.at(time_s, shift=drawn),
            "parts": self._parts.at(time_s, 1 / 25 if running else 0.0),
        }


Model: TypeAlias = WeatherStation | Pump | Vehicle | Freezer | Machine

PROFILES: dict[str, type[Model]] = {
    "weather": WeatherStation,
    "pump": Pump,
    "vehicle": Vehicle,
    "freezer": Freezer,
    "machine": Machine,
}
