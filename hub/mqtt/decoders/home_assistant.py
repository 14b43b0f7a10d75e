"""Preset for Home Assistant's state stream. Follows its documentation, "MQTT Statestream".

Topics are <base>/<domain>/<object id>/state and /<attribute>. Each entity is a device (`sensor.kitchen_temperature`)
with the metric `state`. Published attributes that are numbers or booleans are metrics, too.
"""

from __future__ import annotations

from collections.abc import Sequence

from formats.names import legal_device
from formats.record import Note
from hub.mqtt.decoders.fields import DEFAULT_CONTEXT, DecoderContext, PresetFields, Remembered, parse_json, text_of
from hub.mqtt.message import AvailabilityChange, Decoded, Decoder, DeviceDeclaration, Message
from hub.mqtt.topics import TopicTemplate
from wire.limits import MAX_TAG_VALUE, MAX_UNIT
from wire.model import Metric, MetricType

STATE = "state"
UNIT = "unit_of_measurement"
NAME = "friendly_name"
UNAVAILABLE = "unavailable"
TIMES = frozenset(("last_changed", "last_updated"))

SWITCHES = frozenset(
    ("automation", "binary_sensor", "fan", "input_boolean", "light", "remote", "script", "siren", "switch", "update")
)
"""Domains with the states on and off."""

NOT_ENTITIES = frozenset(("config", "status", "set", "command"))
"""Last levels of other topics below the same base: discovery and Home Assistant's birth message."""


class HomeAssistantDecoder(Decoder):
    """Decoder for entities below a base topic. It remembers which of them are unavailable."""

    retained = (f"/{UNIT}", f"/{NAME}")

    def __init__(self, base: str, context: DecoderContext = DEFAULT_CONTEXT) -> None:
        self._fields = PresetFields(context)
        self._topic = TopicTemplate.parse(f"{base}/{{domain}}/{{object}}/{{attribute}}")
        self.filters = [self._topic.filter]
        self._unavailable: Remembered[bool] = Remembered()

    def takes(self, topic: str) -> bool:
        """Return whether the topic is a state or an attribute of an entity."""
        names = self._topic.match(topic)
        return names is not None and names["attribute"] not in NOT_ENTITIES

    def device_of(self, topic: str) -> str:
        """Return the entity that the topic names."""
        names = self._topic.match(topic)
        return "" if names is None else legal_device(f"{names['domain']}.{names['object']}")

    def forget(self, device: str, metric: str) -> None:
        """Discard what was learned about a metric."""
        self._fields.forget(device, metric)

    def notes(self) -> Sequence[Note]:
        """Return the rules that decided how messages were read."""
        return self._fields.notes()

    def decode(self, message: Message) -> list[Decoded]:
        """Return a state or an attribute. Raises Undecodable."""
        names = self._topic.match(message.topic)
        if names is None or not message.payload or names["attribute"] in NOT_ENTITIES:
            return []
        device, attribute = legal_device(f"{names['domain']}.{names['object']}"), names["attribute"]
        if attribute == STATE:
            return self._state(device, names["domain"], message)
        if attribute in TIMES:
            return []
        value = parse_json(message.payload)
        if attribute == UNIT and isinstance(value, str):
            # An entity with a unit has numbers.
            return [self._fields.declare(device, {STATE: Metric(STATE, "float", value[:MAX_UNIT])}, {})]
        if attribute == NAME and isinstance(value, str) and value:
            return [DeviceDeclaration(device, (), {NAME: value[:MAX_TAG_VALUE]})]
        if attribute in (UNIT, NAME):
            return []
        is_number = isinstance(value, int | float)
        return self._fields.read(device, {attribute: value}, message) if is_number else []

    def _state(self, device: str, domain: str, message: Message) -> list[Decoded]:
        text = _text(message.payload)
        if text == UNAVAILABLE:
            self._unavailable[device] = True
            return [AvailabilityChange(device, False)]
        found: list[Decoded] = []
        if self._unavailable.pop(device, False):
            found.append(AvailabilityChange(device, True))
        types: dict[str, MetricType] = {STATE: "boolean"} if domain in SWITCHES else {}
        return [*found, *self._fields.read(device, {STATE: text}, message, types=types, truths={})]


def _text(payload: bytes) -> str:
    """Return a state that was sent as plain text, or as a JSON string as the documentation says."""
    text = text_of(payload)
    if text.startswith('"'):
        content = parse_json(payload)
        return content if isinstance(content, str) else text
    return text
