"""What a birth defined: an edge node's own metrics, or those of one of its devices. Each is one device of the hub."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from hub.mqtt.message import DecodedReading, DeviceDeclaration, legal_device, legal_metric
from hub.mqtt.sparkplug.payload import METRIC_TYPES, DataType, SparkplugMetric, SparkplugPayload, Unusable
from wire import model
from wire.limits import MAX_DESCRIPTION, MAX_METRICS, MAX_TAG_VALUE, MAX_TIME_NS, MAX_UNIT

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
"""Metrics that are buttons or belong to the protocol: their values tell nothing of the device."""

UNIT = "engUnit"
QUALITY = ("Quality", "quality")
GOOD = 192
"""The quality of a value that may be believed; the others are 0, bad, and 500, stale."""

NS_PER_MS = 1_000_000


class MetricDefinition(NamedTuple):
    """A metric that a birth defined, and whether its values are for the hub."""

    metric: str
    datatype: int
    unit: str
    left_out: str


class SparkplugDevice:
    """An edge node or a device of it. `born` says that its birth of the node's present session was seen, `online` what
    was last told of its presence."""

    __slots__ = ("_by_alias", "_by_name", "_counts", "born", "id", "online", "tags")

    def __init__(self, group: str, node: str, device: str, counts: Counter[str]) -> None:
        self.id = hub_device(group, node, device)
        names = {"sparkplug_group": group, "sparkplug_node": node, "sparkplug_device": device}
        self.tags = {key: name[:MAX_TAG_VALUE] for key, name in names.items() if name}
        self.born = False
        self.online = False
        self._counts = counts
        self._by_name: dict[str, MetricDefinition] = {}
        self._by_alias: dict[int, MetricDefinition] = {}

    def define(self, payload: SparkplugPayload) -> DeviceDeclaration:
        """Takes the birth's metrics in the place of those that were; what the hub is to know of them."""
        self._by_name, self._by_alias = {}, {}
        declared: list[model.Metric] = []
        for metric in payload.metrics:
            if metric.name is None:
                self._counts["no_name"] += 1
                continue
            definition = _definition(metric, room=len(declared) < MAX_METRICS)
            if not definition.left_out and metric.name not in self._by_name:
                description = metric.description[:MAX_DESCRIPTION]
                kind = METRIC_TYPES[definition.datatype]
                declared.append(model.Metric(definition.metric, kind, definition.unit, description))
            self._by_name[metric.name] = definition
            if metric.alias is not None:
                self._by_alias[metric.alias] = definition
        return DeviceDeclaration(self.id, declared, self.tags)

    def knows_by_name(self, payload: SparkplugPayload) -> bool:
        """Whether every metric tells its own name and a birth defined it, so that none can be taken for another."""
        return all(metric.name in self._by_name for metric in payload.metrics)

    def samples(self, payload: SparkplugPayload) -> tuple[list[DecodedReading], list[str]]:
        """The readings of a payload, and the metrics in it that no birth defined. What is neither is counted."""
        found: list[DecodedReading] = []
        unknown: list[str] = []
        for metric in payload.metrics:
            definition = self._definition_of(metric)
            if definition is None:
                unknown.append(repr(metric.name) if metric.name is not None else f"alias {metric.alias}")
            elif reason := definition.left_out or _doubt(metric, definition):
                self._counts[reason] += 1
            elif not metric.is_null:
                try:
                    found.append(self._sample(metric, definition, payload.time_ms))
                except Unusable as unusable:
                    self._counts[unusable.reason] += 1
        return found, unknown

    def _definition_of(self, metric: SparkplugMetric) -> MetricDefinition | None:
        if metric.name is not None:
            return self._by_name.get(metric.name)
        return self._by_alias.get(metric.alias) if metric.alias is not None else None

    def _sample(
        self, metric: SparkplugMetric, definition: MetricDefinition, published_ms: int | None
    ) -> DecodedReading:
        datatype = metric.datatype or definition.datatype
        value = metric.value(datatype)
        time_ms = published_ms if metric.time_ms is None else metric.time_ms
        time_ns = None if time_ms is None else time_ms * NS_PER_MS
        if time_ns is not None and time_ns > MAX_TIME_NS:
            raise Unusable("out_of_range")
        kind = METRIC_TYPES[datatype]
        return DecodedReading(self.id, definition.metric, value, time_ns, definition.unit, kind, metric.is_historical)


def hub_device(group: str, node: str, device: str = "") -> str:
    """The hub's id of an edge node (`group.node`) or of a device of it (`group.node.device`)."""
    names = [group, node, device] if device else [group, node]
    if any("." in name for name in names):
        # A dot inside a name would make two devices one. No topic has "/" in a name, so this is as unique as the topic.
        return legal_device("/".join(names))
    return legal_device(".".join(names))


def _definition(metric: SparkplugMetric, *, room: bool) -> MetricDefinition:
    name = metric.name or ""
    datatype = metric.datatype or DataType.UNKNOWN
    left_out = ""
    if name in CONTROLS:
        left_out = "control"
    elif metric.is_transient:
        left_out = "transient"
    elif datatype not in METRIC_TYPES:
        left_out = "unsupported_type"
    elif not room:
        left_out = "too_many_metrics"
    return MetricDefinition(legal_metric(name), datatype, _unit(metric.properties, datatype), left_out)


def _unit(properties: Mapping[str, object], datatype: int) -> str:
    told = properties.get(UNIT)
    if isinstance(told, str):
        return told[:MAX_UNIT]
    return "ms" if datatype == DataType.DATETIME else ""


def _doubt(metric: SparkplugMetric, definition: MetricDefinition) -> str:
    """Why the value is not for the hub although its metric is; empty where it is."""
    if metric.is_transient:
        return "transient"
    if metric.datatype and METRIC_TYPES.get(metric.datatype) != METRIC_TYPES[definition.datatype]:
        return "type_changed"
    for key in QUALITY:
        if metric.properties.get(key, GOOD) != GOOD:
            return "bad_quality"
    return ""
