"""Load generator: a process that sends prepared frames over raw sockets and counts acknowledgements.

It reads one Load as JSON from standard input and writes JSON lines to standard output: `ready` when every device is
connected and every frame is prepared. It then waits for a line, writes `progress` a few times a second, and ends with
one `result`.
"""

from __future__ import annotations

import gc
import os
import select
import sys
import time
from typing import NamedTuple

import msgspec
import numpy as np

from bench.connection import Connection, GeneratorError, Peer
from bench.frames import STEP_NS, Frames, Shape, encode_frames

PROGRESS_SECONDS = 0.2
STALL_SECONDS = 60.0
"""Silence after which the hub counts as dead."""
TICK_SECONDS = 0.001
"""Interval at which a paced load sends what is due. The wait counts as latency, because latency begins at the intended
time."""


class Load(msgspec.Struct, frozen=True):
    """Order to send `frames` frames from each device at `rate` frames/s in total; 0 means as fast as acknowledgements
    come."""

    peer: Peer
    prefix: str
    devices: int
    frames: int
    shape: Shape
    rate: float
    seed: int
    core: int


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """Report that every device is connected and every frame is prepared."""

    frame_bytes: int


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """Report of the frames that are acknowledged so far."""

    acked: int


class Result(msgspec.Struct, frozen=True, tag="result"):
    """Result of the load. Times are from the monotonic clock, which processes share; latency counts from the intended
    time."""

    started_s: float
    ended_s: float
    cpu_s: float
    sent: int
    acked: int
    latency_ms: dict[str, float]
    lag_ms: dict[str, float]


Line = Ready | Progress | Result


class _Acked(NamedTuple):
    """One acknowledgement of a paced load: which frames of which device, and when."""

    device: int
    first: int
    last: int
    at_s: float


class Generator:
    """Runner of one load. It sends on each device in turn, and acknowledgements make room for more."""

    def __init__(self, load: Load) -> None:
        self._load = load
        start_ns = time.time_ns() - load.frames * load.shape.times * STEP_NS
        self._connections = [
            Connection(
                f"{load.prefix}-{i:03}",
                load.peer,
                load.shape,
                encode_frames(load.shape, load.frames, start_ns=start_ns, seed=load.seed + i),
            )
            for i in range(load.devices)
        ]
        self._poll = select.epoll()
        self._by_fd = {c.socket.fileno(): (i, c) for i, c in enumerate(self._connections)}
        for fd in self._by_fd:
            self._poll.register(fd, select.EPOLLIN)
        self._blocked: set[int] = set()
        self._log: list[_Acked] = []
        self._lags_s: list[float] = []

    def run(self) -> Result:
        """Send every frame and wait for every acknowledgement."""
        started_s, cpu_s = time.monotonic(), time.process_time()
        if self._load.rate:
            self._paced(started_s)
        else:
            self._flood()
        ended_s, cpu_s = time.monotonic(), time.process_time() - cpu_s
        for connection in self._connections:
            connection.close()
        return Result(
            started_s,
            ended_s,
            cpu_s,
            sent=sum(c.sent for c in self._connections),
            acked=sum(c.acked for c in self._connections),
            latency_ms=_percentiles(self._latencies_s(started_s)),
            lag_ms=_percentiles(np.array(self._lags_s)),
        )

    def _flood(self) -> None:
        for fd in self._by_fd:
            self._send(fd, self._load.frames)
        reporter = _Reporter(self._connections)
        while not all(connection.is_complete for connection in self._connections):
            for fd, events in self._poll.poll(PROGRESS_SECONDS):
                if events & ~select.EPOLLOUT:
                    self._by_fd[fd][1].receive()
                self._send(fd, self._load.frames)
            reporter.report(time.monotonic())

    def _paced(self, started_s: float) -> None:
        """Send frame k of the whole load from device k mod n when it is due at k / rate, independent of the hub."""
        devices, rate = self._load.devices, self._load.rate
        total = devices * self._load.frames
        reporter = _Reporter(self._connections)
        due = 0
        while not all(connection.is_complete for connection in self._connections):
            now_s = time.monotonic()
            before, due = due, min(total, int((now_s - started_s) * rate) + 1)
            if due > before:
                self._lags_s.append(now_s - started_s - before / rate)
                for fd, (i, _) in self._by_fd.items():
                    self._send(fd, (due - i + devices - 1) // devices)
            for fd, events in self._poll.poll(TICK_SECONDS):
                i, connection = self._by_fd[fd]
                before_acked = connection.acked
                if events & ~select.EPOLLOUT and connection.receive():
                    self._log.append(_Acked(i, before_acked, connection.acked, time.monotonic()))
                # An acknowledgement also makes room in a window that was full.
                self._send(fd, (due - i + devices - 1) // devices)
            reporter.report(now_s)

    def _send(self, fd: int, up_to: int) -> None:
        blocked = not self._by_fd[fd][1].send(up_to)
        if blocked is not (fd in self._blocked):
            self._poll.modify(fd, select.EPOLLIN | (select.EPOLLOUT if blocked else 0))
            (self._blocked.add if blocked else self._blocked.discard)(fd)

    def _latencies_s(self, started_s: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        devices, rate = self._load.devices, self._load.rate
        parts = [
            acked.at_s - started_s - (np.arange(acked.first, acked.last) * devices + acked.device) / rate
            for acked in self._log
        ]
        return np.concatenate(parts) if parts else np.empty(0)


class _Reporter:
    """Writer of regular progress lines; it gives up on a hub that no longer acknowledges."""

    def __init__(self, connections: list[Connection]) -> None:
        self._connections = connections
        self._next_s = self._moved_s = time.monotonic()
        self._acked = -1

    def report(self, now_s: float) -> None:
        if now_s < self._next_s:
            return
        self._next_s = now_s + PROGRESS_SECONDS
        acked = sum(c.acked for c in self._connections)
        if acked > self._acked:
            self._acked, self._moved_s = acked, now_s
        elif now_s - self._moved_s > STALL_SECONDS:
            raise GeneratorError(f"nothing was acknowledged for {STALL_SECONDS:.0f} s, {acked} frames before that")
        write_line(Progress(acked))


def _percentiles(seconds: np.ndarray[tuple[int], np.dtype[np.float64]]) -> dict[str, float]:
    if not len(seconds):
        return {}
    values = np.percentile(seconds, [50, 99, 99.9, 100]) * 1000
    return {name: round(float(value), 3) for name, value in zip(("p50", "p99", "p99.9", "max"), values, strict=True)}


def write_line(line: Line) -> None:
    """Write one line to the process that started this one."""
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run one load and end."""
    load = msgspec.json.decode(sys.stdin.readline(), type=Load)
    os.sched_setaffinity(0, {load.core})
    try:
        generator = Generator(load)
        # The frames are complete: nothing that is alive now becomes garbage later, and a collection would be a pause.
        gc.collect()
        gc.freeze()
        write_line(Ready(frame_bytes(load)))
        sys.stdin.readline()
        write_line(generator.run())
    except (GeneratorError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def frame_bytes(load: Load) -> int:
    """Return the length of each frame of the load."""
    sample: Frames = encode_frames(load.shape, 1, start_ns=time.time_ns(), seed=0)
    return sample.frame_bytes


if __name__ == "__main__":
    sys.exit(main())
