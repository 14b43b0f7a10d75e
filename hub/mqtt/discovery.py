"""Home Assistant's device-based discovery: what is said of a device so that it appears there by itself. Pure.

Follows Home Assistant's documentation of its MQTT integration ("Device discovery payload"): one retained message for
each device at `<prefix>/device/<object id>/config`, an empty one to take it away. Beside it, at `…/availability`,
stands whether the device is connected.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgspec

from hub.model.batch import Series
from hub.mqtt.message import HASH_DIGITS, Decoded, Message, Publish
from hub.mqtt.publication import OTHER_TIME_KEY, TIME_KEY, Encoder, Publication
from hub.mqtt.subscriptions import Subscription

ORIGIN_NAME = "Telemetry Hub"

ONLINE, OFFLINE = b"online", b"offline"
"""Home Assistant's own words for an availability topic, where a description names no others."""

MIN_EXPIRE_S = 60
"""An entity that is published at a period is unavailable after three of them without a message, and not before this."""

MISSED_PERIODS = 3

DEVICE_CLASSES = {
    "°C": "temperature",
    "°F": "temperature",
    "K": "temperature",
    "hPa": "pressure",
    "mbar": "pressure",
    "kPa": "pressure",
    "Pa": "pressure",
    "bar": "pressure",
    "psi": "pressure",
    "W": "power",
    "kW": "power",
    "MW": "power",
    "Wh": "energy",
    "kWh": "energy",
    "MWh": "energy",
    "V": "voltage",
    "mV": "voltage",
    "A": "current",
    "mA": "current",
    "VA": "apparent_power",
    "var": "reactive_power",
    "Hz": "frequency",
    "kHz": "frequency",
    "lx": "illuminance",
    "dB": "sound_pressure",
    "dBm": "signal_strength",
    "m/s": "speed",
    "km/h": "speed",
    "m³/h": "volume_flow_rate",
    "L/min": "volume_flow_rate",
    "kg": "weight",
    "mm/h": "precipitation_intensity",
    "W/m²": "irradiance",
}
"""What a unit alone says of a quantity, in Home Assistant's words."""

NAMED_CLASSES = {
    "%": {"humidity": "humidity", "battery": "battery", "moisture": "moisture"},
    "ppm": {"co2": "carbon_dioxide", "carbon_dioxide": "carbon_dioxide", "co": "carbon_monoxide"},
    "µg/m³": {"pm1": "pm1", "pm25": "pm25", "pm2.5": "pm25", "pm10": "pm10"},
}
"""Units of many quantities: there the metric's name decides, by one of its words."""

TOTALS = frozenset({"energy"})
"""Device classes of quantities that grow."""

_NOT_IN_ID = re.compile(r"[^A-Za-z0-9_-]")


def device_class(metric: str, unit: str) -> str | None:
    """Home Assistant's device class; None where neither unit nor name tells."""
    named = NAMED_CLASSES.get(unit, {})
    words = [metric.lower(), *re.split(r"[^a-z0-9.]+", metric.lower())]
    return next((named[word] for word in words if word in named), DEVICE_CLASSES.get(unit))


def object_id(text: str) -> str:
    """The text as Home Assistant takes ids: letters, digits, "_" and "-"; a hash follows where it had to change."""
    changed = _NOT_IN_ID.sub("_", text)
    return text if changed == text else f"{changed}-{sha256(text.encode()).hexdigest()[:HASH_DIGITS]}"


def subscriptions_of(prefix: str, enabled: bool) -> list[Subscription]:
    """What is subscribed to: Home Assistant's birth messages, and with each connection all that the broker still has of
    descriptions."""
    found = [Subscription(f"{prefix}/device/+/config", always=True)]
    return [Subscription(f"{prefix}/status"), *found] if enabled else found


def _availability_of(topic: str) -> str:
    """Where it stands whether the device that is described under this topic is connected."""
    return f"{topic.removesuffix('config')}availability"


class Discovery:
    """What Home Assistant is to be told now. Implements hub.mqtt.outbound.Description, and hub.mqtt.message.Decoder for
    Home Assistant's birth message and for what the broker still has of an earlier run.

    A device is described anew only where its series are others than before. Of devices that are not described any more
    (retired, no publication, `enabled` off) the broker's retained messages are emptied: they are told by the hub's id
    in their topic. What was said is kept by its hash: 200 bytes a device.

    A device is available while it is connected to the hub, and the hub to the broker.
    """

    def __init__(
        self,
        publications: Sequence[Publication],
        *,
        hub: str,
        version: str,
        devices: Callable[[], Mapping[str, Mapping[str, Series]]],
        count: Callable[[], int],
        is_online: Callable[[str], bool],
        on_change: Callable[[], None],
        availability: Mapping[str, str] | None = None,
        prefix: str = "homeassistant",
        enabled: bool = True,
    ) -> None:
        """`devices` gives each device's series by metric, `count` how many series there are: where that differs,
        something is new or gone; `is_online` says whether a device is connected; `availability` says, in Home
        Assistant's words, where it stands whether the bridge itself is there. Raises ValueError where nothing is
        published that Home Assistant could read."""
        self._encoders = [Encoder(publication) for publication in publications if publication.payload != "line"]
        if enabled and not self._encoders:
            raise ValueError("Home Assistant is to discover what is published, but nothing is, as value or as json")
        # A bare value is the simplest that it reads.
        self._encoders.sort(key=lambda encoder: encoder.publication.payload != "value")
        self._hub = hub
        self._node = f"hub_{hub[:8]}_"
        self._version = version
        self._devices = devices
        self._count = count
        self._counted = -1
        self._is_online = is_online
        self._on_change = on_change
        self._availability = availability
        self._prefix = prefix
        self._enabled = enabled
        self._said: dict[str, bytes] = {}
        # By topic, the hash of the series that it was last described with.
        self._described: dict[str, int] = {}
        # By topic, whether the device was said to be online; and the devices of which that may have changed.
        self._told: dict[str, bool] = {}
        self._moved: set[str] = set()
        self._retained: set[str] = set()
        self._is_due = False
        self._birth = f"{prefix}/status"
        self.filters = [one.filter for one in subscriptions_of(prefix, enabled)]

    def takes(self, topic: str) -> bool:
        """Whether it is Home Assistant's birth message, or a description, also one of somebody else's device."""
        return topic == self._birth or (topic.startswith(f"{self._prefix}/device/") and topic.endswith("/config"))

    def wants_retained(self, topic: str) -> bool:
        """All of these."""
        return True

    def decode(self, message: Message) -> list[Decoded]:
        """Nothing is read from it; there may be something to say after it."""
        if message.topic != self._birth:
            is_own = message.topic.startswith(f"{self._prefix}/device/{self._node}")
            if is_own and message.payload and message.topic not in self._said:
                self._retained.add(message.topic)
                self.changed()
        elif message.payload == b"online":
            self.connected()
        return []

    def connected(self) -> None:
        """A connection begins, or Home Assistant does: all is said again."""
        self._said.clear()
        self._described.clear()
        self._told.clear()
        self.changed()

    def changed(self) -> None:
        """A device is new, has new metrics, or is gone."""
        self._is_due = True
        self._on_change()

    def presence_changed(self, device: str) -> None:
        """A device came or went."""
        if self._enabled and self._told.get(self.topic_of(device)) != self._is_online(device):
            self._moved.add(device)
            self._on_change()

    def take(self) -> list[Publish]:
        """What has changed since it was asked last."""
        count = self._count()
        found: list[Publish] = []
        if self._is_due or (count != self._counted and self._enabled):
            self._is_due, self._counted = False, count
            found = self._take_descriptions()
        return found + self._take_presence()

    def _take_descriptions(self) -> list[Publish]:
        found: list[Publish] = []
        wanted: set[str] = set()
        for device, series in self._devices().items() if self._enabled else ():
            topic = self.topic_of(device)
            of_series = hash(tuple((one.id, one.type, one.unit) for one in series.values()))
            if self._described.get(topic) == of_series:
                wanted.add(topic)
                continue
            description = self.describe(device, series.values())
            if description is None:
                continue
            wanted.add(topic)
            self._described[topic] = of_series
            payload = msgspec.json.encode(description)
            digest = sha256(payload).digest()[:16]
            if self._said.get(topic) != digest:
                self._said[topic] = digest
                found.append(Publish(topic, payload, 1, retain=True))
                self._moved.add(device)
        for topic in (self._said.keys() | self._retained) - wanted:
            self._said.pop(topic, None)
            self._described.pop(topic, None)
            self._told.pop(topic, None)
            found += [Publish(gone, b"", 1, retain=True) for gone in (topic, _availability_of(topic))]
        self._retained.clear()
        return found

    def _take_presence(self) -> list[Publish]:
        found: list[Publish] = []
        for device in self._moved:
            topic, online = self.topic_of(device), self._is_online(device)
            if topic in self._said and self._told.get(topic) != online:
                self._told[topic] = online
                found.append(Publish(_availability_of(topic), ONLINE if online else OFFLINE, 1, retain=True))
        self._moved.clear()
        return found

    def topic_of(self, device: str) -> str:
        """Where a device is described."""
        return f"{self._prefix}/device/{self._node}{object_id(device)}/config"

    def describe(self, device: str, series: Iterable[Series]) -> dict[str, Any] | None:
        """The description of a device; None where none of its metrics is published."""
        components = {}
        for one in series:
            component = self._component(one)
            if component is not None:
                components[object_id(one.metric)] = component
        if not components:
            return None
        own = {"topic": _availability_of(self.topic_of(device))}
        return {
            "device": {"identifiers": [f"{self._node}{device}"], "name": device},
            "origin": {"name": ORIGIN_NAME, "sw_version": self._version},
            "availability": [own] if self._availability is None else [self._availability, own],
            "availability_mode": "all",
            "components": components,
        }

    def _component(self, series: Series) -> dict[str, Any] | None:
        encoder = next((one for one in self._encoders if one.publication.takes(series.device)), None)
        if encoder is None:
            return None
        publication = encoder.publication
        described: dict[str, Any] = {
            "platform": "binary_sensor" if series.type == "boolean" else "sensor",
            "unique_id": f"{self._node}{object_id(series.device)}_{object_id(series.metric)}",
            "name": series.metric,
            "state_topic": encoder.topic_of(series),
        }
        if publication.payload == "json":
            key = msgspec.json.encode(series.metric if series.metric != TIME_KEY else OTHER_TIME_KEY).decode()
            # A message has those metrics that its batch had: without this one, the state stays as it is.
            described["value_template"] = f"{{{{ value_json[{key}] | default(this.state) }}}}"
        if series.type == "boolean":
            # As a template renders JSON's, and as a bare value has it.
            booleans = ("True", "False") if publication.payload == "json" else ("true", "false")
            described["payload_on"], described["payload_off"] = booleans
        elif series.type != "string":
            described["state_class"] = "measurement"
            kind = device_class(series.metric, series.unit)
            if kind is not None:
                described["device_class"] = kind
                if kind in TOTALS:
                    described["state_class"] = "total_increasing"
            if series.unit:
                described["unit_of_measurement"] = series.unit
        if publication.every_s:
            described["expire_after"] = max(MIN_EXPIRE_S, round(MISSED_PERIODS * publication.every_s))
        return described
