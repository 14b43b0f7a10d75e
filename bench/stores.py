"""Rows that measure a store: acknowledgements with it and without it, catching up, bytes on disk."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from bench.figure import Outcome, Plan, ReportProgress, at_least, at_most
from bench.frames import Shape
from bench.hub_process import HubProcess, running_hub
from bench.measure import POLL_SECONDS, STORE_SECONDS, Failure, measure, wait_until_stored
from hub.storage.duckdb.database import FILE_NAME
from tests.services.found import INFLUXDB2, find_service
from tests.services.influxdb import Influxdb2, InfluxdbServer

ONE = Shape(metrics=1, times=1, format="json")
FORTY = Shape(metrics=4, times=10, format="msgpack")

DEVICES = 20
RATE = 10_000
"""Frames of one reading a second: a rate that every store keeps up with, also on the hub's own core."""
SECONDS = 8.0
RATIO_MUST = 1.5
"""Allowed ratio of the acknowledgement latency without the store to the latency with it."""

SETTLE = {"storage-cache-snapshot-write-cold-duration": "1s"}
"""Interval after which InfluxDB moves its log into its files: one quiet second instead of ten minutes."""
SETTLED_BYTES = 1 << 20
"""Size of its log after that."""
SETTLE_SECONDS = 60.0
BLOCK_BYTES = 512
"""Unit of stat's block count (POSIX): InfluxDB allocates files of 4 MiB that are almost empty."""

HOLD = "import sys, duckdb; held = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


class Server(Protocol):
    """Store of the history for one row, used by a hub before, during and after an outage."""

    @property
    def environment(self) -> Mapping[str, str]:
        """Return the hub's settings for this store."""

    @contextmanager
    def away(self) -> Iterator[None]:
        """Keep every hub from the store inside the block."""

    def size_bytes(self) -> int:
        """Return the bytes on disk; no hub runs."""


class DuckdbFile:
    """The file in the hub's data directory. It is unavailable while another process keeps it open."""

    environment: Mapping[str, str] = {}

    def __init__(self, data: Path) -> None:
        self._file = data / FILE_NAME

    @contextmanager
    def away(self) -> Iterator[None]:
        with subprocess.Popen(
            [sys.executable, "-c", HOLD, str(self._file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as holder:
            assert holder.stdin is not None
            assert holder.stdout is not None
            holder.stdout.readline()
            try:
                yield
            finally:
                holder.stdin.close()

    def size_bytes(self) -> int:
        return self._file.stat().st_blocks * BLOCK_BYTES


class InfluxdbBucket:
    """A bucket of InfluxDB 2.7, whose server runs on `core`. It is unavailable while the server is stopped."""

    def __init__(self, server: InfluxdbServer, folder: Path, core: int) -> None:
        self._server = server
        self._engine = folder / "engine"
        self._core = core
        self.access = access = server.fresh()
        self.environment: Mapping[str, str] = {
            "INFLUXDB_URL": access.url,
            "INFLUXDB_ORG": access.org,
            "INFLUXDB_BUCKET": access.bucket,
            "INFLUXDB_TOKEN": access.token,
        }

    @contextmanager
    def away(self) -> Iterator[None]:
        self._server.stop()
        try:
            yield
        finally:
            with on_core(self._core):
                self._server.start()

    def size_bytes(self) -> int:
        """Raise Failure where the server does not move its log into its files."""
        deadline_s = time.monotonic() + SETTLE_SECONDS
        while _folder_bytes(self._engine / "wal") > SETTLED_BYTES:
            if time.monotonic() > deadline_s:
                raise Failure(f"InfluxDB still has its log after {SETTLE_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)
        return _folder_bytes(self._engine / "data")


Where = Literal["hub", "load"]
"""Core of a server: the hub's core, or the core of the load."""


@contextmanager
def influxdb_bucket(plan: Plan, key: str, where: Where) -> Iterator[InfluxdbBucket]:
    """Run an InfluxDB 2.7 with an empty bucket for one row. Raise Failure where there is none."""
    found = find_service(INFLUXDB2)
    if found.path is None:
        raise Failure(found.reason)
    folder = plan.data(f"{key}-server")
    core = plan.hub_core if where == "hub" else plan.load_core
    with ExitStack() as stack:
        with on_core(core):
            server = stack.enter_context(InfluxdbServer(found.path, folder, Influxdb2(SETTLE)))
        yield InfluxdbBucket(server, folder, core)


class StoreRow(NamedTuple):
    """One store: the hub acknowledges with it and without it, then it catches up with what the journal kept.

    `frames` frames of 40 readings from each device are what it has to catch up with. `store_core` is the core of a
    separate server: the hub's core or the core of the load; None for a store inside the hub.
    """

    key: str
    name: str
    frames: int
    store_core: Where | None

    def run(self, plan: Plan, report: ReportProgress) -> Outcome:
        """Return the median p99 of the runs; the rest is measured once."""
        data = plan.data(self.key)
        with self._server(plan, data) as server, ExitStack() as away:
            with self._hub(plan, data, server) as hub:
                with_it = [self._latency_ms(hub, plan, f"with-{i}", report) for i in range(plan.repeats)]
            away.enter_context(server.away())
            with self._hub(plan, data, server) as hub:
                without = [
                    self._latency_ms(hub, plan, f"without-{i}", report, store_runs=False) for i in range(plan.repeats)
                ]
                self._flood(hub, plan, report)
                report(f"{self.name}: catching up", 0.0)
                caught_up = _catch_up(hub, away)
                readings = sum(device.accepted for device in hub.accounting().devices)
            bytes_per_reading = server.size_bytes() / readings
        running_ms, stopped_ms = statistics.median(with_it), statistics.median(without)
        note = (
            f"{caught_up.readings:,} of {readings:,} readings in {caught_up.seconds:.1f} s, {caught_up.waited_s:.1f} s "
            f"after it was back; p99 with the store {with_it} ms, without it {without} ms"
        )
        return Outcome(
            [
                at_least(f"{self.name}: from journal to store", caught_up.readings_per_s, "readings/s", None),
                at_most(f"{self.name}: ack p99 with the store", running_ms, "ms", None),
                at_most(f"{self.name}: ack p99 without the store", stopped_ms, "ms", None),
                at_most(f"{self.name}: without to with the store", stopped_ms / running_ms, "times", RATIO_MUST),
                at_most(f"{self.name}: on disk", bytes_per_reading, "bytes/reading", None),
            ],
            [note],
        )

    @contextmanager
    def _server(self, plan: Plan, data: Path) -> Iterator[Server]:
        if self.store_core is None:
            yield DuckdbFile(data)
        else:
            with influxdb_bucket(plan, self.key, self.store_core) as bucket:
                yield bucket

    def _hub(self, plan: Plan, data: Path, server: Server) -> AbstractContextManager[HubProcess]:
        return running_hub(data, core=plan.hub_core, launcher=plan.launcher, environment=server.environment)

    def _latency_ms(
        self, hub: HubProcess, plan: Plan, prefix: str, report: ReportProgress, *, store_runs: bool = True
    ) -> float:
        run = measure(
            hub,
            ONE,
            prefix=prefix,
            devices=DEVICES,
            frames=round(RATE * max(1.0, SECONDS * plan.scale) / DEVICES),
            rate=RATE,
            seed=0,
            core=plan.load_core,
            hub_core=plan.hub_core,
            progress=partial(report, f"{self.name}: acknowledgements {'with' if store_runs else 'without'} the store"),
            store_runs=store_runs,
        )
        return run.latency_ms["p99"]

    def _flood(self, hub: HubProcess, plan: Plan, report: ReportProgress) -> None:
        measure(
            hub,
            FORTY,
            prefix="backlog",
            devices=DEVICES,
            frames=max(100, round(self.frames * plan.scale)),
            rate=0,
            seed=0,
            core=plan.load_core,
            hub_core=plan.hub_core,
            progress=partial(report, f"{self.name}: filling the journal"),
            store_runs=False,
        )


class CaughtUp(NamedTuple):
    """Progress of a store after an outage, counted from its first write."""

    readings: int
    seconds: float
    waited_s: float

    @property
    def readings_per_s(self) -> float:
        return self.readings / self.seconds


def _catch_up(hub: HubProcess, away: ExitStack) -> CaughtUp:
    """End the outage and wait until the store has everything. Raise Failure where the accounting does not balance."""
    behind = hub.accounting().behind
    away.close()
    back_s = time.monotonic()
    while (accounting := hub.accounting()).behind == behind:
        if time.monotonic() - back_s > STORE_SECONDS:
            raise Failure(f"the hub has not written to the store that is back for {STORE_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)
    begun_s = time.monotonic()
    stored = sum(device.stored or 0 for device in accounting.devices)
    accounting = wait_until_stored(hub)
    ended_s = time.monotonic()
    in_all = sum(device.stored or 0 for device in accounting.devices)
    accepted = sum(device.accepted for device in accounting.devices)
    if in_all != accepted:
        raise Failure(f"readings stored: {in_all}, not {accepted}")
    return CaughtUp(in_all - stored, ended_s - begun_s, begun_s - back_s)


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Start every process inside the block on this core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _folder_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_blocks * BLOCK_BYTES if path.is_file() else 0
        except FileNotFoundError:
            # A running server merges files at the same time.
            continue
    return total


STORE_ROWS = (
    StoreRow("store-duckdb", "DuckDB", 10_000, None),
    StoreRow("store-influxdb", "InfluxDB on another core", 2_500, "load"),
    StoreRow("store-influxdb-shared", "InfluxDB on the hub's core", 2_500, "hub"),
)
