"""Connection of a hub and a broker: TLS, the hub's status, shared subscriptions, presence."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from bench.mqtt_frames import Published
from tests.end_to_end.bridged_hub import bridge_when, bridged_hub, connected, publish, stored_readings, when_handled
from tests.end_to_end.mqtt_peers import Publisher, Subscriber
from tests.services.mosquitto import Mosquitto, make_certificates

VALUES = 'subscribe = [{ topic = "sensors/{device}/{metric}", payload = "value" }]'
MESSAGES = 200


async def test_tls_with_certificates_of_both_sides(mosquitto_program: Path, tmp_path: Path) -> None:
    """TLS with certificates of both sides works in both directions; a broker of another authority is reported and gets
    nothing."""
    made = make_certificates(tmp_path / "certificates")
    other = make_certificates(tmp_path / "others")
    own = f'tls_certificate = "{made.client_certificate}"\ntls_key = "{made.client_key}"\n{VALUES}\n'
    out = 'publish = [{ topic = "out/{device}/{metric}" }]'
    with Mosquitto(mosquitto_program, tmp_path / "broker", certificates=made) as broker:
        async with bridged_hub(tmp_path / "a", broker, f'tls_ca = "{made.authority}"\n{own}{out}') as hub:
            await connected(hub)
            state = await bridge_when(hub, lambda bridge: bridge["outward"] is not None)
            assert (state["version"], state["address"]) == ("5", broker.url)
        async with bridged_hub(tmp_path / "b", broker, f'tls_ca = "{other.authority}"\n{own}') as hub:
            state = await bridge_when(hub, lambda bridge: bridge["last_error"] is not None)
            assert "certificate is not trusted" in state["last_error"]
            assert state["phase"] == "waiting"


async def test_the_broker_has_the_status_of_the_hub(mosquitto_program: Path, tmp_path: Path) -> None:
    """The status is online while the hub is connected, and offline after it has stopped or was killed."""
    statuses: list[bytes] = []

    def take(message: Published) -> None:
        statuses.append(message.payload)

    with Mosquitto(mosquitto_program, tmp_path / "broker") as broker:
        async with Subscriber(broker.port, "watcher", "hub-7/status", take) as watcher:
            rest = f'client_id = "hub-7"\n{VALUES}'
            async with bridged_hub(tmp_path, broker, rest) as hub:
                await watcher.until(lambda: len(statuses) == 1)
                await hub.kill()
                await watcher.until(lambda: len(statuses) == 2)
                await hub.start()
                await watcher.until(lambda: len(statuses) == 3)
            await watcher.until(lambda: len(statuses) == 4)
    assert statuses == [b"online", b"offline", b"online", b"offline"]


async def test_a_rejected_publication_is_reported(mosquitto_program: Path, tmp_path: Path) -> None:
    """Rejected readings are skipped, so that others follow. /ready and the page report it until the next connection."""
    access = tmp_path / "access"
    access.write_text("topic readwrite hub-7/status\ntopic readwrite $SYS/#\npattern read #\ntopic write in/#\n")
    access.chmod(0o600)
    rest = 'client_id = "hub-7"\nsubscribe = [{ topic = "in/{device}/{metric}", payload = "value" }]\n'
    out = '[[mqtt]]\nname = "out"\nurl = "URL"\nclient_id = "hub-8"\nwill_topic = ""\n'
    out += 'publish = [{ topic = "out/{device}/{metric}" }]'
    settings = [f"acl_file {access}"]
    with (
        Mosquitto(mosquitto_program, tmp_path / "other") as other,
        Mosquitto(mosquitto_program, tmp_path / "broker", settings=settings) as broker,
    ):
        async with bridged_hub(tmp_path / "a", other, f"{rest}{out}".replace("URL", broker.url)) as hub:
            await connected(hub)
            await asyncio.to_thread(publish, other, [("in/d/level", "1")])
            while True:
                bridge = (await hub.get("/api/v1/mqtt"))["bridges"][1]
                if bridge["outward"]["refused"]:
                    break
            assert "this user may not publish there" in bridge["last_error"]
            assert bridge["phase"] == "connected"
            ready = await hub.get("/ready")
            assert (ready["ready"], ready["warnings"]) == (True, {"mqtt:out": bridge["last_error"]})


async def test_hubs_of_a_group_share_the_messages(mosquitto_program: Path, tmp_path: Path) -> None:
    """Each message goes to one hub of the group; together they have all."""
    with Mosquitto(mosquitto_program, tmp_path / "broker") as broker:
        rest = f'share = "hubs"\n{VALUES}'
        async with (
            bridged_hub(tmp_path / "a", broker, rest) as first,
            bridged_hub(tmp_path / "b", broker, rest) as second,
        ):
            await asyncio.gather(connected(first), connected(second))
            messages = [(f"sensors/d{n % 10}/level", f"{n}") for n in range(MESSAGES)]
            await asyncio.to_thread(publish, broker, messages)
            while True:
                counts = [await stored_readings(hub) for hub in (first, second)]
                if sum(counts) >= MESSAGES:
                    break
            assert sum(counts) == MESSAGES
            assert min(counts) > 0


async def test_a_presence_message_of_a_preset_sets_the_devices_state(mosquitto_program: Path, tmp_path: Path) -> None:
    """A presence message of zigbee2mqtt sets the device's state."""
    with Mosquitto(mosquitto_program, tmp_path / "broker") as broker:
        async with bridged_hub(tmp_path, broker, 'presets = ["zigbee2mqtt"]') as hub:
            await connected(hub)

            await asyncio.to_thread(publish, broker, [("zigbee2mqtt/lamp", '{"brightness": 7}')])
            await when_handled(hub, 1)
            for online in (True, False, True):
                presence = json.dumps({"state": "online" if online else "offline"})
                await asyncio.to_thread(publish, broker, [("zigbee2mqtt/lamp/availability", presence)])
                while True:
                    if (await hub.get("/api/v1/devices/lamp"))["connected"] is online:
                        break


async def test_messages_wait_at_the_broker_while_the_hub_is_stopped(mosquitto_program: Path, tmp_path: Path) -> None:
    """The broker keeps the session of a stopped hub, which stores the messages when it is back."""
    with Mosquitto(mosquitto_program, tmp_path / "broker") as broker:
        async with bridged_hub(tmp_path, broker, VALUES) as hub:
            await connected(hub)
            assert await hub.stop() == 0
            async with Publisher(broker.port, "publisher") as publisher:
                for n in range(MESSAGES):
                    publisher.publish(f"sensors/d{n % 10}/level", f"{n}".encode())
                await publisher.drain()
            await hub.start()
            await when_handled(hub, MESSAGES)
            assert await stored_readings(hub) == MESSAGES
