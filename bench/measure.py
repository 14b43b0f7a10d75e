"""One run of one load against a hub: what was sent, when it was acknowledged and stored, and who used the processor."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import msgspec
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from bench.connection import Peer
from bench.frames import Shape
from bench.generator import Line, Load, Progress, Ready, Result
from bench.hub_process import Accounting, HubProcess
from wire import live
from wire.codec import LIVE_MESSAGES, VIEWER_MESSAGES
from wire.frames import decode_update
from wire.live_session import ViewerSession

ROOT = Path(__file__).resolve().parent.parent
POLL_SECONDS = 0.1
"""Interval between two queries of the accounting while the store catches up. Each query costs the hub 2 to 3 ms: fifty
a second took a seventh of the measured core."""
STORE_SECONDS = 120.0
SPEED_STEPS = 200_000
SPEED_TRIES = 9
"""Together about 0.1 s."""


class Failure(Exception):
    """A run that proves nothing: readings are lost, rejected or duplicated, or the generator gave up."""


class Run(msgspec.Struct, frozen=True):
    """Measurements of one run. Rates count from the first frame sent to the last one acknowledged, or stored.

    `hub_cpu` and `others_cpu` are shares of the hub's core: the share of the hub, and the share that others took.
    """

    frames: int
    readings: int
    bytes: int
    acked_s: float
    stored_s: float
    hub_cpu: float
    others_cpu: float
    generator_cpu: float
    latency_ms: dict[str, float]
    lag_ms: dict[str, float]
    updates: int
    started_s: float
    """Time on the monotonic clock when the first frame was due."""
    core_speed: float
    """Speed of the hub's core before and after the run, in million steps of core_speed()."""

    @property
    def frames_per_s(self) -> float:
        """Return the frames that were acknowledged and stored per second."""
        return self.frames / self.stored_s

    @property
    def readings_per_s(self) -> float:
        """Return the readings that were acknowledged and stored per second."""
        return self.readings / self.stored_s

    @property
    def acked_frames_per_s(self) -> float:
        """Return the frames that were acknowledged per second, without waiting for the store."""
        return self.frames / self.acked_s


class Dashboard:
    """Viewer of the metrics of one device with policy `latest`; `updates` counts the frames it received."""

    def __init__(self, host: str, port: int, token: str, device: str) -> None:
        self.updates = 0
        self.error: str | None = None
        self._session = ViewerSession()
        self._session.subscribe(live.Subscribe(1, [device], ["*"], "latest"))
        self._socket: ClientConnection = connect(
            f"ws://{host}:{port}/v1/live",
            additional_headers={"Authorization": f"Bearer {token}"},
            subprotocols=[Subprotocol(live.SUBPROTOCOL)],
            proxy=None,
        )
        self._thread = threading.Thread(target=self._read, name="dashboard")

    def __enter__(self) -> Dashboard:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._socket.close()
        self._thread.join()

    def _read(self) -> None:
        try:
            for frame in self._socket:
                if isinstance(frame, bytes):
                    self._session.receive_update(decode_update(frame))
                    self.updates += 1
                    continue
                message = LIVE_MESSAGES.decode(frame)
                self._session.receive(message)
                if isinstance(message, live.Welcome):
                    for asked in self._session.opening_messages():
                        self._socket.send(VIEWER_MESSAGES.encode(asked), text=True)
                elif isinstance(message, live.Error):
                    self.error = message.message
        except ConnectionClosed as closed:
            self.error = str(closed)


def measure(
    hub: HubProcess,
    shape: Shape,
    *,
    prefix: str,
    devices: int,
    frames: int,
    rate: float,
    seed: int,
    core: int,
    hub_core: int,
    progress: Callable[[float], None],
    store_runs: bool = True,
) -> Run:
    """Send `frames` frames from each of `devices` devices and wait until the hub has stored them all.

    `rate` is in frames/s over all devices; 0 means as fast as they are acknowledged. `progress` receives the completed
    share. Where the store does not run, nothing waits for it, and `stored_s` is the time until everything was
    acknowledged. Raise Failure when the accounting does not balance.
    """
    total = devices * frames
    speed = core_speed(hub_core)
    load = Load(Peer(hub.host, hub.port, hub.token("gateway")), prefix, devices, frames, shape, rate, seed, core)
    with Dashboard(hub.host, hub.port, hub.token("viewer"), f"{prefix}-000") as dashboard, _generator() as generator:
        try:
            ready = _read(generator, load)
            hub_cpu_s, core_busy_s = hub.cpu_s(), hub.core_busy_s()
            result = _result(generator, total, progress)
            accounting = wait_until_stored(hub) if store_runs else hub.accounting()
            stored_s = time.monotonic() - result.started_s
            hub_cpu_s, core_busy_s = hub.cpu_s() - hub_cpu_s, hub.core_busy_s() - core_busy_s
        finally:
            generator.kill()
        updates = dashboard.updates
    run = Run(
        frames=total,
        readings=total * shape.readings,
        bytes=total * ready.frame_bytes,
        acked_s=result.ended_s - result.started_s,
        stored_s=stored_s,
        hub_cpu=hub_cpu_s / stored_s,
        others_cpu=max(0.0, core_busy_s - hub_cpu_s) / stored_s,
        generator_cpu=result.cpu_s / (result.ended_s - result.started_s),
        latency_ms=result.latency_ms,
        lag_ms=result.lag_ms,
        updates=updates,
        started_s=result.started_s,
        core_speed=(speed + core_speed(hub_core)) / 2,
    )
    _check_balance(run, result, accounting, prefix, store_runs=store_runs)
    return run


def core_speed(core: int) -> float:
    """Return the million steps a second of a simple Python loop on this core, the median of several tries.

    The core of a virtual machine can be half as fast from one minute to the next when its neighbours are busy. Compare
    figures of the hub only where this speed is about the same.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        return SPEED_STEPS / statistics.median(_loop_s() for _ in range(SPEED_TRIES)) / 1e6
    finally:
        os.sched_setaffinity(0, before)


def _loop_s() -> float:
    started_s = time.perf_counter()
    total = 0
    for step in range(SPEED_STEPS):
        total += step & 3
    return time.perf_counter() - started_s


def _generator() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bench.generator"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def _read(generator: subprocess.Popen[str], load: Load) -> Ready:
    assert generator.stdin is not None
    generator.stdin.write(msgspec.json.encode(load).decode() + "\n")
    generator.stdin.flush()
    line = _line(generator)
    if not isinstance(line, Ready):
        raise Failure(f"the load generator said {line} before it was ready")
    return line


def _result(generator: subprocess.Popen[str], total: int, progress: Callable[[float], None]) -> Result:
    assert generator.stdin is not None
    generator.stdin.write("go\n")
    generator.stdin.flush()
    while not isinstance(line := _line(generator), Result):
        if isinstance(line, Progress):
            progress(line.acked / total)
    return line


def _line(generator: subprocess.Popen[str]) -> Line:
    assert generator.stdout is not None
    assert generator.stderr is not None
    text = generator.stdout.readline()
    if not text:
        raise Failure(f"the load generator ended: {generator.stderr.read()[-2000:].strip()}")
    line: Line = msgspec.json.decode(text, type=Line)
    return line


def wait_until_stored(hub: HubProcess) -> Accounting:
    """Return the accounting as soon as the store has everything. Raise Failure where that takes too long."""
    deadline_s = time.monotonic() + STORE_SECONDS
    while (accounting := hub.accounting()).behind:
        if time.monotonic() > deadline_s:
            raise Failure(f"the store is still {accounting.behind} batches behind after {STORE_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)
    return accounting


def _check_balance(run: Run, result: Result, accounting: Accounting, prefix: str, *, store_runs: bool) -> None:
    mine = [device for device in accounting.devices if device.device.startswith(f"{prefix}-")]
    figures = {
        "frames sent": (result.sent, run.frames),
        "frames acknowledged": (result.acked, run.frames),
        "readings accepted": (sum(d.accepted for d in mine), run.readings),
        "readings stored": (sum(d.stored or 0 for d in mine) if store_runs else run.readings, run.readings),
        "batches doubled": (sum(d.duplicate_batches for d in mine), 0),
        "batches in quarantine": (sum(d.quarantined_batches for d in mine), 0),
        "batches lost": (sum(d.lost_batches for d in mine), 0),
    }
    wrong = [f"{what}: {found}, not {wanted}" for what, (found, wanted) in figures.items() if found != wanted]
    if not run.updates:
        wrong.append("the dashboard was sent no update")
    if wrong:
        raise Failure("; ".join(wrong))
