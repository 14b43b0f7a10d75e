"""ESPHome. Follows its documentation, "MQTT Client Component": <name>/<component>/<object id>/state, <name>/status.

What has more than one state (a climate device, a cover with positions, a fan with speeds) has a level more in its
topics, which names the state: <name>/climate/<object id>/target_temperature/state.
"""

from __future__ import annotations

from hub.mqtt.decoders.formats import flat, parsed
from hub.mqtt.decoders.record import MAX_DEVICES, Preset, Scalar, bare, is_online, row, samples, switched
from hub.mqtt.message import Decoded, DevicePresence, Message, Undecodable, legal_device
from hub.mqtt.topics import TopicTemplate
from wire.model import MetricType

COMPONENTS: dict[str, MetricType | None] = {
    "sensor": "float",
    "number": "float",
    "binary_sensor": "boolean",
    "switch": "boolean",
    "text_sensor": "string",
    "text": "string",
    "select": "string",
    "lock": "string",
    "alarm_control_panel": "string",
    "cover": "string",
    "valve": "string",
    "fan": "boolean",
    "light": None,
    "event": None,
}
"""What publishes a state, and its type; None: an object of values."""

TEMPERATURE, SHARE = "°C", "%"

STATES: dict[str, dict[str, tuple[MetricType, str]]] = {
    "climate": {
        **dict.fromkeys(("mode", "action", "fan_mode", "swing_mode", "preset"), ("string", "")),
        "away": ("boolean", ""),
        "current_temperature": ("float", TEMPERATURE),
        "target_temperature": ("float", TEMPERATURE),
        "target_temperature_low": ("float", TEMPERATURE),
        "target_temperature_high": ("float", TEMPERATURE),
        "current_humidity": ("float", SHARE),
        "target_humidity": ("float", SHARE),
    },
    "cover": {"position": ("float", SHARE), "tilt": ("float", SHARE)},
    "valve": {"position": ("float", SHARE)},
    "fan": {"speed_level": ("float", ""), "oscillation": ("string", ""), "direction": ("string", "")},
}
"""What has several states: their types and units. All temperatures of climate devices are in °C."""

NO_NUMBER = b"None"
"""A sensor without a reading, of a node that was told not to say "nan"."""

FOREIGN = "homeassistant"
"""Home Assistant's own topics have the same form."""

PLAIN = "{device}"


class EspHomeDecoder:
    """Nodes that publish under their name, or under a base topic and their name.

    Any program may have a topic <name>/status: it is believed of nodes that have published a state.
    """

    def __init__(self, base: str) -> None:
        text = base if "{device}" in base else f"{base}/{{device}}"
        self._state = TopicTemplate.parse(f"{text}/{{component}}/{{object}}/state")
        self._inner = TopicTemplate.parse(f"{text}/{{component}}/{{object}}/{{inner}}/state")
        self._status = TopicTemplate.parse(f"{text}/status")
        self.filters = [self._state.filter, self._inner.filter, self._status.filter]
        self._nodes: set[str] = set()
        self._statuses: dict[str, bool] = {}

    def takes(self, topic: str) -> bool:
        """All that it is subscribed to; what is not ESPHome's is passed over."""
        return self._names(topic) is not None or self._status.match(topic) is not None

    def wants_retained(self, topic: str) -> bool:
        """Whether a node is there."""
        return topic.endswith("/status")

    def decode(self, message: Message) -> list[Decoded]:
        """A component's state, or whether a node is there. Raises Undecodable."""
        names = self._names(message.topic)
        if names is None:
            return self._presence(message)
        component, object_id = names["component"], names["object"]
        known = STATES.get(component, {}) if "inner" in names else COMPONENTS
        if names["device"] == FOREIGN or names.get("inner", component) not in known:
            return []
        device = legal_device(names["device"])
        found = self._seen(device)
        if "inner" not in names:
            return [*found, *row(device, _values(component, object_id, message.payload))]
        type, unit = STATES[component][names["inner"]]
        values = _number(f"{object_id}.{names['inner']}", message.payload, type)
        return [*found, *(samples(device, values, lambda _: unit) if unit else row(device, values))]

    def _names(self, topic: str) -> dict[str, str] | None:
        return self._state.match(topic) or self._inner.match(topic)

    def _seen(self, device: str) -> list[Decoded]:
        """What was told of a node before it was known to be one."""
        if device in self._nodes:
            return []
        if len(self._nodes) >= MAX_DEVICES:
            self._nodes.clear()
        self._nodes.add(device)
        online = self._statuses.pop(device, None)
        return [] if online is None else [DevicePresence(device, online)]

    def _presence(self, message: Message) -> list[Decoded]:
        names = self._status.match(message.topic)
        if names is None or names["device"] == FOREIGN or message.payload.lower() not in (b"online", b"offline"):
            # Another program's status, whatever it says.
            return []
        online = is_online(message.payload, b"online", b"offline")
        device = legal_device(names["device"])
        if online is None:
            return []
        if device in self._nodes:
            return [DevicePresence(device, online)]
        if len(self._statuses) >= MAX_DEVICES:
            self._statuses.clear()
        self._statuses[device] = online
        return []


def _values(component: str, object_id: str, payload: bytes) -> dict[str, Scalar]:
    """The values of one component, under its object id."""
    if not payload:
        return {}
    type = COMPONENTS[component]
    if type is None:
        content = parsed(payload)
        if not isinstance(content, dict):
            raise Undecodable("shape", f"the state of a {component} is an object of values")
        return {f"{object_id}.{name}": switched(value) for name, value in flat(content).items()}
    return _number(object_id, payload, type)


def _number(name: str, payload: bytes, type: MetricType) -> dict[str, Scalar]:
    return {} if type == "float" and payload == NO_NUMBER else bare(name, payload, type)


PRESET = Preset(PLAIN, EspHomeDecoder, reach=2)
