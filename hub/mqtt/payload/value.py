"""Payloads that are one value: a number, true or false, or a text."""

from __future__ import annotations

import re

from hub.mqtt.payload.record import VALUE, Record, Scalar, checked, text_of
from hub.mqtt.reading import Undecodable
from wire.model import MetricType

TRUTHS = {"true": True, "on": True, "false": False, "off": False}
NO_VALUE = frozenset(("", "nan", "null"))
"""What devices send that have nothing to say: a cleared topic, a sensor without a reading."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def read_value(payload: bytes, type: MetricType | None = None) -> list[Record]:
    """One record with VALUE, none where the payload says that there is no value. `type` None: what it looks like.

    Raises Undecodable.
    """
    text = text_of(payload)
    if type == "string":
        return [Record({VALUE: checked(VALUE, text)})] if text else []
    text = text.strip()
    if text.lower() in NO_VALUE:
        return []
    value = scalar(text)
    if type == "boolean" and value in (0.0, 1.0):
        value = bool(value)
    if type == "integer" and isinstance(value, float) and value.is_integer():
        # Not by way of a float where there is no need: it has no room for 64 bits.
        value = int(text) if text.lstrip("+-").isdecimal() else int(value)
    if type is not None and KINDS[type] is not value.__class__:
        raise Undecodable("type", f"{_short(text)} is no {type}")
    return [Record({VALUE: checked(VALUE, value, typed=type == "integer")}, typed=type == "integer")]


KINDS: dict[MetricType, type] = {"float": float, "integer": int, "boolean": bool, "string": str}


def scalar(text: str) -> Scalar:
    """A number where the text is one, true or false where it is one of TRUTHS, else the text itself."""
    if _NUMBER.fullmatch(text):
        return float(text)
    return TRUTHS.get(text.lower(), text)


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
