"""Interpretation: fields to readings, by one set of rules. Values are refused one by one, each with its reason."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from datetime import tzinfo
from typing import Any, NamedTuple, cast

from formats.line_protocol import IDENTITY, MEASUREMENT
from formats.names import Template, legal_device, legal_metric, lookup_in
from formats.record import (
    MAX_RAW_BYTES,
    VALUE,
    Entry,
    InputRecord,
    Note,
    Origin,
    RecordRefused,
    RefusedInput,
    Row,
    Schema,
    lines_of,
    shown,
)
from formats.record_time import TIME_FIELDS, TIME_NAMES, UPTIME_FIELD, RecordTimes
from formats.rules import Rules
from formats.series import TYPE_WORDS, InputSeries, SeriesValues, mark_notes, other_unit
from formats.times import TimeReader
from formats.values import (
    EXACT,
    NO_VALUE,
    PLAIN,
    Column,
    ValueRefused,
    cleaned,
    is_same_unit,
    stored_unit,
    written_number,
)
from wire.limits import MAX_METRICS, MAX_UNIT
from wire.model import MetricType, Value
from wire.text import plural

MAX_DEVICES = 100_000
"""Devices of one input, the bound of one hub. An input with more has something else in the field of the device."""

MAX_PLACES = 10_000
"""Combinations of names whose device and metrics are remembered: 5 MB. When it is full, all are dropped."""

MAX_CANDIDATES = 20
"""Names that a sentence proposes."""

_LINE_IDENTITY = frozenset(IDENTITY)
_NONE: frozenset[str] = frozenset()

_REPLACED = "\ufffd".encode()
"""Mark in a frame that was decoded, for bytes that its encoding does not have."""

_NO_FIELDS: dict[str, Any] = {}
_NUMBERS = frozenset((float, int))
_NO_NUMBER = math.nan

KnownType = Callable[[str, str], MetricType | None]
"""Return the type that a metric of a device has in the hub, None for a metric that the hub does not know."""

KnownUnit = Callable[[str, str], str]
"""Return the unit that a metric of a device has in the hub, "" if values of any unit may come."""


class PlainFields(NamedTuple):
    """The series of the fields of a record without its time, None for those that are not stored; the place of the time,
    -1 for none."""

    series: Sequence[InputSeries | None]
    time: int


class LinePlace(NamedTuple):
    """The device of lines with one measurement and one set of tags, and the series of their fields, None for those that
    are not stored."""

    device: str
    series: Sequence[InputSeries | None]


class Interpreter:
    """Interpreter of the records of one input, in their order.

    `zone` is that of times without an offset. `device` is the device of records that name none, and `names` are names
    from outside of the records. `known_type` returns the types that the hub has already: they win over every guess.
    `known_unit` returns the units that it has: a value with another one is refused.
    `metrics` has the series by device and metric, `labels` the original name of each device that was repaired, and
    `device_candidates` names of the first record without a device that can name it.
    """

    def __init__(
        self,
        rules: Rules,
        zone: tzinfo,
        *,
        device: str = "",
        names: Mapping[str, str] | None = None,
        known_type: KnownType | None = None,
        known_unit: KnownUnit | None = None,
    ) -> None:
        self.metrics: dict[str, dict[str, InputSeries]] = {}
        self.labels: dict[str, str] = {}
        self.device_candidates: list[str] = []
        self.series = SeriesValues(rules.decimal)
        self.notes = self.series.notes
        self.no_values = 0
        self.readings = 0
        self.times = TimeReader(rules.time_format, zone, rules.ambiguous)
        self._record_times = RecordTimes(rules, self.times, self.series)
        self._rules = rules
        self._is_decoded = rules.encoding not in ("auto", "utf-8", "utf8")
        self._zone = zone
        self._default_device = device
        self._outside = self._origin = Origin(names=dict(names or {}))
        self._known_type = known_type
        self._known_unit = known_unit
        self._device = Template(rules.device) if rules.device else None
        self._metric = Template(rules.metric) if rules.metric else None
        self._templates: dict[str, Template] = {}
        self._no_value = NO_VALUE | {word.strip().lower() for word in rules.no_value}
        self._by_field: dict[str, dict[str, dict[str, InputSeries]]] = {}
        self._kept = (b"", b"", 1)
        self._places: dict[str, tuple[str, frozenset[str], str]] = {}

    def learn(self, entries: Iterable[Entry]) -> None:
        """Decide from these records what the rules leave open: number marks, kinds, units, order of day and month."""
        columns: dict[int, tuple[InputSeries, list[str]]] = {}
        times = []
        for record in entries:
            if isinstance(record, RefusedInput):
                continue
            if isinstance(record.time, str):
                times.append(record.time)
            try:
                device, used = self._identify(record)
                prefix = self._prefix(record, used)
            except RecordRefused:
                continue
            for name, raw in record.values.items():
                if name in used or not isinstance(raw, str):
                    continue
                if name in TIME_FIELDS or name in self._rules.time:
                    times.append(raw)
                try:
                    series = self._series_of(device, prefix, name, raw, record.schema)
                except ValueRefused:
                    continue
                if series is not None and series.type != "string":
                    columns.setdefault(id(series), (series, []))[1].append(raw)
        self.times.learn(times)
        for series, texts in columns.values():
            series.column.learn(texts)
        found = Counter(series.column.decimal for series, _ in columns.values() if series.column.decimal)
        if not self.series.decimal and found:
            self.series.decimal = found.most_common(1)[0][0]
        for series, _ in columns.values():
            series.column.adopt(self.series.decimal)

    def plain_metrics(
        self, names: Sequence[str], schema: Schema, *, has_time: bool = False
    ) -> tuple[str, list[str | None]] | None:
        """Return the device and the metrics of fields that are all plain numbers; None if one is not.

        None is also the answer if a field has another meaning: a part of a name, or the time, unless the format has
        found that elsewhere (`has_time`).
        """
        rules = self._rules
        templates = (self._device, self._metric)
        if not has_time and (rules.time or not TIME_NAMES.isdisjoint(names)):
            return None
        if schema.identity or schema.metric or self._outside.names:
            return None
        if any(template is not None and template.fields for template in templates):
            return None
        device = legal_device(rules.device or schema.device or self._default_device or "-")
        device = device if rules.device or schema.device or self._default_device else ""
        fields = self._by_field.get(device, {}).get("{field}", {})
        found = [fields.get(name) for name in names]
        if not all(
            name not in rules.columns if series is None else series.is_plain
            for name, series in zip(names, found, strict=True)
        ):
            return None
        metrics = [None if series is None else series.metric for series in found]
        stored = [metric for metric in metrics if metric is not None]
        return (device, metrics) if stored and len(set(stored)) == len(stored) else None

    def plain_fields(self, record: InputRecord, device: str) -> PlainFields | None:
        """Return the series of the record of numbers that was read last, if the next one with its fields has them, too.

        It has not if a field or a name of the record is a part of the device or of a metric. None then.
        """
        values, schema, origin = record.values, record.schema, self._origin
        outside = {"field", *origin.names}
        templates = (self._device, self._metric)
        if record.names or record.time is not None or schema.metric or UPTIME_FIELD in values:
            return None
        if (schema.time_format, schema.zone) != ("auto", None):
            return None
        if any(template is not None and not template.fields <= outside for template in templates):
            return None
        if self._device is None and not origin.device and not values.keys().isdisjoint(schema.identity):
            return None
        times = self._rules.time or [name for name in TIME_FIELDS if name in values]
        if len(times) > 1:
            return None
        prefix = self._prefix(record, _NONE)
        known = self._by_field.get(device, {}).get(prefix, {})
        series = [known.get(name) for name in values if name not in times]
        columns = self._rules.columns
        names = [name for name in values if name not in times]
        metrics = [found.metric for found in series if found is not None]
        if len(set(metrics)) < len(metrics) or not all(
            (columns and name not in columns) if found is None else found.type == "float"
            for name, found in zip(names, series, strict=True)
        ):
            return None
        return PlainFields(series, list(values).index(times[0]) if times else -1)

    def line_place(self, key: str, names: Sequence[str]) -> LinePlace | None:
        """Return the place of records with this `key` and these fields and with a time; None if a record with the key
        has not been read, or one of its fields is new or has another meaning."""
        place = self._places.get(key)
        if place is None or (self._device is None and not _LINE_IDENTITY.isdisjoint(names)):
            return None
        device, _, prefix = place
        known = self._by_field.get(device, {}).get(prefix, {})
        series = [known.get(name) for name in names]
        columns = self._rules.columns
        if any(found is None and (not columns or name in columns) for name, found in zip(names, series, strict=True)):
            return None
        metrics = [found.metric for found in series if found is not None]
        return LinePlace(device, series) if len(set(metrics)) == len(metrics) else None

    def all_notes(self) -> list[Note]:
        """Return the rules that decided something: first those about times, which are counted."""
        times, notes = self.times, []
        if times.local:
            zone = self._rules.zone or str(self._zone)
            sentence = f"{plural(times.local, 'time')} without an offset: read in the zone {zone}"
            notes.append(Note("zone", sentence, f'zone = "{zone}"'))
        if times.date_order and times.time_format == "auto":
            sentence = f"dates have the {times.date_order.partition('_')[0]} first"
            notes.append(Note("dates", sentence, f'time_format = "{times.date_order}"'))
        if times.ambiguous:
            sentence = f"{plural(times.ambiguous, 'local time')} in the hour that occurs twice: clocks were put back"
            notes.append(Note("ambiguous", sentence, f'ambiguous = "{self._rules.ambiguous}"'))
        if times.odd:
            sentence = f"{plural(times.odd, 'time')} before 1990 or more than a day ahead: kept and marked"
            notes.append(Note("time_odd", sentence))
        marks = self.number_marks()
        if marks is not None and not (self._rules.decimal or self._rules.thousands):
            notes += mark_notes(*marks)
        return [*notes, *self.notes.values()]

    def number_marks(self) -> tuple[str, str] | None:
        """Return the decimal mark and the mark of thousands, if they are not those of programs and all series agree."""
        columns = [series.column for known in self.metrics.values() for series in known.values()]
        found = {(column.decimal, column.thousands) for column in columns if column.decimal or column.thousands}
        decimals, thousands = ({mark for pair in found if (mark := pair[place])} for place in (0, 1))
        if len(decimals) > 1 or len(thousands) > 1 or found <= {(".", "")}:
            return None
        return next(iter(decimals), ""), next(iter(thousands), "")

    def interpret(
        self, entries: Iterable[Entry], now_ns: int, origin: Origin | None = None
    ) -> tuple[list[Row], list[RefusedInput]]:
        """Return the rows and the refusals of these records."""
        self._origin = origin or self._outside
        rows: list[Row] = []
        refusals: list[RefusedInput] = []
        for entry in entries:
            if isinstance(entry, RefusedInput):
                refusals.append(entry)
                continue
            try:
                row = self._row(entry, now_ns, refusals)
            except RecordRefused as error:
                refusals.append(
                    RefusedInput(
                        entry.line,
                        entry.raw[:MAX_RAW_BYTES],
                        error.code,
                        error.reason,
                        "",
                        error.value,
                        error.setting,
                        lines=lines_of(entry.raw),
                    )
                )
                continue
            if row.values:
                self.readings += len(row.values)
                rows.append(row)
        return rows, refusals

    def _row(self, record: InputRecord, now_ns: int, refusals: list[RefusedInput]) -> Row:
        if self._is_decoded and _REPLACED in record.raw and record.has_replaced:
            raise RecordRefused("encoding", f"the record is not in {self._rules.encoding}", "encoding")
        place = self._places.get(record.key) if record.key and self._origin is self._outside else None
        if place is None or not (self._device is not None or record.values.keys().isdisjoint(record.schema.identity)):
            device, used = self._identify(record)
            time_ns, is_odd, time_fields = self._record_times.read(record, device, now_ns)
            prefix = self._prefix(record, used)
            if record.key and place is None:
                self._remember_place(record, device, used, prefix)
        else:
            device, used, prefix = place
            time_ns, is_odd, time_fields = self._record_times.read(record, device, now_ns)
        known = self._by_field.get(device, _NO_FIELDS).get(prefix, _NO_FIELDS)
        # A name beside the fields that is a part of the device leaves the field of that name a value.
        skipped = used.difference(record.names) | time_fields if used or time_fields else _NONE
        if record.refused:
            refusals += self._refused_fields(record, device, prefix, skipped)
        values: dict[str, Value] = {}
        units = record.schema.units
        for name, raw in record.values.items():
            if name in skipped:
                continue
            series = known.get(name)
            has_unit = not units or series is None or units.get(name, series.unit) == series.unit
            if series is not None and series.metric not in values and has_unit:
                # Most values are such numbers; the whole way below costs five times as much.
                number = _NO_NUMBER
                if series.type == "float":
                    if type(raw) is float:
                        number = raw
                    elif type(raw) is str and series.is_plain and PLAIN(raw):
                        number = float(raw)
                elif series.type == "integer" and type(raw) is int:
                    number = raw
                if -EXACT < number < EXACT:
                    values[series.metric] = number
                    continue
            metric = name
            try:
                if series is None:
                    series = self._series_of(device, prefix, name, raw, record.schema)
                if series is None:
                    continue
                metric = series.metric
                if unit := units.get(name):
                    self._check_unit(series, unit)
                value = self.series.value(series, raw, record.schema)
                series.is_plain = series.type == "float" and series.column.decimal == "."
                if value is None:
                    self.no_values += 1
                elif metric in values:
                    raise ValueRefused("ambiguous", f"two values of the record are the metric {metric}", "metric")
                else:
                    values[metric] = value
            except ValueRefused as error:
                if series is None:
                    metric = legal_metric(self._wanted(prefix, name, record.schema))
                refusals.append(self._refusal(record, error, metric, raw, device))
        return Row(record.line, record.raw, device, time_ns, values, is_odd)

    def _refused_fields(self, record: InputRecord, device: str, prefix: str, skipped: Set[str]) -> list[RefusedInput]:
        """Return the refusals of the fields that the format has refused. Raises RecordRefused if one is the time or a
        part of the device, which are `skipped` among the values."""
        refusals = []
        for refused in record.refused:
            if refused.name in skipped:
                raise RecordRefused(refused.code, refused.reason, refused.setting, shown(refused.value))
            if not self._rules.columns or refused.name in self._rules.columns:
                metric = legal_metric(self._wanted(prefix, refused.name, record.schema))
                error = ValueRefused(refused.code, refused.reason, refused.setting)
                refusals.append(self._refusal(record, error, metric, refused.value, device))
        return refusals

    def _refusal(self, record: InputRecord, error: ValueRefused, metric: str, raw: object, device: str) -> RefusedInput:
        """Return the refusal of one value of a record. Those of one record share its bytes: a line can have many."""
        if self._kept[0] is not record.raw:
            self._kept = record.raw, record.raw[:MAX_RAW_BYTES], lines_of(record.raw)
        _, frame, lines = self._kept
        return RefusedInput(
            record.line, frame, error.code, error.reason, metric, shown(raw), error.setting, device, lines
        )

    def _wanted(self, prefix: str, name: str, schema: Schema) -> str:
        """Return the name of a field's metric before it is repaired."""
        if name == VALUE and prefix == f"{self._origin.metric}.{{field}}":
            return self._origin.metric
        return prefix.replace("{field}", self._rules.columns.get(name) or schema.metrics.get(name, name))

    def _remember_place(self, record: InputRecord, device: str, used: frozenset[str], prefix: str) -> None:
        """Remember the device and the beginning of the metrics for the next record with these names."""
        names = record.names.keys() | {"field"}
        templates = (self._device, self._metric)
        if self._origin is not self._outside or record.schema.metric or not used <= names:
            return
        if all(template is None or template.fields <= names for template in templates):
            if len(self._places) >= MAX_PLACES:
                self._places.clear()
            self._places[record.key] = device, used, prefix

    # Identity and names.

    def _names_of(self, record: InputRecord) -> Mapping[str, str]:
        outside = self._origin.names
        return {**outside, **record.names} if outside else record.names

    def _identify(self, record: InputRecord) -> tuple[str, frozenset[str]]:
        """Return the device and the fields that are parts of its name or of a metric's name. Raises RecordRefused."""
        names = self._names_of(record)
        used = _NONE if self._metric is None else self._metric.fields.difference(names)
        if self._device is not None:
            try:
                name = self._device.fill(lookup_in(names, record.values))
            except KeyError as error:
                place = error.args[0]
                known = ", ".join([*names, *record.values][:MAX_CANDIDATES])
                raise RecordRefused(
                    "device", f"the record has no {place}, which names the device; it has {known}", "device"
                ) from None
            used |= self._device.fields.difference(self._origin.names)
        elif self._origin.device:
            name = self._origin.device
        else:
            name = ""
            for field in record.schema.identity:
                value = names.get(field) or record.values.get(field)
                if isinstance(value, str):
                    name = cleaned(value)
                elif type(value) in _NUMBERS:
                    name = lookup_in(names, record.values)(field) or ""
                if name:
                    used |= {field}
                    break
            name = name or record.schema.device or self._default_device
        if not name:
            self._note_device(record, names)
            return "", used
        device = legal_device(name)
        if device not in self.metrics:
            if len(self.metrics) >= MAX_DEVICES:
                raise RecordRefused(
                    "limit", f"the input has more than {MAX_DEVICES:,} devices: is {name!r} one?", "device"
                )
            self.metrics[device] = {}
            if device != name:
                self.labels[device] = name
                self.series.note("name", device, f"the device {name!r} has the id {device}; its name is the label")
        return device, used

    def _note_device(self, record: InputRecord, names: Mapping[str, str]) -> None:
        if ("device", "") in self.notes:
            return
        self.metrics.setdefault("", {})
        texts = (name for name, value in record.values.items() if isinstance(value, str) and _is_name(value))
        candidates = self.device_candidates = [*names, *texts][:MAX_CANDIDATES]
        sentence = 'no column, tag or field names the device: set device = "ID" for one device'
        if candidates:
            names_text = ", ".join(candidates)
            sentence += f', or device = "{{NAME}}" for a device for each value of one of: {names_text}'
        self.series.note("device", "", sentence, 'device = "ID"')

    def _prefix(self, record: InputRecord, used: frozenset[str]) -> str:
        """Return the part of a metric's name that comes from names beside the fields.

        With a template it is the name with "{field}" left in it. Raises RecordRefused.
        """
        template = self._metric
        if template is None and record.schema.metric:
            template = self._templates.get(record.schema.metric)
            if template is None:
                template = self._templates[record.schema.metric] = Template(record.schema.metric)
        if template is not None:
            lookup = lookup_in(self._names_of(record), record.values)
            try:
                return template.fill(lambda name: "{field}" if name == "field" else lookup(name))
            except KeyError as error:
                raise RecordRefused(
                    "metric", f"the record has no {error.args[0]}, which the name of the metric contains", "metric"
                ) from None
        parts = [self._origin.metric] if self._origin.metric else []
        if MEASUREMENT in record.names:
            # Tags distinguish series: two disks of one host are two metrics.
            tags = [value for name, value in sorted(record.names.items()) if name != MEASUREMENT and name not in used]
            parts += [record.names[MEASUREMENT], *tags]
        return ".".join([*parts, "{field}"]) if parts else "{field}"

    def _series_of(self, device: str, prefix: str, name: str, raw: object, schema: Schema) -> InputSeries | None:
        """Return the series of a field, None for a field that is not stored. Raises ValueRefused."""
        fields = self._by_field.setdefault(device, {}).setdefault(prefix, {})
        found = fields.get(name)
        if found is not None:
            return found
        rules = self._rules
        if rules.columns and name not in rules.columns:
            return None
        wanted = self._wanted(prefix, name, schema)
        metric = legal_metric(wanted)
        known = self.metrics.setdefault(device, {})
        series = known.get(metric)
        if series is None:
            if len(known) >= MAX_METRICS:
                raise ValueRefused("limit", f"the device has more than {MAX_METRICS:,} metrics", "columns")
            declared = schema.types.get(name) or ("integer" if schema.integers and type(raw) is int else None)
            series = self._new_series(device, wanted, declared, schema.units.get(name, ""), schema.words)
        fields[name] = series
        return series

    def _new_series(
        self, device: str, wanted: str, declared: MetricType | None, unit: str, words: bool = False
    ) -> InputSeries:
        """Return a new series. The settings decide its type and unit, else what is declared for it."""
        rules = self._rules
        metric = legal_metric(wanted)
        ruled = rules.types.get(metric)
        type = ruled or declared
        is_declared = type is not None
        known = None if self._known_type is None else self._known_type(device, metric)
        if known is not None and type != known and (known, type) != ("integer", "float"):
            if is_declared:
                sentence = (
                    f"{metric} is {TYPE_WORDS[known]} in the hub, and {TYPE_WORDS[cast('str', type)]} is declared"
                )
                self.series.note("type", f"{device} {metric}", sentence, f"hub metric retype {device} {metric} {type}")
            type, is_declared = known, False
        known_unit = "" if self._known_unit is None else self._known_unit(device, metric)
        ruled_unit = rules.units.get(metric, "")[:MAX_UNIT]
        if known_unit and ruled_unit and not is_same_unit(ruled_unit, known_unit):
            # A record that declares another unit is refused by its value.
            raise other_unit(device, metric, ruled_unit, known_unit)
        unit = known_unit or ruled_unit or unit[:MAX_UNIT]
        kind = "text" if rules.numbers == "text" and not words else None
        column = Column(
            rules.decimal, rules.thousands, words, cast("None", kind), stored_unit(known_unit) or unit, self._no_value,
            is_fixed=bool(rules.decimal or rules.thousands),
        )  # fmt: skip
        label = wanted if metric != wanted else ""
        series = InputSeries(device, metric, label, unit, type, is_declared, is_declared and bool(ruled), column)
        series.is_known = known is not None
        series.known_unit = known_unit
        self.metrics.setdefault(device, {})[metric] = series
        self.series.news[series] = None
        if label:
            self.series.note("name", metric, f"the metric {wanted[:80]!r} is stored as {metric}; its name is the label")
        return series

    def declare(self, device: str, metric: str, type: MetricType, unit: str = "") -> None:
        """Declare a metric that a description of the device names. A type in the settings or in the hub wins."""
        known = self.metrics.setdefault(device, {})
        series = known.get(metric)
        if series is None:
            if len(known) < MAX_METRICS and len(self.metrics) <= MAX_DEVICES:
                self._new_series(device, metric, type, unit)
            return
        if (not series.is_declared and series.type in (None, "integer")) or series.type == type:
            self.series.set_type(series, type)
            series.is_declared = True
        if unit:
            self.set_unit(series, unit)

    def set_unit(self, series: InputSeries, unit: str) -> None:
        """Set the unit that a description or a format reports now. A unit in the settings wins."""
        if series.metric not in self._rules.units:
            self.series.set_unit(series, unit[:MAX_UNIT])

    def _check_unit(self, series: InputSeries, declared: str) -> None:
        """Give a series without a unit the one that a record declares. Raises ValueRefused for another one."""
        unit = declared[:MAX_UNIT]
        if series.unit == unit or series.metric in self._rules.units:
            return
        if series.known_unit:
            if is_same_unit(series.known_unit, unit):
                return
            raise other_unit(series.device, series.metric, unit, series.known_unit)
        if series.unit and series.type is not None:
            raise ValueRefused("unit", f"the unit is {unit}, and {series.metric} has {series.unit}")
        series.column.unit = unit
        self.series.set_unit(series, unit)

    def forget(self, device: str, *metrics: str) -> None:
        """Discard what was learned about metrics whose type or name changed in the hub, or that it did not get."""
        known = self.metrics.get(device, {})
        forgotten = {known.pop(metric) for metric in metrics if metric in known}
        if forgotten:
            for fields in self._by_field.get(device, {}).values():
                for field in [field for field, series in fields.items() if series in forgotten]:
                    del fields[field]
            for series in forgotten:
                self.series.news.pop(series, None)
            self.series.revision += 1


def _is_name(text: str) -> bool:
    """Return whether a text can name a device: it has a letter, and is no number with a unit."""
    return any(map(str.isalpha, text)) and written_number(cleaned(text)) is None
