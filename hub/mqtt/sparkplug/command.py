"""Commands to Sparkplug edge nodes and devices: the metrics of a birth that can be set, and the message that sets one.
Pure.

Source: Sparkplug 3.0, chapters 5 (commands) and 6 (payloads). A command has QoS 0, no sequence number, and the alias
instead of the name where the birth has given one. The specification does not say which metrics can be set: every one
of a birth can, except those that a property marks as read-only, as Ignition does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from formats.message import DecodedRow
from formats.names import legal_device
from hub.mqtt.decoders.command import command_name, declared_command, is_set, parameter
from hub.mqtt.message import (
    CommandDelivery,
    Confirmation,
    Decoded,
    DeviceDeclaration,
    Message,
    Publish,
    ReportedOutcome,
    Undeliverable,
)
from hub.mqtt.sparkplug.device import NS_PER_MS, REBIRTH, MetricDefinition
from hub.mqtt.sparkplug.payload import (
    METRIC_TYPES,
    DataType,
    SparkplugMetric,
    SparkplugPayload,
    Unusable,
    encode,
    integer_range,
    metric,
)
from hub.mqtt.topics import SPARKPLUG
from wire.command import CommandDeclaration, ParameterValue
from wire.device import Command
from wire.limits import MAX_INTEGER

VALUE = "value"
"""Name of the only parameter of a command that sets a metric."""

CONTROLS = {
    REBIRTH: CommandDeclaration("rebirth", "Send all births again."),
    "Node Control/Reboot": CommandDeclaration("reboot", "Restart the edge node.", confirm=True),
    "Node Control/Next Server": CommandDeclaration("next_server", "Connect to the next broker.", confirm=True),
    "Device Control/Rebirth": CommandDeclaration("rebirth", "Send the birth of the device again."),
    "Device Control/Reboot": CommandDeclaration("reboot", "Restart the device.", confirm=True),
}
"""Commands for the controls that a birth may have. A birth confirms them."""


class MetricCommand(NamedTuple):
    """A command that sets the metric `name` of a birth. `metric` is its name in the hub, "" for a control."""

    declaration: CommandDeclaration
    name: str
    alias: int | None
    datatype: int
    metric: str = ""


class CommandTopics(NamedTuple):
    """Topics of an edge node or a device: its commands, its data and its births."""

    command: str
    data: str
    birth: str

    @classmethod
    def of(cls, group: str, node: str, device: str) -> CommandTopics:
        """Return the topics; `device` is empty for the edge node itself."""
        kind, names = ("D", f"{node}/{device}") if device else ("N", node)
        return cls(*(f"{SPARKPLUG}/{group}/{kind}{word}/{names}" for word in ("CMD", "DATA", "BIRTH")))


def commands_of(
    metrics: Iterable[SparkplugMetric], definition_of: Callable[[str], MetricDefinition | None]
) -> dict[str, MetricCommand]:
    """Return the commands of a birth by name. `definition_of` returns what it defined by name."""
    named = {found.name: found for found in metrics if found.name is not None}
    settable = {name: found for name, found in named.items() if name not in CONTROLS and not _is_read_only(found)}
    plain = Counter(_setter(name) for name in settable)
    commands: dict[str, MetricCommand] = {}
    for name, found in named.items():
        datatype = found.datatype or DataType.UNKNOWN
        if name in CONTROLS:
            if datatype == DataType.BOOLEAN:
                control = CONTROLS[name]
                commands[control.name] = MetricCommand(control, name, found.alias, datatype)
            continue
        definition = definition_of(name) if name in settable else None
        if definition is None or definition.excluded:
            continue
        # Two metrics whose names differ in illegal characters only get a hash.
        setter = _setter(name) if plain[_setter(name)] == 1 else legal_device(f"set {name}")
        declaration = _declaration(setter, found, definition)
        if declaration is not None:
            commands[setter] = MetricCommand(declaration, name, found.alias, datatype, definition.metric)
    return commands


def delivery_of(
    wanted: MetricCommand, command: Command, *, device: str, topics: CommandTopics, now_ns: int
) -> CommandDelivery:
    """Return the message for a command, and what confirms it. `device` is the hub's id. Raises Undeliverable."""
    value: ParameterValue = command.parameters[VALUE] if wanted.metric else True
    time_ms = now_ns // NS_PER_MS
    name = wanted.name if wanted.alias is None else None
    try:
        changed = metric(wanted.datatype, value, name=name, alias=wanted.alias, time_ms=time_ms)
    except Unusable as error:
        sentence = f"{value!r} does not fit the data type {DataType(wanted.datatype).name} ({error.reason})"
        raise Undeliverable("wrong_parameters", sentence) from None
    publish = Publish(topics.command, encode(SparkplugPayload(time_ms, None, (changed,))))

    def outcome(message: Message, decoded: Sequence[Decoded]) -> ReportedOutcome | None:
        if not wanted.metric:
            is_born = any(isinstance(found, DeviceDeclaration) and found.device == device for found in decoded)
            return ReportedOutcome("succeeded") if is_born else None
        for row in decoded:
            if isinstance(row, DecodedRow) and row.device == device and not row.historical:
                reported = row.values.get(wanted.metric)
                if is_set(value, reported):
                    return ReportedOutcome("succeeded", result={wanted.metric: reported})
        return None

    confirmation = Confirmation(frozenset((topics.data, topics.birth)), wanted.name, outcome)
    return CommandDelivery(publish, confirmation, qos=0)


def _setter(name: str) -> str:
    return command_name(f"set_{name}")


def _is_read_only(metric: SparkplugMetric) -> bool:
    properties: Mapping[str, Any] = {key.lower(): value for key, value in metric.properties.items()}
    return (
        properties.get("readonly") is True
        or properties.get("writable") is False
        or str(properties.get("accessrights", "")).lower() == "read_only"
    )


def _declaration(setter: str, found: SparkplugMetric, definition: MetricDefinition) -> CommandDeclaration | None:
    kind = METRIC_TYPES[definition.datatype]
    low, high = integer_range(definition.datatype) if kind == "integer" else (None, None)
    if high is not None and high > MAX_INTEGER:
        high = None
    described = parameter(VALUE, kind, min=low, max=high, unit=definition.unit)
    return declared_command(setter, found.description, [described])
