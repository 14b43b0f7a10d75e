"""The devices and metrics of a file, and whether a row fits to them.

A first reading from the beginning to the end settles what there is: what a metric's first value is decides, an integer
metric that has other numbers as well becomes float. A second one, with the catalogue closed, judges every row the same.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from importer.errors import FileError
from importer.row import Refusal, Row
from wire import limits
from wire.model import Metric, MetricName, MetricType, Value, device_id_problem

MAX_DEVICES = 100_000
"""As many as one hub knows at most; a file that names more has something else in its device column."""

_KIND: dict[type, MetricType] = {bool: "boolean", int: "integer", float: "float", str: "string"}
_SMALL = -(2**53)
"""Integers up to this size need no closer look; nearly all are."""


class Catalogue:
    """Metrics by device. `types` are told types of metrics, which their values have to fit, `units` their units."""

    def __init__(self, types: Mapping[str, MetricType], units: Mapping[str, str]) -> None:
        self.devices: dict[str, dict[str, MetricType]] = {}
        self._told = types
        self._units = units
        self._is_closed = False

    def close(self) -> None:
        """Nothing new comes from now on."""
        self._is_closed = True

    def metrics(self, device: str) -> list[Metric]:
        """The device's metrics."""
        return [Metric(name, type, self._units.get(name, "")) for name, type in self.devices[device].items()]

    def judge(self, row: Row) -> Refusal | None:
        """Why the row cannot be taken; None when it is, and then its metrics are known. Raises FileError."""
        known = self.devices.get(row.device)
        if known is None:
            if (problem := device_id_problem(row.device)) is not None:
                return Refusal(row.line, row.raw, "device", problem)
            if len(self.devices) >= MAX_DEVICES:
                raise FileError(
                    f"there are more than {MAX_DEVICES:,} devices in the file: is {row.device!r} (line {row.line}) one?"
                )
            known = {}
        new: dict[str, MetricType] = {}
        for name, value in row.values.items():
            kind = _KIND[type(value)]
            expected = known.get(name)
            if expected == kind or (expected == "float" and kind == "integer"):
                if kind == "string" or (kind == "integer" and not _SMALL <= value <= -_SMALL):  # type: ignore[operator]
                    refusal = _value_problem(row, name, value)
                    if refusal is not None:
                        return refusal
                continue
            if expected is None:
                refusal = self._new_problem(row, name, kind) or _value_problem(row, name, value)
                if refusal is not None:
                    return refusal
                new[name] = self._told.get(name, kind)
            elif expected == "integer" and kind == "float" and name not in self._told:
                new[name] = "float"
            else:
                return Refusal(row.line, row.raw, "type", f"{name} is {expected} in this file, and here it is {kind}")
        if new:
            if len(known | new) > limits.MAX_METRICS or (self._is_closed and not known):
                return Refusal(row.line, row.raw, "limit", _too_many(row.device))
            known.update(new)
        self.devices[row.device] = known
        return None

    def _new_problem(self, row: Row, name: str, kind: MetricType) -> Refusal | None:
        if self._is_closed:
            return Refusal(row.line, row.raw, "limit", _too_many(row.device))
        told = self._told.get(name)
        if told is not None and told != kind and not (told == "float" and kind == "integer"):
            return Refusal(row.line, row.raw, "type", f"{name} was told to be {told}, and here it is {kind}")
        try:
            msgspec.convert(name, MetricName)
        except msgspec.ValidationError:
            return Refusal(row.line, row.raw, "metric", f"{name[:80]!r} is no name of a metric: {_NAMES}")
        return None


_NAMES = (
    f"1 to {limits.MAX_METRIC_NAME} characters without control characters, and no space at the beginning or the end"
)


def _too_many(device: str) -> str:
    return f"{device} has more than {limits.MAX_METRICS} metrics; a device with more is several devices"


def _value_problem(row: Row, name: str, value: Value) -> Refusal | None:
    if isinstance(value, str):
        if len(value) * 4 > limits.MAX_STRING_VALUE_BYTES and len(value.encode()) > limits.MAX_STRING_VALUE_BYTES:
            return Refusal(
                row.line, row.raw, "value", f"{name} has a text of over {limits.MAX_STRING_VALUE_BYTES} bytes"
            )
    elif isinstance(value, int) and not limits.MIN_INTEGER <= value <= limits.MAX_INTEGER:
        return Refusal(row.line, row.raw, "value", f"{name} has an integer outside signed 64 bits")
    return None
