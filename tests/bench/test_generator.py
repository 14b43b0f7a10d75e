from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from bench.connection import Peer
from bench.frames import Shape
from bench.generator import Line, Load, Progress, Ready, Result
from wire.codec import Format

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def peer(window: int) -> Iterator[Peer]:
    """Run the hub side of the protocol in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.peer", str(window)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Peer("127.0.0.1", int(process.stdout.readline()), "secret")
        finally:
            process.terminate()


def generate(load: Load) -> list[Line]:
    """Return everything that a generator with this load writes."""
    command = [sys.executable, "-m", "bench.generator"]
    finished = subprocess.run(
        command,
        cwd=ROOT,
        input=msgspec.json.encode(load).decode() + "\ngo\n",
        capture_output=True,
        text=True,
        check=True,
    )
    return [msgspec.json.decode(line, type=Line) for line in finished.stdout.splitlines()]


def a_load(peer: Peer, format: Format, *, rate: float = 0.0, frames: int = 300) -> Load:
    core = min(os.sched_getaffinity(0))
    return Load(peer, "d", 3, frames, Shape(metrics=2, times=4, format=format), rate=rate, seed=1, core=core)


@pytest.mark.parametrize("format", ["json", "msgpack"])
def test_a_flood_ends_when_everything_is_acknowledged(format: Format) -> None:
    """Each frame is sent and acknowledged within a small window, with time probes between the acknowledgements."""
    with peer(window=10) as hub:
        ready, *progress, result = generate(a_load(hub, format))
    assert isinstance(ready, Ready)
    assert all(isinstance(line, Progress) for line in progress)
    assert isinstance(result, Result)
    assert (result.sent, result.acked) == (900, 900)
    assert result.cpu_s > 0
    assert result.started_s < result.ended_s


def test_a_paced_load_takes_its_time_and_measures_every_frame() -> None:
    """No frame is sent before it is due, and latencies count from that moment."""
    with peer(window=1000) as hub:
        *_, result = generate(a_load(hub, "json", rate=1500.0))
    assert isinstance(result, Result)
    assert result.acked == 900
    assert result.ended_s - result.started_s >= 899 / 1500
    assert 0 <= result.latency_ms["p50"] <= result.latency_ms["p99"] <= result.latency_ms["max"]
    assert set(result.lag_ms) == set(result.latency_ms)


def test_a_paced_load_continues_after_the_window_was_full() -> None:
    """A rate above the window becomes latency, and every frame still arrives."""
    with peer(window=10) as hub:
        *_, result = generate(a_load(hub, "json", rate=1e6))
    assert isinstance(result, Result)
    assert result.acked == 900


def test_a_missing_hub_ends_the_generator() -> None:
    """A load that cannot run ends with an error that says why."""
    with peer(window=1) as hub:
        pass
    with pytest.raises(subprocess.CalledProcessError) as failed:
        generate(a_load(hub, "json"))
    assert "refused" in failed.value.stderr
