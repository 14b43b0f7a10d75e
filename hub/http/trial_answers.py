"""The answer of the HTTP API about a trial of an input, and the body of its request. See hub.http.answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from msgspec import Meta, Struct

from formats.rules import DEFAULT_RULES, Rules
from wire.model import MetricType, Value


class TrialBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Content to read as every input of the hub would, and the rules; what they leave open is decided by evidence."""

    content: Annotated[str, Meta(description="A text, or bytes in base64, also compressed.")]
    base64: Annotated[bool, Meta(description="The content is in base64.")] = False
    rules: Annotated[Rules, Meta(description="The settings of docs/formats.md.")] = DEFAULT_RULES


class TriedRow(Struct, frozen=True):
    """The readings of one device at one time."""

    line: Annotated[int, Meta(description="Number of the line in the content, from 1.")]
    device: Annotated[str, Meta(description="Empty if the content names none: the input does.")]
    time_ns: Annotated[int | None, Meta(description="null: the time of arrival.")]
    odd_time: Annotated[bool, Meta(description="The time is before 1990 or more than a day ahead.")]
    values: Mapping[str, Value]


class TriedRefusal(Struct, frozen=True):
    """A line or a value that is refused."""

    line: int
    code: str
    reason: str
    metric: Annotated[str, Meta(description="Empty if the whole line is refused.")]
    value: str
    setting: Annotated[str, Meta(description="The setting that changes the decision; empty if there is none.")]
    raw: Annotated[str, Meta(description="The line, up to 4,096 bytes.")]


class TriedMetric(Struct, frozen=True):
    """A metric that the content has."""

    device: str
    metric: str
    type: MetricType
    unit: str
    label: Annotated[str, Meta(description="The name before it was repaired; empty if it was not.")]


class TriedNote(Struct, frozen=True):
    """A rule that decided something."""

    code: str
    sentence: str
    setting: Annotated[str, Meta(description="The line for the settings that fixes the decision; can be empty.")]


class TrialResult(Struct, frozen=True):
    """The way in which content is read. Nothing was stored."""

    container: Annotated[str, Meta(description="gzip or zlib; empty if the content is not compressed.")]
    format: Annotated[str | None, Meta(description="null: no line has a known format.")]
    reason: Annotated[str | None, Meta(description="The evidence for the format.")]
    lines: int
    rows: int
    readings: int
    no_values: Annotated[int, Meta(description="Values that are words such as nan or unavailable: no readings.")]
    odd_times: int
    refused: Annotated[Mapping[str, int], Meta(description="Refusals by code.")]
    first_rows: Annotated[Sequence[TriedRow], Meta(description="Up to 1,000.")]
    refusals: Annotated[Sequence[TriedRefusal], Meta(description="Up to 1,000.")]
    metrics: Sequence[TriedMetric]
    labels: Annotated[Mapping[str, str], Meta(description="Device ids that were repaired, and their names before.")]
    notes: Sequence[TriedNote]
    settings: Annotated[str, Meta(description="The rules with everything that was detected, in TOML.")]
