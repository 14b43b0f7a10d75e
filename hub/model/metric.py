"""Types of metrics, and changes of a metric by a person. Pure."""

from __future__ import annotations

from msgspec import Struct

from wire.model import MetricType, Value


class MetricChange(Struct, frozen=True):
    """Change of a metric by a person. None leaves a field as it is."""

    name: str | None = None
    type: MetricType | None = None
    unit: str | None = None
    description: str | None = None


def accepts(stored: MetricType, declared: MetricType) -> bool:
    """Return whether a series of the type `stored` has room for every value of the type `declared`."""
    return stored == declared or (stored, declared) == ("float", "integer")


def widens(stored: MetricType, declared: MetricType) -> bool:
    """Return whether a series of the type `stored` becomes one of the type `declared`, which can hold its readings."""
    return (stored, declared) == ("integer", "float")


def is_value(value: Value, type: MetricType) -> bool:
    """Return whether this is a value of the kind of a type: a text, a boolean or a number."""
    if type == "string":
        return isinstance(value, str)
    return isinstance(value, bool) == (type == "boolean") and isinstance(value, bool | int | float)
