"""A real hub in a process of its own, on one core: started, queried, measured and stopped from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

import msgspec
import psutil

COMMAND = (sys.executable, "-c", "from hub.cli import main; main()")
"""Command of the installed `hub` script; it also works where nothing is installed."""
START_SECONDS = 30.0
STOP_SECONDS = 60.0
"""Time limit of an orderly stop, which lets the store catch up. After it the process is killed and the row fails."""
LISTENING = "listening on "


SLOW_DISK_SOURCE = Path(__file__).with_name("slow_disk.c")


class NoCompiler(Exception):
    """There is no C compiler to build the slower disk."""


def slow_disk(directory: Path, delay_ms: float) -> dict[str, str]:
    """Return the environment of a program whose every fsync takes this much longer, for the files of SQLite and DuckDB.

    `directory` is where the library is built. Raise NoCompiler.
    """
    library = directory / "slow_disk.so"
    command = ["cc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(library), str(SLOW_DISK_SOURCE), "-ldl"]
    directory.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(command, check=True)
    except FileNotFoundError:
        raise NoCompiler("a slower disk needs a C compiler: install gcc") from None
    return {"LD_PRELOAD": str(library.resolve()), "FSYNC_DELAY_US": str(round(delay_ms * 1000))}


class HubError(Exception):
    """The hub did not start, did not answer or did not stop in order."""


class JournalPosition(msgspec.Struct, frozen=True):
    """Newest offset of the journal, as /api/v1/flow reports it."""

    last_offset: int


class ConsumerPosition(msgspec.Struct, frozen=True):
    """Position of a journal consumer."""

    name: str
    offset: int


class DeviceAccounting(msgspec.Struct, frozen=True):
    """Counts of one device; `accepted` and `stored` are readings."""

    device: str
    accepted: int
    stored: int | None
    duplicate_batches: int
    quarantined_batches: int
    lost_batches: int


class Accounting(msgspec.Struct, frozen=True):
    """The part of /api/v1/flow that the rows are checked against."""

    journal: JournalPosition
    consumers: list[ConsumerPosition]
    devices: list[DeviceAccounting]

    @property
    def behind(self) -> int:
        """Return the number of journal entries that the slowest consumer has not handled."""
        return max((self.journal.last_offset - consumer.offset for consumer in self.consumers), default=0)


class HubProcess:
    """A running hub and the queries that a row sends to it."""

    def __init__(self, process: subprocess.Popen[str], data: Path, url: str, core: int) -> None:
        self.url = url
        self.host = urlsplit(url).hostname or ""
        self.port = urlsplit(url).port or 0
        self._data = data
        self._core = core
        self._process = psutil.Process(process.pid)
        self._admin = self.token("admin")

    def token(self, role: str) -> str:
        """Return a new token of this role for every device."""
        devices = ("--devices", "*") if role == "gateway" else ()
        made = subprocess.run(
            [*COMMAND, "token", "create", "--data", str(self._data), "--role", role, *devices],
            capture_output=True,
            text=True,
            check=False,
            timeout=START_SECONDS,
        )
        if made.returncode:
            raise HubError(f"`hub token create` failed: {made.stderr.strip()}")
        return made.stdout.strip()

    def accounting(self) -> Accounting:
        """Return the current counts of the hub."""
        request = urllib.request.Request(f"{self.url}/api/v1/flow", headers={"Authorization": f"Bearer {self._admin}"})
        with urllib.request.urlopen(request, timeout=START_SECONDS) as answer:
            return msgspec.json.decode(answer.read(), type=Accounting)

    def cpu_s(self) -> float:
        """Return the processor time of all threads in seconds."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def core_busy_s(self) -> float:
        """Return the seconds in which the hub's core was busy with anything, or was taken away from this machine."""
        times = psutil.cpu_times(percpu=True)[self._core]
        return float(sum(times) - times.idle - times.iowait)

    def memory_bytes(self) -> int:
        """Return the memory that belongs to the hub alone (USS)."""
        return int(self._process.memory_full_info().uss)


@contextmanager
def running_hub(
    data: Path, *, core: int, launcher: Sequence[str] = COMMAND, environment: Mapping[str, str] = MappingProxyType({})
) -> Iterator[HubProcess]:
    """Run a hub on a free port of 127.0.0.1 with its data in `data`, pinned to `core`; stop it in order at the end.

    `environment` holds further settings.
    """
    log = data.with_suffix(".log")
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [*launcher, "run", "--data", str(data), "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **environment},
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        ) as process,
    ):
        try:
            yield HubProcess(process, data, _listening_url(process, log), core)
            process.terminate()
            try:
                code = process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                raise HubError(f"the hub did not stop within {STOP_SECONDS:.0f} s: {_tail(log)}") from None
            if code:
                raise HubError(f"the hub ended with {code}: {_tail(log)}")
        finally:
            if process.poll() is None:
                process.kill()


def _listening_url(process: subprocess.Popen[str], log: Path) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if LISTENING not in line:
        process.wait(STOP_SECONDS)
        raise HubError(f"the hub did not start: {line.strip()} {_tail(log)}")
    return line[line.index(LISTENING) + len(LISTENING) :].split()[0]


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-500:].strip()
