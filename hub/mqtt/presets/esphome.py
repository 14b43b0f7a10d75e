"""ESPHome. Follows its documentation, "MQTT Client Component": <name>/<component>/<object id>/state, <name>/status."""

from __future__ import annotations

from hub.mqtt.payload.json import flat, parsed
from hub.mqtt.payload.record import Scalar
from hub.mqtt.presets.preset import MAX_DEVICES, Preset, bare, is_online, row, switched
from hub.mqtt.reading import Found, Message, Presence, Undecodable, legal_device
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
    "cover": "string",
    "valve": "string",
    "fan": "boolean",
    "light": None,
}
"""What publishes a state, and its type; None: an object of values."""

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
        self._status = TopicTemplate.parse(f"{text}/status")
        self.filters = [self._state.filter, self._status.filter]
        self._nodes: set[str] = set()
        self._statuses: dict[str, bool] = {}

    def takes(self, topic: str) -> bool:
        """All that it is subscribed to, but for Home Assistant's entities; what is not ESPHome's is passed over."""
        names = self._state.match(topic)
        if names is not None:
            return names["device"] != FOREIGN
        return self._status.match(topic) is not None

    def wants_retained(self, topic: str) -> bool:
        """Whether a node is there."""
        return topic.endswith("/status")

    def decode(self, message: Message) -> list[Found]:
        """A component's state, or whether a node is there. Raises Undecodable."""
        names = self._state.match(message.topic)
        if names is None:
            return self._presence(message)
        if names["component"] not in COMPONENTS:
            return []
        device = legal_device(names["device"])
        found: list[Found] = []
        if device not in self._nodes:
            if len(self._nodes) >= MAX_DEVICES:
                self._nodes.clear()
            self._nodes.add(device)
            online = self._statuses.pop(device, None)
            if online is not None:
                found.append(Presence(device, online))
        return [*found, *row(device, _values(names["component"], names["object"], message.payload))]

    def _presence(self, message: Message) -> list[Found]:
        names = self._status.match(message.topic)
        if names is None or names["device"] == FOREIGN or message.payload.lower() not in (b"online", b"offline"):
            # Another program's status, whatever it says.
            return []
        online = is_online(message.payload, b"online", b"offline")
        device = legal_device(names["device"])
        if online is None:
            return []
        if device in self._nodes:
            return [Presence(device, online)]
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
    return bare(object_id, payload, type)


PRESET = Preset(PLAIN, EspHomeDecoder)
