"""Both ends of MQTT for a benchmark row: a publisher of prepared messages and a subscriber that counts them.

Each is a process that reads its order as JSON from standard input, writes `ready` and then one result. The publisher
waits for a line before it begins. Both work on bytes: a client library would be slower than what is measured.
"""

from __future__ import annotations

import gc
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from bench import mqtt_frames as mqtt
from bench.measure import Failure

ROOT = Path(__file__).resolve().parent.parent
TOPIC = "bench-in"
DEVICES = 20
CONNECTIONS = 4
"""Connections of the publisher. A real fleet has more, but more would load the broker and not the programs that are
compared."""
IN_FLIGHT = 2_000
"""Messages of one connection that the broker has not acknowledged yet."""
SEND_BYTES = RECEIVE_BYTES = 256 * 1024
STEP_NS = 1_000_000
STALL_SECONDS = 60.0
"""Silence after which the other side counts as dead."""


class PublishOrder(msgspec.Struct, frozen=True, tag="publish"):
    """Order to publish `messages` messages of `readings` readings from each of DEVICES devices."""

    port: int
    prefix: str
    messages: int
    readings: int
    qos: int
    core: int


class SubscribeOrder(msgspec.Struct, frozen=True, tag="listen"):
    """Order to wait for `count` messages on `filter`; with `times` the result has the arrival of each."""

    port: int
    filter: str
    qos: int
    count: int
    core: int
    times: bool = False


class PublishResult(msgspec.Struct, frozen=True, tag="sent"):
    """Result of the publisher. Times are from the monotonic clock. At QoS 0 `acked` is what was written."""

    started_s: float
    ended_s: float
    cpu_s: float
    acked: int
    bytes: int


class SubscribeResult(msgspec.Struct, frozen=True, tag="heard"):
    """Messages by topic; `repeated` arrived a second time, `disordered` arrived after a later one of their topic."""

    ended_s: float
    cpu_s: float
    by_topic: dict[str, int]
    repeated: int
    disordered: int
    times_s: dict[str, list[float]]


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """Report that the process is connected and prepared."""


Order = PublishOrder | SubscribeOrder
Answer = Ready | PublishResult | SubscribeResult


def names(readings: int) -> list[str]:
    """Return the metrics of a message with this number of readings."""
    return [f"m{i:02}" for i in range(readings)]


def frames(order: PublishOrder, devices: range, start_ns: int) -> bytes:
    """Return all messages of these devices, in turn, as PUBLISH packets of one length with the ids 1, 2, 3, … 65535, 1,
    …"""
    # Fixed widths make every packet as long as the first.
    fields = ",".join(f'"{name}":%5.2f' for name in names(order.readings))
    template = f'{{"ts":%d,{fields}}}'
    made, packet_id = [], 0
    for k in range(order.messages):
        for device in devices:
            packet_id = packet_id % mqtt.MAX_PACKET_ID + 1
            # Two decimals that change randomly between 25 and 75, differently for each metric.
            values = [25 + (k * 7 + device * 131 + i * 17) % 5_000 / 100 for i in range(order.readings)]
            payload = (template % (start_ns + k * STEP_NS, *values)).encode()
            topic = f"{TOPIC}/{order.prefix}-{device:03}"
            made.append(mqtt.publish(topic, payload, qos=order.qos, packet_id=packet_id))
    return b"".join(made)


class Outbound:
    """One connection of the publisher."""

    def __init__(self, order: PublishOrder, devices: range, start_ns: int) -> None:
        self.socket = opened(order.port, mqtt.connect(f"{order.prefix}-{devices.start}"))
        self.data = memoryview(frames(order, devices, start_ns))
        self.count = order.messages * len(devices)
        self.acked = 0
        self._qos = order.qos
        self._frame_bytes = len(self.data) // self.count
        self._sent = 0
        self._odd = 0
        self.socket.setblocking(False)

    @property
    def is_complete(self) -> bool:
        return self.acked == self.count

    def send(self) -> bool:
        """Send what is allowed; return False to wait until writable."""
        most = self.count if not self._qos else min(self.count, self.acked + IN_FLIGHT)
        while self._sent < most * self._frame_bytes:
            try:
                self._sent += self.socket.send(
                    self.data[self._sent : min(self._sent + SEND_BYTES, most * self._frame_bytes)]
                )
            except BlockingIOError:
                return False
        if not self._qos:
            self.acked = self.count
        return True

    def receive(self) -> None:
        """Count the acknowledgements; only PUBACKs of four bytes arrive."""
        arrived = self.socket.recv(RECEIVE_BYTES)
        if not arrived:
            raise Failure("the broker closed a publisher's connection")
        self._odd += len(arrived)
        self.acked += self._odd // 4
        self._odd %= 4


def publish(order: PublishOrder) -> Iterator[Answer]:
    """Prepare every packet, report ready, and publish after a line arrives."""
    share = DEVICES // CONNECTIONS
    start_ns = time.time_ns() - order.messages * STEP_NS
    ends = [Outbound(order, range(i * share, (i + 1) * share), start_ns) for i in range(CONNECTIONS)]
    poll = select.epoll()
    by_fd = {end.socket.fileno(): end for end in ends}
    yield Ready()
    sys.stdin.readline()
    started_s, cpu_s = time.monotonic(), time.process_time()
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN | select.EPOLLOUT)
    while not all(end.is_complete for end in ends):
        events = poll.poll(STALL_SECONDS)
        if not events:
            raise Failure(f"the broker has acknowledged nothing for {STALL_SECONDS:.0f} s")
        for fd, event in events:
            end = by_fd[fd]
            if event & ~select.EPOLLOUT:
                end.receive()
            poll.modify(fd, select.EPOLLIN | (0 if end.send() else select.EPOLLOUT))
    ended_s, cpu_s = time.monotonic(), time.process_time() - cpu_s
    for end in ends:
        end.socket.setblocking(True)
        end.socket.sendall(mqtt.disconnect())
        end.socket.close()
    yield PublishResult(started_s, ended_s, cpu_s, sum(end.acked for end in ends), sum(len(end.data) for end in ends))


def listen(order: SubscribeOrder) -> Iterator[Answer]:
    """Subscribe, report ready, and read until every message has arrived."""
    line = opened(order.port, mqtt.connect(f"subscriber-{os.getpid()}", level=5))
    line.sendall(mqtt.subscribe(1, order.filter, order.qos, level=5))
    by_topic: dict[str, int] = {}
    last: dict[str, int] = {}
    times_s: dict[str, list[float]] = {}
    missing, repeated, disordered = order.count, 0, 0
    buffer = b""
    while (packet := mqtt.next_packet(buffer, 0)) is None:
        buffer += line.recv(RECEIVE_BYTES)
    if packet.type != mqtt.SUBACK:
        raise Failure("the broker did not take the subscription")
    buffer = buffer[packet.end :]
    yield Ready()
    cpu_s = time.process_time()
    line.settimeout(STALL_SECONDS)
    while missing > 0:
        arrived = line.recv(RECEIVE_BYTES)
        now_s = time.monotonic()
        if not arrived:
            raise Failure("the broker closed the subscriber's connection")
        buffer += arrived
        position, acks = 0, []
        while (packet := mqtt.next_packet(buffer, position)) is not None:
            position = packet.end
            if packet.type != mqtt.PUBLISH:
                continue
            message = mqtt.read_publish(buffer, packet, level=5)
            topic, seq = message.topic, int(message.properties["hub-seq"])
            if message.qos:
                acks.append(mqtt.puback(message.id))
            before = last.get(topic, 0)
            repeated += seq == before
            disordered += seq < before
            last[topic] = seq
            by_topic[topic] = by_topic.get(topic, 0) + 1
            if order.times:
                times_s.setdefault(topic, []).append(now_s)
            missing -= 1
        buffer = buffer[position:]
        if acks:
            line.sendall(b"".join(acks))
    yield SubscribeResult(time.monotonic(), time.process_time() - cpu_s, by_topic, repeated, disordered, times_s)


def opened(port: int, connect: bytes) -> socket.socket:
    """Return a connection that the broker has accepted."""
    line = socket.create_connection(("127.0.0.1", port), STALL_SECONDS)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    line.sendall(connect)
    buffer = b""
    while (packet := mqtt.next_packet(buffer, 0)) is None:
        if not (arrived := line.recv(RECEIVE_BYTES)):
            raise Failure("the broker closed the connection instead of accepting it")
        buffer += arrived
    if packet.type != mqtt.CONNACK or buffer[packet.start + 1]:
        raise Failure(f"the broker rejected the connection with code {buffer[packet.start + 1]}")
    return line


class Worker:
    """One of these processes, as the row sees it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Return the id of the process."""
        return self._process.pid

    def order(self, order: Order) -> None:
        """Send the order; return when the process is ready."""
        self._write(msgspec.json.encode(order).decode())
        self._answer()

    def go(self) -> None:
        """Let the publisher begin."""
        self._write("go")

    def sent(self) -> PublishResult:
        """Return the publisher's result when it ends."""
        answer = self._answer()
        assert isinstance(answer, PublishResult)
        return answer

    def heard(self) -> SubscribeResult:
        """Return the subscriber's result when the last message has arrived."""
        answer = self._answer()
        assert isinstance(answer, SubscribeResult)
        return answer

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _answer(self) -> Answer:
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        line = self._process.stdout.readline()
        if not line:
            raise Failure(f"an end of the load failed: {self._process.stderr.read()[-1000:].strip()}")
        answer: Answer = msgspec.json.decode(line, type=Answer)
        return answer


@contextmanager
def worker(order: Order) -> Iterator[Worker]:
    """Run a process that has this order and is ready."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.mqtt_load"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        try:
            started = Worker(process)
            started.order(order)
            yield started
        finally:
            process.kill()


def main() -> int:
    """Run one order and end."""
    order: Order = msgspec.json.decode(sys.stdin.readline(), type=Order)
    os.sched_setaffinity(0, {order.core})
    gc.disable()
    try:
        for answer in publish(order) if isinstance(order, PublishOrder) else listen(order):
            sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
            sys.stdout.flush()
    except (Failure, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
