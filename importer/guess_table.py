"""A guess of what a table means: how it is written, and what its columns are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Mapping as Fields
from contextlib import suppress
from datetime import datetime
from itertools import pairwise
from typing import Any

from importer.cell import TRUTHS, Cells
from importer.errors import MappingError
from importer.mapping import TableMapping, check_form
from importer.table import Record, column_names, records
from importer.text import Line
from wire.limits import MAX_UNIT

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
"""Ways in which spreadsheets and loggers write times, besides ISO 8601. Where all times fit both a pattern with the day
first and one with the month first, neither is guessed."""

_COUNTS = ((17, "ns"), (14, "us"), (11, "ms"), (9, "s"))
_UNIT = re.compile(r"(.+?)\s*(?:\[([^\[\]]+)\]|\(([^()]+)\))\s*")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")
_GROUPED = re.compile(r"[+-]?\d{1,3}(\.\d{3})+,\d+")


def guess_table(head: Sequence[Line], told: Fields[str, Any]) -> dict[str, Any]:
    """The fields of a TableMapping for a file that begins so. Raises MappingError."""
    check_form(told.get("delimiter", ","), told.get("encoding", "utf-8"))
    guessed: dict[str, Any] = {"encoding": told.get("encoding") or _encoding(head)}
    guessed["delimiter"] = told.get("delimiter") or _delimiter(head, guessed["encoding"])
    found = _records(head, guessed["delimiter"], guessed["encoding"])
    if not found:
        raise MappingError("there is no record in it that could be read; --delimiter says what separates cells")
    header = told.get("header", True)
    names = column_names(found[0].cells, header=header)
    rows = [record.cells for record in found[1 if header else 0 :] if len(record.cells) >= len(names)]
    columns = {name: [row[place].strip() for row in rows] for place, name in enumerate(names)}
    cells = [cell for column in columns.values() for cell in column]
    if guessed["delimiter"] != "," and any(map(_DECIMAL_COMMA.fullmatch, cells)):
        guessed["decimal"] = ","
    if any(map(_GROUPED.fullmatch, cells)):
        guessed |= {"decimal": ",", "thousands": "."}
    _guess_columns(guessed, told, columns)
    return guessed


def _encoding(head: Iterable[Line]) -> str:
    beginning = b"".join(line.raw for line in head)
    if beginning.startswith((b"\xff\xfe", b"\xfe\xff")) or beginning[1:2] == b"\0":
        raise MappingError("the file is UTF-16; save it as UTF-8 (spreadsheets call it “CSV UTF-8”)")
    with suppress(UnicodeDecodeError):
        beginning.decode()
        return "utf-8"
    return "cp1252"


def _delimiter(head: Sequence[Line], encoding: str) -> str:
    """What splits most records into the same number of cells, and into the most cells."""
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


def _guess_columns(guessed: dict[str, Any], told: Fields[str, Any], columns: dict[str, list[str]]) -> None:
    time = told.get("time") or _time_columns(columns)
    guessed["time"] = time
    if "time_format" not in told and time and all(name in columns for name in time):
        guessed["time_format"] = _time_format(
            [" ".join(parts) for parts in zip(*(columns[n] for n in time), strict=True)]
        )
    if not told.get("device") and not told.get("device_column"):
        guessed["device_column"] = _named(columns, DEVICE_NAMES)
    device = told.get("device_column") or guessed.get("device_column", "")
    if "columns" in told:
        return
    metric, value = told.get("metric_column", ""), told.get("value_column", "")
    if not metric and not value:
        metric, value = _named(columns, METRIC_NAMES), _named(columns, VALUE_NAMES)
    if metric and value and metric != device:
        guessed |= {"metric_column": metric, "value_column": value}
        return
    reader = Cells(TableMapping(decimal=guessed.get("decimal", "."), thousands=guessed.get("thousands", "")))
    read_number = reader.reader("float")
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
        type = _type(cells, read_number)
        if type != "float":
            types[name] = type
    guessed |= {
        "columns": mapped,
        "types": {**types, **told.get("types", {})},
        "units": {**units, **told.get("units", {})},
    }


def _type(cells: Iterable[str], read_number: Any) -> str:
    """Numbers where any cell is one, since a failing sensor's cell may say so in words; else what all of them are."""
    filled = [cell for cell in cells if cell and cell not in TableMapping().no_value]
    if not filled or any(map(_is_number(read_number), filled)):
        return "float"
    return "boolean" if all(cell.lower() in TRUTHS for cell in filled) else "string"


def _is_number(read_number: Any) -> Any:
    def judge(cell: str) -> bool:
        try:
            read_number(cell)
        except ValueError:
            return False
        return True

    return judge


def _named(columns: Iterable[str], names: Sequence[str]) -> str:
    """The column with the first of these names, in any case; "" for none."""
    by_name = {column.lower(): column for column in reversed(list(columns))}
    return next((by_name[name] for name in names if name in by_name), "")


def _time_columns(columns: dict[str, list[str]]) -> list[str]:
    """The column of times: one with such a name whose cells are times, or a date and a time beside each other."""
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
    """How most of these times are written; "" where that cannot be told."""
    filled = [cell for cell in cells if cell]
    counts = [cell.partition(".")[0] for cell in filled if cell.replace(".", "", 1).isdecimal()]
    if filled and len(counts) * 2 > len(filled):
        digits = max(map(len, counts))
        return next((count for least, count in _COUNTS if digits >= least), "")
    fitting = {"iso": sum(_fits(cell, None) for cell in filled)}
    fitting |= {pattern: sum(_fits(cell, pattern) for cell in filled) for pattern in PATTERNS}
    most = max(fitting.values())
    best = [pattern for pattern, count in fitting.items() if count == most]
    is_clear = most * 2 > len(filled) and len({pattern[:5] for pattern in best}) == 1
    return best[0] if is_clear else ""


def _fits(cell: str, pattern: str | None) -> bool:
    try:
        if pattern is None:
            datetime.fromisoformat(cell)
        else:
            datetime.strptime(cell, pattern)
    except ValueError:
        return False
    return True


def _name_and_unit(column: str) -> tuple[str, str]:
    """A header like "Temperature [°C]" as name and unit."""
    found = _UNIT.fullmatch(column)
    unit = (found[2] or found[3]).strip() if found else ""
    return (found[1], unit) if found and unit and len(unit) <= MAX_UNIT else (column, "")
