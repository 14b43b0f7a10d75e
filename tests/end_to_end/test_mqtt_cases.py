"""Messages that people reported as read wrong, through a real broker into a real hub, and what the check says of them.

Each case is an example of a class of fault. All are published to one hub.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import time
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from formats.names import legal_device
from hub.app.mqtt import broker_check
from hub.config.settings import load_settings
from hub.mqtt.check import BrokerCheck
from hub.mqtt.sparkplug.payload import COMPRESSED, PROTOBUF_PAYLOAD, DataType, SparkplugPayload, encode, metric
from tests.conditions import result_of, until
from tests.end_to_end.bridged_hub import bridge_when, bridged_hub, connected, publish
from tests.end_to_end.hub import Hub
from tests.end_to_end.mqtt_peers import Publisher
from tests.formats.reading_of import at
from tests.services.mosquitto import Mosquitto

SETTINGS = """
presets = ["zigbee2mqtt", "tasmota", "esphome", "shelly", "home_assistant", "the_things_stack"]
host_id = "hub1"
subscribe = [
  { topic = "v/{device}/{metric}", payload = "value" },
  { topic = "j/{device}", payload = "json" },
  { topic = "z/{device}", payload = "json", zone = "Europe/Berlin" },
  { topic = "id/{channel}", payload = "json", device = "{model}-{id}" },
  { topic = "l/{device}", payload = "line" },
  { topic = "rtl_433/+/events", payload = "rtl_433", zone = "Europe/Berlin" },
  { topic = "home/+/BTtoMQTT/#", payload = "rtl_433" },
  { topic = "vessels/#", payload = "signalk" },
  { topic = "any/{device}", payload = "auto" },
]
"""

CHECK_S = 6.0
"""Time that the check listens: longer than the cases need to be published."""

Message = tuple[str, bytes]


class Case(NamedTuple):
    """Messages, the last value of each metric by device, and the metrics with refused values by device."""

    name: str
    messages: Sequence[Message]
    latest: Mapping[str, Mapping[str, object]]
    refused: Mapping[str, frozenset[str]] = {}


def lines(text: str) -> list[Message]:
    r"""Return messages, one in each line: the topic, a space, and the payload, in which \0 and \n are written so."""
    messages = []
    for line in text.strip().splitlines():
        topic, _, payload = line.strip().partition(" ")
        messages.append((topic.replace("%20", " "), payload.replace(r"\0", "\0").replace(r"\n", "\n").encode()))
    return messages


def zigbee(*devices: tuple[str, list[dict[str, Any]]]) -> Message:
    """Return the description of devices with these values."""
    described = [
        {
            "type": "Router",
            "friendly_name": name,
            "definition": {"exposes": [{"access": 7, **expose} for expose in found]},
        }
        for name, found in devices
    ]
    return "zigbee2mqtt/bridge/devices", json.dumps(described).encode()


def compressed(seq: int, algorithm: str, *metrics: Any) -> bytes:
    """Return a Sparkplug payload whose body is compressed."""
    inner = encode(SparkplugPayload(time.time_ns() // 1_000_000, seq, metrics))
    body = gzip.compress(inner) if algorithm == "GZIP" else zlib.compress(inner)
    envelope = PROTOBUF_PAYLOAD(uuid=COMPRESSED, seq=seq, body=body)
    envelope.metrics.add(name="algorithm", datatype=DataType.STRING, string_value=algorithm)
    data: bytes = envelope.SerializeToString()
    return data


def births(node: str, algorithm: str) -> list[Message]:
    """Return the birth and the data of an edge node."""
    changed = metric(DataType.DOUBLE, 22.5, alias=1)._replace(datatype=None)
    return [
        (
            f"spBv1.0/G/NBIRTH/{node}",
            compressed(
                0, algorithm, metric(DataType.INT64, 0, name="bdSeq"),
                metric(DataType.DOUBLE, 21.5, name="temp", alias=1), metric(DataType.INT32, 7, name="count", alias=2),
            ),
        ),
        (f"spBv1.0/G/NDATA/{node}", compressed(1, algorithm, changed)),
    ]  # fmt: skip


BINARY = {"type": "binary", "value_on": True, "value_off": False}

CASES = [
    Case(
        "an enumeration with the values ON and OFF is text",
        [
            zigbee(
                (
                    "wallswitch",
                    [
                        {
                            "type": "switch",
                            "features": [{"type": "binary", "property": "state", "value_on": "ON", "access": 7}],
                        },
                        {"type": "enum", "property": "led_color", "values": ["ON", "OFF", "Blue"]},
                    ],
                ),
                (
                    "radar",
                    [
                        {**BINARY, "property": "presence"},
                        {"type": "numeric", "property": "target_distance", "unit": "m"},
                        {"type": "enum", "property": "status_indication", "values": ["OFF", "ON"]},
                    ],
                ),
                (
                    "mmwave",
                    [
                        {**BINARY, "property": "presence"},
                        {**BINARY, "property": "occupancy"},
                        {"type": "numeric", "property": "illuminance", "unit": "lx"},
                    ],
                ),
            ),
            *lines("""
                zigbee2mqtt/wallswitch {"state":"ON","led_color":"OFF"}
                zigbee2mqtt/radar {"presence":false,"target_distance":1.25,"status_indication":"OFF"}
                zigbee2mqtt/radar {"presence":true,"target_distance":2.25,"status_indication":"ON"}
            """),
        ],
        {
            "wallswitch": {"state": True, "led_color": "OFF"},
            "radar": {"presence": True, "target_distance": 2.25, "status_indication": "ON"},
        },
    ),
    Case(
        "a compressed payload of Sparkplug is opened",
        [*births("GZ", "GZIP"), *births("DF", "DEFLATE")],
        {"G.GZ": {"temp": 22.5, "count": 7}, "G.DF": {"temp": 22.5, "count": 7}},
    ),
    Case(
        "a word for no value never decides the type",
        lines("""
            v/boiler/t2 -nan
            v/boiler/t2 21.5
            v/boiler/t3 inf
            v/boiler/t3 21.5
            v/boiler/t4 None
            v/boiler/t4 21.5
            v/boiler/t5 unavailable
            v/boiler/t5 21.5
            v/boiler/t6 N/A
            v/boiler/t6 21.5
            homeassistant/sensor/outside/state nan
            homeassistant/sensor/outside/state 21.5
            j/words {"a":"--","b":4}
            j/words {"a":"#N/A","b":5}
            j/words {"a":21.6,"b":6}
        """),
        {
            "boiler": {"t2": 21.5, "t3": 21.5, "t4": 21.5, "t5": 21.5, "t6": 21.5},
            "sensor.outside": {"state": 21.5},
            "words": {"a": 21.6, "b": 6.0},
        },
    ),
    Case(
        "a value that is wrong does not cost its neighbours",
        lines(r"""
            zigbee2mqtt/mmwave {"presence":true,"occupancy":"true","illuminance":12}
            zigbee2mqtt/mmwave {"presence":false,"occupancy":"false","illuminance":13}
            zigbee2mqtt/mmwave {"presence":"sometimes","occupancy":true,"illuminance":14}
            tele/s1/SENSOR {"SI7021-00":{"Temperature":16.4,"Humidity":61.0},"SI7021-02":{"Temperature":nan}}
            l/multi m a=1 1795878000000000000\nm a=NaN 1795878001000000000\nm a=3 1795878002000000000
            l/half m a=1 1795878000000000000\nm a=one 1795878001000000000\nm a=4 1795878002000000000
        """),
        {
            "mmwave": {"presence": False, "occupancy": True, "illuminance": 14.0},
            "s1": {"SI7021-00.Temperature": 16.4, "SI7021-00.Humidity": 61.0},
            "multi": {"m.a": 3.0},
            "half": {"m.a": 4.0},
        },
        {"mmwave": frozenset({"presence"}), "half": frozenset({"m.a"})},
    ),
    Case(
        "a NUL behind a value or a JSON text is no part of it",
        lines(r"""
            v/users/users 12.5\0
            v/users/max 12.6
            j/embedded {"t":21.5}\0
        """),
        {"users": {"users": 12.5, "max": 12.6}, "embedded": {"t": 21.5}},
    ),
    Case(
        "a number in a text of JSON is a number",
        [
            *lines("""j/heating {"selFlowTemp":"47","outdoorTemp":"19.6","burnGas":"off"}"""),
            (
                "v3/app1@ttn/devices/soil/up",
                b'{"uplink_message":{"decoded_payload":{"BatV":3.1,"Hum_SHT":"41.5"},"received_at":"2026-11-28T15:00:05Z"}}',
            ),
        ],
        {
            "heating": {"selFlowTemp": 47.0, "outdoorTemp": 19.6, "burnGas": "off"},
            "soil": {"BatV": 3.1, "Hum_SHT": 41.5, "lora.f_cnt": 0.0},
        },
    ),
    Case(
        "a Shelly with a name or a prefix of its own is known",
        lines("""
            relay25a-70af/events/rpc {"method":"NotifyStatus","params":{"switch:0":{"apower":0,"output":false}}}
            relay25a-70af/online true
            relay25a-70af/online false
            pv2/online true
            pv1/status/switch:0 {"id":0,"output":true,"apower":120.0,"voltage":230.5}
            pv1/online true
        """),
        {
            "relay25a-70af": {"switch:0.apower": 0.0, "switch:0.output": False},
            "pv1": {"switch:0.output": True, "switch:0.apower": 120.0, "switch:0.voltage": 230.5},
        },
    ),
    Case(
        "the device can be named by fields of the payload",
        lines("""
            id/JSON {"model":"WH1080","id":144,"temperature_C":16.4,"humidity":35}
            id/JSON {"model":"Prologue-TH","id":9,"temperature_C":-3.2,"humidity":80}
        """),
        {
            "WH1080-144": {"temperature_C": 16.4, "humidity": 35.0},
            "Prologue-TH-9": {"temperature_C": -3.2, "humidity": 80.0},
        },
    ),
    Case(
        "a name with spaces or umlauts is repaired",
        lines("""
            v/Living%20Room/temperature 21.5
            v/Küche/temperature 19.5
        """),
        {legal_device("Living Room"): {"temperature": 21.5}, legal_device("Küche"): {"temperature": 19.5}},
    ),
    Case(
        "formats of gateways, and a detected one",
        lines(r"""
            rtl_433/attic/events {"model":"Nexus-TH","id":7,"channel":2,"mic":"CRC","temperature_C":16.5}
            home/OMG/BTtoMQTT/A4C138000001 {"id":"A4:C1:38:00:00:01","rssi":-80,"tempc":21.5,"hum":40}
            vessels/self {"context":"urn:mrn:imo:mmsi:234567890","updates":[{"values":[{"path":"a.b","value":3.5}]}]}
            any/logger temp=21.5 hum=40
            any/table a;b\n1,5;2\n
        """),
        {
            "Nexus-TH-7-2": {"temperature_C": 16.5},
            "A4C138000001": {"rssi": -80.0, "tempc": 21.5, "hum": 40.0},
            "234567890": {"a.b": 3.5},
            "logger": {"temp": 21.5, "hum": 40.0},
            "table": {"a": 1.5, "b": 2.0},
        },
    ),
    Case(
        "a local time has the zone of the subscription",
        lines("""
            z/rtl {"time":"2026-11-28 16:05:42","model":"WH1080","id":144,"temperature_C":16.4}
            j/rtl-utc {"time":"2026-11-28 16:05:42","temperature_C":16.4}
        """),
        {"rtl": {"model": "WH1080", "id": 144.0, "temperature_C": 16.4}, "rtl-utc": {"temperature_C": 16.4}},
    ),
]

MESSAGES = [message for case in CASES for message in case.messages]


def is_handled(inward: dict[str, int]) -> bool:
    """Return whether everything that arrived is durable, and all cases have arrived."""
    done = sum(inward[name] for name in ("taken", "undecodable", "retained", "own", "copies"))
    return inward["received"] == done >= len(MESSAGES)


@contextlib.asynccontextmanager
async def published_cases(broker: Mosquitto, hub: Hub) -> AsyncIterator[dict[tuple[str, str], Any]]:
    """Publish all cases and give the latest reading of each metric once all messages are handled."""
    await connected(hub)
    async with Publisher(broker.port, "cases") as publisher:
        for topic, payload in MESSAGES:
            publisher.publish(topic, payload)
        await publisher.drain()
    await bridge_when(hub, lambda bridge: is_handled(bridge["inward"]))
    await hub.settled()
    latest = (await hub.get("/api/v1/latest", limit=1000))["latest"]
    yield {(entry["device"], entry["metric"]): entry for entry in latest}


@contextlib.asynccontextmanager
async def running_check(config: Path) -> AsyncIterator[BrokerCheck]:
    """Run the check of the broker in the settings while the block publishes; it has ended after the block."""
    (settings,) = (loaded := load_settings(config)).mqtt
    async with broker_check(settings, zone=loaded.zone, data=loaded.data) as check:
        listening = asyncio.create_task(check.run(CHECK_S))
        # The broker's own version comes after the subscriptions.
        await until(lambda: check.broker)
        yield check
        await listening


def seen_by(check: BrokerCheck, case: Case) -> tuple[dict[str, dict[str, object]], dict[str, set[str]]]:
    """Return the readings of the devices of a case, and the metrics with refused values by device."""
    readings: dict[str, dict[str, object]] = {}
    refused: dict[str, set[str]] = {}
    topics = {topic for topic, _ in case.messages}
    for topic in [topic for topic in check.topic_report() if topic["topic"] in topics]:
        shapes: Any = topic["shapes"]
        newest: Any = topic["readings"]
        for reading in newest:
            readings.setdefault(reading["device"], {})[reading["metric"]] = reading["value"]
        for refusal in [refusal for shape in shapes for refusal in shape["refused"]]:
            refused.setdefault(refusal["device"], set()).add(refusal.get("metric", ""))
    return readings, refused


async def quarantine(hub: Hub) -> list[dict[str, Any]]:
    """Return the entries in quarantine."""
    entries: list[dict[str, Any]] = (await hub.get("/api/v1/quarantine"))["quarantine"]
    return entries


async def corrected(broker: Mosquitto, hub: Hub) -> None:
    """Correct the type of a metric whose first value was a text: the next value is stored by the new type."""
    for payload, stored in (("ERR", "ERR"), ("21.5", None), ("22.5", 22.5)):
        if stored == 22.5:
            client = httpx.AsyncClient(base_url=hub.url, headers={"Authorization": f"Bearer {await hub.admin()}"})
            async with client:
                reasons = {entry["offset"]: entry["code"] for entry in await quarantine(hub)}
                # The settings and types are the same: a retry leaves everything as it is.
                (await client.post("/api/v1/quarantine/retry", json={})).raise_for_status()
                assert {entry["offset"]: entry["code"] for entry in await quarantine(hub)} == reasons
                body = {"metric": "x", "type": "float"}
                (await client.patch("/api/v1/devices/late/metrics", json=body)).raise_for_status()
        await asyncio.to_thread(publish, broker, [("v/late/x", payload)])
        while stored is not None:
            (latest,) = (await hub.get("/api/v1/latest", device="late"))["latest"] or [None]
            if latest is not None and latest["latest"] and latest["latest"]["value"] == stored:
                break
            await asyncio.sleep(0.05)


async def retyped(broker: Mosquitto, hub: Hub) -> None:
    """Make a metric a text: the text that was refused as a number is accepted from quarantine."""
    await asyncio.to_thread(publish, broker, [("v/k1/n", "1.5"), ("v/k1/n", "idle")])

    async def refused() -> list[dict[str, Any]] | None:
        return [entry for entry in await quarantine(hub) if entry["device"] == "k1"] or None

    assert len(await result_of(refused)) == 1
    async with httpx.AsyncClient(base_url=hub.url, headers={"Authorization": f"Bearer {await hub.admin()}"}) as client:
        answer = await client.patch("/api/v1/devices/k1/metrics", json={"metric": "n", "type": "string"})
    retried = answer.raise_for_status().json()["retried"]
    assert (retried["accepted"], retried["readings"], retried["refused"]) == (1, 1, 0)
    assert await refused() is None


@pytest.mark.deadline(90)
async def test_reported_messages_are_stored_as_their_senders_mean_them(mosquitto_program: Path, tmp_path: Path) -> None:
    """Every value has its type, what is wrong is in quarantine by itself, and the check says the same."""
    with Mosquitto(mosquitto_program, tmp_path / "broker") as broker:
        async with (
            bridged_hub(tmp_path / "hub", broker, SETTINGS) as hub,
            running_check(tmp_path / "hub" / "hub.toml") as check,
            published_cases(broker, hub) as latest,
        ):
            for case in CASES:
                for device, metrics in case.latest.items():
                    found = {name: entry for (owner, name), entry in latest.items() if owner == device}
                    stored = {name: entry["latest"]["value"] for name, entry in found.items() if entry["latest"]}
                    assert stored == metrics, case.name
            times = {device: latest[device, "temperature_C"]["latest"]["time_ns"] for device in ("rtl", "rtl-utc")}
            assert times == {"rtl": at("2026-11-28T15:05:42Z"), "rtl-utc": at("2026-11-28T16:05:42Z")}
            assert latest["radar", "target_distance"]["unit"] == "m"
            devices = {entry["device"]: entry["connected"] for entry in (await hub.get("/api/v1/devices"))["devices"]}
            assert (devices["relay25a-70af"], devices["pv1"], "pv2" in devices) == (False, True, False)
            listed = (await hub.get("/api/v1/devices"))["devices"]
            names = {entry["device"]: entry["tags"].get("name") for entry in listed}
            assert [names[legal_device(name)] for name in ("Living Room", "Küche")] == ["Living Room", "Küche"]
            refused: dict[str, set[str]] = {}
            for entry in await quarantine(hub):
                content = await hub.get(f"/api/v1/quarantine/{entry['offset']}/payload")
                for value in content["refused"]:
                    refused.setdefault(entry["device"], set()).add(value.get("metric", ""))
            assert refused == {device: {*names} for case in CASES for device, names in case.refused.items()}
            await corrected(broker, hub)
            await retyped(broker, hub)
        for case in CASES:
            assert seen_by(check, case) == (case.latest, {device: {*names} for device, names in case.refused.items()})
        sentences = [rule["sentence"] for rule in check.rules()]
        assert "1 time without an offset: read in the zone UTC" in sentences
        assert "1 time without an offset: read in the zone Europe/Berlin" in sentences
