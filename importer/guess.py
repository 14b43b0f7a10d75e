"""A sensible guess of what a file means, from its first lines. What was told is never guessed over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Mapping as Fields
from typing import Any

from line_protocol_parser import LineFormatError, parse_line

from importer.errors import MappingError
from importer.guess_table import guess_table
from importer.mapping import Mapping, Precision, mapping_of
from importer.text import Line

DEVICE_TAGS = ("device", "device_id", "host", "hostname")
"""Tags that name the device where nothing else is told: what this hub writes, what agents of InfluxDB write."""

_DIGITS: tuple[tuple[int, Precision], ...] = ((17, "ns"), (14, "us"), (11, "ms"))
"""From so many digits on a time since 1970 is of this precision, for times between 1973 and 2286."""


def guess(head: Sequence[Line], told: Fields[str, Any]) -> Mapping:
    """The mapping of a file that begins so, with the fields that were told. Raises MappingError.

    What cannot be guessed is left empty; check_mapping says what has to be told.
    """
    if not any(not line.raw.isspace() for line in head):
        raise MappingError("the file is empty")
    format = told.get("format") or ("line" if _is_line_protocol(head) else "csv")
    guessed = _guess_line(head, told) if format == "line" else guess_table(head, told)
    return mapping_of({**guessed, **told, "format": format})


def _is_line_protocol(head: Iterable[Line]) -> bool:
    """Whether most of the first ten lines that are no comments are line protocol; no header of a table is."""
    found = [_point(line) is not None for line in head if line.raw.strip() and not line.raw.startswith(b"#")][:10]
    return sum(found) * 2 > len(found)


def _guess_line(head: Iterable[Line], told: Fields[str, Any]) -> dict[str, Any]:
    points = [point for line in head if (point := _point(line)) is not None]
    guessed: dict[str, Any] = {}
    digits = max((len(str(abs(point["time"]))) for point in points if point["time"] is not None), default=19)
    guessed["precision"] = next((precision for least, precision in _DIGITS if digits >= least), "s")
    tag = told.get("device_tag", "")
    if not told.get("device") and not tag:
        shared = set.intersection(*(set(point["tags"]) for point in points)) if points else set()
        tag = next((name for name in DEVICE_TAGS if name in shared), "")
        guessed["device_tag"] = tag
    if "metric" not in told:
        measurements = sorted({point["measurement"] for point in points})
        apart = [f"{{{name}}}" for name in _tags_that_tell_apart(points, tag)]
        fields = {field for point in points for field in point["fields"]}
        if len(measurements) == 1 and fields != {"value"}:
            guessed["measurements"] = measurements
            guessed["metric"] = ".".join([*apart, "{field}"])
        else:
            guessed["metric"] = ".".join(["{measurement}", *apart, "{field}"])
    return guessed


def _tags_that_tell_apart(points: Iterable[dict[str, Any]], device_tag: str) -> list[str]:
    """Tags of which one device has several values in one measurement: a path, an interface, the number of a core.

    Their readings are different series; without the tag in the metric's name they would be mixed.
    """
    values: dict[tuple[str, str, str], set[str]] = {}
    everywhere: set[str] | None = None
    for point in points:
        tags = point["tags"]
        everywhere = set(tags) if everywhere is None else everywhere & set(tags)
        for name, value in tags.items():
            if name != device_tag:
                values.setdefault((tags.get(device_tag, ""), point["measurement"], name), set()).add(value)
    return sorted({name for (_, _, name), found in values.items() if len(found) > 1} & (everywhere or set()))


def _point(line: Line) -> dict[str, Any] | None:
    try:
        return parse_line(line.raw.decode())  # type: ignore[no-any-return]
    except (LineFormatError, UnicodeDecodeError, ValueError):
        return None
