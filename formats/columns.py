"""Columns of a table: the cells of a line, the delimiter, names, units, and the columns of the time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import pairwise

from formats.record import FrameRefused
from formats.times import TimeRefused, parse_moment
from formats.values import INFINITE, NO_VALUE, UNIT_SYMBOLS, UNITS, cleaned, written_number
from wire.limits import MAX_UNIT

DELIMITERS = ",;\t|"
_ONE_COLUMN = ";"
"""Delimiter of a table with one column: numbers with commas do not have it."""

TIME_NAMES = (
    "time", "timestamp", "datetime", "date time", "date_time", "date/time", "date", "ts", "_time", "datum", "zeit",
    "uhrzeit", "zeitstempel", "datum/zeit", "utc", "time (utc)", "zeitpunkt", "last_changed", "last_updated",
)  # fmt: skip
ZONE_NAMES = ("time zone", "timezone", "zone", "tz", "utc offset", "offset")
DEVICE_NAMES = (
    "device", "device_id", "deviceid", "host", "hostname", "sensor", "sensor_id", "station", "machine", "gerät",
)  # fmt: skip
METRIC_NAMES = (
    "metric", "field", "_field", "variable", "parameter", "quantity", "measurement", "name", "tag", "series",
    "entity_id",
)  # fmt: skip
VALUE_NAMES = ("value", "_value", "wert", "reading", "state")
UNIT_NAMES = ("unit", "units", "unit_of_measurement", "uom", "einheit")
"""Names of the column with the unit of each reading, in a table with a column of metrics."""

SEPARATOR_LINE = re.compile(r'"?sep=(.)"?')
_UNIT = re.compile(r"(.+?)\s*(?:\[([^\[\]]+)\]|\(([^()]+)\))\s*")
_HOBO_COLUMN = re.compile(r"(.+?)(?:,\s*([^,()]+?))?\s*(?:\((?:LGR|SEN) S/N:.*\))?")
ANNOTATIONS = ("#group", "#datatype", "#default", "#constant")


def cells_of(text: str, delimiter: str) -> list[str]:
    """Return the cells of a line. Raises FrameRefused for a quote that is not closed, or is followed by text."""
    if '"' not in text:
        return text.split(delimiter)
    cells: list[str] = []
    position = 0
    while True:
        start = position
        while text[start : start + 1] == " ":
            start += 1
        if text[start : start + 1] == '"':
            cell, position = _quoted(text, start + 1, delimiter)
        else:
            end = text.find(delimiter, position)
            end = len(text) if end < 0 else end
            cell, position = text[position:end], end
        cells.append(cell)
        if position >= len(text):
            return cells
        position += len(delimiter)


def _quoted(text: str, start: int, delimiter: str) -> tuple[str, int]:
    """Return a quoted cell and the position behind it."""
    parts: list[str] = []
    while True:
        end = text.find('"', start)
        if end < 0:
            raise FrameRefused("quote", "a quote is not closed in this line, and the next line is a record of its own")
        parts.append(text[start:end])
        if text[end + 1 : end + 2] != '"':
            break
        parts.append('"')
        start = end + 2
    after = text.find(delimiter, end + 1)
    after = len(text) if after < 0 else after
    if text[end + 1 : after].strip(" \r"):
        raise FrameRefused("syntax", "text follows the closing quote of a cell")
    return "".join(parts), after


def kind_of(texts: Sequence[str], delimiter: str) -> str:
    """Return toa5, hobo, annotated or plain for a table with these first lines."""
    first = texts[0].lstrip('"') if texts else ""
    if first.startswith("TOA5") and first[4:5] in ('"', delimiter):
        return "toa5"
    if first.startswith("Plot Title"):
        return "hobo"
    return "annotated" if any(text.startswith(ANNOTATIONS) for text in texts[:5]) else "plain"


def delimiter_of(texts: Sequence[str]) -> str:
    """Return the delimiter that gives most lines the same number of cells, and the most cells."""
    if texts and (found := SEPARATOR_LINE.fullmatch(texts[0])):
        return found[1]
    if is_one_column(texts):
        return _ONE_COLUMN
    best, best_score = ",", (0.0, 0)
    for delimiter in DELIMITERS:
        widths: Counter[int] = Counter()
        for text in texts:
            try:
                cells = cells_of(text, delimiter)
            except FrameRefused:
                continue
            widths[len(cells)] += 1
        if not widths:
            continue
        width, often = widths.most_common(1)[0]
        score = (often / widths.total(), width) if width > 1 else (0.0, 0)
        if score > best_score and (score[0] > best_score[0] + 0.1 or width > best_score[1]):
            best, best_score = delimiter, score
    return best


def is_one_column(texts: Sequence[str]) -> bool:
    """Return whether lines are one name and, below it, single numbers that have commas.

    A comma in them is a part of a number: a table of two columns has two names.
    """
    lines = [text for text in texts if text.strip() and not text.startswith("#")]
    if len(lines) < 2 or any(mark in lines[0] for mark in DELIMITERS) or not is_header(lines[:1]):
        return False
    cells = [cleaned(line.strip().strip('"')) for line in lines[1:]]
    numbers = all(written_number(cell) is not None or cell.lower() in NO_VALUE for cell in cells)
    return numbers and any("," in cell for cell in cells)


def header_texts(cells: Sequence[str], *, keep_empty: bool = False) -> list[str]:
    """Return the text of each header, or the number of its column, counted from 1."""
    texts = [" ".join(cell.split()) for cell in cells]
    if texts and texts[0].startswith("#") and len(texts[0]) > 1:
        texts[0] = texts[0][1:].strip()
    return [text or ("" if keep_empty else str(number)) for number, text in enumerate(texts, 1)]


def unique_names(texts: Sequence[str]) -> list[str]:
    """Return a unique name for each column: a text that occurs again gets its number, as in `temp (2)`."""
    names: list[str] = []
    known: set[str] = set()
    for wanted in texts:
        name = wanted
        occurrence = 1
        while name in known:
            occurrence += 1
            name = f"{wanted} ({occurrence})"
        known.add(name)
        names.append(name)
    return names


def name_and_unit(column: str) -> tuple[str, str]:
    """Split a header such as "Temperature [°C]" into name and unit. A number, as in "Channel (2)", is no unit."""
    found = _UNIT.fullmatch(column)
    unit = (found[2] or found[3]).strip() if found else ""
    if unit.isdecimal():
        return column, ""
    return (found[1], UNIT_SYMBOLS.get(unit, unit)) if found and unit and len(unit) <= MAX_UNIT else (column, "")


def hobo_name(column: str) -> tuple[str, str]:
    """Split a header such as "Temp, °C (LGR S/N: 123)" into name and unit."""
    found = _HOBO_COLUMN.fullmatch(column)
    if found is None or "GMT" in column:
        return column, ""
    unit = found[2] or ""
    return found[1], UNIT_SYMBOLS.get(unit, unit)[:MAX_UNIT]


def time_columns(columns: dict[str, list[str]], stored: Collection[str] = ()) -> list[str]:
    """Return the columns of the time: one with a usual name that contains times, or neighbours with date and time.

    Without any, a column with a usual name is the time, so that its lines are refused, unless it is one of `stored`.
    """
    names = list(columns)
    likely = [name for name in names if _plain_name(name) in TIME_NAMES]
    for name in likely:
        if _share(columns[name], is_full_time) > 0.5:
            return [name]
    for first, second in pairwise(names):
        is_named = first in likely or second in likely
        if is_named and _share(columns[first], _is_date_only) > 0.5 and _share(columns[second], _is_time_of_day) > 0.5:
            return [first, second, *_zone_column(names, columns, second)]
    for name in likely:
        if _share(columns[name], lambda cell: is_full_time(cell) or _is_date_only(cell)) > 0.5:
            return [name]
    if all(map(str.isdecimal, names)) and _share(columns[names[0]], _is_since_2001) == 1.0:
        # A table without a header: its first column looks like nothing else.
        return names[:1]
    texts = (
        name for name in names if _share(columns[name], lambda cell: is_full_time(cell) and not _is_number(cell)) > 0.5
    )
    is_empty = not any(columns.values())
    return (list(texts) or [name for name in likely if is_empty or (any(columns[name]) and name not in stored)])[:1]


def _zone_column(names: list[str], columns: dict[str, list[str]], before: str) -> list[str]:
    """Return the column with the zone of each time, if all its cells are UTC or an offset."""
    place = names.index(before) + 1
    if place < len(names) and _plain_name(names[place]) in ZONE_NAMES:
        pattern = re.compile(r"Z|(?:UTC|GMT)?(?:[+-][0-9]{1,2}(?::?[0-9]{2})?)?", re.IGNORECASE)
        if columns[names[place]] and all(pattern.fullmatch(cell) for cell in columns[names[place]]):
            return [names[place]]
    return []


def _plain_name(name: str) -> str:
    plain = name_and_unit(name)[0].lower().strip()
    return plain.partition(", gmt")[0]


def _share(cells: Sequence[str], test: Callable[[str], bool]) -> float:
    filled = [cell for cell in cells[:100] if cell]
    return sum(map(test, filled)) / len(filled) if filled else 0.0


def is_full_time(cell: str) -> bool:
    """Return whether a cell is a date with a time of day, or a count."""
    if _is_number(cell):
        return True
    return (":" in cell and _is_moment(cell)) or bool(re.fullmatch(r"[0-9]{8}T[0-9]{4,6}.*", cell))


def _is_moment(cell: str) -> bool:
    try:
        parse_moment(cell)
    except TimeRefused as error:
        return bool(error.setting.startswith("time_format = "))
    return True


def _is_date_only(cell: str) -> bool:
    return ":" not in cell and not _is_number(cell) and _is_moment(cell)


def _is_time_of_day(cell: str) -> bool:
    return bool(re.fullmatch(r"[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?\s*(?:[AaPp]\.?[Mm]\.?)?", cell))


def _is_since_2001(cell: str) -> bool:
    """Return whether a cell is a count since 1970 that is between the years 2001 and 2033, in one of its units."""
    return bool(re.fullmatch(r"1[0-9]{9}(?:\.[0-9]+|[0-9]{3}|[0-9]{6}|[0-9]{9})?", cell)) or (
        is_full_time(cell) and ":" in cell
    )


def _is_number(cell: str) -> bool:
    return bool(re.fullmatch(r"[0-9]{1,19}(?:\.[0-9]+)?", cell))


def named(names: Iterable[str], wanted: Sequence[str]) -> list[str]:
    """Return the names that are wanted, in upper or lower case, the first wanted first."""
    by_name = {name.lower(): name for name in reversed(list(names))}
    return [by_name[name] for name in wanted if name in by_name]


def is_header(cells: Sequence[str]) -> bool:
    """Return whether a line has names: no cell is a number or a time, and most are not empty."""
    filled = [cell for cell in map(cleaned, cells) if cell]
    if not filled:
        return False
    for cell in filled:
        if cell.lower() in NO_VALUE | INFINITE and cell not in ("-", "--"):
            return False
        if written_number(cell) is not None or _is_moment(cell) or _is_time_of_day(cell):
            return False
    return len(filled) * 2 >= len(cells)


def is_units_row(cells: Sequence[str], following: Sequence[str]) -> bool:
    """Return whether a line below the header has units: at least one known unit, no number, and data below it."""
    stripped = [cell.strip(" []()") for cell in cells]
    if is_header(following) or any(written_number(cell) is not None or _is_moment(cell) for cell in stripped if cell):
        return False
    known = sum(cell in UNITS or cell in UNIT_SYMBOLS for cell in stripped)
    return known > 0 and all(len(cell) <= MAX_UNIT for cell in stripped)
