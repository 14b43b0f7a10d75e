"""Batches of which only some values can be accepted. Pure; never reached by a correct agent.

A batch of 40 values with a wrong one takes 55 µs, a frame of the largest size with only wrong values 55 ms.

`separate` keeps the valid values as a batch. The others become parts for the quarantine, one for each code: messages
like the batch that contain the refused values only, and `rows`, the rows that they had in the batch.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta, Struct

from hub.ingest.validate import FLOAT64, check_name, read_times
from hub.ingest.validate import count_values as count_valid
from hub.model.batch import Series
from wire import device, limits
from wire.codec import Format
from wire.columns import ITEM_BYTES
from wire.device import RefusedColumn
from wire.errors import Code, WireError
from wire.model import MetricName, Seq, TimeNs
from wire.text import escaped

VALIDATION_CODES = frozenset(code.value for code in Code) - {Code.TOO_LARGE}
"""Codes of values that were never accepted. TOO_LARGE is a store's: on a connection it ends the connection."""

MAX_VALUE_SHOWN = 40
"""Characters of a refused value in a reason."""

MAX_DIGITS = 400
"""Digits of an integer in JSON that are read: the largest float has 309."""

MAX_RANGES_SHOWN = 3
MAX_METRICS_SHOWN = 3
"""Ranges of rows, and metrics, that a reason names."""

_TYPE_NAMES: dict[type, str] = {list: "list", dict: "object", bytes: "bytes"}


class LooseBatch(Struct, frozen=True, forbid_unknown_fields=True):
    """A batch whose frame and times are valid, and whose values may be anything.

    A column is a list, bytes, or anything else. `rows` are the rows of a part in its batch, empty where the length of a
    column is wrong; None for a whole batch.
    """

    type: Literal["data"]
    seq: Seq
    time: list[TimeNs] | bytes
    values: Annotated[dict[str, Any], Meta(max_length=limits.MAX_METRICS)]
    historical: bool = False
    rows: list[int] | None = None


class RefusedPart(NamedTuple):
    """Values of a batch that are refused for one reason, as a message for the quarantine."""

    code: Code
    message: str
    payload: bytes
    columns: tuple[RefusedColumn, ...]

    @property
    def readings(self) -> int:
        """The number of refused values."""
        return sum(column.readings for column in self.columns)


class Separated(NamedTuple):
    """The valid values of a batch, None if there is none, and the refused ones."""

    data: device.Data | None
    parts: list[RefusedPart]


class RefusedValue(NamedTuple):
    """A value in quarantine: its row in its batch and its time, None where they are unknown."""

    metric: str
    row: int | None
    time_ns: int | None
    value: Any


class _RefusedRows(NamedTuple):
    """Values of one metric that are refused for one reason. `rows` None: the length of the column is wrong."""

    metric: str
    code: Code
    why: str
    rows: list[int] | None
    values: list[Any] | bytes
    is_whole: bool = False


def read_loosely(payload: bytes, format: Format) -> LooseBatch | None:
    """Read a batch or a part, whatever its values are; return None for what is neither."""
    try:
        if format == "msgpack":
            return msgspec.msgpack.decode(payload, type=LooseBatch)
        batch = msgspec.convert(json.loads(payload.decode(), parse_int=_integer), LooseBatch)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return msgspec.structs.replace(batch, values={n: _from_base64(column) for n, column in batch.values.items()})


def loose(data: device.Data) -> LooseBatch:
    """Return a batch whose values are about to be separated."""
    return LooseBatch("data", data.seq, data.time, {**data.values}, data.historical)


def separate(batch: LooseBatch, format: Format, metrics: Mapping[str, Series | WireError]) -> Separated | None:
    """Separate the values of a batch; return None when the batch itself is wrong, and not its values."""
    try:
        times, _ = read_times(batch.time)
    except WireError:
        return None
    rows = len(times)
    accepted: dict[str, device.Column] = {}
    refused: list[_RefusedRows] = []
    readings = 0
    for name, column in batch.values.items():
        found = _refused_of(name, column, rows, _series(name, batch.values, metrics))
        refused += found
        rest = _without(column, found) if found else column
        # A column without a value need not be valid, such as that of an undeclared metric.
        if count := count_values(rest):
            accepted[name] = rest
            readings += count
    if not refused and not readings:
        return None
    data = device.Data(batch.seq, batch.time, accepted, batch.historical) if readings else None
    try:
        return Separated(data, _parts(batch, [int(time) for time in times], refused, format))
    except RecursionError:  # a refused value nests too deeply to be written
        return None


def refused_values(batch: LooseBatch) -> Iterable[RefusedValue]:
    """Yield the values of a part, or of a whole batch, column by column."""
    try:
        times: Sequence[int] = read_times(batch.time)[0]  # type: ignore[assignment]
    except WireError:
        times = ()
    for metric, column in batch.values.items():
        values = _as_list(column)
        is_known = len(values) == len(times)
        for row, value in enumerate(values):
            if value is not None:
                known_row = row if not batch.rows else batch.rows[row]
                yield RefusedValue(metric, known_row, int(times[row]) if is_known else None, value)


def count_values(column: object) -> int:
    """Return how many values a column has that are not missing. Anything else than a column is one value."""
    if isinstance(column, bytes):
        column = _whole_items(column)
    return count_valid(column) if isinstance(column, list | bytes) else int(column is not None)


def count_readings(batch: LooseBatch | None) -> int:
    """Return how many readings a batch has; 0 for a message that could not be read as one."""
    return 0 if batch is None else sum(map(count_values, batch.values.values()))


def row_ranges(rows: Sequence[int]) -> list[list[int]]:
    """Return rising rows as ranges, both ends included."""
    if not rows:
        return []
    ends = [0, *(place for place, (row, after) in enumerate(pairwise(rows), 1) if after != row + 1), len(rows)]
    return [[rows[first], rows[end - 1]] for first, end in pairwise(ends)]


def _integer(text: str) -> int:
    # Python rejects thousands of digits. An integer of MAX_DIGITS is beyond every type.
    return int(text[: MAX_DIGITS + 1])


def _from_base64(column: Any) -> Any:
    """Return a packed column of JSON as bytes; anything else unchanged."""
    if not isinstance(column, str):
        return column
    try:
        return base64.b64decode(column, validate=True)
    except ValueError:
        return column


def _series(
    name: str, values: Mapping[str, Any], metrics: Mapping[str, Series | WireError]
) -> Series | WireError | None:
    """Return the series of a column, or the reason why the hub refuses its metric."""
    series = metrics.get(name)
    if isinstance(series, Series) and series.names:
        try:
            check_name(name, series, values)
        except WireError as error:
            return error
    return series


def _refused_of(name: str, column: Any, rows: int, series: Series | WireError | None) -> list[_RefusedRows]:
    """Return the refused values of one column, those of each code together; an empty list for a valid column."""
    if not isinstance(column, list | bytes):
        return [_RefusedRows(name, Code.BAD_MESSAGE, "has no list of values", None, [column], True)]
    values = _as_list(column)
    if len(values) != rows or (isinstance(column, bytes) and len(column) % ITEM_BYTES):
        length = f"{len(column)} bytes" if isinstance(column, bytes) else f"{len(column)} values"
        return [_RefusedRows(name, Code.LENGTH_MISMATCH, f"has {length} for {rows} times", None, column, True)]
    present = [row for row, value in enumerate(values) if value is not None]
    if not present:
        return []
    whole = _reason_of_column(name, column, series)
    if whole is not None:
        return [_RefusedRows(name, *whole, present, [values[row] for row in present], True)]
    assert isinstance(series, Series)
    reasons: dict[Code, tuple[str, list[int]]] = {}
    for row in present:
        reason = _reason_of_value(series, values[row])
        if reason is not None:
            code, why = reason
            reasons.setdefault(code, (why, []))[1].append(row)
    is_whole = sum(len(wrong) for _, wrong in reasons.values()) == len(present)
    return [
        _RefusedRows(name, code, why, wrong, [values[row] for row in wrong], is_whole)
        for code, (why, wrong) in reasons.items()
    ]


def _reason_of_column(
    name: str, column: list[Any] | bytes, series: Series | WireError | None
) -> tuple[Code, str] | None:
    """Return the reason why all values of a column are refused."""
    try:
        msgspec.convert(name, MetricName)
        name.encode()
    except (msgspec.ValidationError, UnicodeError):
        return Code.BAD_MESSAGE, "is no name of a metric"
    if isinstance(series, WireError):
        named = series.message.removeprefix(f"{name} ")
        return series.code, named if named != series.message else f"is refused: {named}"
    if series is None:
        return Code.UNKNOWN_METRIC, "was not declared"
    if isinstance(column, bytes) and series.type != "float":
        return Code.WRONG_TYPE, f"is declared {series.type}; packed columns are for float metrics"
    return None


def _reason_of_value(series: Series, value: Any) -> tuple[Code, str] | None:
    """Return the reason why a value cannot be accepted. The rules are those of hub.ingest.validate."""
    kind = type(value)
    expected = series.type
    if kind not in (float, int, bool, str):
        return Code.BAD_MESSAGE, f"has a value of the type {_TYPE_NAMES.get(kind, kind.__name__)}"
    if kind is float and not math.isfinite(value):
        return Code.NOT_FINITE, "has a value that is not a finite number"
    if expected == "float" and kind in (float, int):
        try:
            float(value)
        except OverflowError:
            return Code.OUT_OF_RANGE, "has an integer that is no float"
        return None
    if expected == "integer" and kind is int:
        if limits.MIN_INTEGER <= value <= limits.MAX_INTEGER:
            return None
        return Code.OUT_OF_RANGE, "has an integer outside signed 64 bits"
    if expected == "boolean" and kind is bool:
        return None
    if expected == "string" and kind is str:
        try:
            is_long = len(value.encode()) > limits.MAX_STRING_VALUE_BYTES
        except UnicodeError:
            return Code.BAD_MESSAGE, "has a text that is not Unicode: it holds half of a surrogate pair"
        if is_long:
            return Code.OUT_OF_RANGE, f"has a string over {limits.MAX_STRING_VALUE_BYTES} bytes"
        return None
    return Code.WRONG_TYPE, f"is declared {expected} but has {kind.__name__}"


def _whole_items(column: bytes) -> bytes:
    return column[: len(column) // ITEM_BYTES * ITEM_BYTES]


def _as_list(column: Any) -> list[Any]:
    if isinstance(column, bytes):
        return [None if v != v else v for v in np.frombuffer(_whole_items(column), FLOAT64).tolist()]
    return column if isinstance(column, list) else [column]


def _without(column: Any, refused: Sequence[_RefusedRows]) -> device.Column:
    """Return the column with the refused values missing."""
    if refused[0].is_whole:
        return []
    rows = {row for refusal in refused for row in refusal.rows or ()}
    if isinstance(column, bytes):
        array = np.frombuffer(column, FLOAT64).copy()
        array[list(rows)] = math.nan
        return array.tobytes()
    return [None if row in rows else value for row, value in enumerate(column)]


def _parts(batch: LooseBatch, times: list[int], refused: list[_RefusedRows], format: Format) -> list[RefusedPart]:
    """Return one part for each code, and another for columns of a wrong length, whose rows are not known."""
    groups: dict[tuple[Code, bool], list[_RefusedRows]] = {}
    for refusal in refused:
        groups.setdefault((refusal.code, refusal.rows is not None), []).append(refusal)
    parts = []
    for (code, has_rows), group in groups.items():
        rows = sorted({row for refusal in group for row in refusal.rows or ()})
        place = {row: number for number, row in enumerate(rows)}
        values: dict[str, Any] = {}
        for refusal in group:
            column: Any = refusal.values
            if refusal.rows is not None:
                column = [None] * len(rows)
                for row, value in zip(refusal.rows, refusal.values, strict=True):
                    column[place[row]] = value
            values[refusal.metric] = column
        content = {
            "type": "data",
            "seq": batch.seq,
            "time": [times[row] for row in rows] if has_rows else times,
            "values": values,
            **({"historical": True} if batch.historical else {}),
            "rows": [batch.rows[row] for row in rows] if batch.rows else rows,
        }
        if batch.rows:
            # A part that is retried: its rows keep the numbers of the batch.
            numbers = batch.rows
            group = [refusal._replace(rows=[numbers[row] for row in refusal.rows or ()]) for refusal in group]
        columns = tuple(map(_refused_column, group))
        parts.append(RefusedPart(code, _sentence(group, code), _encode(content, format), columns))
    return parts


def _refused_column(refusal: _RefusedRows) -> RefusedColumn:
    ranges = row_ranges(refusal.rows)[: limits.MAX_ROW_RANGES] if refusal.rows else []
    name = escaped(refusal.metric)[: limits.MAX_METRIC_NAME]
    return RefusedColumn(name, refusal.code, count_values(refusal.values), ranges)


def _encode(content: dict[str, Any], format: Format) -> bytes:
    if format == "msgpack":
        return msgspec.msgpack.encode(content)
    # Python's writer keeps NaN, infinity and half of a surrogate pair, which may be the reason.
    return json.dumps(content, separators=(",", ":"), default=_to_base64).encode()


def _to_base64(packed: object) -> str:
    assert isinstance(packed, bytes)
    return base64.b64encode(packed).decode()


def _sentence(group: Sequence[_RefusedRows], code: Code) -> str:
    """Return the reason of a part: the metrics with the rows and the first refused value of each."""
    texts = [f"{escaped(refusal.metric)} {refusal.why} ({_place(refusal)})" for refusal in group[:MAX_METRICS_SHOWN]]
    if len(group) > MAX_METRICS_SHOWN:
        texts.append(f"and {len(group) - MAX_METRICS_SHOWN:,} more metrics with {code.value}")
    sentence = "; ".join(texts)
    return sentence if len(sentence) <= limits.MAX_MESSAGE else f"{sentence[: limits.MAX_MESSAGE - 1]}…"


def _as_json(value: object) -> str:
    try:
        return json.dumps(value, default=repr)
    except TypeError:  # msgpack has objects whose keys are no texts
        return repr(value)


def _place(refusal: _RefusedRows) -> str:
    values = _as_list(refusal.values)
    first = next((value for value in values if value is not None), None)
    shown = first if isinstance(first, str) else _as_json(first)
    shown = escaped(shown[:MAX_VALUE_SHOWN]) + ("…" if len(shown) > MAX_VALUE_SHOWN else "")
    if not refusal.rows:
        return f"first value {shown}"
    ranges = row_ranges(refusal.rows)
    names = [f"{first}" if first == last else f"{first} to {last}" for first, last in ranges[:MAX_RANGES_SHOWN]]
    more = "" if len(ranges) <= MAX_RANGES_SHOWN else " and more"
    if len(refusal.rows) == 1:
        return f"row {names[0]}: {shown}"
    return f"rows {', '.join(names)}{more}, first {shown}"
