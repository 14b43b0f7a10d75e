"""Preset for Home Assistant's state stream. Follows its documentation, "MQTT Statestream".

Topics are <base>/<domain>/<object id>/state and /<attribute>. Each entity is a device (`sensor.kitchen_temperature`)
with the metric `state`. Published attributes that are numbers or booleans are metrics, too.
"""

from __future__ import annotations

from formats.names import legal_device, legal_metric
from hub.mqtt.decoders.formats import parse_json
from hub.mqtt.decoders.record import TRUTHS, Remembered, Scalar, decode_text, parse_scalar, row_of
from hub.mqtt.message import Decoded, Decoder, DeviceDeclaration, DevicePresence, Message, Undecodable
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
"""Domains with the states on and off."""

NOT_ENTITIES = frozenset(("config", "status", "set", "command"))
"""Last levels of other topics below the same base: discovery and Home Assistant's birth message."""


class HomeAssistantDecoder(Decoder):
    """Decoder for entities below a base topic. It remembers which of them are unavailable."""

    retained = (f"/{UNIT}", f"/{NAME}")

    def __init__(self, base: str) -> None:
        self._topic = TopicTemplate.parse(f"{base}/{{domain}}/{{object}}/{{attribute}}")
        self.filters = [self._topic.filter]
        self._unavailable: Remembered[bool] = Remembered()

    def takes(self, topic: str) -> bool:
        """Return whether the topic is a state or an attribute of an entity."""
        names = self._topic.match(topic)
        return names is not None and names["attribute"] not in NOT_ENTITIES

    def decode(self, message: Message) -> list[Decoded]:
        """Return a state or an attribute. Raises Undecodable."""
        names = self._topic.match(message.topic)
        if names is None or not message.payload or names["attribute"] in NOT_ENTITIES:
            return []
        device, attribute = legal_device(f"{names['domain']}.{names['object']}"), names["attribute"]
        if attribute == STATE:
            return self._state(device, names["domain"], _text(message.payload))
        if attribute in TIMES:
            return []
        value = parse_json(message.payload)
        if attribute == UNIT and isinstance(value, str):
            return [DeviceDeclaration(device, (Metric(STATE, "float", value[:MAX_UNIT]),))]
        if attribute == NAME and isinstance(value, str) and value:
            return [DeviceDeclaration(device, (), {NAME: value[:MAX_TAG_VALUE]})]
        if attribute in (UNIT, NAME):
            return []
        return row_of(device, {legal_metric(attribute): value}) if isinstance(value, int | float) else []

    def _state(self, device: str, domain: str, text: str) -> list[Decoded]:
        if text == UNAVAILABLE:
            self._unavailable[device] = True
            return [DevicePresence(device, False)]
        found: list[Decoded] = []
        if self._unavailable.pop(device, False):
            found.append(DevicePresence(device, True))
        if text.lower() not in NO_STATES:
            found.extend(row_of(device, {STATE: _value(domain, text)}))
        return found


def _text(payload: bytes) -> str:
    """Return a state that was sent as plain text, or as a JSON string as the documentation says."""
    text = decode_text(payload)
    if text.startswith('"'):
        content = parse_json(payload)
        return content if isinstance(content, str) else text
    return text


def _value(domain: str, text: str) -> Scalar:
    if domain in SWITCHES:
        is_on = TRUTHS.get(text)
        if is_on is None:
            raise Undecodable("type", f"the state of a {domain} must be on or off, not {text[:80]!r}")
        return is_on
    value = parse_scalar(text)
    return text if isinstance(value, bool) else value
