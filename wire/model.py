"""The words of the model: devices, metrics, values, with constraints that keep an invalid one from being decoded."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, ValidationError, convert

from wire import limits

MetricType = Literal["float", "integer", "boolean", "string"]

Value = float | int | bool | str | None
"""A reading's value; None means that the metric has no value at that time."""

# \Z and not $: Python's $ also matches before a final newline.
DeviceId = Annotated[str, Meta(pattern=r"^(?!\.\.?\Z)[A-Za-z0-9_.-]{1,64}\Z")]
"""It is a segment of URLs, where "." and ".." mean other places: no device has these two names."""
MetricName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=limits.MAX_METRIC_NAME,
        pattern=r"^[^\x00-\x20\x7f]([^\x00-\x1f\x7f]*[^\x00-\x20\x7f])?\Z",
    ),
]
"""Any text without control characters that neither begins nor ends with a space."""
Epoch = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]
"""64 random bits in hexadecimal: the identity of one spool's life."""
Seq = Annotated[int, Meta(ge=1, le=limits.MAX_SEQ)]
"""A batch's number within its epoch, counted from 1 without holes."""
Offset = Annotated[int, Meta(ge=0, le=limits.MAX_SEQ)]
"""A batch's position in the journal, counted from 1; 0 is before the first."""
TimeNs = Annotated[int, Meta(ge=0, le=limits.MAX_TIME_NS)]
"""Nanoseconds since 1970-01-01 UTC."""


class Metric(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A named quantity of a device: its name, type, unit (as shown, for example "°C") and description."""

    name: MetricName
    type: MetricType = "float"
    unit: Annotated[str, Meta(max_length=limits.MAX_UNIT)] = ""
    description: Annotated[str, Meta(max_length=limits.MAX_DESCRIPTION)] = ""


def device_id_problem(text: str) -> str | None:
    """Why this is no device id, as a sentence; None when it is one."""
    try:
        convert(text, DeviceId)
    except ValidationError:
        pass
    else:
        return None
    allowed = f"1 to {limits.MAX_DEVICE_ID} letters, digits, '.', '_' or '-', and neither '.' nor '..'"
    return f"{text!r} is no device id: {allowed}; for example boiler-1"
