"""Load of commands: a process with all devices, which answer at once, and the operators that send to them.

It reads one CommandLoad as JSON from standard input and writes JSON lines to standard output: `ready` when every device
is connected. For each line that it reads then, it runs once and writes one `result`; it ends with the input.
"""

from __future__ import annotations

import gc
import os
import random
import select
import socket
import sys
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import msgspec
import numpy as np

from bench.connection import RECEIVE_BYTES, Connection, GeneratorError, Peer
from bench.frames import NO_FRAMES, Shape
from wire.command import CommandDeclaration, CommandParameter

SHAPE = Shape(metrics=1, times=1, format="json")
COMMANDS = (CommandDeclaration("set_speed", parameters=[CommandParameter("speed", unit="m/s", min=0, max=30)]),)
CONNECTING = 32
"""Devices that connect at the same time: the hub writes the new ones of a moment in one transaction."""
SERVING_S = 0.05
"""Longest time until devices that are connected are served while others connect."""
STALL_SECONDS = 30.0
"""Time without an answer after which the hub counts as dead."""
END_OF_HEAD = b"\r\n\r\n"


class CommandLoad(msgspec.Struct, frozen=True):
    """Order to connect `devices` devices and to send commands to random ones, from each operator one after the other.

    `token` is that of the operators.
    """

    peer: Peer
    token: str
    devices: int
    operators: int
    commands: int
    core: int


class Connected(msgspec.Struct, frozen=True, tag="ready"):
    """Report that every device is connected."""

    connecting_s: float


class CommandResult(msgspec.Struct, frozen=True, tag="result"):
    """Result of one run. The round trip is the time from the request to the answer that contains the result."""

    seconds: float
    cpu_s: float
    succeeded: int
    round_trip_ms: dict[str, float]


CommandLine = Connected | CommandResult


class Operator:
    """Connection of an operator to the HTTP API: one command after the other, each waits for its result."""

    def __init__(self, load: CommandLoad, seed: int) -> None:
        self._load = load
        self._random = random.Random(seed)
        self.socket = socket.create_connection((load.peer.host, load.peer.port), STALL_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""
        self._sent_s = 0.0
        self.round_trip_s = 0.0

    def send(self) -> None:
        """Send a command to a random device."""
        device = device_name(self._random.randrange(self._load.devices))
        body = msgspec.json.encode(
            {"name": "set_speed", "parameters": {"speed": round(self._random.uniform(0, 30), 2)}, "wait_s": 20}
        )
        head = (
            f"POST /api/v1/devices/{device}/commands HTTP/1.1\r\nHost: {self._load.peer.host}\r\n"
            f"Authorization: Bearer {self._load.token}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self._sent_s = time.perf_counter()
        self.socket.sendall(head.encode() + body)

    def receive(self) -> bool:
        """Read what arrived. Return whether the answer is complete; raise GeneratorError for a command that did not
        succeed."""
        arrived = self.socket.recv(RECEIVE_BYTES)
        if not arrived:
            raise GeneratorError("the hub closed the connection of an operator")
        self._received += arrived
        head, end, body = self._received.partition(END_OF_HEAD)
        if not end or len(body) < content_length(head):
            return False
        self.round_trip_s = time.perf_counter() - self._sent_s
        self._received = b""
        if not head.startswith(b"HTTP/1.1 201") or b'"state":"succeeded"' not in body:
            raise GeneratorError(f"the hub answered: {head.decode()} {body.decode()[:500]}")
        return True


def content_length(head: bytes) -> int:
    """Return the length of the body of an HTTP/1.1 answer (RFC 9110, 8.6). Raise GeneratorError without one."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    raise GeneratorError("an answer has no length")


class CommandGenerator:
    """All devices and operators of a load, on one epoll loop."""

    def __init__(self, load: CommandLoad) -> None:
        self._load = load
        self._poll = select.epoll()
        self._by_fd: dict[int, Connection | Operator] = {}
        with ThreadPoolExecutor(CONNECTING) as pool:
            connecting = {pool.submit(self._connect, number) for number in range(load.devices)}
            while connecting:
                connected, connecting = wait(connecting, SERVING_S, FIRST_COMPLETED)
                for device in connected:
                    self._add(device.result())
                # Devices that are connected answer pings meanwhile.
                self._serve(0)
        self._operators = [Operator(load, seed) for seed in range(load.operators)]
        for operator in self._operators:
            self._add(operator)

    def _add(self, end: Connection | Operator) -> None:
        fd = end.socket.fileno()
        self._by_fd[fd] = end
        self._poll.register(fd, select.EPOLLIN)

    def _serve(self, timeout_s: float) -> list[Operator]:
        """Wait for something to arrive, and return the operators that have their answers."""
        answered = []
        for fd, _ in self._poll.poll(timeout_s):
            end = self._by_fd[fd]
            if isinstance(end, Operator):
                if end.receive():
                    answered.append(end)
            else:
                end.receive()
        return answered

    def _connect(self, number: int) -> Connection:
        return Connection(device_name(number), self._load.peer, SHAPE, NO_FRAMES, commands=COMMANDS)

    def run(self) -> CommandResult:
        """Send all commands and wait for their results."""
        started_s, cpu_s = time.perf_counter(), time.process_time()
        took_s: list[float] = []
        left = self._load.commands - len(self._operators)
        for operator in self._operators:
            operator.send()
        while len(took_s) < self._load.commands:
            before_s = time.perf_counter()
            for operator in self._serve(STALL_SECONDS):
                took_s.append(operator.round_trip_s)
                if left > 0:
                    operator.send()
                    left -= 1
            if time.perf_counter() - before_s >= STALL_SECONDS:
                raise GeneratorError(f"nothing arrived for {STALL_SECONDS:.0f} s, after {len(took_s)} commands")
        values = np.percentile(np.array(took_s) * 1000, [50, 99, 99.9, 100])
        return CommandResult(
            time.perf_counter() - started_s,
            time.process_time() - cpu_s,
            len(took_s),
            {name: round(float(value), 3) for name, value in zip(("p50", "p99", "p99.9", "max"), values, strict=True)},
        )

    def wait(self) -> bool:
        """Serve the devices until a line arrives on standard input; return False at its end."""
        while not select.select([sys.stdin], [], [], 0)[0]:
            self._serve(SERVING_S)
        return bool(sys.stdin.readline())

    def close(self) -> None:
        """Close every connection."""
        for end in self._by_fd.values():
            end.socket.close()


def device_name(number: int) -> str:
    """Return the id of a device of the load."""
    return f"pump-{number:05}"


def write_line(line: CommandLine) -> None:
    """Write one line to the process that started this one."""
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run one load as often as asked."""
    load = msgspec.json.decode(sys.stdin.readline(), type=CommandLoad)
    os.sched_setaffinity(0, {load.core})
    try:
        started_s = time.perf_counter()
        generator = CommandGenerator(load)
        # What is alive now stays alive, and a collection would be a pause.
        gc.collect()
        gc.freeze()
        write_line(Connected(time.perf_counter() - started_s))
        while generator.wait():
            write_line(generator.run())
        generator.close()
    except (GeneratorError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
