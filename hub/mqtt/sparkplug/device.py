"""Metrics that a birth defined, of an edge node itself or of one of its devices. Each is one device of the hub."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from formats.names import legal_device, legal_metric
from formats.record import MAX_RAW_BYTES, RefusalCode, RefusedInput, shown
from hub.mqtt.decoders.fields import PresetFields
from hub.mqtt.message import Decoded, DeviceDeclaration, Message
from hub.mqtt.sparkplug.payload import (
    METRIC_TYPES,
    DataType,
    Reason,
    Scalar,
    SparkplugMetric,
    SparkplugPayload,
    Unusable,
)
from wire import model
from wire.limits import MAX_DESCRIPTION, MAX_METRICS, MAX_TAG_VALUE, MAX_UNIT

BD_SEQ = "bdSeq"
REBIRTH = "Node Control/Rebirth"

CONTROLS = frozenset(
    {
        BD_SEQ,
        REBIRTH,
        "Node Control/Reboot",
        "Node Control/Next Server",
        "Device Control/Rebirth",
        "Device Control/Reboot",
    }
)
"""Metrics that are commands or belong to the protocol. Their values are not readings."""

UNIT = "engUnit"
QUALITY = ("Quality", "quality")
GOOD = 192
"""Quality of a valid value. The others are 0 (bad) and 500 (stale)."""

NS_PER_MS = 1_000_000


class MetricDefinition(NamedTuple):
    """Metric that a birth defined. `excluded` is the reason why its values are not stored, or empty."""

    metric: str
    datatype: int
    unit: str
    excluded: str


class SparkplugDevice:
    """Edge node or device of one. `born` means that its birth in the current session was received, `online` is its last
    reported presence."""

    __slots__ = ("_counts", "_defined", "_fields", "born", "id", "online", "tags")

    def __init__(self, group: str, node: str, device: str, fields: PresetFields, counts: Counter[str]) -> None:
        self.id = hub_device(group, node, device)
        names = {"sparkplug_group": group, "sparkplug_node": node, "sparkplug_device": device}
        self.tags = {key: name[:MAX_TAG_VALUE] for key, name in names.items() if name}
        self.born = False
        self.online = False
        self._fields = fields
        self._counts = counts
        # By name and by alias.
        self._defined: dict[str | int | None, MetricDefinition] = {}

    def define(self, payload: SparkplugPayload) -> DeviceDeclaration:
        """Replace the metrics by those of a birth, and return their declaration."""
        self._defined = {}
        declared: dict[str, model.Metric] = {}
        for metric in payload.metrics:
            if metric.name is None:
                self._counts["no_name"] += 1
                continue
            definition = _definition(metric, metric.name, room=len(declared) < MAX_METRICS)
            if not definition.excluded and metric.name not in self._defined:
                description = metric.description[:MAX_DESCRIPTION]
                kind = METRIC_TYPES[definition.datatype]
                metric_name = definition.metric
                declared[metric_name] = model.Metric(metric_name, kind, definition.unit, description)
            self._defined[metric.name] = definition
            if metric.alias is not None:
                self._defined[metric.alias] = definition
        return self._fields.declare(self.id, declared, self.tags)

    def definition_of(self, name: str) -> MetricDefinition | None:
        """Return what the birth defined by this name."""
        return self._defined.get(name)

    def knows_by_name(self, payload: SparkplugPayload) -> bool:
        """Return whether every metric has its name and a birth defined it, so that none can be confused."""
        return all(metric.name in self._defined for metric in payload.metrics)

    def readings(self, payload: SparkplugPayload, message: Message) -> tuple[list[Decoded], list[str]]:
        """Return the readings of a payload, and the metrics that no birth defined.

        Values that are not those of their type are counted and refused; others that are not stored are counted.
        """
        found: list[Decoded] = []
        unknown: list[str] = []
        rows: dict[tuple[int | None, bool], dict[str, Scalar]] = {}
        for metric in payload.metrics:
            key = metric.name if metric.name is not None else metric.alias
            definition = self._defined.get(key)
            if definition is None:
                unknown.append(repr(metric.name) if metric.name is not None else f"alias {metric.alias}")
            elif reason := definition.excluded or _reason_to_exclude(metric, definition):
                self._counts[reason] += 1
            elif not metric.is_null:
                try:
                    value = metric.value(metric.datatype or definition.datatype)
                except Unusable as unusable:
                    self._counts[unusable.reason] += 1
                    if unusable.reason in _REFUSED:
                        found.append(self._refusal(metric, definition, unusable.reason, message))
                    continue
                time_ms = payload.time_ms if metric.time_ms is None else metric.time_ms
                values = rows.setdefault((time_ms, metric.is_historical), {})
                if definition.metric in values:
                    # A second value of the metric with the same time, as devices with a buffer send it.
                    found += self._row(
                        rows.pop((time_ms, metric.is_historical)), time_ms, message, historical=metric.is_historical
                    )
                    values = rows.setdefault((time_ms, metric.is_historical), {})
                values[definition.metric] = value
        for (time_ms, historical), values in rows.items():
            found += self._row(values, time_ms, message, historical=historical)
        return found, unknown

    def _row(
        self, values: dict[str, Scalar], time_ms: int | None, message: Message, *, historical: bool
    ) -> list[Decoded]:
        return self._fields.read(
            self.id, values, message, truths={}, time=time_ms, time_format="ms", historical=historical
        )

    def _refusal(
        self, metric: SparkplugMetric, definition: MetricDefinition, reason: Reason, message: Message
    ) -> RefusedInput:
        code, sentence = _REFUSED[reason]
        raw = message.payload[:MAX_RAW_BYTES]
        return RefusedInput(1, raw, code, sentence, definition.metric, shown(metric.raw), device=self.id)


_REFUSED: dict[Reason, tuple[RefusalCode, str]] = {
    "out_of_range": ("number", "the value is outside the range of its data type, or of what the hub stores"),
    "wrong_type": ("type", "the value has not the data type that the birth declares"),
}


def hub_device(group: str, node: str, device: str = "") -> str:
    """Return the hub's id of an edge node (`group.node`) or of a device of one (`group.node.device`)."""
    names = [group, node, device] if device else [group, node]
    # Dots inside names could merge two devices. No name contains "/", so that text is unique.
    return legal_device(("/" if any("." in name for name in names) else ".").join(names))


def _definition(metric: SparkplugMetric, name: str, *, room: bool) -> MetricDefinition:
    datatype = metric.datatype or DataType.UNKNOWN
    reasons = {
        "control": name in CONTROLS,
        "transient": metric.is_transient,
        "unsupported_type": datatype not in METRIC_TYPES,
        "too_many_metrics": not room,
    }
    excluded = next((reason for reason, applies in reasons.items() if applies), "")
    unit = metric.properties.get(UNIT)
    if not isinstance(unit, str):
        unit = "ms" if datatype == DataType.DATETIME else ""
    return MetricDefinition(legal_metric(name), datatype, unit[:MAX_UNIT], excluded)


def _reason_to_exclude(metric: SparkplugMetric, definition: MetricDefinition) -> str:
    """Return the reason not to store this value of a stored metric, or an empty text."""
    if metric.is_transient:
        return "transient"
    if metric.datatype and METRIC_TYPES.get(metric.datatype) != METRIC_TYPES[definition.datatype]:
        return "type_changed"
    return "bad_quality" if any(metric.properties.get(key, GOOD) != GOOD for key in QUALITY) else ""
