"""Frames, records, refusals and notes: the values that the steps of reading hand to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import Literal, NamedTuple, TypeAlias

from wire.model import MetricType, Value

MAX_RAW_BYTES = 4096
"""Bytes of a frame that a refusal keeps: a person recognises the line, and a quarantine stays small."""

MAX_VALUE_SHOWN = 120
"""Characters of a refused value that a refusal keeps."""

VALUE = "value"
"""Name of a value without a name of its own."""

RefusalCode = Literal[
    "ambiguous",
    "cells",
    "checksum",
    "container",
    "depth",
    "device",
    "encoding",
    "format",
    "function",
    "limit",
    "metric",
    "number",
    "quote",
    "register",
    "size",
    "syntax",
    "time",
    "type",
    "unit",
    "version",
]
"""Stable code of a refusal. docs/formats.md has the meaning of each."""


class FrameRefused(Exception):
    """A frame that its format cannot read; the message is a sentence for the sender."""

    def __init__(self, code: RefusalCode, reason: str, setting: str = "", *, values: int = 0) -> None:
        """`values` is the number of values that it costs, 0 if it is not known."""
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.setting = setting
        self.values = values


class RecordRefused(FrameRefused):
    """A record whose device or time is not known, so that none of its values has a place."""

    def __init__(self, code: RefusalCode, reason: str, setting: str, value: str = "") -> None:
        super().__init__(code, reason, setting)
        self.value = value


class TextFrame(NamedTuple):
    """The bytes of one line or one message without its end; `line` is the number of its first line, from 1."""

    line: int
    raw: bytes


class RefusedInput(NamedTuple):
    """A frame or one value that is not a reading. `metric` is empty if the whole frame is refused.

    `setting` is the setting that changes the decision, in the form of the settings file, or "run" and a command, or an
    instruction of the door; it can be empty. `device` is known if `metric` is. `lines` is the number of lines of the
    frame. `values` is the number of values of a refused frame, 0 if it is not known.
    """

    line: int
    raw: bytes
    code: RefusalCode
    reason: str
    metric: str = ""
    value: str = ""
    setting: str = ""
    device: str = ""
    lines: int = 1
    values: int = 0

    @property
    def total(self) -> int:
        """The number of its values, 1 if it is not known."""
        return self.values or 1

    @property
    def readings(self) -> int:
        """The number of its values as far as it is known."""
        return 1 if self.metric else self.values


class Note(NamedTuple):
    """A rule that decided something; `setting` is the line for the settings that fixes the decision."""

    code: str
    sentence: str
    setting: str = ""


class Schema(NamedTuple):
    """Facts that a format declares about its records.

    `metrics` are the metrics of fields with another name. `typed`: texts are texts, and no number is read from them.
    `integers`: a metric whose first value is an integer is one of integers.
    `words`: the format has no types, so a word such as `on` can be a boolean. `truths` are the booleans of other words,
    where no type is declared. `identity` are the names that identify
    the device by default, and `device` is a device that the format names itself. `metric` is a template of metric
    names. `time_format` and `zone` apply to the times of the records; without `has_time` no field contains a time.
    """

    units: Mapping[str, str] = {}
    types: Mapping[str, MetricType] = {}
    typed: bool = False
    integers: bool = False
    words: bool = False
    truths: Mapping[str, bool] = {}
    metrics: Mapping[str, str] = {}
    device: str = ""
    identity: tuple[str, ...] = ()
    metric: str = ""
    time_format: str = "auto"
    zone: tzinfo | None = None
    has_time: bool = True


class RefusedField(NamedTuple):
    """A value of a record that its format refuses; the neighbours are stored."""

    name: str
    value: object
    code: RefusalCode
    reason: str
    setting: str = ""


class InputRecord(NamedTuple):
    """The fields of one record as the format has them; interpretation converts them.

    `values` maps a field to a text, a number, a boolean or None. `names` are texts beside the values: tags, a
    measurement, columns. `time` is the time as it was sent; None: the fields may contain it. Records with one `key`
    have the same names; "" says nothing. `refused` are values that the format refuses.
    """

    line: int
    raw: bytes
    values: dict[str, object]
    schema: Schema
    time: object = None
    names: Mapping[str, str] = {}
    key: str = ""
    refused: Sequence[RefusedField] = ()

    @property
    def has_replaced(self) -> bool:
        """Return whether a part had bytes that its encoding does not have."""
        parts = (*self.values, *self.values.values(), *self.names.values(), self.time)
        return any("\ufffd" in part for part in parts if isinstance(part, str))


class Row(NamedTuple):
    """The readings of one device at one time, from one record. `time_ns` None is the time of arrival.

    `is_time_odd` marks a time before 1990 or more than a day in the future: it is kept as it was sent.
    """

    line: int
    raw: bytes
    device: str
    time_ns: int | None
    values: dict[str, Value]
    is_time_odd: bool = False


class Origin(NamedTuple):
    """Facts about a record from outside of it, such as from the topic of a message.

    `device` wins over what the record names. `names` are more names for templates. `metric` is the metric of a bare
    value, and the beginning of the metrics of other fields.
    """

    device: str = ""
    names: Mapping[str, str] = {}
    metric: str = ""


Entry: TypeAlias = InputRecord | RefusedInput
"""Result of a format for a frame."""


def repeated(name: str, value: object) -> RefusedField:
    """Return the refusal of a second value with the name of another one."""
    return RefusedField(name, value, "ambiguous", f"the record has another value with the name {name[:80]!r}")


def refusal_of(frame: TextFrame, error: FrameRefused) -> RefusedInput:
    """Return the refusal of a whole frame."""
    return RefusedInput(
        frame.line,
        frame.raw[:MAX_RAW_BYTES],
        error.code,
        error.reason,
        setting=error.setting,
        lines=lines_of(frame.raw),
        values=error.values,
    )


def setting_text(setting: str) -> str:
    """Return what changes a decision as a part of a sentence: settings to set, or an instruction as it is."""
    text = "; or ".join(setting.splitlines())
    return text if text.startswith(("run ", "add ", "set ")) else f"set {text}"


def refusal_text(metric: str, reason: str, setting: str = "") -> str:
    """Return a refusal as a part of a sentence: its metric, if it has one, the reason, and what changes it."""
    text = f"{metric}: {reason}" if metric else reason
    return f"{text}; {setting_text(setting)}" if setting else text


def lines_of(raw: bytes) -> int:
    """Return the number of lines of a frame."""
    return raw.count(b"\n") + 1


def shown(value: object) -> str:
    """Return a refused value as text of a bounded length."""
    # A number that no float can have is a text of a type of its own.
    text = str(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= MAX_VALUE_SHOWN else f"{text[: MAX_VALUE_SHOWN - 1]}…"
