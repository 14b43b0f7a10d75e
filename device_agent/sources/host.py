"""This computer's own sensors, by psutil: processors, memory, disks, networks, temperatures, fans, battery."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import psutil
from msgspec import Meta

from device_agent.source_state import SourceHealth
from device_agent.sources import RepeatedWarning, SensorReading, ticks
from device_agent.sources.settings import SourceContext, SourceSettings
from wire.model import Metric, MetricType, Value

INTERVAL_SECONDS = 1.0
"""A live chart moves every second; a sample costs some milliseconds."""

MIN_INTERVAL_SECONDS = 0.05
"""A sample of the host's sensors costs some milliseconds of a processor."""

_LOOPBACKS = frozenset({"lo", "lo0"})

_IGNORED_INTERFACES = ("veth", "ifb")
"""Prefixes of the interfaces of containers, whose names change with every start."""

_IGNORED_FILE_SYSTEMS = frozenset({"squashfs", "iso9660", "udf", "cramfs", "erofs"})
"""Read-only, so always full."""

_log = logging.getLogger(__name__)


class Sample(NamedTuple):
    """A value and its metric."""

    metric: Metric
    value: Value


class HostSettings(SourceSettings, frozen=True, kw_only=True):
    """Settings of the sensors of this computer: seconds between two readings, and whether `lo` is reported."""

    interval_s: Annotated[float, Meta(ge=MIN_INTERVAL_SECONDS, le=86_400)] = INTERVAL_SECONDS
    loopback: bool = False

    @property
    def default_name(self) -> str:
        return "host"

    def source(self, context: SourceContext) -> HostSource:
        return HostSource(interval_seconds=self.interval_s, include_loopback=self.loopback)


class HostSource:
    """Readings of this computer, one every `interval_seconds` on a schedule without drift."""

    def __init__(self, *, interval_seconds: float = INTERVAL_SECONDS, include_loopback: bool = False) -> None:
        self._interval_seconds = interval_seconds
        self._ignored = frozenset() if include_loopback else _LOOPBACKS
        self._rates = CounterRates()
        groups: tuple[Callable[[], Iterable[Sample]], ...] = (
            _cpu, _load, _memory, self._disks, self._networks, _temperatures, _fans, _battery, _system,
        )  # fmt: skip
        self._groups = [(group, RepeatedWarning(_log, f"cannot read {group.__name__.strip('_')}")) for group in groups]
        self.health = SourceHealth("host")
        self._working: set[str] = set()
        self._known: set[Metric] = set()
        self._errors: list[str] = []

    async def readings(self) -> AsyncGenerator[SensorReading, None]:
        """Yield readings without end. The first has no rates, which need two samples."""
        psutil.cpu_percent(percpu=True)  # the first call has nothing to compare with
        async for _ in ticks(self._interval_seconds):
            # psutil reads many files, and a slow disk takes long to report its use.
            reading = await asyncio.to_thread(self.sample)
            if self._errors:
                self.health.fail("sensors", "; ".join(self._errors))
            else:
                self.health.recover("sensors")
            yield reading

    def sample(self) -> SensorReading:
        """Return the current values; a sensor that cannot be read is left out."""
        self._rates.now = time.monotonic()
        time_ns = time.time_ns()
        values: dict[str, Value] = {}
        fresh: list[Metric] = []
        errors: list[str] = []
        for group, warning in self._groups:
            try:
                samples = list(group())
                warning.record_success()
                self._working.add(warning.event)
            except (psutil.Error, OSError, AttributeError, NotImplementedError) as error:
                warning.record_failure(error)  # AttributeError: psutil lacks functions on some systems
                if warning.event in self._working:  # others are sensors that this computer does not have
                    errors.append(f"{warning.event}: {error}")
                continue
            for metric, value in samples:
                if value is not None and metric.name not in values:
                    values[metric.name] = value
                    if metric not in self._known:
                        self._known.add(metric)
                        fresh.append(metric)
        self._errors = errors
        return SensorReading(values, time_ns, tuple(fresh))

    def _disks(self) -> Iterator[Sample]:
        seen: set[str] = set()
        for partition in sorted(psutil.disk_partitions(all=False), key=lambda partition: len(partition.mountpoint)):
            if partition.device in seen or partition.fstype in _IGNORED_FILE_SYSTEMS:
                continue
            seen.add(partition.device)
            usage = psutil.disk_usage(partition.mountpoint)
            where = _word(partition.mountpoint.strip("/").replace("/", ".")) or "root"
            yield _sample(f"disk.{where}.used_percent", usage.percent, "%", f"{partition.mountpoint} in use")
            yield _sample(f"disk.{where}.free", float(usage.free), "B", f"{partition.mountpoint} free")
        counters = psutil.disk_io_counters()
        if counters is not None:
            read, written = self._rates.of("disk", counters.read_bytes, counters.write_bytes)
            yield _sample("disk.read_rate", read, "B/s", "read from all disks")
            yield _sample("disk.write_rate", written, "B/s", "written to all disks")

    def _networks(self) -> Iterator[Sample]:
        for name, counters in psutil.net_io_counters(pernic=True).items():
            if name not in self._ignored and not name.startswith(_IGNORED_INTERFACES):
                received, sent = self._rates.of(f"network {name}", counters.bytes_recv, counters.bytes_sent)
                yield _sample(f"network.{_word(name)}.receive_rate", received, "B/s", f"received on {name}")
                yield _sample(f"network.{_word(name)}.send_rate", sent, "B/s", f"sent on {name}")


class CounterRates:
    """Rates of counters between two samples. Set `now`, in seconds, before each sample."""

    def __init__(self) -> None:
        self.now = 0.0
        self._before: dict[str, tuple[float, tuple[int, ...]]] = {}

    def of(self, what: str, *counters: int) -> tuple[float | None, ...]:
        """Return the rates of these counters; None at the first sample and for a counter that was reset."""
        before = self._before.get(what)
        self._before[what] = self.now, counters
        if before is None or self.now <= before[0]:
            return (None,) * len(counters)
        seconds = self.now - before[0]
        return tuple(
            (new - old) / seconds if new >= old else None for new, old in zip(counters, before[1], strict=True)
        )


def _cpu() -> Iterator[Sample]:
    cores = psutil.cpu_percent(percpu=True)
    yield _sample("cpu.total", sum(cores) / len(cores), "%", "all processors in use")
    for number, percent in enumerate(cores):
        yield _sample(f"cpu.{number}", percent, "%", f"processor {number} in use")


def _load() -> Iterator[Sample]:
    for minutes, load in zip((1, 5, 15), psutil.getloadavg(), strict=True):
        yield _sample(f"load.{minutes}m", load, "", f"processes that run or wait, over {minutes} min")


def _memory() -> Iterator[Sample]:
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    yield _sample("memory.used_percent", memory.percent, "%", "memory in use")
    yield _sample("memory.used", float(memory.used), "B", "memory in use")
    yield _sample("memory.available", float(memory.available), "B", "memory available to programs")
    if swap.total:
        yield _sample("swap.used_percent", swap.percent, "%", "swap in use")


def _temperatures() -> Iterator[Sample]:
    return _chips("temperature", psutil.sensors_temperatures(), "°C")


def _fans() -> Iterator[Sample]:
    return _chips("fan", psutil.sensors_fans(), "rpm")


def _chips(kind: str, sensors_by_chip: Mapping[str, Sequence[Any]], unit: str) -> Iterator[Sample]:
    for chip, sensors in sensors_by_chip.items():
        for number, sensor in enumerate(sensors):
            name = f"{kind}.{_word(chip)}.{_word(sensor.label) or number}"
            yield _sample(name, float(sensor.current), unit, sensor.label)


def _battery() -> Iterator[Sample]:
    battery = psutil.sensors_battery()
    if battery is not None:
        yield _sample("battery.charge", float(battery.percent), "%", "charge of the battery")
        yield _sample("battery.plugged_in", battery.power_plugged, "", "whether mains power is connected", "boolean")


def _system() -> Iterator[Sample]:
    yield _sample("system.uptime", time.time() - psutil.boot_time(), "s", "since the computer started")
    yield _sample("system.processes", len(psutil.pids()), "", "processes", "integer")


def _sample(name: str, value: Value, unit: str, description: str, type: MetricType = "float") -> Sample:
    return Sample(Metric(name, type, unit, description), value)


def _word(text: str) -> str:
    """Return a part of a metric's name made from a name of the system."""
    return re.sub(r"[^\w.+-]+", "_", text.strip().lower()).strip("_")[:40]
