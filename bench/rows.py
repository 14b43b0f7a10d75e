"""The benchmark rows. Each runs on a hub and a data directory of its own."""

from __future__ import annotations

import resource
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Literal, NamedTuple

from bench.agent import AgentRow
from bench.commands import COMMAND_ROWS, COMMANDED_DEVICES, Commands
from bench.connection import Connection, Peer
from bench.figure import Outcome, Plan, ReportProgress, at_least, at_most
from bench.formats import FORMAT_ROWS, FormatRow
from bench.frames import NO_FRAMES, Shape
from bench.history import HistoryRow, InfluxdbHistoryRow
from bench.hub_process import HubProcess, running_hub, slow_disk
from bench.line_protocol import LINE_PROTOCOL, LineProtocol
from bench.measure import Run, measure
from bench.mqtt import MQTT_ROWS, MqttIn, MqttOut
from bench.serial import SERIAL_ROWS, SerialRow
from bench.stores import STORE_ROWS, StoreRow, Where, influxdb_bucket

DEVICES = 20
SLOW_FSYNC_MS = 5.0
LATENCY_SECONDS = 8.0
MUST_FRAMES_PER_S = 60_000
LATENCY_SHARE = 0.5
"""Share of the required rate of one-reading frames at which the latency bound must hold, and share of the measured rate
that shows a faster hub under more load."""
IDLE_CONNECTIONS = 3000
IDLE_MUST_KB = 25.0
LATENCY_MUST_MS = 20.0
DISTURBED = 0.05
"""Share of the hub's core that other programs may take before the note of a run reports it."""


class Throughput(NamedTuple):
    """Frames of one shape, as fast as the hub acknowledges them, until the store has them all: DuckDB, or InfluxDB
    where `influxdb` names the core it runs on."""

    key: str
    name: str
    shape: Shape
    frames: int
    unit: Literal["frames/s", "readings/s"]
    must: float | None
    slow_fsync_ms: float = 0.0
    influxdb: Where | None = None

    def run(self, plan: Plan, report: ReportProgress) -> Outcome:
        """Measure `plan.repeats` times on one hub, after a short warm-up; the median counts."""
        environment = slow_disk(plan.directory, self.slow_fsync_ms) if self.slow_fsync_ms else {}
        frames = max(100, round(self.frames * plan.scale))
        with ExitStack() as stack:
            if self.influxdb is not None:
                environment |= stack.enter_context(influxdb_bucket(plan, self.key, self.influxdb)).environment
            hub = stack.enter_context(
                running_hub(plan.data(self.key), core=plan.hub_core, launcher=plan.launcher, environment=environment)
            )
            runs: list[Run] = []
            for repeat in range(plan.repeats + 1):
                run = measure(
                    hub,
                    self.shape,
                    prefix=f"bench-{repeat}",
                    devices=DEVICES,
                    frames=frames if repeat else max(10, frames // 20),
                    rate=0,
                    seed=repeat * DEVICES,
                    core=plan.load_core,
                    hub_core=plan.hub_core,
                    progress=partial(
                        report, f"{self.name}, {f'run {repeat} of {plan.repeats}' if repeat else 'warm-up'}"
                    ),
                )
                if repeat:
                    runs.append(run)
        per_frame = 1 if self.unit == "frames/s" else self.shape.readings
        stored = statistics.median(run.frames_per_s * per_frame for run in runs)
        acked = statistics.median(run.acked_frames_per_s * per_frame for run in runs)
        plan.achieved[self.key] = stored / per_frame
        return Outcome(
            [
                at_least(f"{self.name}: acknowledged and stored", stored, self.unit, self.must),
                at_least(f"{self.name}: acknowledged", acked, self.unit, None),
            ],
            [_in_words(run, per_frame, self.unit) for run in runs],
        )


class Latency(NamedTuple):
    """Time from the intended moment of a frame to its acknowledgement, at a share of a rate: the given one, or the rate
    that the row `of` achieved in this run."""

    key: str
    name: str
    shape: Shape
    rate: float
    must_ms: float | None
    of: str | None = None

    def run(self, plan: Plan, report: ReportProgress) -> Outcome:
        """Send an open load, in which frames are due at fixed times independent of the hub; the median of the p99
        counts."""
        rate = plan.achieved.get(self.of or "", self.rate) * LATENCY_SHARE
        seconds = max(1.0, LATENCY_SECONDS * plan.scale)
        with running_hub(plan.data(self.key), core=plan.hub_core, launcher=plan.launcher) as hub:
            runs = [
                measure(
                    hub,
                    self.shape,
                    prefix=f"bench-{repeat}",
                    devices=DEVICES,
                    frames=round(rate * seconds / DEVICES),
                    rate=rate,
                    seed=repeat * DEVICES,
                    core=plan.load_core,
                    hub_core=plan.hub_core,
                    progress=partial(report, f"{self.name}, run {repeat + 1} of {plan.repeats}"),
                )
                for repeat in range(plan.repeats)
            ]
        notes = [
            f"at {rate:,.0f} frames/s: ack {_percentiles(run.latency_ms)} ms; the generator's own lag "
            f"{_percentiles(run.lag_ms)} ms; {_shares(run)}"
            for run in runs
        ]
        p99 = statistics.median(run.latency_ms["p99"] for run in runs)
        p50 = statistics.median(run.latency_ms["p50"] for run in runs)
        return Outcome(
            [at_most(f"{self.name}: p99", p99, "ms", self.must_ms), at_most(f"{self.name}: p50", p50, "ms", None)],
            notes,
        )


WARM_UP = 100
"""Connections before the first measurement: one-time allocations of the hub belong to no connection."""
SHAPE = Shape(metrics=4, times=1, format="msgpack")
SPARE_FILES = 256
CONNECTIONS = max(IDLE_CONNECTIONS, COMMANDED_DEVICES)
"""Connections of the row with the most of them."""


def idle_bytes(hub: HubProcess, connections: int, progress: Callable[[float], None]) -> float:
    """Return the hub's memory in bytes for each open connection of a device with four metrics and no readings."""
    peer = Peer(hub.host, hub.port, hub.token("gateway"))
    opened: list[Connection] = []
    try:
        opened.extend(Connection(f"warm-{i:05}", peer, SHAPE, NO_FRAMES) for i in range(WARM_UP))
        before = hub.memory_bytes()
        for i in range(connections):
            opened.append(Connection(f"idle-{i:05}", peer, SHAPE, NO_FRAMES))
            progress((i + 1) / connections)
        return (hub.memory_bytes() - before) / connections
    finally:
        for connection in opened:
            connection.close()


def allow_files(count: int) -> None:
    """Raise the limit of open files, also for the hub started from here. Raise ValueError when that is not allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + SPARE_FILES
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise ValueError(f"{wanted} open files are needed, the system allows {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Idle(NamedTuple):
    """Memory of the hub for connections that send nothing."""

    key: str
    name: str

    def run(self, plan: Plan, report: ReportProgress) -> Outcome:
        """Measure once: memory does not vary between runs."""
        connections = max(200, round(IDLE_CONNECTIONS * plan.scale))
        with running_hub(plan.data(self.key), core=plan.hub_core, launcher=plan.launcher) as hub:
            value = idle_bytes(hub, connections, partial(report, self.name)) / 1024
        return Outcome([at_most(self.name, value, "KB", IDLE_MUST_KB)], [f"{connections} connections"])


Row = (
    Throughput
    | Latency
    | Idle
    | AgentRow
    | HistoryRow
    | StoreRow
    | InfluxdbHistoryRow
    | MqttIn
    | MqttOut
    | FormatRow
    | SerialRow
    | LineProtocol
    | Commands
)

ONE = Shape(metrics=1, times=1, format="json")
ONE_PACKED = Shape(metrics=1, times=1, format="msgpack")
ONE_PLAIN = Shape(metrics=1, times=1, format="json", is_plain=True)
FORTY = Shape(metrics=4, times=10, format="msgpack")
FORTY_TEXT = Shape(metrics=4, times=10, format="json")
FOUR_HUNDRED = Shape(metrics=4, times=100, format="msgpack")
FOUR_HUNDRED_TEXT = Shape(metrics=4, times=100, format="json")

MUSTS = (
    Throughput("one", "frames of 1 reading (JSON)", ONE, 20_000, "frames/s", MUST_FRAMES_PER_S),
    Throughput("forty", "frames of 40 readings (msgpack)", FORTY, 8_000, "readings/s", 1_000_000),
    Throughput("four-hundred", "frames of 400 readings (msgpack)", FOUR_HUNDRED, 2_500, "readings/s", 3_000_000),
)
INFLUXDB: tuple[tuple[str, str, Where], ...] = (
    ("", "InfluxDB on another core", "load"),
    ("-shared", "InfluxDB on the hub's core", "hub"),
)
ROWS: tuple[Row, ...] = (
    *MUSTS,
    Latency(
        "latency", "device to acknowledgement at half the load that must hold", ONE, MUST_FRAMES_PER_S, LATENCY_MUST_MS
    ),
    Latency(
        "latency-more", "device to acknowledgement at half the load that held", ONE, MUST_FRAMES_PER_S, None, of="one"
    ),
    Idle("idle", "memory per idle device connection"),
    *COMMAND_ROWS,
    AgentRow("agent", "device agent with a serial line"),
    Throughput("one-packed", "frames of 1 reading (msgpack)", ONE_PACKED, 20_000, "frames/s", None),
    Throughput("plain", "frames of 1 reading (/v1/plain)", ONE_PLAIN, 20_000, "frames/s", None),
    Throughput("forty-json", "frames of 40 readings (JSON)", FORTY_TEXT, 6_000, "readings/s", None),
    Throughput("four-hundred-json", "frames of 400 readings (JSON)", FOUR_HUNDRED_TEXT, 1_500, "readings/s", None),
    *(
        Throughput(f"{key}-slow", f"{name}, each fsync 5 ms slower", shape, frames, unit, None, SLOW_FSYNC_MS)
        for key, name, shape, frames, unit, *_ in MUSTS
    ),
    *STORE_ROWS,
    *(
        Throughput(f"{key}-influxdb{end}", f"{name}, {words}", shape, frames, unit, None, influxdb=where)
        for end, words, where in INFLUXDB
        for (key, name, shape, _, unit, *_), frames in zip(MUSTS, (10_000, 1_500, 200), strict=True)
    ),
    InfluxdbHistoryRow("history-influxdb", "InfluxDB's history", 10_000_000),
    *MQTT_ROWS,
    LINE_PROTOCOL,
    *FORMAT_ROWS,
    *SERIAL_ROWS,
    HistoryRow("history", "history", 100_000_000, compacted=True),
)
LONG_ROWS: tuple[Row, ...] = (HistoryRow("billion", "history of a billion", 1_000_000_000, compacted=False),)
"""Rows that run only when they are named."""


def _in_words(run: Run, per_frame: int, unit: str) -> str:
    return (
        f"{run.frames_per_s * per_frame:,.0f} {unit} stored, {run.acked_frames_per_s * per_frame:,.0f} acknowledged; "
        f"{run.readings:,} readings and {run.bytes / 1e6:.0f} MB in {run.stored_s:.1f} s; "
        f"{_shares(run)}; {run.updates} updates to the dashboard"
    )


def _shares(run: Run) -> str:
    """Return the shares of the cores; a hub whose core was shared would have been faster alone."""
    disturbed = f" (disturbed: others took {run.others_cpu:.0%})" if run.others_cpu > DISTURBED else ""
    return (
        f"hub {run.hub_cpu:.0%} of its core{disturbed} (which did {run.core_speed:.1f} M steps/s), "
        f"generator {run.generator_cpu:.0%} of the other"
    )


def _percentiles(values_ms: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in values_ms.items())
