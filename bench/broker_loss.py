"""Command line `python -m bench.broker_loss`: counts the acknowledged messages that Mosquitto loses when it ends.

A subscriber with a persistent session disconnects. A publisher sends at QoS 1 until the broker has acknowledged every
message. The broker stops and starts again. The subscriber connects again and counts.
"""

from __future__ import annotations

import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench import mqtt_frames as mqtt
from bench.measure import Failure
from bench.mqtt_load import RECEIVE_BYTES, opened
from tests.services.found import MOSQUITTO, find_service
from tests.services.mosquitto import Mosquitto

MESSAGES = 20_000
IN_FLIGHT = 200
QUIET_SECONDS = 2.0
"""Silence after which the broker has no more messages; it sends what it has within milliseconds."""
SETTINGS: dict[str, Sequence[str]] = {
    "as installed (saves every 30 minutes)": (),
    "autosave_interval 1 (saves every second)": ("autosave_interval 1",),
    "autosave_on_changes, every 1,000 changes": ("autosave_on_changes true", "autosave_interval 1000"),
    "autosave_on_changes, every change": ("autosave_on_changes true", "autosave_interval 1"),
}
CHANGES_MESSAGES = 2_000
"""Messages for the setting that writes the whole database after every change."""


def lost(program: Path, settings: Sequence[str], *, kill: bool, messages: int) -> tuple[int, float]:
    """Return the number of acknowledged messages that never arrived, and the acknowledgements per second."""
    with (
        tempfile.TemporaryDirectory(prefix="broker-") as folder,
        Mosquitto(program, Path(folder), settings=settings) as broker,
    ):
        away = _subscriber(broker.port)
        away.sendall(mqtt.disconnect())
        away.close()
        per_s = _publish(broker.port, messages)
        with broker.down(kill=kill):
            pass
        came = _count(_subscriber(broker.port))
    return messages - came, per_s


def _subscriber(port: int) -> socket.socket:
    line = opened(port, mqtt.connect("away", clean=False))
    line.sendall(mqtt.subscribe(1, "loss/#", 1))
    return line


def _publish(port: int, messages: int) -> float:
    began_s = time.monotonic()
    with opened(port, mqtt.connect("publisher")) as line:
        sent = acked = odd = 0
        while acked < messages:
            most = min(messages, acked + IN_FLIGHT)
            line.sendall(
                b"".join(
                    mqtt.publish("loss/a", b"%d" % n, qos=1, packet_id=n % mqtt.MAX_PACKET_ID + 1)
                    for n in range(sent, most)
                )
            )
            sent = most
            if not (arrived := line.recv(RECEIVE_BYTES)):
                raise Failure("the broker closed the publisher's connection")
            acked, odd = acked + (odd + len(arrived)) // 4, (odd + len(arrived)) % 4
    return messages / (time.monotonic() - began_s)


def _count(line: socket.socket) -> int:
    seen: set[bytes] = set()
    buffer = b""
    line.settimeout(QUIET_SECONDS)
    with line:
        while True:
            try:
                buffer += line.recv(RECEIVE_BYTES)
            except TimeoutError:
                return len(seen)
            position = 0
            while (packet := mqtt.next_packet(buffer, position)) is not None:
                position = packet.end
                if packet.type == mqtt.PUBLISH:
                    message = mqtt.read_publish(buffer, packet)
                    seen.add(message.payload)
                    line.sendall(mqtt.puback(message.id))
            buffer = buffer[position:]


def main() -> int:
    """Print a line for each setting, once with SIGTERM and once with SIGKILL."""
    found = find_service(MOSQUITTO)
    if found.path is None:
        print(found.reason)
        return 1
    print(found.version)
    for name, settings in SETTINGS.items():
        messages = CHANGES_MESSAGES if name.endswith("every change") else MESSAGES
        for how, kill in (("SIGTERM", False), ("SIGKILL", True)):
            missing, per_s = lost(found.path, settings, kill=kill, messages=messages)
            print(f"{name}: {how}: {missing:,} of {messages:,} lost; {per_s:,.0f} acknowledged a second", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
