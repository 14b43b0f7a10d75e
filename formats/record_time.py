"""Time of a record: the fields that contain it, and what becomes of one that cannot be read. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from formats.record import InputRecord, RecordRefused, Schema, shown
from formats.rules import Rules
from formats.series import SeriesValues
from formats.times import TimeReader, TimeRefused

TIME_FIELDS = ("time", "timestamp", "ts", "datetime", "Time", "Timestamp", "_time", "TIME", "TIMESTAMP", "uptime_ms")
"""Fields that contain the time of a record by default."""

UPTIME_FIELD = "uptime_ms"
"""Field with the time since the start of the device: a value, unless the rules read it as the time."""

TIME_NAMES = frozenset(TIME_FIELDS)
_NONE: frozenset[str] = frozenset()


def count_values(values: Mapping[str, object], schema: Schema) -> int:
    """Return the number of values of a record that is not read: without nulls, the default time and the identity."""
    found = values.keys() - schema.identity
    time = next((name for name in TIME_FIELDS if name in found and name != UPTIME_FIELD), "")
    return sum(name != time and values[name] is not None for name in found)


class RecordTimes:
    """Reader of the times of the records of one input. What decided is noted in `series`."""

    def __init__(self, rules: Rules, times: TimeReader, series: SeriesValues) -> None:
        self._rules = rules
        self._times = times
        self._series = series

    def read(self, record: InputRecord, device: str, now_ns: int) -> tuple[int | None, bool, frozenset[str]]:
        """Return the time, whether it is odd, and the fields that contain it. Raises RecordRefused."""
        schema, values = record.schema, record.values
        fields: Sequence[str] = ()
        raw = record.time
        form = schema.time_format
        if type(raw) is int and form == "ns" and self._times.is_plain_ns(raw, now_ns):
            return raw, False, _NONE
        if raw is None and self._rules.time:
            fields = self._rules.time
            texts = [values.get(name) for name in fields]
            if any(text is None or text == "" for text in texts):
                missing = next(name for name in fields if values.get(name) in (None, ""))
                raise RecordRefused("time", f"the record has no {missing}, which contains the time", "time")
            raw = texts[0] if len(texts) == 1 else " ".join(map(str, texts))
        if raw is not None:
            try:
                moment = self._times.read(raw, now_ns, device, values, form, schema.zone)
            except TimeRefused as error:
                raise RecordRefused("time", error.reason, error.setting or "time_format", shown(raw)) from None
            return *self._marked(moment.time_ns, moment.is_odd, raw), frozenset(fields)
        return self._among(record, device, now_ns) if schema.has_time else (None, False, _NONE)

    def _among(self, record: InputRecord, device: str, now_ns: int) -> tuple[int | None, bool, frozenset[str]]:
        """Return the time in the first of the usual fields that has one. Raises RecordRefused if none of them has.

        The others are values, and so is a field that the rules name as one to store.
        """
        values = record.values
        if TIME_NAMES.isdisjoint(values):
            return None, False, _NONE
        refused: RecordRefused | None = None
        for name in TIME_FIELDS:
            raw = values.get(name)
            if raw is None or raw == "":
                continue
            if name == UPTIME_FIELD and self._rules.time_format != UPTIME_FIELD:
                continue
            try:
                moment = self._times.read(raw, now_ns, device, values, "", record.schema.zone)
            except TimeRefused as error:
                if name in self._rules.columns:
                    self._series.note("time", name, f"the field {name!r} is a value: {error.reason}")
                    continue
                reason = f"the field {name!r} has no time: {error.reason}; `columns` can store it as a value"
                refused = refused or RecordRefused("time", reason, error.setting or "time_format", shown(raw))
                continue
            return *self._marked(moment.time_ns, moment.is_odd, raw), frozenset((name,))
        if refused is not None:
            raise refused
        return None, False, _NONE

    def _marked(self, time_ns: int, is_odd: bool, raw: object) -> tuple[int, bool]:
        if is_odd:
            self._series.note(
                "time_odd",
                "",
                f"the time {shown(raw)} is before 1990 or more than a day ahead; such times are kept and marked",
                'time_format = "since_2000" or time_format = "uptime_ms"',
            )
        return time_ns, is_odd
