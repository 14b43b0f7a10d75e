"""Preset for uplinks of The Things Stack, version 3. Follows its documentation, "MQTT Server" and "Data Formats".

The topic is v3/<application>/devices/<device>/up. Values come from `decoded_payload`, the result of the application's
payload formatter. The reception quality has metrics below `lora`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from formats.names import legal_device
from formats.record import Note
from hub.mqtt.decoders.fields import (
    DEFAULT_CONTEXT,
    DeclaredTags,
    DecoderContext,
    PresetFields,
    flat,
    object_at,
    parse_object,
)
from hub.mqtt.message import Decoded, Decoder, Message, Undecodable
from hub.mqtt.topics import TopicTemplate
from wire.limits import MAX_TAG_VALUE

UNITS = {"lora.rssi": "dBm", "lora.snr": "dB"}


class TheThingsStackDecoder(Decoder):
    """Decoder for the end devices of all accessible applications. It remembers the tags declared for each device."""

    def __init__(self, base: str, context: DecoderContext = DEFAULT_CONTEXT) -> None:
        self._fields = PresetFields(context)
        self._topic = TopicTemplate.parse(f"{base}/{{application}}/devices/{{device}}/up")
        self.filters = [self._topic.filter]
        self._declared = DeclaredTags()

    def takes(self, topic: str) -> bool:
        """Return whether the topic is an uplink."""
        return self._topic.match(topic) is not None

    def device_of(self, topic: str) -> str:
        """Return the end device that the topic names."""
        names = self._topic.match(topic)
        return "" if names is None else legal_device(names["device"])

    def forget(self, device: str, metric: str) -> None:
        """Discard what was learned about a metric."""
        self._fields.forget(device, metric)

    def notes(self) -> Sequence[Note]:
        """Return the rules that decided how messages were read."""
        return self._fields.notes()

    def decode(self, message: Message) -> list[Decoded]:
        """Return the values of an uplink, with the time at which the network received it. Raises Undecodable."""
        names = self._topic.match(message.topic)
        if names is None or not message.payload:
            return []
        content = parse_object(message.payload)
        uplink = object_at(content, "uplink_message")
        if uplink is None:
            raise Undecodable("shape", "uplink_message is missing")
        if content.get("simulated") is True:
            # A test message from the console.
            return []
        device = legal_device(names["device"])
        time = uplink.get("received_at", content.get("received_at"))
        values = {**flat(object_at(uplink, "decoded_payload") or {}), **_reception(uplink)}
        tags = {"application": names["application"][:MAX_TAG_VALUE]}
        match content.get("end_device_ids"):
            case {"dev_eui": str(dev_eui)}:
                tags["dev_eui"] = dev_eui[:MAX_TAG_VALUE]
        readings = self._fields.read(device, values, message, units=UNITS, truths={}, time=time)
        return [*self._declared.declare(device, tags), *readings]


def _reception(uplink: dict[str, Any]) -> dict[str, float]:
    """Return the reception at the best gateway. The Things Stack omits fields that are 0."""
    values: dict[str, float] = {}
    metadata = uplink.get("rx_metadata")
    receptions = [entry for entry in metadata if isinstance(entry, dict)] if isinstance(metadata, list) else []
    strengths = [(entry["rssi"], entry.get("snr", 0)) for entry in receptions if _is_number(entry.get("rssi"))]
    if strengths:
        rssi, snr = max(strengths, key=lambda strength: float(strength[0]))
        values["lora.rssi"] = rssi
        if _is_number(snr):
            values["lora.snr"] = snr
        values["lora.gateways"] = len(receptions)
    lora = object_at(uplink, "settings", "data_rate", "lora") or {}
    if _is_number(lora.get("spreading_factor")):
        values["lora.spreading_factor"] = lora["spreading_factor"]
    count = uplink.get("f_cnt", 0)
    if _is_number(count):
        values["lora.f_cnt"] = count
    return values


def _is_number(value: object) -> bool:
    # Larger integers are not measurements and do not fit into a float.
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**63)
