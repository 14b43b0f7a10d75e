"""Commands to devices of a real broker: each preset sets and confirms, refuses, and is silent as documented."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.bridged_hub import bridged_hub, connected
from tests.end_to_end.command_devices import command_devices, declared, operator, sent
from tests.hub.mqtt.command_samples import FILES, read_command_samples
from tests.services.mosquitto import Mosquitto

SILENCE_S = 0.5
"""Time-out of the commands that no device answers."""


@pytest.mark.deadline(120)
async def test_the_documented_conversations_of_every_preset(mosquitto_program: Path, tmp_path: Path) -> None:
    """With all presets on one broker, each command ends as the answer of its device says."""
    samples = [read_command_samples(path) for path in FILES]
    presets = [file.preset for file in samples]
    with Mosquitto(mosquitto_program, tmp_path / "broker") as broker:
        async with (
            bridged_hub(tmp_path / "hub", broker, f"presets = {presets}\nallow_commands = true") as hub,
            command_devices(broker.port, samples) as devices,
            operator(hub) as client,
        ):
            await connected(hub)
            for file in samples:
                for device, usages in file.declared.items():
                    assert sorted(await declared(client, device, len(usages))) == sorted(usages)
                for exchange in file.exchanges:
                    devices.exchange = exchange
                    wanted = {"code": "", "message": "", "result": None, **exchange.ends}
                    timeout_s = SILENCE_S if wanted["state"] == "timed_out" else 30
                    row = await sent(
                        client, exchange.device, exchange.command, exchange.parameters, timeout_s=timeout_s
                    )
                    if wanted["state"] == "timed_out":
                        wanted["message"] = row["message"]
                    assert {name: row[name] for name in wanted} == wanted, exchange
            assert (await hub.get("/api/v1/quarantine"))["quarantine"] == []
