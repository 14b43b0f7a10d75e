"""A device that measures how long the hub takes to acknowledge, and programs that keep the hub busy meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import statistics
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.end_to_end.hub import Hub
from tests.end_to_end.raw_agent import RawAgent, connect_agent, data, hello

INTERVAL_S = 0.01
"""Time between two batches. They are sent at fixed times, also while others wait: a hub that stops for a second delays
a hundred of them."""

FLOOR_S = 0.025
"""Latency that proves nothing: twice the time of a commit on a slow disk (5 ms), the turns of four connections that
flood (2 ms each), and those of other programs on the witness's core (4 ms each)."""

MEASURED_S = 1.0
ATTEMPTS = 7
"""Rounds at most. Two suffice on a quiet machine; other tests on the same disk and processors disturb single ones."""

MIN_WITHIN = 2

MAX_PROCESSOR = 0.5
"""Share of a core for a flood: a tenth for its frames and requests, and what the system needs for its connections."""

FLOOD = Path(__file__).with_name("flood.py")
RAW_TLS = Path(__file__).parents[1] / "raw_tls.py"


class Latencies(NamedTuple):
    """Time from sending each batch to its acknowledgement, in seconds.

    The time in which the hub waited for a processor is not counted: other programs took it. A sample is never shorter
    than the fastest one as it was measured, which is the time of a commit.
    """

    samples: list[float]

    @property
    def p99(self) -> float:
        return sorted(self.samples)[len(self.samples) * 99 // 100]

    def __str__(self) -> str:
        ordered = sorted(self.samples)
        p50, p99, longest = (1000 * value for value in (ordered[len(ordered) // 2], self.p99, ordered[-1]))
        return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {longest:.1f} ms"


class Witness:
    """A device with a connection of its own."""

    def __init__(self, agent: RawAgent, seq: int, hub: Hub) -> None:
        self._agent = agent
        self._seq = seq
        self._hub = hub

    async def measure(self, seconds: float) -> Latencies:
        """Send a batch of one reading in each interval, and return when all are acknowledged."""
        loop = asyncio.get_running_loop()
        first = self._seq + 1
        sent: list[tuple[float, float]] = []
        samples: list[float] = []
        fastest_s = float("inf")
        count = int(seconds / INTERVAL_S)

        async def send() -> None:
            start = loop.time()
            for number in range(count):
                await asyncio.sleep(start + number * INTERVAL_S - loop.time())
                self._seq += 1
                sent.append((loop.time(), self._waited_s()))
                await self._agent.send(json.dumps(data(self._seq)))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(send())
            while len(samples) < count:
                message = await self._agent.receive()
                assert message["type"] == "ack", message
                now, waited_s = loop.time(), self._waited_s()
                for at, waited_before_s in sent[len(samples) : message["seq"] - first + 1]:
                    fastest_s = min(fastest_s, now - at)
                    samples.append(now - at - (waited_s - waited_before_s))
        return Latencies([max(fastest_s, sample) for sample in samples])

    def _waited_s(self) -> float:
        return waited_for_processor_s(self._hub.pid)


@contextlib.asynccontextmanager
async def open_witness(hub: Hub, device: str = "witness") -> AsyncIterator[Witness]:
    """Connect a device; the hub and everything else get a core each if there are two."""
    agent = await connect_agent(hub, await hub.token("device", "--device", device))
    await agent.send(hello(device, epoch=secrets.token_hex(8), next_seq=1))
    welcome = await agent.receive()
    assert welcome["type"] == "welcome", welcome
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        for thread in Path(f"/proc/{hub.pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), cores[:1])
    try:
        yield Witness(agent, int(welcome["acked"]), hub)
    finally:
        await agent.ws.close()


def waited_for_processor_s(pid: int) -> float:
    """Return the time in which the main thread of a process could run, and the kernel ran others (schedstat)."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def processor_s(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.asynccontextmanager
async def flooding(hub: Hub, prefix: bytes, repeated: bytes, *, connections: int = 4) -> AsyncIterator[None]:
    """Run a process that opens connections, sends the prefix, then the rest again and again, as fast as the hub reads.

    It opens a new connection for each that the hub closes.
    """
    host, _, port = hub.url.partition("://")[2].rpartition(":")
    async with _running(str(FLOOD), host, port, str(connections), prefix.hex(), repeated.hex()):
        yield


@contextlib.asynccontextmanager
async def busy_processor() -> AsyncIterator[None]:
    """Run a process that is as busy as a flood and leaves the hub alone."""
    async with _running("-c", "print(flush=True)\nwhile True: pass"):
        yield


@contextlib.asynccontextmanager
async def _running(*arguments: str) -> AsyncIterator[None]:
    # In a session of its own, so that Linux does not give it a part of this session's share of the processor.
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(process.pid, cores[1:])
    assert process.stdout is not None
    try:
        # The first line says that it has begun.
        assert await process.stdout.readline()
        yield
        assert process.returncode is None, "the process has ended"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class Measurement(NamedTuple):
    """Latencies of a device, and the share of a core that the hub used meanwhile."""

    latencies: Latencies
    processor: float

    def __str__(self) -> str:
        return f"{self.latencies}, processor {self.processor:.0%}"


Load = contextlib.AbstractAsyncContextManager[None]
"""Keeps the hub, or another processor, busy while it is open."""


async def check_not_delayed(hub: Hub, floods: Mapping[str, Callable[[], Load]], *, max_processor: float = 1.0) -> None:
    """Check that each flood costs little, compared with a quiet time of the same run.

    A device's p99 is at most twice the quiet one, and the hub uses at most `max_processor` of a core more.

    In the quiet times a process keeps the other core as busy as a flood does, since the machine may have only two. A
    slow disk or another program delays any measurement now and then, so most of the measurements have to be within the
    bounds, and those of the longest quiet time count. A flood that is not within them is measured again.
    """
    quiets: list[Measurement] = []
    flooded: dict[str, list[Measurement]] = {name: [] for name in floods}
    async with open_witness(hub) as witness:

        async def measure(load: Load) -> Measurement:
            async with load:
                begin_s = processor_s(hub.pid)
                latencies = await witness.measure(MEASURED_S)
                return Measurement(latencies, (processor_s(hub.pid) - begin_s) / MEASURED_S)

        while len(quiets) < ATTEMPTS:
            quiets.append(await measure(busy_processor()))
            again = [name for name in floods if excess(quiets, flooded[name], max_processor)]
            if not again:
                break
            for name in again:
                flooded[name].append(await measure(floods[name]()))
    for name, found in flooded.items():
        report = f"{name}: quiet: {'; '.join(map(str, quiets))}. Flooded: {'; '.join(map(str, found))}"
        print(report)
        assert not excess(quiets, found, max_processor), report


def excess(quiets: Sequence[Measurement], flooded: Sequence[Measurement], max_processor: float) -> list[str]:
    """Return what is not within its bound in most of the measurements, and in MIN_WITHIN of them."""
    p99_s = max(2 * max(quiet.latencies.p99 for quiet in quiets), FLOOR_S)
    processor = statistics.median(quiet.processor for quiet in quiets) + max_processor
    within = {
        "p99": sum(found.latencies.p99 <= p99_s for found in flooded),
        "processor": sum(found.processor <= processor for found in flooded),
    }
    return [name for name, count in within.items() if count < MIN_WITHIN or 2 * count <= len(flooded)]


CHURN = """
import socket, ssl, struct, sys
address, sent, uses_tls = (sys.argv[1], int(sys.argv[2])), bytes.fromhex(sys.argv[3]), sys.argv[4] == "tls"
context = ssl._create_unverified_context()
print(flush=True)
while True:
    connection = socket.socket()
    try:
        connection.settimeout(5)
        connection.connect(address)
        if uses_tls:
            connection = context.wrap_socket(connection)
        connection.send(sent)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        pass
    connection.close()
"""
"""A program that connects, with a TLS handshake on request, sends, and resets the connection, without a pause."""


@contextlib.asynccontextmanager
async def churning(hub: Hub, sent: bytes, *, uses_tls: bool = False) -> AsyncIterator[None]:
    """Run a process that opens and resets connections as fast as the hub's machine accepts them."""
    host, _, port = hub.url.partition("://")[2].rpartition(":")
    async with _running("-c", CHURN, host, port, sent.hex(), "tls" if uses_tls else "plain"):
        yield


@contextlib.asynccontextmanager
async def flooding_with_records(hub: Hub, kind: str) -> AsyncIterator[None]:
    """Run a process that sends TLS records without data: `updates` of the key, alone or `mixed` with data."""
    host, _, port = hub.url.partition("://")[2].rpartition(":")
    async with _running(str(RAW_TLS), host, port, kind):
        yield
