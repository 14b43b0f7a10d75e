"""Home Assistant's state stream. Follows its documentation, "MQTT Statestream".

Each entity is a device of its own (`sensor.kitchen_temperature`) with the metric `state`, and its attributes that are
numbers or truths where they are published; <base>/<domain>/<object id>/state and /<attribute>.
"""

from __future__ import annotations

from hub.mqtt.decoders.formats import parsed
from hub.mqtt.decoders.record import MAX_DEVICES, TRUTHS, Preset, Scalar, row, scalar, text_of
from hub.mqtt.message import (
    Decoded,
    DeviceDeclaration,
    DevicePresence,
    Message,
    Undecodable,
    legal_device,
    legal_metric,
)
from hub.mqtt.topics import TopicTemplate
from wire.limits import MAX_TAG_VALUE, MAX_UNIT
from wire.model import Metric

STATE = "state"
UNIT = "unit_of_measurement"
NAME = "friendly_name"
UNAVAILABLE = "unavailable"
NO_STATES = frozenset(("unknown", "none", ""))
TIMES = frozenset(("last_changed", "last_updated"))

SWITCHES = frozenset(
    ("automation", "binary_sensor", "fan", "input_boolean", "light", "remote", "script", "siren", "switch", "update")
)
"""Domains whose states are on and off."""

NOT_ENTITIES = frozenset(("config", "status", "set", "command"))
"""Last levels of other topics of Home Assistant's under the same base: discovery and its birth message."""


class HomeAssistantDecoder:
    """Entities under a base topic. It remembers which of them are unavailable."""

    def __init__(self, base: str) -> None:
        self._topic = TopicTemplate.parse(f"{base}/{{domain}}/{{object}}/{{what}}")
        self.filters = [self._topic.filter]
        self._away: set[str] = set()

    def takes(self, topic: str) -> bool:
        """States and attributes of entities."""
        names = self._topic.match(topic)
        return names is not None and names["what"] not in NOT_ENTITIES

    def wants_retained(self, topic: str) -> bool:
        """An entity's unit and name."""
        return topic.endswith((f"/{UNIT}", f"/{NAME}"))

    def decode(self, message: Message) -> list[Decoded]:
        """A state, or what an attribute tells. Raises Undecodable."""
        names = self._topic.match(message.topic)
        if names is None or not message.payload or names["what"] in NOT_ENTITIES:
            return []
        device, what = legal_device(f"{names['domain']}.{names['object']}"), names["what"]
        if what == STATE:
            return self._state(device, names["domain"], _text(message.payload))
        if what in TIMES:
            return []
        value = parsed(message.payload)
        if what == UNIT:
            if not isinstance(value, str):
                return []
            return [DeviceDeclaration(device, (Metric(STATE, "float", value[:MAX_UNIT]),))]
        if what == NAME:
            return (
                [DeviceDeclaration(device, (), {NAME: value[:MAX_TAG_VALUE]})]
                if isinstance(value, str) and value
                else []
            )
        return row(device, {legal_metric(what): value}) if isinstance(value, int | float) else []

    def _state(self, device: str, domain: str, text: str) -> list[Decoded]:
        if text == UNAVAILABLE:
            if len(self._away) >= MAX_DEVICES:
                self._away.clear()
            self._away.add(device)
            return [DevicePresence(device, False)]
        found: list[Decoded] = []
        if device in self._away:
            self._away.remove(device)
            found.append(DevicePresence(device, True))
        if text.lower() not in NO_STATES:
            found.extend(row(device, {STATE: _value(domain, text)}))
        return found


def _text(payload: bytes) -> str:
    """A state as it is, or as a JSON string: the documentation says that it comes so."""
    text = text_of(payload)
    if text.startswith('"'):
        content = parsed(payload)
        return content if isinstance(content, str) else text
    return text


def _value(domain: str, text: str) -> Scalar:
    if domain in SWITCHES:
        is_on = TRUTHS.get(text)
        if is_on is None:
            raise Undecodable("type", f"the state of a {domain} is on or off, not {text[:80]!r}")
        return is_on
    value = scalar(text)
    return text if isinstance(value, bool) else value


PRESET = Preset("homeassistant", HomeAssistantDecoder)
