"""A device that measures how long the hub takes to acknowledge, and programs that keep the hub busy meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import statistics
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple

from tests.end_to_end.hub import Hub
from tests.end_to_end.raw_agent import RawAgent, connect_agent, data, hello

INTERVAL_S = 0.01
"""Time between two batches. They are sent at fixed times, also while others wait: a hub that stops for a second delays
a hundred of them."""

FLOOR_S = 0.035
"""Latency that proves nothing: twice the time of a commit on a slow disk (5 ms), a body of 1,024 chunks that the hub
reads in one turn (15 ms), and the turns of other programs on the witness's core (4 ms each)."""

MEASURED_S = 2.0
ATTEMPTS = 3

MAX_PROCESSOR = 0.6
"""Share of a core: a tenth for the requests of the flood, and what its connections and the device itself take."""

MAX_CHURN_PROCESSOR = 0.75
"""The same with thousands of connections in a second, which the system opens and closes in the hub's time."""

FLOOD = Path(__file__).with_name("flood.py")


class Latencies(NamedTuple):
    """Time from sending each batch to its acknowledgement, in seconds.

    The time in which the hub waited for a processor is not counted: other programs took it. A sample is never shorter
    than the fastest one as it was measured, which is the time of a commit.
    """

    samples: list[float]

    @property
    def p99(self) -> float:
        return sorted(self.samples)[len(self.samples) * 99 // 100]

    def is_as_quiet_as(self, quiet: Latencies) -> bool:
        """Return whether the hub was not delayed, compared with a quiet time in the same run."""
        return self.p99 <= max(2 * quiet.p99, FLOOR_S)

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
        os.sched_setaffinity(hub.pid, cores[:1])
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


async def check_not_delayed(hub: Hub, prefix: bytes, repeated: bytes, *, connections: int = 4) -> None:
    """Check that a flood costs little: a device's p99 is at most twice that of a quiet time in the same run.

    The hub uses at most MAX_PROCESSOR of a core, for the flood and for the device.

    In the quiet times a process keeps the other core as busy as the flood does, since the machine may have only two. A
    slow disk or another program delays any measurement now and then, so the median of ATTEMPTS is compared with the
    longest quiet time.
    """
    async with open_witness(hub) as witness:
        await check_witness_not_delayed(hub, witness, lambda: flooding(hub, prefix, repeated, connections=connections))


async def check_witness_not_delayed(
    hub: Hub,
    witness: Witness,
    flood: Callable[[], contextlib.AbstractAsyncContextManager[None]],
    *,
    max_processor: float = MAX_PROCESSOR,
) -> None:
    """Check the same with any flood."""
    results, quiets, floods, shares = [], [], [], []
    for _ in range(ATTEMPTS):
        async with busy_processor():
            quiets.append(await witness.measure(MEASURED_S))
        async with flood():
            begin_s = processor_s(hub.pid)
            floods.append(await witness.measure(MEASURED_S))
            shares.append((processor_s(hub.pid) - begin_s) / MEASURED_S)
        results.append(f"quiet: {quiets[-1]}; flooded: {floods[-1]}, processor {shares[-1]:.0%}")
    print(*results, sep="\n")
    quiet_s = max(quiet.p99 for quiet in quiets)
    assert statistics.median(flooded.p99 for flooded in floods) <= max(2 * quiet_s, FLOOR_S), results
    assert statistics.median(shares) <= max_processor, results


CHURN = """
import socket, struct, sys
address, sent = (sys.argv[1], int(sys.argv[2])), bytes.fromhex(sys.argv[3])
print(flush=True)
while True:
    connection = socket.socket()
    try:
        connection.settimeout(5)
        connection.connect(address)
        connection.send(sent)
    except OSError:
        pass
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
"""
"""A program that connects, sends, and resets the connection, without a pause."""


@contextlib.asynccontextmanager
async def churning(hub: Hub, sent: bytes) -> AsyncIterator[None]:
    """Run a process that opens and resets connections as fast as the hub's machine accepts them."""
    host, _, port = hub.url.partition("://")[2].rpartition(":")
    async with _running("-c", CHURN, host, port, sent.hex()):
        yield
