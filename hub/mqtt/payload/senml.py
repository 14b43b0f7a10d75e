"""Sensor Measurement Lists in JSON. Follows RFC 8428.

A record's name is made of the base name and its own. Where both are there the base name is the device's and the other
the metric's; a name in one piece is divided at its last "/", or stands for a device with one value.
"""

from __future__ import annotations

from typing import Any

from hub.mqtt.payload.json import parsed
from hub.mqtt.payload.moment import time_reader
from hub.mqtt.payload.record import VALUE, Record, Scalar, check_count
from hub.mqtt.reading import Undecodable

VERSION = 10
"""The version of the format that this is (RFC 8428, section 4.4); a newer one must be refused."""

ABSOLUTE_FROM_SECONDS = 2**28
"""Smaller times count from now on (RFC 8428, section 4.5.3)."""

UNITS = {"Cel": "°C", "%RH": "%", "%EL": "%", "Ohm": "Ω", "deg": "°", "/": "", "count": ""}
"""Units whose symbols in SenML are not those that are shown."""

_VALUES = ("v", "vs", "vb", "vd")
_KNOWN = frozenset(("bn", "bt", "bu", "bv", "bs", "bver", "n", "u", "s", "t", "ut", *_VALUES))
_seconds = time_reader("s")


def read_senml(payload: bytes, received_ns: int) -> list[Record]:
    """A record for each of the pack, with `base` among its names: the device's part. Raises Undecodable.

    `received_ns` is what relative times count from; a record without any time has none.
    """
    pack = parsed(payload)
    if not isinstance(pack, list):
        raise Undecodable("shape", "SenML is a list of records")
    check_count(len(pack))
    found: list[Record] = []
    base: dict[str, Any] = {}
    for record in pack:
        if not isinstance(record, dict):
            raise Undecodable("shape", "SenML is a list of records, each of them an object")
        for label in record:
            # Such a label changes what the record means.
            if label.endswith("_") and label not in _KNOWN:
                raise Undecodable("label", f"the label {label[:80]!r} has to be understood, and is not")
        base.update(
            {label: value for label, value in record.items() if label in ("bn", "bt", "bu", "bv", "bs", "bver")}
        )
        if base.get("bver", VERSION) != VERSION and _number(base, "bver") > VERSION:
            raise Undecodable("version", f"SenML of version {base['bver']} is newer than {VERSION}")
        found.extend(_resolved(record, base, received_ns))
    return found


def _resolved(record: dict[str, Any], base: dict[str, Any], received_ns: int) -> list[Record]:
    values = _values(record, base)
    if not values:
        return []
    device, metric = _divided(_text(base, "bn"), _text(record, "n"))
    seconds = _number(base, "bt") + _number(record, "t")
    time_ns: int | None = None
    try:
        if seconds >= ABSOLUTE_FROM_SECONDS:
            time_ns = _seconds(seconds)
        elif seconds:
            time_ns = received_ns + int(seconds * 1_000_000_000)
            if time_ns < 0:
                raise ValueError(f"{seconds} seconds from now is before 1970")
    except (ValueError, OverflowError) as error:
        raise Undecodable("time", str(error)) from None
    unit = _text(record, "u") or _text(base, "bu")
    return [
        Record({metric + suffix: value}, time_ns, {"base": device}, "" if suffix else UNITS.get(unit, unit))
        for suffix, value in values.items()
    ]


def _values(record: dict[str, Any], base: dict[str, Any]) -> dict[str, Scalar]:
    """What a record measured, by what is added to the metric's name: its value, and its sum."""
    kinds = [kind for kind in _VALUES if kind in record]
    if len(kinds) > 1:
        raise Undecodable("shape", f"a record has more than one value: {', '.join(kinds)}")
    values: dict[str, Scalar] = {}
    if kinds == ["v"]:
        values[""] = _number(base, "bv") + _number(record, "v")
    elif kinds == ["vb"]:
        if not isinstance(record["vb"], bool):
            raise Undecodable("type", "vb is neither true nor false")
        values[""] = record["vb"]
    elif kinds:
        values[""] = _text(record, kinds[0])
    if "s" in record:
        values[".sum"] = _number(base, "bs") + _number(record, "s")
    return values


def _divided(base: str, name: str) -> tuple[str, str]:
    """The device's part of a name and the metric's."""
    if base and name:
        return base, name
    whole = base or name
    if not whole:
        raise Undecodable("name", "a record has neither a name nor a base name")
    device, _, metric = whole.rpartition("/")
    return (device, metric) if device and metric else (whole, VALUE)


def _number(record: dict[str, Any], label: str) -> float | int:
    value = record.get(label, 0)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Undecodable("type", f"{label} is no number")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise Undecodable("out_of_range", f"{label} is outside signed 64 bits")
    return value


def _text(record: dict[str, Any], label: str) -> str:
    value = record.get(label, "")
    if not isinstance(value, str):
        raise Undecodable("type", f"{label} is no text")
    return value
