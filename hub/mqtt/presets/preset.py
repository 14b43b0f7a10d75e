"""What all presets share: how they are made, and how their values become rows and samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from hub.mqtt.payload.record import VALUE, Scalar, checked
from hub.mqtt.payload.value import read_value
from hub.mqtt.reading import Decoder, Found, Row, Sample, Undecodable, legal_metric
from wire.limits import MAX_UNIT
from wire.model import MetricType

MAX_DEVICES = 10_000
"""Devices that a preset remembers something of; what it knows of the others it learns again."""


class Preset(NamedTuple):
    """A ready-made subscription. `base` is the topic that it is under unless another is given.

    `reach`: 0 where all of its topics are under the base; the more, the more topics of others have the same form.
    """

    base: str
    decoder: Callable[[str], Decoder]
    reach: int = 0


def switched(value: Scalar) -> Scalar:
    """ON and OFF, in capitals as devices write them, as true and false."""
    return value == "ON" if value in ("ON", "OFF") else value


def is_online(payload: bytes, online: bytes, offline: bytes) -> bool | None:
    """Whether a device is there by the two words that say so; None for an empty payload, which clears the topic.

    Raises Undecodable for any other word.
    """
    word = payload.strip().lower()
    if word not in (online, offline, b""):
        raise Undecodable("presence", f"expected {online.decode()} or {offline.decode()}")
    return word == online if word else None


def row(device: str, values: Mapping[str, Scalar], time_ns: int | None = None) -> list[Found]:
    """The values as one row; nothing where there are none. Raises Undecodable."""
    named = {legal_metric(name): checked(name, value) for name, value in values.items()}
    return [Row(device, named, time_ns)] if named else []


def samples(
    device: str, values: Mapping[str, Scalar], unit_of: Callable[[str], str], time_ns: int | None = None
) -> list[Found]:
    """The values as samples with their units. Raises Undecodable."""
    return [
        Sample(device, legal_metric(name), checked(name, value), time_ns, unit_of(name)[:MAX_UNIT])
        for name, value in values.items()
    ]


def bare(name: str, payload: bytes, type: MetricType | None = None) -> dict[str, Scalar]:
    """The payload's one value under a name; empty where it says that there is none. Raises Undecodable."""
    records = read_value(payload, type)
    return {name: records[0].values[VALUE]} if records else {}


def under(base: str, topic: str) -> str | None:
    """What follows on a base topic; None where the topic is not below it."""
    return topic[len(base) + 1 :] if topic.startswith(f"{base}/") else None
