"""Detection of a mapping from the first lines of a file. Options that are given are never changed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Mapping as Fields
from datetime import datetime
from itertools import pairwise
from typing import Any

from line_protocol_parser import LineFormatError, parse_line

from importer.mapping import Mapping, Precision, TableMapping, check_form, mapping_of
from importer.records import Line, MappingError
from importer.table import TRUTHS, Cells, Read, Record, column_names, records
from wire.limits import MAX_UNIT

DEVICE_TAGS = ("device", "device_id", "host", "hostname")
"""Tags that name the device by default, as this hub and the agents of InfluxDB write them."""

_DIGITS: tuple[tuple[int, Precision], ...] = ((17, "ns"), (14, "us"), (11, "ms"), (9, "s"))
"""A time since 1970 with at least this many digits has this precision, for times between 1973 and 2286."""

DELIMITERS = ",;\t|"

TIME_NAMES = ("time", "timestamp", "datetime", "date", "ts", "_time", "datum", "zeit", "uhrzeit", "zeitstempel", "utc")
DEVICE_NAMES = ("device", "device_id", "host", "hostname", "sensor", "sensor_id", "station", "machine", "gerät")
METRIC_NAMES = ("metric", "field", "_field", "variable", "parameter", "quantity", "measurement", "name", "tag")
VALUE_NAMES = ("value", "_value", "wert", "reading")

PATTERNS = (
    "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M:%S.%f", "%d.%m.%Y %H:%M:%S,%f", "%d.%m.%Y %H:%M", "%d.%m.%y %H:%M",
    "%d.%m.%Y", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M:%S.%f", "%Y/%m/%d %H:%M", "%Y.%m.%d %H:%M:%S",
    "%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%m/%d/%Y %I:%M:%S %p",
    "%d/%m/%Y %I:%M:%S %p", "%m/%d/%Y %I:%M %p", "%d/%m/%Y %I:%M %p", "%d/%m/%Y", "%m/%d/%Y",
    "%Y-%m-%d %H:%M:%S %z", "%a, %d %b %Y %H:%M:%S %z", "%d-%b-%Y %H:%M:%S", "%d %b %Y %H:%M:%S",
)  # fmt: skip
"""Formats of times in spreadsheets and loggers, besides ISO 8601. If all times match one with the day first and one
with the month first, neither is chosen."""

_UNIT = re.compile(r"(.+?)\s*(?:\[([^\[\]]+)\]|\(([^()]+)\))\s*")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")
_GROUPED = re.compile(r"[+-]?\d{1,3}(\.\d{3})+,\d+")


def guess(head: Sequence[Line], given: Fields[str, Any]) -> Mapping:
    """Return the mapping of a file with these first lines; fields in `given` are kept. Raises MappingError.

    Fields that cannot be detected stay empty; `check_mapping` reports those that have to be set.
    """
    if all(line.raw.isspace() for line in head):
        raise MappingError("the file is empty")
    format = given.get("format") or ("line" if _is_line_protocol(head) else "csv")
    guessed = _guess_line(head, given) if format == "line" else _guess_table(head, given)
    return mapping_of({**guessed, **given, "format": format})


def _is_line_protocol(head: Iterable[Line]) -> bool:
    """Return whether most of the first ten lines without comments are line protocol; the header of a table is not."""
    found = [_point(line) is not None for line in head if line.raw.strip() and not line.raw.startswith(b"#")][:10]
    return sum(found) * 2 > len(found)


def _guess_line(head: Iterable[Line], given: Fields[str, Any]) -> dict[str, Any]:
    points = [point for line in head if (point := _point(line)) is not None]
    guessed: dict[str, Any] = {}
    digits = max((len(str(abs(point["time"]))) for point in points if point["time"] is not None), default=19)
    guessed["precision"] = next((precision for least, precision in _DIGITS if digits >= least), "s")
    tag = given.get("device_tag", "")
    shared = set.intersection(*(set(point["tags"]) for point in points)) if points else set()
    if not given.get("device") and not tag:
        tag = next((name for name in DEVICE_TAGS if name in shared), "")
        guessed["device_tag"] = tag
    if "metric" not in given:
        measurements = sorted({point["measurement"] for point in points})
        parts = [*_distinguishing_tags(points, shared, tag), "field"]
        if len(measurements) == 1 and any(field != "value" for point in points for field in point["fields"]):
            guessed["measurements"] = measurements
        else:
            parts.insert(0, "measurement")
        guessed["metric"] = ".".join(f"{{{part}}}" for part in parts)
    return guessed


def _distinguishing_tags(points: Iterable[dict[str, Any]], shared: set[str], device_tag: str) -> list[str]:
    """Return the shared tags with several values for one device in one measurement: a path, an interface, a core.

    Their readings are different series, which a metric's name without the tag would mix.
    """
    values: dict[tuple[str, str, str], set[str]] = {}
    for point in points:
        tags = point["tags"]
        for name in shared - {device_tag}:
            values.setdefault((tags.get(device_tag, ""), point["measurement"], name), set()).add(tags[name])
    return sorted({name for (_, _, name), found in values.items() if len(found) > 1})


def _point(line: Line) -> dict[str, Any] | None:
    try:
        return parse_line(line.raw.decode())  # type: ignore[no-any-return]
    except (LineFormatError, ValueError):
        return None


def _guess_table(head: Sequence[Line], given: Fields[str, Any]) -> dict[str, Any]:
    """Return the fields of a TableMapping for a file with these first lines. Raises MappingError."""
    check_form(given.get("delimiter", ","), given.get("encoding", "utf-8"))
    guessed: dict[str, Any] = {"encoding": given.get("encoding") or _encoding(head)}
    guessed["delimiter"] = given.get("delimiter") or _delimiter(head, guessed["encoding"])
    found = _records(head, guessed["delimiter"], guessed["encoding"])
    if not found:
        raise MappingError("the file has no readable record; set --delimiter to the character between cells")
    header = given.get("header", True)
    names = column_names(found[0].cells, header=header)
    rows = [record.cells for record in found[1 if header else 0 :] if len(record.cells) >= len(names)]
    columns = {name: [row[place].strip() for row in rows] for place, name in enumerate(names)}
    cells = [cell for column in columns.values() for cell in column]
    if guessed["delimiter"] != "," and any(map(_DECIMAL_COMMA.fullmatch, cells)):
        guessed["decimal"] = ","
    if any(map(_GROUPED.fullmatch, cells)):
        guessed |= {"decimal": ",", "thousands": "."}
    _guess_columns(guessed, given, columns)
    return guessed


def _encoding(head: Iterable[Line]) -> str:
    beginning = b"".join(line.raw for line in head)
    if beginning.startswith((b"\xff\xfe", b"\xfe\xff")) or beginning[1:2] == b"\0":
        raise MappingError("the file is UTF-16; save it as UTF-8 (spreadsheets call it “CSV UTF-8”)")
    return "utf-8" if _accepts(beginning.decode) else "cp1252"


def _delimiter(head: Sequence[Line], encoding: str) -> str:
    """Return the delimiter that gives most records the same number of cells, and the most cells."""
    best, best_score = ",", (0.0, 0)
    for delimiter in DELIMITERS:
        widths = Counter(len(record.cells) for record in _records(head, delimiter, encoding))
        if not widths:
            continue
        width, often = widths.most_common(1)[0]
        score = (often / widths.total(), width) if width > 1 else (0.0, 0)
        if score > best_score and (score[0] > best_score[0] + 0.1 or width > best_score[1]):
            best, best_score = delimiter, score
    return best


def _records(head: Iterable[Line], delimiter: str, encoding: str) -> list[Record]:
    found = records(head, delimiter=delimiter, encoding=encoding)
    return [record for record in found if not record.problem]


def _guess_columns(guessed: dict[str, Any], given: Fields[str, Any], columns: dict[str, list[str]]) -> None:
    time = given.get("time") or _time_columns(columns)
    guessed["time"] = time
    if "time_format" not in given and time and all(name in columns for name in time):
        guessed["time_format"] = _time_format(list(map(" ".join, zip(*(columns[name] for name in time), strict=True))))
    device = given.get("device_column", "")
    if not given.get("device") and not device:
        device = guessed["device_column"] = _named(columns, DEVICE_NAMES)
    if "columns" in given:
        return
    metric, value = given.get("metric_column", ""), given.get("value_column", "")
    if not metric and not value:
        metric, value = _named(columns, METRIC_NAMES), _named(columns, VALUE_NAMES)
    if metric and value and metric != device:
        guessed |= {"metric_column": metric, "value_column": value}
        return
    cells_of = Cells(TableMapping(decimal=guessed.get("decimal", "."), thousands=guessed.get("thousands", "")))
    read_number = cells_of.reader("float")
    mapped: dict[str, str] = {}
    types: dict[str, str] = {}
    units: dict[str, str] = {}
    for column, cells in columns.items():
        if column in time or column == device:
            continue
        name, unit = _name_and_unit(column)
        if name in mapped.values():
            name, unit = column, ""
        mapped[column] = name
        if unit:
            units[name] = unit
        if (type := _type(cells, read_number)) != "float":
            types[name] = type
    guessed |= {"columns": mapped, "types": types, "units": units}


def _type(cells: Iterable[str], read_number: Read) -> str:
    """Return float if any cell is a number, since a failing sensor may write words; otherwise the type of all cells."""
    filled = [cell for cell in cells if cell and cell not in TableMapping().no_value]
    if not filled or any(_accepts(read_number, cell) for cell in filled):
        return "float"
    return "boolean" if all(cell.lower() in TRUTHS for cell in filled) else "string"


def _named(columns: Iterable[str], names: Sequence[str]) -> str:
    """Return the column with the first of these names, in upper or lower case; "" if there is none."""
    by_name = {column.lower(): column for column in reversed(list(columns))}
    return next((by_name[name] for name in names if name in by_name), "")


def _time_columns(columns: dict[str, list[str]]) -> list[str]:
    """Return the column of times: one with a usual name that contains times, or neighbours with date and time."""
    likely = [name for name in columns if _name_and_unit(name)[0].lower() in TIME_NAMES] or list(columns)
    for name in likely:
        if _time_format(columns[name]) and not all(len(cell) <= 10 and not cell.isdecimal() for cell in columns[name]):
            return [name]
    names = list(columns)
    for first, second in pairwise(names):
        both = [" ".join(pair) for pair in zip(columns[first], columns[second], strict=True)]
        if first in likely and _time_format(columns[first]) and _time_format(both):
            return [first, second]
    return next(([name] for name in likely if _time_format(columns[name])), [])


def _time_format(cells: Sequence[str]) -> str:
    """Return the format of most of these times; "" if it is not clear."""
    filled = [cell for cell in cells if cell]
    counts = [cell.partition(".")[0] for cell in filled if cell.replace(".", "", 1).isdecimal()]
    if filled and len(counts) * 2 > len(filled):
        digits = max(map(len, counts))
        return next((precision for least, precision in _DIGITS if digits >= least), "")
    fitting = {"iso": sum(_accepts(datetime.fromisoformat, cell) for cell in filled)}
    fitting |= {pattern: sum(_accepts(datetime.strptime, cell, pattern) for cell in filled) for pattern in PATTERNS}
    most = max(fitting.values())
    best = [pattern for pattern, count in fitting.items() if count == most]
    is_clear = most * 2 > len(filled) and len({pattern[:5] for pattern in best}) == 1
    return best[0] if is_clear else ""


def _accepts(parse: Callable[..., object], *text: str) -> bool:
    try:
        parse(*text)
    except ValueError:
        return False
    return True


def _name_and_unit(column: str) -> tuple[str, str]:
    """Split a header like "Temperature [°C]" into name and unit."""
    found = _UNIT.fullmatch(column)
    unit = (found[2] or found[3]).strip() if found else ""
    return (found[1], unit) if found and unit and len(unit) <= MAX_UNIT else (column, "")
