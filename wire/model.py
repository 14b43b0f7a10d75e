"""The types of the model: devices, metrics and values, with constraints that decoding checks."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, ValidationError, convert

from wire import limits

MetricType = Literal["float", "integer", "boolean", "string"]

Value = float | int | bool | str | None
"""Value of a reading; None: the metric has no value at that time."""

# \Z and not $: Python's $ also matches before a final newline.
DeviceId = Annotated[str, Meta(pattern=r"^(?!\.\.?\Z)[A-Za-z0-9_.-]{1,64}\Z")]
"""A device id is a segment of URLs, so "." and ".." are not allowed."""
MetricName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=limits.MAX_METRIC_NAME,
        pattern=r"^[^\x00-\x20\x7f]([^\x00-\x1f\x7f]*[^\x00-\x20\x7f])?\Z",
    ),
]
"""Text without control characters that does not begin or end with a space."""
Epoch = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]
"""64 random bits in hexadecimal that identify one numbering of a spool."""
Seq = Annotated[int, Meta(ge=1, le=limits.MAX_SEQ)]
"""Number of a batch within its epoch, counted from 1 without holes."""
Offset = Annotated[int, Meta(ge=0, le=limits.MAX_SEQ)]
"""Position of a batch in the journal, counted from 1; 0 is before the first."""
TimeNs = Annotated[int, Meta(ge=0, le=limits.MAX_TIME_NS)]
"""Nanoseconds since 1970-01-01 UTC."""


class Metric(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A named quantity of a device: its name, type, unit (as shown, for example "°C") and description."""

    name: MetricName
    type: MetricType = "float"
    unit: Annotated[str, Meta(max_length=limits.MAX_UNIT)] = ""
    description: Annotated[str, Meta(max_length=limits.MAX_DESCRIPTION)] = ""


def device_id_problem(text: str) -> str | None:
    """Return the reason why this is not a device id, as a sentence; None if it is one."""
    try:
        convert(text, DeviceId)
    except ValidationError:
        pass
    else:
        return None
    allowed = f"1 to {limits.MAX_DEVICE_ID} letters, digits, '.', '_' or '-', and neither '.' nor '..'"
    return f"{text!r} is no device id: {allowed}; for example boiler-1"
