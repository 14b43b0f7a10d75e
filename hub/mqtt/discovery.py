"""Home Assistant discovery: announcements with which devices appear in Home Assistant. Pure.

Follows Home Assistant's documentation of its MQTT integration ("Device discovery payload"): one retained message for
each device at `<prefix>/device/<object id>/config`, an empty one to remove it. `…/availability` contains the presence
of the device. Commands of devices are controls, if the broker's clients may command them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgspec

from formats.names import HASH_DIGITS
from hub.model.batch import Series
from hub.mqtt.command_topic import CommandTopic
from hub.mqtt.discovery_controls import PLATFORMS, control_of, setting_control_of, shows_state, state_names
from hub.mqtt.message import Decoded, Decoder, Message, Publish
from hub.mqtt.publication import OTHER_TIME_KEY, TIME_KEY, Encoder, Publication
from hub.mqtt.setting_requests import reported_topic
from hub.mqtt.subscriptions import Subscription
from wire.command import CommandDeclaration, CommandParameter

ORIGIN_NAME = "Telemetry Hub"

ONLINE, OFFLINE = b"online", b"offline"
"""Home Assistant's default payloads of an availability topic."""

MIN_EXPIRE_S = 60
MISSED_PERIODS = 3
"""A periodically published entity becomes unavailable after three missed periods, but not before `MIN_EXPIRE_S`."""

DEVICE_CLASSES = {
    **dict.fromkeys(("°C", "°F", "K"), "temperature"),
    **dict.fromkeys(("hPa", "mbar", "kPa", "Pa", "bar", "psi"), "pressure"),
    **dict.fromkeys(("W", "kW", "MW"), "power"),
    **dict.fromkeys(("Wh", "kWh", "MWh"), "energy"),
    **dict.fromkeys(("V", "mV"), "voltage"),
    **dict.fromkeys(("A", "mA"), "current"),
    "VA": "apparent_power",
    "var": "reactive_power",
    **dict.fromkeys(("Hz", "kHz"), "frequency"),
    "lx": "illuminance",
    "dB": "sound_pressure",
    "dBm": "signal_strength",
    **dict.fromkeys(("m/s", "km/h"), "speed"),
    **dict.fromkeys(("m³/h", "L/min"), "volume_flow_rate"),
    "kg": "weight",
    "mm/h": "precipitation_intensity",
    "W/m²": "irradiance",
}
"""Home Assistant's device classes of units that belong to one quantity."""

NAMED_CLASSES = {
    "%": {"humidity": "humidity", "battery": "battery", "moisture": "moisture"},
    "ppm": {"co2": "carbon_dioxide", "carbon_dioxide": "carbon_dioxide", "co": "carbon_monoxide"},
    "µg/m³": {"pm1": "pm1", "pm25": "pm25", "pm2.5": "pm25", "pm10": "pm10"},
}
"""Device classes of units that belong to several quantities, by a word of the metric's name."""

MAX_REMOVED = 256
"""Removed controls of a device in its description, the newest: twice as many as a device has commands."""

TOTALS = frozenset({"energy"})
"""Device classes of quantities that only increase."""

_NOT_IN_ID = re.compile(r"[^A-Za-z0-9_-]")


def device_class(metric: str, unit: str) -> str | None:
    """Return Home Assistant's device class, or None if neither unit nor name decides it."""
    named = NAMED_CLASSES.get(unit, {})
    words = [metric.lower(), *re.split(r"[^a-z0-9.]+", metric.lower())]
    return next((named[word] for word in words if word in named), DEVICE_CLASSES.get(unit))


def object_id(text: str) -> str:
    """Return an id for Home Assistant: letters, digits, "_" and "-". A changed text gets a hash at the end."""
    changed = _NOT_IN_ID.sub("_", text)
    return text if changed == text else f"{changed}-{sha256(text.encode()).hexdigest()[:HASH_DIGITS]}"


def discovery_subscriptions(prefix: str, enabled: bool) -> list[Subscription]:
    """Return the subscriptions to Home Assistant's birth message and to the descriptions that the broker retains."""
    found = [Subscription(f"{prefix}/device/+/config", always=True)]
    return [Subscription(f"{prefix}/status"), *found] if enabled else found


def _digest(payload: bytes) -> bytes:
    return sha256(payload).digest()[:16]


def _controls_of(payload: bytes) -> dict[str, str]:
    """Return the platforms of the controls in a description, by key. Anybody can publish anything there."""
    try:
        content = msgspec.json.decode(payload, type=_RetainedDescription)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return {key: part.platform for key, part in content.components.items() if part.platform in PLATFORMS}


class _RetainedComponent(msgspec.Struct):
    platform: str = ""


class _RetainedDescription(msgspec.Struct):
    components: dict[str, _RetainedComponent] = {}


def _availability_of(topic: str) -> str:
    """Return the availability topic of the device that is described at `topic`."""
    return f"{topic.removesuffix('config')}availability"


class Discovery(Decoder):
    """Announcements of one bridge, and the decoder of Home Assistant's birth message and of the descriptions that the
    broker retains from an earlier run.

    A device is described again only if its series or commands changed. For devices that are no longer described
    (retired, no publication, `enabled` off), the retained messages are emptied; they are recognized by the hub's id in
    their topic. Sent messages are remembered by their hash, 200 bytes a device. Home Assistant keeps a control that a
    description leaves out, so a removed one stays in it with its platform only.

    A device is available while it is connected to the hub and the hub to the broker.
    """

    # Every retained message matters.
    retained = ("",)

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
        public_url: str | None = None,
        command_topic: CommandTopic | None = None,
        commands: Callable[[str], Sequence[CommandDeclaration]] = lambda device: (),
        setting_topic: CommandTopic | None = None,
        settings: Callable[[str], Sequence[CommandParameter]] = lambda device: (),
        prefix: str = "homeassistant",
        enabled: bool = True,
    ) -> None:
        """`devices` returns the series of each device by metric, `count` the number of all series; a different number
        means that the descriptions may have changed. `is_online` returns whether a device is connected. `availability`
        is the bridge's own availability in the form of Home Assistant. With `public_url` each device links to its page.
        `commands` returns the commands of a device, which have controls with a `command_topic`; `settings` and
        `setting_topic` are the same for settings. `on_change` is called
        when `pending` may have messages. Raises ValueError without a publication that Home Assistant can read.
        """
        self._encoders = [Encoder(publication) for publication in publications if publication.payload != "line"]
        if enabled and not self._encoders:
            raise ValueError("discovery needs a publication with the payload value or json")
        # Prefer bare values, which need no template.
        self._encoders.sort(key=lambda encoder: encoder.publication.payload != "value")
        self._node = f"hub_{hub[:8]}_"
        self._version = version
        self._devices = devices
        self._count = count
        self._last_count = -1
        self._is_online = is_online
        self._on_change = on_change
        self._availability = availability
        self._public_url = public_url
        self._command_topic = command_topic
        self._commands = commands
        self._setting_topic = setting_topic
        self._settings = settings
        self._prefix = prefix
        self._enabled = enabled
        # By topic: the digest of the sent description, the hash of its series, and the sent presence.
        self._sent: dict[str, bytes] = {}
        self._described: dict[str, int] = {}
        self._sent_presence: dict[str, bool] = {}
        # By topic: the platforms of all controls that the broker may still have, by key.
        self._controls: dict[str, dict[str, str]] = {}
        # Devices whose presence may have changed, and topics with descriptions of an earlier run.
        self._presence_due: set[str] = set()
        self._retained: set[str] = set()
        self._is_due = False
        self._birth = f"{prefix}/status"
        self.filters = [wanted.filter for wanted in discovery_subscriptions(prefix, enabled)]

    def takes(self, topic: str) -> bool:
        """Return whether it is the topic of Home Assistant's birth message, or of any device's description."""
        return topic == self._birth or (topic.startswith(f"{self._prefix}/device/") and topic.endswith("/config"))

    def decode(self, message: Message) -> list[Decoded]:
        """Note which announcements are due after the message. It contains no readings."""
        if message.topic != self._birth:
            is_own = message.topic.startswith(f"{self._prefix}/device/{self._node}")
            if is_own and message.payload:
                if message.topic not in self._sent:
                    self._retained.add(message.topic)
                    self.mark_changed()
                is_foreign = self._sent.get(message.topic) != _digest(message.payload)
                if is_foreign and self._remember_controls(message.topic, _controls_of(message.payload)):
                    self._described.pop(message.topic, None)
                    self.mark_changed()
        elif message.payload == b"online":
            self.connected()
        return []

    def connected(self) -> None:
        """Announce everything again, after a new connection or a start of Home Assistant."""
        self._sent.clear()
        self._described.clear()
        self._sent_presence.clear()
        self.mark_changed()

    def commands_changed(self, device: str) -> None:
        """Note that a device declares other commands or settings than before."""
        if self._enabled and not (self._command_topic is None and self._setting_topic is None):
            self._described.pop(self.topic_of(device), None)
            self.mark_changed()

    def mark_changed(self) -> None:
        """Note that a device is new, has new metrics, or is gone."""
        self._is_due = True
        self._on_change()

    def presence_changed(self, device: str) -> None:
        """Note that a device connected or disconnected."""
        if self._enabled and self._sent_presence.get(self.topic_of(device)) != self._is_online(device):
            self._presence_due.add(device)
            self._on_change()

    def pending(self) -> list[Publish]:
        """Return the announcements that became due since the last call."""
        count = self._count()
        found: list[Publish] = []
        if self._is_due or (count != self._last_count and self._enabled):
            self._is_due, self._last_count = False, count
            found = self._pending_descriptions()
        return found + self._pending_presence()

    def _pending_descriptions(self) -> list[Publish]:
        found: list[Publish] = []
        wanted: set[str] = set()
        for device, metrics in self._devices().items() if self._enabled else ():
            topic = self.topic_of(device)
            of_series = hash(tuple((series.id, series.type, series.unit) for series in metrics.values()))
            if self._described.get(topic) == of_series:
                wanted.add(topic)
                continue
            description = self.describe(device, metrics.values())
            if description is None:
                continue
            wanted.add(topic)
            self._described[topic] = of_series
            payload = msgspec.json.encode(description)
            digest = _digest(payload)
            if self._sent.get(topic) != digest:
                self._sent[topic] = digest
                found.append(Publish(topic, payload, 1, retain=True))
                self._presence_due.add(device)
        for topic in (self._sent.keys() | self._retained) - wanted:
            self._sent.pop(topic, None)
            self._described.pop(topic, None)
            self._sent_presence.pop(topic, None)
            self._controls.pop(topic, None)
            found += [Publish(gone, b"", 1, retain=True) for gone in (topic, _availability_of(topic))]
        self._retained.clear()
        return found

    def _pending_presence(self) -> list[Publish]:
        found: list[Publish] = []
        for device in self._presence_due:
            topic, online = self.topic_of(device), self._is_online(device)
            if topic in self._sent and self._sent_presence.get(topic) != online:
                self._sent_presence[topic] = online
                found.append(Publish(_availability_of(topic), ONLINE if online else OFFLINE, 1, retain=True))
        self._presence_due.clear()
        return found

    def topic_of(self, device: str) -> str:
        """Return the topic of a device's description."""
        return f"{self._prefix}/device/{self._node}{object_id(device)}/config"

    def describe(self, device: str, metrics: Iterable[Series]) -> dict[str, Any] | None:
        """Return the description of a device, or None if none of its metrics is published and it has no control."""
        components: dict[str, Any] = {}
        metrics = [*metrics]
        for series in metrics:
            component = self._component(series)
            if component is not None:
                components[object_id(series.metric)] = component
        controls = dict([*self._controls_for(device, metrics), *self._setting_controls(device)])
        if not components and not controls:
            return None
        components |= self._removed_controls(self.topic_of(device), controls) | controls
        own = {"topic": _availability_of(self.topic_of(device))}
        link = {} if self._public_url is None else {"configuration_url": f"{self._public_url}/device/{device}"}
        return {
            "device": {"identifiers": [f"{self._node}{device}"], "name": device, **link},
            "origin": {"name": ORIGIN_NAME, "sw_version": self._version},
            "availability": [own] if self._availability is None else [self._availability, own],
            "availability_mode": "all",
            "components": components,
        }

    def _controls_for(self, device: str, metrics: Sequence[Series]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the controls of a device with their keys, which no metric and no control of another platform has."""
        topic = self._command_topic
        if topic is None or not topic.may_command(device):
            return
        of_metric = {series.metric: series for series in metrics}
        for declaration in self._commands(device):
            control = control_of(declaration, topic.topic_of(device, declaration.name))
            if control is None:
                continue
            key = object_id(f"{control['platform']}\0{declaration.name}")
            control["unique_id"] = f"{self._node}{object_id(device)}_{key}"
            if control["platform"] == "number":
                kind = device_class(declaration.name, control.get("unit_of_measurement", ""))
                if kind is not None:
                    control["device_class"] = kind
            shown = (of_metric.get(name) for name in state_names(declaration))
            series = next((series for series in shown if series and shows_state(control, series.type)), None)
            state = self._state_of(series) if series is not None else None
            yield key, control | (state or {})

    def _setting_controls(self, device: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the controls of the settings of a device with their keys."""
        topic = self._setting_topic
        if topic is None or not topic.may_command(device):
            return
        for setting in self._settings(device):
            state_topic = reported_topic(topic, device, setting.name)
            control = setting_control_of(setting, topic.topic_of(device, setting.name), state_topic)
            if control is not None:
                key = object_id(f"setting\0{control['platform']}\0{setting.name}")
                control["unique_id"] = f"{self._node}{object_id(device)}_{key}"
                yield key, control

    def _removed_controls(self, topic: str, controls: Mapping[str, Any]) -> dict[str, Any]:
        """Remember the controls of a description. Return what removes the earlier ones from Home Assistant."""
        self._remember_controls(topic, {key: control["platform"] for key, control in controls.items()})
        known = self._controls.get(topic, {})
        return {key: {"platform": platform} for key, platform in known.items() if key not in controls}

    def _remember_controls(self, topic: str, controls: Mapping[str, str]) -> bool:
        """Remember controls that the broker may have, and return whether any is new."""
        known = self._controls.get(topic, {})
        if not controls.keys() - known.keys():
            return False
        # The newest last: beyond the bound the oldest is dropped.
        together = {key: platform for key, platform in known.items() if key not in controls} | dict(controls)
        self._controls[topic] = dict([*together.items()][-MAX_REMOVED:])
        return True

    def _state_of(self, series: Series) -> dict[str, Any] | None:
        """Return the state of a control that a metric shows, or None if the metric is not published."""
        component = self._component(series)
        if component is None:
            return None
        state: dict[str, Any] = {key: component[key] for key in ("state_topic", "value_template") if key in component}
        if series.type == "boolean":
            state |= {"state_on": component["payload_on"], "state_off": component["payload_off"]}
        elif series.type != "string" and "value_template" in state:
            # Without the metric a message has no value: a number ignores an empty one.
            state["value_template"] = state["value_template"].replace("default(this.state)", "default('')")
        return state

    def _component(self, series: Series) -> dict[str, Any] | None:
        encoder = next((encoder for encoder in self._encoders if encoder.publication.takes(series.device)), None)
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
            # A message contains only the metrics of its batch. Without this one, the state must not change.
            described["value_template"] = f"{{{{ value_json[{key}] | default(this.state) }}}}"
        if series.type == "boolean":
            # The forms of a rendered JSON template and of a bare value.
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
