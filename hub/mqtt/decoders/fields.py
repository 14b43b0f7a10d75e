"""Shared parts of decoders: settings and types of the hub, and the interpretation of the fields of a preset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, tzinfo
from typing import Any, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from formats.interpretation import Interpreter, KnownType
from formats.json_text import documents, flat_values
from formats.message import DecodedRow
from formats.names import legal_metric
from formats.record import FrameRefused, InputRecord, Note, Origin, Row, Schema
from formats.rules import DEFAULT_RULES, Rules
from hub.ingest.input_reader import new_metrics
from hub.mqtt.message import AvailabilityChange, Decoded, DeviceDeclaration, Message, Undecodable
from wire.model import Metric, MetricType

MAX_DEVICES = 10_000
"""Devices about which a decoder remembers something."""

ON_OFF = {"ON": True, "OFF": False}
"""Words that are booleans where nothing else is declared, in capitals as devices send them in JSON."""

WORDS = {
    form: truth
    for word, truth in (("on", True), ("off", False), ("true", True), ("false", False))
    for form in (word, word.upper(), word.capitalize())
}
"""Words that are booleans where a message is one bare value."""

V = TypeVar("V")


class DecoderContext(NamedTuple):
    """Facts that decoders get from the hub: its zone, the types that it knows, and the rules of a bridge's presets.

    `commands_from` is the first level of the topics on which devices answer commands, "" if devices get no commands.
    `topic_name` returns the name of a device in topics.
    """

    zone: tzinfo = UTC
    known_type: KnownType | None = None
    rules: Rules = DEFAULT_RULES
    commands_from: str = ""
    topic_name: Callable[[str], str] = str

    def zone_of(self, name: str) -> tzinfo:
        """Return the zone with this name; "" means that of the hub."""
        return ZoneInfo(name) if name else self.zone


DEFAULT_CONTEXT = DecoderContext()


class Remembered(dict[str, V]):
    """Bounded memory of a decoder by device. When it is full, everything is dropped and learned again."""

    def __setitem__(self, device: str, value: V) -> None:
        if len(self) >= MAX_DEVICES:
            self.clear()
        super().__setitem__(device, value)


class DeclaredTags:
    """Tags that were declared for each device, so that each is declared once."""

    def __init__(self) -> None:
        self._declared: Remembered[Mapping[str, str]] = Remembered()

    def declare(self, device: str, tags: Mapping[str, str]) -> list[Decoded]:
        """Return the declaration of these tags, or an empty list if nothing changed."""
        if not tags or self._declared.get(device) == tags:
            return []
        self._declared[device] = tags
        return [DeviceDeclaration(device, (), tags)]


def declarations(interpreter: Interpreter, rows: Iterable[Row]) -> list[Decoded]:
    """Return the declarations of metrics in these rows that are new or have changed."""
    found = new_metrics(interpreter, rows)
    return [DeviceDeclaration(device, list(metrics.values())) for device, metrics in found.items()]


class PresetFields:
    """Interpretation of the fields that a preset has found, by the rules of its bridge."""

    def __init__(self, context: DecoderContext) -> None:
        rules = replace(context.rules, format="json", device="", metric="", columns={}, time=(), time_format="auto")
        self._interpreter = Interpreter(rules, context.zone_of(rules.zone), known_type=context.known_type)
        self.has_zone = bool(rules.zone)
        """True if the settings of the bridge state the zone of its devices."""

    def forget(self, device: str, metric: str) -> None:
        """Discard what was learned about a metric."""
        self._interpreter.forget(device, metric)

    def notes(self) -> list[Note]:
        """Return the rules that decided something."""
        return self._interpreter.all_notes()

    def declare(self, device: str, metrics: Mapping[str, Metric], tags: Mapping[str, str]) -> DeviceDeclaration:
        """Return the declaration of a device that its program describes. The description wins over every guess."""
        declared = []
        for metric in metrics.values():
            self._interpreter.declare(device, metric.name, metric.type, metric.unit)
            series = self._interpreter.metrics[device].get(metric.name)
            if series is not None and series.type is not None:
                self._interpreter.series.news.pop(series, None)
                declared.append(replace(metric, type=series.type, unit=series.unit))
        return DeviceDeclaration(device, declared, tags)

    def read(
        self,
        device: str,
        values: dict[str, Any],
        message: Message,
        *,
        units: Mapping[str, str] | None = None,
        types: Mapping[str, MetricType] | None = None,
        truths: Mapping[str, bool] | None = None,
        time: object = None,
        time_format: str = "auto",
        historical: bool = False,
    ) -> list[Decoded]:
        """Return the row of these values, and those that are refused. Units and types are declared by the preset."""
        if units:
            self._update_units(device, units)
        schema = Schema(
            units or {},
            types or {},
            truths=ON_OFF if truths is None else truths,
            has_time=False,
            time_format=time_format,
        )
        record = InputRecord(1, message.payload, values, schema, time)
        rows, refusals = self._interpreter.interpret((record,), message.received_ns, Origin(device))
        return [
            *declarations(self._interpreter, rows),
            *(DecodedRow(row.device, row.values, row.time_ns, historical) for row in rows),
            *refusals,
        ]

    def _update_units(self, device: str, units: Mapping[str, str]) -> None:
        known = self._interpreter.metrics.get(device)
        for name, unit in units.items() if known else ():
            series = known.get(legal_metric(name)) if known else None
            if series is not None and unit and series.type is not None:
                self._interpreter.set_unit(series, unit)


def parse_json(payload: bytes) -> Any:
    """Return the JSON value of a payload, in which NaN and None are no value. Raises Undecodable."""
    try:
        found = documents(payload)
    except FrameRefused as error:
        raise Undecodable(error.code, error.reason) from None
    if len(found) != 1:
        raise Undecodable("syntax", f"the payload has {len(found)} JSON values instead of one")
    return found[0]


def parse_object(payload: bytes) -> dict[str, Any]:
    """Return the JSON object of a payload. Raises Undecodable."""
    content = parse_json(payload)
    if not isinstance(content, dict):
        raise Undecodable("shape", "the payload is not a JSON object of values")
    return content


def object_at(content: object, *names: str) -> dict[str, Any] | None:
    """Return the object below these names in parsed JSON, or None."""
    for name in names:
        content = content.get(name) if isinstance(content, dict) else None
    return content if isinstance(content, dict) else None


def flat(content: dict[str, Any]) -> dict[str, Any]:
    """Return all values of an object by their joined names. Raises Undecodable."""
    try:
        values, refused = flat_values(content)
    except FrameRefused as error:
        raise Undecodable(error.code, error.reason) from None
    if refused:
        raise Undecodable(refused[0].code, refused[0].reason)
    return values


def text_of(payload: bytes) -> str:
    """Return a payload as text. Raises Undecodable."""
    try:
        return payload.decode().strip("\0\ufeff")
    except UnicodeDecodeError:
        raise Undecodable("encoding", "the payload is not UTF-8") from None


def presence_of(device: str, payload: bytes, online: str = "online", offline: str = "offline") -> list[Decoded]:
    """Return the presence that a payload reports, none for an empty payload, which clears the topic.

    Raises Undecodable for any other word.
    """
    word = payload.strip(b"\0 \t\r\n").lower()
    if not word:
        return []
    if word not in (online.encode(), offline.encode()):
        raise Undecodable("presence", f"expected {online} or {offline}")
    return [AvailabilityChange(device, word == online.encode())]
