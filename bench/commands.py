"""Commands of operators: the time from the request to its answer with the result, with many devices connected."""

from __future__ import annotations

import statistics
import subprocess
import sys
from typing import NamedTuple, TypeVar

import msgspec

from bench.command_load import CommandLine, CommandLoad, CommandResult, Connected
from bench.connection import Peer
from bench.figure import Outcome, Plan, ReportProgress, at_least, at_most
from bench.hub_process import running_hub
from bench.measure import ROOT, Failure, core_speed

Line = TypeVar("Line", Connected, CommandResult)

COMMANDED_DEVICES = 10_000
COMMANDS = 1_000
"""Commands of a run: ten of them are slower than the 99th percentile."""
SETTLING_COMMANDS = 100
ROUND_TRIP_MUST_MS = 20.0


class Commands(NamedTuple):
    """Round trips of calls that `operators` send at the same time, each one after the other, to random devices."""

    key: str
    name: str
    operators: int
    must_ms: float | None

    def run(self, plan: Plan, report: ReportProgress) -> Outcome:
        """Measure `plan.repeats` times on one hub, after a short warm-up; the median of each figure counts."""
        devices = max(100, round(COMMANDED_DEVICES * min(1.0, plan.scale)))
        commands = max(SETTLING_COMMANDS, round(COMMANDS * plan.scale))
        runs: list[CommandResult] = []
        notes: list[str] = []
        with running_hub(plan.data(self.key), core=plan.hub_core, launcher=plan.launcher) as hub:
            peer = Peer(hub.host, hub.port, hub.token("gateway"))
            load = CommandLoad(peer, hub.token("operator"), devices, self.operators, commands, plan.load_core)
            speed = core_speed(plan.hub_core)
            with _LoadProcess(load) as process:
                report(f"{self.name}, {devices:,} devices connect", 0.0)
                connected = process.read(Connected)
                notes.append(f"{devices:,} devices connected in {connected.connecting_s:.0f} s")
                for repeat in range(plan.repeats + 1):
                    report(f"{self.name}, run {repeat} of {plan.repeats}", repeat / (plan.repeats + 1))
                    before_s = hub.cpu_s()
                    result = process.go()
                    if repeat:
                        runs.append(result)
                        notes.append(_in_words(result, (hub.cpu_s() - before_s) / result.seconds))
                notes.append(f"the hub's core does {speed:.1f} M steps/s")
        p99, p50 = (statistics.median(run.round_trip_ms[name] for run in runs) for name in ("p99", "p50"))
        rate = statistics.median(run.succeeded / run.seconds for run in runs)
        return Outcome(
            [
                at_most(f"{self.name}: p99", p99, "ms", self.must_ms),
                at_most(f"{self.name}: p50", p50, "ms", None),
                at_least(f"{self.name}: rate", rate, "commands/s", None),
            ],
            notes,
        )


class _LoadProcess:
    """The process of a load."""

    def __init__(self, load: CommandLoad) -> None:
        self._load = load

    def __enter__(self) -> _LoadProcess:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.command_load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self._write(msgspec.json.encode(self._load).decode())
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.communicate()

    def read(self, kind: type[Line]) -> Line:
        """Return the next line. Raise Failure if it is of another kind, or the process has ended."""
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        text = self._process.stdout.readline()
        if not text:
            raise Failure(f"the load of commands ended: {self._process.stderr.read()[-2000:].strip()}")
        line = msgspec.json.decode(text, type=CommandLine)
        if not isinstance(line, kind):
            raise Failure(f"the load of commands wrote {line}")
        return line

    def go(self) -> CommandResult:
        """Run the load once."""
        self._write("go")
        return self.read(CommandResult)

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


def _in_words(run: CommandResult, hub_cpu: float) -> str:
    times = ", ".join(f"{name} {value:.2f}" for name, value in run.round_trip_ms.items())
    return (
        f"{run.succeeded / run.seconds:,.0f} commands/s: round trip {times} ms; hub {hub_cpu:.0%} of its core, load "
        f"{run.cpu_s / run.seconds:.0%} of the other"
    )


COMMAND_ROWS = (
    Commands("commands", "command to result with 10,000 devices connected", 1, ROUND_TRIP_MUST_MS),
    Commands("commands-more", "commands of 16 operators at once with 10,000 devices connected", 16, None),
)
