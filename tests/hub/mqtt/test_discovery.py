"""Announcements for Home Assistant."""

from __future__ import annotations

import msgspec
import pytest

from hub.model.batch import Series
from hub.mqtt.discovery import Discovery, device_class
from hub.mqtt.message import Message, Publish
from hub.mqtt.publication import Payload, Publication
from hub.mqtt.topics import TopicTemplate

HUB = "0123456789abcdef"
CONFIG = "homeassistant/device/hub_01234567_boiler/config"
AVAILABILITY = "homeassistant/device/hub_01234567_boiler/availability"


class Fleet:
    """Devices of a hub and their discovery by Home Assistant."""

    def __init__(
        self,
        topic: str = "hub/{device}/{metric}",
        payload: Payload = "value",
        *,
        enabled: bool = True,
        public_url: str | None = None,
    ) -> None:
        self.devices = {
            "boiler": {
                "temperature": Series(1, "boiler", "temperature", "float", "°C"),
                "open": Series(2, "boiler", "open", "boolean"),
            }
        }
        self.changes = 0
        self.online = {"boiler"}
        self.discovery = Discovery(
            [Publication(TopicTemplate.parse(topic), payload, every_s=30.0)],
            hub=HUB,
            version="1.2",
            devices=lambda: self.devices,
            count=lambda: sum(map(len, self.devices.values())),
            is_online=lambda device: device in self.online,
            on_change=self.count,
            availability={"topic": "telemetry-hub/status"},
            public_url=public_url,
            enabled=enabled,
        )

    def count(self) -> None:
        self.changes += 1


def test_a_device_links_to_its_page_at_the_public_url() -> None:
    """Below its path. Without a public URL there is no link: the hub does not know its address for browsers."""
    for public_url, link in (
        ("https://example.org/telemetry", "https://example.org/telemetry/device/boiler"),
        (None, None),
    ):
        fleet = Fleet(public_url=public_url)
        fleet.discovery.connected()
        message, _ = fleet.discovery.pending()
        assert msgspec.json.decode(message.payload)["device"].get("configuration_url") == link


def test_the_description_of_a_device_is_complete() -> None:
    """It is retained, with origin, unique ids, units, classes, availability and expiry."""
    fleet = Fleet()
    fleet.discovery.connected()
    message, availability = fleet.discovery.pending()
    assert availability == Publish(AVAILABILITY, b"online", 1, retain=True)
    assert (message.topic, message.retain) == (CONFIG, True)
    assert msgspec.json.decode(message.payload) == {
        "device": {"identifiers": ["hub_01234567_boiler"], "name": "boiler"},
        "origin": {"name": "Telemetry Hub", "sw_version": "1.2"},
        "availability": [{"topic": "telemetry-hub/status"}, {"topic": AVAILABILITY}],
        "availability_mode": "all",
        "components": {
            "temperature": {
                "platform": "sensor",
                "unique_id": "hub_01234567_boiler_temperature",
                "name": "temperature",
                "state_topic": "hub/boiler/temperature",
                "state_class": "measurement",
                "device_class": "temperature",
                "unit_of_measurement": "°C",
                "expire_after": 90,
            },
            "open": {
                "platform": "binary_sensor",
                "unique_id": "hub_01234567_boiler_open",
                "name": "open",
                "state_topic": "hub/boiler/open",
                "payload_on": "true",
                "payload_off": "false",
                "expire_after": 90,
            },
        },
    }


def test_json_is_read_by_a_template() -> None:
    """The template reads the key of the metric."""
    fleet = Fleet("hub/{device}/state", "json")
    fleet.discovery.connected()
    temperature = msgspec.json.decode(fleet.discovery.pending()[0].payload)["components"]["temperature"]
    assert temperature["state_topic"] == "hub/boiler/state"
    assert temperature["value_template"] == '{{ value_json["temperature"] | default(this.state) }}'


def test_only_changes_are_announced_until_home_assistant_restarts() -> None:
    """Its birth message requests everything."""
    fleet = Fleet()
    fleet.discovery.connected()
    assert len(fleet.discovery.pending()) == 2
    fleet.discovery.mark_changed()
    assert fleet.discovery.pending() == []
    fleet.devices["pump"] = {"speed": Series(3, "pump", "speed", "float")}
    pump = "homeassistant/device/hub_01234567_pump"
    assert [message.topic for message in fleet.discovery.pending()] == [f"{pump}/config", f"{pump}/availability"]
    fleet.discovery.decode(Message("homeassistant/status", b"offline"))
    assert fleet.discovery.pending() == []
    fleet.discovery.decode(Message("homeassistant/status", b"online"))
    assert len(fleet.discovery.pending()) == 4
    assert fleet.changes == 3


def test_a_removed_device_is_removed_in_home_assistant() -> None:
    """One empty retained message does it."""
    fleet = Fleet()
    fleet.discovery.connected()
    fleet.discovery.pending()
    fleet.devices.clear()
    fleet.discovery.mark_changed()
    assert fleet.discovery.pending() == [Publish(topic, b"", 1, retain=True) for topic in (CONFIG, AVAILABILITY)]
    fleet.discovery.mark_changed()
    assert fleet.discovery.pending() == []


def test_disabled_discovery_removes_earlier_descriptions() -> None:
    """The broker delivers them. Descriptions of other hubs stay."""
    fleet = Fleet(enabled=False)
    discovery = fleet.discovery
    assert discovery.takes(CONFIG)
    assert discovery.wants_retained(CONFIG)
    assert discovery.takes("homeassistant/device/hub_ffffffff_boiler/config")
    assert not discovery.takes("homeassistant/sensor/hub_01234567_boiler/config")
    discovery.connected()
    assert discovery.pending() == []
    discovery.decode(Message("homeassistant/device/hub_ffffffff_boiler/config", b"{}", retain=True))
    assert discovery.pending() == []
    discovery.decode(Message(CONFIG, b"{}", retain=True))
    assert [(message.topic, message.payload) for message in discovery.pending()] == [(CONFIG, b""), (AVAILABILITY, b"")]


def test_a_device_is_available_while_it_is_connected() -> None:
    """Each change is announced once, and only for described devices."""
    fleet = Fleet()
    fleet.online.clear()
    fleet.discovery.connected()
    assert fleet.discovery.pending()[1] == Publish(AVAILABILITY, b"offline", 1, retain=True)
    fleet.discovery.presence_changed("boiler")
    assert (fleet.discovery.pending(), fleet.changes) == ([], 1)
    fleet.online.update(("boiler", "pump"))
    fleet.discovery.presence_changed("boiler")
    fleet.discovery.presence_changed("pump")
    assert fleet.discovery.pending() == [Publish(AVAILABILITY, b"online", 1, retain=True)]
    fleet.online.clear()
    fleet.discovery.presence_changed("boiler")
    fleet.online.add("boiler")  # it is back before anything was said
    assert fleet.discovery.pending() == []


@pytest.mark.parametrize(
    ("metric", "unit", "expected"),
    [
        ("t", "°C", "temperature"),
        ("air humidity", "%", "humidity"),
        ("load", "%", None),
        ("co2", "ppm", "carbon_dioxide"),
    ],
)
def test_classes_follow_unit_and_name(metric: str, unit: str, expected: str | None) -> None:
    """If a unit belongs to several quantities, the name decides."""
    assert device_class(metric, unit) == expected


def test_discovery_needs_a_readable_publication() -> None:
    """Home Assistant cannot read line protocol."""
    with pytest.raises(ValueError, match="discovery needs a publication"):
        Fleet("{device}", "line")
