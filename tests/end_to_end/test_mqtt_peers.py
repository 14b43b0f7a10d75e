"""The MQTT ends that other tests use."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bench.mqtt_frames import Published
from tests.end_to_end.mqtt_peers import Publisher, Subscriber, forwarder_to
from tests.services.mosquitto import Mosquitto

MESSAGES = 3_000
FAULTS = 6


async def test_nothing_is_lost_between_the_ends(mosquitto_program: Path, tmp_path: Path) -> None:
    """Over a connection that is cut and a broker that is restarted, every message arrives, the first time in order."""
    came: list[int] = []

    def take(message: Published) -> None:
        if int(message.payload) not in seen:
            came.append(int(message.payload))
        seen.add(int(message.payload))

    seen: set[int] = set()
    with Mosquitto(mosquitto_program, tmp_path / "broker") as broker:
        async with (
            forwarder_to(broker.port) as forwarder,
            Subscriber(forwarder.port, "subscriber", "a/#", take) as subscriber,
            Publisher(forwarder.port, "publisher") as publisher,
        ):
            for fault in range(FAULTS):
                for number in range(MESSAGES * fault // FAULTS, MESSAGES * (fault + 1) // FAULTS):
                    publisher.publish("a/b", b"%d" % number)
                if fault % 2:
                    await forwarder.cut()
                else:
                    await asyncio.to_thread(broker.stop)
                    await asyncio.to_thread(broker.start)
            await publisher.drain()
            await subscriber.until(lambda: len(seen) == MESSAGES)
    assert publisher.repeated > 0
    assert sorted(came) == [*range(MESSAGES)]
