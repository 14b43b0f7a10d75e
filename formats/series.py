"""Series of an input, and the conversion of values to the type of their series. Values are refused one by one."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass

from formats.record import Note, Schema, shown
from formats.rules import toml_key, toml_value
from formats.values import (
    EXACT,
    INFINITE,
    Column,
    LargeNumber,
    ValueRefused,
    cleaned,
    integer_of,
    is_changed,
    truth_of,
    value_kind,
    whole_of,
    written_number,
)
from wire.limits import MAX_INTEGER, MAX_STRING_VALUE_BYTES, MIN_INTEGER
from wire.model import MetricType, Value

MAX_NOTES = 200
"""Distinct notes of one input; a person reads fewer."""

MAX_WORD = 40
"""Characters of a refused text that can be a word for no value, such as `defect`; longer ones are sentences."""

TYPE_WORDS: dict[str, str] = {"float": "a number", "integer": "an integer", "boolean": "a boolean", "string": "a text"}
"""Words of sentences for a value of a type."""


@dataclass(slots=True, eq=False)
class InputSeries:
    """One metric of one device: its name, type, unit and label, and the decisions about its values.

    `label` is the name as it was sent, if it was repaired. `type` is None before the first value. `is_declared`: the
    type comes from the rules or the format. `is_plain`: its texts are numbers in the notation of programs. `is_known`:
    the hub has the type, and no setting changes it. `known_unit` is the unit that the hub has.
    """

    device: str
    metric: str
    label: str
    unit: str
    type: MetricType | None
    is_declared: bool
    is_ruled: bool
    column: Column
    is_plain: bool = False
    is_known: bool = False
    known_unit: str = ""


class SeriesValues:
    """Converter of the values of all series of one input.

    `decimal` is the decimal mark that most of them have. `news` are series that are new or have a new type or unit; the
    caller clears it. `revision` changes when the type of a series does. `notes` are the rules that decided something.
    """

    def __init__(self, decimal: str) -> None:
        self.decimal = decimal
        self.news: dict[InputSeries, None] = {}
        self.revision = 0
        self.notes: dict[tuple[str, str], Note] = {}

    def note(self, code: str, subject: str, sentence: str, setting: str = "") -> None:
        """Note a rule that decided something about a subject, once."""
        if (code, subject) not in self.notes and len(self.notes) < MAX_NOTES:
            self.notes[code, subject] = Note(code, sentence, setting)

    def set_type(self, series: InputSeries, type: MetricType) -> None:
        """Set the type of a series."""
        if series.type != type:
            self.revision += series.type is not None
            series.type = type
            self.news[series] = None

    def set_unit(self, series: InputSeries, unit: str) -> None:
        """Set the unit of a series."""
        if series.unit != unit:
            series.unit = unit
            self.news[series] = None

    def value(self, series: InputSeries, raw: object, schema: Schema) -> Value:
        """Return the value of a reading, None for no value. Raises ValueRefused."""
        if isinstance(raw, str):
            if isinstance(raw, LargeNumber):
                raise ValueRefused("number", f"{shown(raw)} is too large for a number")
            value = self._from_text(series, raw, schema)
        elif isinstance(raw, bool):
            value = raw
        elif isinstance(raw, float):
            value = raw if math.isfinite(raw) else None
        elif isinstance(raw, int):
            value = raw
        elif raw is None:
            value = None
        else:
            raise ValueRefused("type", "the value is neither a number, a boolean nor a text")
        if value is None:
            return None
        return self._typed(series, value, raw)

    def _from_text(self, series: InputSeries, raw: str, schema: Schema) -> Value:
        text = raw.strip("\0\ufeff")
        if (schema.typed or series.is_declared) and series.type in ("string", None):
            return text or None
        column = series.column
        text = cleaned(text)
        if text in schema.truths and series.type in (None, "boolean"):
            return schema.truths[text]
        lowered = text.lower()
        if lowered in column.no_value or (lowered in INFINITE and column.kind != "text"):
            return None
        if series.type is None and column.kind is None:
            column.learn((raw,))
            column.adopt(self.decimal)
        if series.type == "boolean" or (series.type is None and column.kind == "boolean"):
            truth = truth_of(text, declared=series.is_declared)
            if truth is None:
                if not series.is_declared and text in ("0", "1"):
                    return text == "1"
                raise ValueRefused("type", f"{shown(text)} is neither true nor false", _type_setting(series, text))
            return truth
        if series.type == "string" or (series.type is None and column.kind == "text"):
            return raw.strip("\0\ufeff").strip()
        try:
            number = column.number(text)
        except ValueRefused as error:
            written = written_number(text) if error.code == "unit" and series.known_unit else None
            if written is None:
                raise
            raise other_unit(series.device, series.metric, written.unit, series.known_unit) from None
        if number is None:
            raise ValueRefused("type", f"{shown(text)} is not a number", _type_setting(series, text))
        if column.unit and not series.unit:
            self.set_unit(series, column.unit)
        if series.type == "integer":
            return integer_of(number, text) if series.is_ruled or number.is_integer() else number
        if not -EXACT < number < EXACT and (whole := whole_of(text)) is not None:
            _check_digits(series, whole, number)
        return number

    def _typed(self, series: InputSeries, value: float | int | bool | str, raw: object) -> Value:
        """Return the value in the type of its series, which the first value sets. Raises ValueRefused."""
        expected = series.type
        if isinstance(value, bool):
            if expected == "boolean":
                return value
            if expected is None:
                self.set_type(series, "boolean")
                return value
            if expected == "string" and series.is_ruled:
                return "true" if value else "false"
        elif isinstance(value, str):
            if expected in ("string", None):
                self.set_type(series, "string")
                return _checked_text(value)
        elif expected in ("float", None):
            number = _as_float(value)
            if type(value) is int and not -EXACT < number < EXACT:
                _check_digits(series, value, number)
            self.set_type(series, "float")
            return number
        elif expected == "integer":
            return self._integer(series, value)
        elif expected == "boolean" and series.is_declared and value in (0, 1):
            return bool(value)
        elif expected == "string" and series.is_declared:
            return _checked_text(str(raw))
        raise ValueRefused(
            "type",
            f"{series.metric} is {TYPE_WORDS[expected]}, and {shown(value)} is {value_kind(value)}",
            _type_setting(series, raw),
        )

    def _integer(self, series: InputSeries, value: float | int) -> Value:
        if isinstance(value, float):
            if value.is_integer() and abs(value) < 2**53:
                return int(value)
            if series.is_ruled:
                raise ValueRefused(
                    "type", f"{shown(value)} is not an integer", f'types.{toml_key(series.metric)} = "float"'
                )
            self.set_type(series, "float")
            self.note("widened", series.metric, f"{series.metric} was an integer and is a float from now on")
            return value
        if not MIN_INTEGER <= value <= MAX_INTEGER:
            raise ValueRefused("number", f"{shown(value)} is outside signed 64 bits")
        return value


def mark_notes(decimal: str, thousands: str) -> list[Note]:
    """Return the note about the marks in numbers that other numbers of the input have shown."""
    found = {"decimal": decimal, "thousands": thousands}
    words = {"decimal": f"{decimal!r} is the decimal mark", "thousands": f"{thousands!r} separates thousands"}
    names = [name for name, mark in found.items() if mark]
    sentence = f"in numbers, {' and '.join(words[name] for name in names)}: numbers with one meaning decide"
    return [Note("numbers", sentence, "\n".join(f"{name} = {toml_value(found[name])}" for name in names))]


def other_unit(device: str, metric: str, unit: str, known: str) -> ValueRefused:
    """Return the refusal of a value with another unit than that of the hub, where a person can change it."""
    names = " ".join(shlex.quote(name) for name in (device or "DEVICE", metric))
    return ValueRefused(
        "unit",
        f"the unit is {unit}, and {metric} has {known} in the hub: send values in {known}",
        f"run `hub metric describe {names} --unit {shlex.quote(unit)}`",
    )


def _type_setting(series: InputSeries, raw: object) -> str:
    """Return what makes a value a text, and for a short text also what makes it no value."""
    if series.is_known and series.type != "string":
        device, metric = shlex.quote(series.device or "DEVICE"), shlex.quote(series.metric)
        change = f"run `hub metric retype {device} {metric} string`"
    else:
        change = f'types.{toml_key(series.metric)} = "string"'
    word = cleaned(raw) if isinstance(raw, str) else ""
    if not word or len(word) > MAX_WORD or written_number(word) is not None:
        return change
    return f"no_value = [{toml_value(word)}] or {change}"


def _check_digits(series: InputSeries, whole: int, number: float) -> None:
    """Raise ValueRefused for a whole number that a float would change."""
    if is_changed(whole, number):
        metric = toml_key(series.metric)
        types = ("integer", "string") if MIN_INTEGER <= whole <= MAX_INTEGER else ("string",)
        raise ValueRefused(
            "number",
            f"{shown(str(whole))} has more digits than a float keeps",
            " or ".join(f'types.{metric} = "{type}"' for type in types),
        )


def _as_float(value: float | int) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ValueRefused("number", "the number is too large") from None


def _checked_text(text: str) -> str:
    try:
        size_bytes = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError:
        raise ValueRefused("encoding", "the text contains half of a surrogate pair") from None
    if size_bytes > MAX_STRING_VALUE_BYTES:
        raise ValueRefused("size", f"the text is longer than {MAX_STRING_VALUE_BYTES:,} bytes")
    return text
