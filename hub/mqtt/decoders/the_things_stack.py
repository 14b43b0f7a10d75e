"""Preset for uplinks of The Things Stack, version 3. Follows its documentation, "MQTT Server" and "Data Formats".

The topic is v3/<application>/devices/<device>/up. Values come from `decoded_payload`, the result of the application's
payload formatter. The reception quality has metrics below `lora`.
"""

from __future__ import annotations

from typing import Any

from hub.mqtt.decoders.formats import flatten, parse_json
from hub.mqtt.decoders.record import MAX_DEVICES, Scalar, readings_of
from hub.mqtt.message import Decoded, DeviceDeclaration, Message, Undecodable, legal_device
from hub.mqtt.topics import TopicTemplate
from wire.limits import MAX_TAG_VALUE
from wire.timestamp import time_parser

UNITS = {"lora.rssi": "dBm", "lora.snr": "dB"}
_read_time = time_parser("iso8601")


class TheThingsStackDecoder:
    """Decoder for the end devices of all accessible applications. It remembers the tags declared for each device."""

    def __init__(self, base: str) -> None:
        self._topic = TopicTemplate.parse(f"{base}/{{application}}/devices/{{device}}/up")
        self.filters = [self._topic.filter]
        self._declared: dict[str, dict[str, str]] = {}

    def takes(self, topic: str) -> bool:
        """Return whether the topic is an uplink."""
        return self._topic.match(topic) is not None

    def wants_retained(self, topic: str) -> bool:
        """Return False: a retained message is an uplink from an earlier time."""
        return False

    def decode(self, message: Message) -> list[Decoded]:
        """Return the values of an uplink, with the time at which the network received it. Raises Undecodable."""
        names = self._topic.match(message.topic)
        if names is None or not message.payload:
            return []
        content = parse_json(message.payload)
        uplink = _object(content, "uplink_message")
        if uplink is None:
            raise Undecodable("shape", "uplink_message is missing")
        if isinstance(content, dict) and content.get("simulated") is True:
            # A test message from the console.
            return []
        device = legal_device(names["device"])
        time_ns = _time(uplink) if "received_at" in uplink else _time(content)
        values = {**flatten(_object(uplink, "decoded_payload") or {}), **_reception(uplink)}
        return [
            *self._tags(device, names["application"], _object(content, "end_device_ids") or {}),
            *readings_of(device, values, lambda name: UNITS.get(name, ""), time_ns),
        ]

    def _tags(self, device: str, application: str, ids: dict[str, Any]) -> list[Decoded]:
        tags = {"application": application[:MAX_TAG_VALUE]}
        if isinstance(ids.get("dev_eui"), str):
            tags["dev_eui"] = ids["dev_eui"][:MAX_TAG_VALUE]
        if self._declared.get(device) == tags:
            return []
        if len(self._declared) >= MAX_DEVICES:
            self._declared.clear()
        self._declared[device] = tags
        return [DeviceDeclaration(device, (), tags)]


def _reception(uplink: dict[str, Any]) -> dict[str, Scalar]:
    """Return the reception at the best gateway. The Things Stack omits fields that are 0."""
    values: dict[str, Scalar] = {}
    metadata = uplink.get("rx_metadata")
    receptions = [entry for entry in metadata if isinstance(entry, dict)] if isinstance(metadata, list) else []
    strengths = [(entry["rssi"], entry.get("snr", 0)) for entry in receptions if _is_number(entry.get("rssi"))]
    if strengths:
        rssi, snr = max(strengths, key=lambda strength: float(strength[0]))
        values["lora.rssi"] = rssi
        if _is_number(snr):
            values["lora.snr"] = snr
        values["lora.gateways"] = len(receptions)
    lora = _object(_object(_object(uplink, "settings"), "data_rate"), "lora") or {}
    if _is_number(lora.get("spreading_factor")):
        values["lora.spreading_factor"] = lora["spreading_factor"]
    count = uplink.get("f_cnt", 0)
    if _is_number(count):
        values["lora.f_cnt"] = count
    return values


def _is_number(value: object) -> bool:
    # Larger integers are not measurements and do not fit into a float.
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**63)


def _object(content: object, name: str) -> dict[str, Any] | None:
    inner = content.get(name) if isinstance(content, dict) else None
    return inner if isinstance(inner, dict) else None


def _time(content: object) -> int | None:
    text = content.get("received_at") if isinstance(content, dict) else None
    if text is None:
        return None
    try:
        return _read_time(text)
    except ValueError as error:
        raise Undecodable("time", str(error)) from None
