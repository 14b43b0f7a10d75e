"""A full disk under a bridge: unstored messages are not acknowledged, and the broker keeps them."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from tests.end_to_end.bridged_hub import START_NS, bridge_when, connected, publish, stored_readings
from tests.end_to_end.hub import running_hub
from tests.hub.storage.small_disk import SmallDisk
from tests.services.mosquitto import Mosquitto

DISK_BYTES = 256 << 20
LEFT_BYTES = 1 << 20
MESSAGES = 1_500
TEXT_BYTES = 20_000
"""Size of each message: together 30 MB, more than there is room for on the disk and in the hub's memory."""
AT_ONCE = 50
"""Messages that the broker may send ahead of their acknowledgement."""

SETTINGS = """
[[mqtt]]
url = "{url}"
receive_maximum = {at_once}
subscribe = [{{ topic = "machines/{{device}}", payload = "json" }}]
"""


def message(number: int) -> tuple[str, str]:
    text = f"{number} {os.urandom(TEXT_BYTES // 2).hex()}"
    return "machines/press", json.dumps({"ts": START_NS + number * 1_000_000, "speed": number, "text": text})


@pytest.mark.deadline(180)
async def test_a_full_disk_loses_no_message_and_the_bridge_resumes_by_itself(
    mosquitto_program: Path, tmp_path: Path
) -> None:
    """Without room the hub acknowledges nothing, so that the broker keeps most of the messages. With room again all of
    them are stored once."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    mount = tmp_path / "disk"
    mount.mkdir()
    disk = SmallDisk(mount, DISK_BYTES)
    settings = tmp_path / "hub.toml"
    try:
        with Mosquitto(mosquitto_program, tmp_path / "broker") as broker:
            settings.write_text(SETTINGS.format(url=broker.url, at_once=AT_ONCE))
            options = ["--config", str(settings)]
            async with running_hub(mount / "data", options=options, log=tmp_path / "hub.log") as hub:
                await connected(hub)
                await hub.admin()
                with disk.filled(leaving_bytes=LEFT_BYTES):
                    await asyncio.to_thread(publish, broker, [message(number) for number in range(MESSAGES)])
                    assert {"journal", "store"} & (await hub.in_trouble()).keys()
                    bridge = await bridge_when(
                        hub, lambda bridge: bridge["inward"]["received"] > bridge["inward"]["taken"]
                    )
                    inward = bridge["inward"]
                    assert inward["taken"] < MESSAGES
                    # Mosquitto 2.0.11 sends more ahead than AT_ONCE when other messages are acknowledged; then the hub
                    # reads until MAX_WAITING_BYTES wait.
                    assert inward["received"] < MESSAGES
                inward = (await bridge_when(hub, lambda bridge: bridge["inward"]["taken"] >= MESSAGES))["inward"]
                assert (inward["accepted"], inward["undecodable"]) == (2 * MESSAGES, 0)
                assert await stored_readings(hub) == 2 * MESSAGES
                assert await hub.problems() == {}
    finally:
        disk.unmount()
