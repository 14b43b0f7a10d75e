"""A benchmark row: the processor and the memory that a device agent needs, with a serial line and a real hub."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

from bench.figure import Outcome, Plan, ReportProgress, at_most
from bench.hub_process import HubProcess, running_hub
from bench.measure import Failure

COMMAND = (sys.executable, "-m", "device_agent")
METRICS = 10
RATE_HZ = 10
MUST_MB = 40.0
MUST_PERCENT = 2.0
"""Bounds for one core: memory of an idle agent (RSS), and its share of the core at METRICS metrics and RATE_HZ."""

START_SECONDS = 30.0
SETTLE_SECONDS = 5.0
"""Time after the start until an agent idles: its first batches, and the repeated commits of the start, are over."""

IDLE_SECONDS = 5.0
LOADED_SECONDS = 20.0


class AgentRow(NamedTuple):
    """An agent as a service (`device-agent run --config`), first idle and then with lines of JSON."""

    key: str
    name: str

    def run(self, plan: Plan, report: ReportProgress) -> Outcome:
        """Measure `plan.repeats` agents, one after the other; the median counts."""
        data = plan.data(self.key)
        with running_hub(data, core=plan.hub_core, launcher=plan.launcher) as hub:
            token = hub.token("gateway")
            runs = []
            for repeat in range(plan.repeats):
                report(f"{self.name}, run {repeat + 1} of {plan.repeats}", repeat / plan.repeats)
                # An empty folder: a spool of an earlier run would send its kept batches to this hub, too.
                runs.append(_measured(hub, token, plan.data(f"{self.key}-{repeat}"), plan))
        idle, loaded, percent, idle_percent = (statistics.median(column) for column in zip(*runs, strict=True))
        return Outcome(
            [
                at_most(f"{self.name}: memory when idle", idle, "MB", MUST_MB),
                at_most(f"{self.name}: memory at {METRICS} metrics x {RATE_HZ} Hz", loaded, "MB", None),
                at_most(f"{self.name}: core at {METRICS} metrics x {RATE_HZ} Hz", percent, "%", MUST_PERCENT),
                at_most(f"{self.name}: core when idle", idle_percent, "%", None),
            ],
            [f"{run.idle_mb:.1f} MB, {run.loaded_mb:.1f} MB, {run.percent:.2f} % of a core" for run in runs],
        )


class AgentRun(NamedTuple):
    """Memory (RSS) and share of a core of one agent."""

    idle_mb: float
    loaded_mb: float
    percent: float
    idle_percent: float


def _measured(hub: HubProcess, token: str, folder: Path, plan: Plan) -> AgentRun:
    folder.mkdir(parents=True, exist_ok=True)
    with _port() as (end, port), _agent(hub, token, folder, port, plan.load_core) as process:
        time.sleep(SETTLE_SECONDS)
        idle_percent = _percent_of(process, IDLE_SECONDS * plan.scale)
        idle_mb = process.memory_info().rss / 1e6
        before, started_s = _cpu_s(process), time.monotonic()
        lines = round(LOADED_SECONDS * plan.scale * RATE_HZ)
        for number in range(lines):
            values = {f"metric_{index}": round(20 + number % 50 / 7 + index, 3) for index in range(METRICS)}
            os.write(end, json.dumps(values).encode() + b"\n")
            time.sleep(max(0.0, started_s + (number + 1) / RATE_HZ - time.monotonic()))
        percent = 100 * (_cpu_s(process) - before) / (time.monotonic() - started_s)
        loaded_mb = process.memory_info().rss / 1e6
    accepted = sum(device.accepted for device in hub.accounting().devices if device.device == folder.name)
    if accepted != lines * METRICS:
        raise Failure(f"the hub has {accepted:,} readings of {folder.name}, and the port sent {lines * METRICS:,}")
    return AgentRun(idle_mb, loaded_mb, percent, idle_percent)


@contextmanager
def _agent(hub: HubProcess, token: str, folder: Path, port: str, core: int) -> Iterator[psutil.Process]:
    """Run an agent for a port until it reads; stop it in order at the end."""
    (folder / "token").write_text(token)
    (folder / "token").chmod(0o600)
    (folder / "agent.toml").write_text(
        f'hub = "{hub.url}"\ndevice = "{folder.name}"\ntoken_file = "token"\nspool_directory = "."\n'
        f'[[source]]\nkind = "serial"\nport = "{port}"\nformat = "json"\n'
    )
    log = folder / "agent.log"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [*COMMAND, "run", "--config", str(folder / "agent.toml")],
            stderr=errors,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        ) as process,
    ):
        try:
            deadline_s = time.monotonic() + START_SECONDS
            while not all(text in log.read_text() for text in ("reading from", "connected to")):
                if process.poll() is not None or time.monotonic() > deadline_s:
                    raise Failure(f"the agent did not start: {log.read_text()[-500:]}")
                time.sleep(0.05)
            yield psutil.Process(process.pid)
            process.terminate()
            if code := process.wait(START_SECONDS):
                raise Failure(f"the agent ended with {code}: {log.read_text()[-500:]}")
        finally:
            if process.poll() is None:
                process.kill()


@contextmanager
def _port() -> Iterator[tuple[int, str]]:
    """Return the end of a device and the path of its port."""
    end, port = os.openpty()
    tty.setraw(port)
    try:
        yield end, os.ttyname(port)
    finally:
        os.close(end)
        os.close(port)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _percent_of(process: psutil.Process, seconds: float) -> float:
    """Return the share of a core that a process uses in the next seconds."""
    before, started_s = _cpu_s(process), time.monotonic()
    time.sleep(seconds)
    return 100 * (_cpu_s(process) - before) / (time.monotonic() - started_s)
