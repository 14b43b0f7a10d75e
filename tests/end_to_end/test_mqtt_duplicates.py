"""A message is stored once, whatever the number of subscriptions, hubs and earlier settings."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tests.end_to_end.bridged_hub import bridge_when, bridged_hub, connected, publish, stored_readings, when_handled
from tests.end_to_end.hub import Hub
from tests.services.mosquitto import Mosquitto

MESSAGES = 50


async def test_a_message_of_several_subscriptions_is_stored_once(mosquitto_program: Path, tmp_path: Path) -> None:
    """Overlapping templates and presets: the broker delivers a copy for each, and one is stored."""
    templates = ", ".join(
        f'{{ topic = "{topic}", payload = "value", device = "{{device}}" }}'
        for topic in ("s/{device}/{metric}", "s/{device}/{metric#}", "{kind}/{device}/{metric}")
    )
    with Mosquitto(mosquitto_program, tmp_path / "broker") as broker:
        rest = f'subscribe = [{templates}]\npresets = ["shelly", "esphome"]'
        async with bridged_hub(tmp_path, broker, rest) as hub:
            await connected(hub)
            await asyncio.to_thread(publish, broker, [(f"s/d{n % 5}/level", f"{n}") for n in range(MESSAGES)])
            # This includes the hub's own status, which looks like a node's.
            inward = (await bridge_when(hub, lambda bridge: bridge["inward"]["taken"] > MESSAGES))["inward"]
            assert inward["taken"] == MESSAGES + 1
            inward = (await bridge_when(hub, lambda bridge: bridge["inward"]["received"] > 3 * MESSAGES))["inward"]
            assert (inward["copies"], inward["undecodable"]) == (2 * MESSAGES, 0)
            assert await stored_readings(hub) == MESSAGES


async def test_a_subscription_that_left_the_settings_is_cancelled(mosquitto_program: Path, tmp_path: Path) -> None:
    """The broker keeps a session with the old subscription: its messages are no failure, and the hub cancels it."""
    old, new = VALUES.replace("s/", "old/"), VALUES.replace("s/", "new/")
    with Mosquitto(mosquitto_program, tmp_path / "broker") as broker:
        async with bridged_hub(tmp_path, broker, f"{old}\nclient_id = 'hub'") as hub:
            await connected(hub)
            await asyncio.to_thread(publish, broker, [("old/d/level", "1")])
            await when_handled(hub, 1)
        async with bridged_hub(tmp_path, broker, f"{new}\nclient_id = 'hub'") as hub:
            await connected(hub)
            file = tmp_path / "data" / "mqtt-mqtt.json"
            await filters_in(file, ["new/+/+"])
            await asyncio.to_thread(publish, broker, [("old/d/level", "2"), ("new/d/level", "3")])
            inward = await when_handled(hub, 1)
            assert (inward["received"], inward["taken"]) == (1, 1)
            assert await stored_readings(hub) == 2


async def filters_in(file: Path, filters: list[str]) -> None:
    """Return when the file has these filters."""
    while json.loads(await asyncio.to_thread(file.read_bytes))["filters"] != filters:
        pass


async def test_waiting_messages_are_stored_although_the_settings_changed(
    mosquitto_program: Path, tmp_path: Path
) -> None:
    """A subscription precedes those that the messages waited for: no waiting message counts as a copy."""
    wide = '{ topic = "s/{device}/{metric#}", payload = "value" }'
    narrow = '{ topic = "s/{device}/{metric}", payload = "value" }'
    other = '{ topic = "{kind}/{device}/{metric}", payload = "value" }'
    with Mosquitto(mosquitto_program, tmp_path / "broker") as broker:

        def settings(*templates: str) -> str:
            return f"subscribe = [{', '.join(templates)}]\nclient_id = 'hub'"

        async with bridged_hub(tmp_path, broker, settings(wide, narrow)) as hub:
            await connected(hub)
        await asyncio.to_thread(publish, broker, [(f"s/d{n % 5}/level", f"{n}") for n in range(MESSAGES)])
        async with bridged_hub(tmp_path, broker, settings(other, wide, narrow)) as hub:
            await connected(hub)
            while await stored_readings(hub) < MESSAGES:
                pass
            assert (await bridge_when(hub, lambda bridge: True))["inward"]["undecodable"] == 0


async def test_a_long_description_arrives(mosquitto_program: Path, tmp_path: Path) -> None:
    """Zigbee2MQTT describes all of its devices in one retained message, megabytes for a large installation."""
    about = {"type": "numeric", "unit": "W", "access": 1, "description": "d" * 200}
    exposes = [{**about, "name": f"p{n}", "property": f"p{n}"} for n in range(40)]
    devices = [{"friendly_name": f"lamp{n}", "type": "Router", "definition": {"exposes": exposes}} for n in range(300)]
    description = json.dumps(devices)
    assert len(description) > 2_000_000
    with Mosquitto(mosquitto_program, tmp_path / "broker") as broker:
        await asyncio.to_thread(publish, broker, [("zigbee2mqtt/bridge/devices", description)], retain=True)
        async with bridged_hub(tmp_path, broker, 'presets = ["zigbee2mqtt"]') as hub:
            await connected(hub)
            await when_handled(hub, 1)
            metrics = (await hub.get("/api/v1/devices/lamp299"))["metrics"]
            assert {metric["unit"] for metric in metrics} == {"W"}


async def test_the_device_descriptions_of_a_preset_are_known_after_a_restart(
    mosquitto_program: Path, tmp_path: Path
) -> None:
    """The description is retained and arrives with each connection, so that an attribute is matched to its device."""
    about = {"friendly_name": "hall/plug", "type": "Router", "definition": {"exposes": []}}
    with Mosquitto(mosquitto_program, tmp_path / "broker") as broker:
        await asyncio.to_thread(publish, broker, [("zigbee2mqtt/bridge/devices", json.dumps([about]))], retain=True)
        async with bridged_hub(tmp_path, broker, 'presets = ["zigbee2mqtt"]') as hub:
            await when_handled(hub, 1)
            assert await hub.stop() == 0
            await hub.start()
            await when_handled(hub, 1)
            await asyncio.to_thread(publish, broker, [("zigbee2mqtt/hall/plug/power", "7")])
            assert (await when_handled(hub, 2))["undecodable"] == 0
            assert await stored_readings(hub) == 1


async def test_hubs_that_are_joined_by_two_brokers_form_no_loop(mosquitto_program: Path, tmp_path: Path) -> None:
    """Each hub subscribes to one broker and publishes to the other: what one publishes the other stores and does not
    return."""
    with Mosquitto(mosquitto_program, tmp_path / "x") as x, Mosquitto(mosquitto_program, tmp_path / "y") as y:

        def between(source: Mosquitto, target: Mosquitto) -> str:
            return (
                f'name = "in"\n{VALUES}\n[[mqtt]]\nname = "out"\nurl = "{target.url}"\n'
                'publish = [{ topic = "s/{device}/{metric}" }]'
            )

        async with (
            bridged_hub(tmp_path / "a", x, between(x, y)) as first,
            bridged_hub(tmp_path / "b", y, between(y, x)) as second,
        ):
            await asyncio.gather(both(first), both(second))
            await asyncio.to_thread(publish, x, [("s/d/level", "1")])
            await when_handled(second, 1)
            # Now the message would be on its way back. A message published after it shows that nothing arrived before.
            await asyncio.to_thread(publish, x, [("s/d/level", "2")])
            await when_handled(second, 2)
            assert (await when_handled(first, 2))["received"] == 2
            assert [await stored_readings(hub) for hub in (first, second)] == [2, 2]


VALUES = 'subscribe = [{ topic = "s/{device}/{metric}", payload = "value" }]'


async def both(hub: Hub) -> None:
    """Return when both bridges are connected."""
    while True:
        bridges = (await hub.get("/api/v1/mqtt"))["bridges"]
        if all(bridge["phase"] == "connected" for bridge in bridges):
            return
        await asyncio.sleep(0.05)
