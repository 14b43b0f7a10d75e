"""The metrics of one device, and the validation of every reading before it reaches the spool.

A reading that the hub would reject is rejected here, while the caller still has it. An undeclared metric gets the type
of its first value. Both int and float become "float": a sensor whose first value is 20 can report 20.5 next. A metric
that was declared as integer becomes float with its first float, as it does in the hub.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from numbers import Integral, Real
from types import NoneType
from typing import Any

import msgspec

from device_agent.errors import ReadingError
from wire import limits
from wire.errors import Code
from wire.model import Metric, MetricType, Value


class MetricCatalogue:
    """The known metrics by name. `revision` grows with each change."""

    def __init__(self, metrics: Iterable[Metric] = ()) -> None:
        self.metrics: dict[str, Metric] = {}
        """The known metrics by name, in the order of their first appearance."""
        self.revision = 0
        for metric in metrics:
            self.declare(metric)

    def declare(self, metric: Metric) -> None:
        """Add a metric, change its unit and description, or make an integer metric a float one.

        A float metric that is declared as integer stays float. Raises ReadingError when the metric is invalid, changes
        its type otherwise, or exceeds MAX_METRICS.
        """
        known = self.metrics.get(metric.name)
        if known is not None and (known.type, metric.type) == ("float", "integer"):
            metric = _as_float(metric)
        if known == metric:
            return
        _check_definition(metric)
        if known is None and len(self.metrics) >= limits.MAX_METRICS:
            raise ReadingError(Code.TOO_MANY, metric.name, f"a device has at most {limits.MAX_METRICS} metrics")
        if known is not None and types_conflict(known.type, metric.type):
            message = (
                f"declared as {metric.type}, but it was {known.type} before: correct the type in the metrics that the "
                "agent is opened with"
            )
            raise ReadingError(Code.TYPE_CONFLICT, metric.name, message)
        self.metrics[metric.name] = metric
        self.revision += 1

    def check_row(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """Return the values of one time as they are sent, without None. Raises ReadingError."""
        row: dict[str, Value] = {}
        fresh: list[Metric] = []
        metrics = self.metrics
        for name, value in values.items():
            if value is None:
                continue
            metric = metrics.get(name)
            if metric is None:
                metric = _infer(name, value)
                fresh.append(metric)
            if type(value) is float and metric.type == "float" and isfinite(value):
                row[name] = value
                continue
            if _widens(metric, value):
                metric = _as_float(metric)
                fresh.append(metric)
            row[name] = _checked(metric, value)
        if not row:
            raise ReadingError(Code.EMPTY, "", "it contains no value")
        for metric in fresh:
            self.declare(metric)
        return row

    def check_columns(self, values: Mapping[str, Sequence[Value]], rows: int) -> dict[str, list[Value]]:
        """Return the columns of a batch as they are sent, without columns that have no value. Raises ReadingError."""
        columns: dict[str, list[Value]] = {}
        fresh: list[Metric] = []
        for name, given in values.items():
            column = list(given)
            if len(column) != rows:
                raise ReadingError(Code.LENGTH_MISMATCH, name, f"{len(column)} values for {rows} times")
            first = next((value for value in column if value is not None), None)
            if first is None:
                continue
            metric = self.metrics.get(name)
            if metric is None:
                metric = _infer(name, first)
                fresh.append(metric)
            if metric.type == "integer" and any(_widens(metric, value) for value in column):
                metric = _as_float(metric)
                fresh.append(metric)
            if not (metric.type == "float" and _are_finite_floats(column)):
                column = [None if value is None else _checked(metric, value) for value in column]
            columns[name] = column
        if not columns:
            raise ReadingError(Code.EMPTY, "", "it contains no value")
        for metric in fresh:
            self.declare(metric)
        return columns


def types_conflict(known: MetricType, declared: MetricType) -> bool:
    """Return whether a metric cannot have both types. It can have integer and float: then it is float."""
    return known != declared and {known, declared} != {"integer", "float"}


def corrected(earlier: Iterable[Metric], types: Mapping[str, MetricType], prefix: str = "") -> list[Metric]:
    """Return those of the earlier metrics to which a source gives another type, with that type.

    `prefix` is put before the names that the source gives.
    """
    return [
        msgspec.structs.replace(metric, type=named)
        for metric in earlier
        if metric.name.startswith(prefix)
        and (named := types.get(metric.name[len(prefix) :]))
        and types_conflict(metric.type, named)
    ]


def check_time(time_ns: Any) -> int:
    """Return the time if it is in nanoseconds between 1970 and 2262. Raises ReadingError."""
    if not _is_number(time_ns, Integral):
        raise ReadingError(Code.WRONG_TYPE, "", f"a time is an integer of nanoseconds, not {type(time_ns).__name__}")
    if not 0 <= time_ns <= limits.MAX_TIME_NS:
        raise ReadingError(Code.OUT_OF_RANGE, "", f"{time_ns} ns is not between 1970 and 2262")
    return int(time_ns)


def _check_definition(metric: Metric) -> None:
    try:
        # The constructor of a struct validates nothing; decoding does.
        msgspec.convert(msgspec.to_builtins(metric), Metric)
        for text in (metric.name, metric.unit, metric.description):
            text.encode()
    except (msgspec.ValidationError, UnicodeError) as error:
        raise ReadingError(Code.BAD_MESSAGE, str(metric.name), f"not a valid metric: {error}") from None


def _infer(name: str, value: object) -> Metric:
    """Return the metric for a first value."""
    match value:
        case bool():
            metric = Metric(name, "boolean")
        case str():
            metric = Metric(name, "string")
        case Real():
            metric = Metric(name, "float")
        case _:
            message = f"{type(value).__name__} is not a number, a boolean or a string"
            raise ReadingError(Code.WRONG_TYPE, name, message)
    _check_definition(metric)
    return metric


def _as_float(metric: Metric) -> Metric:
    return msgspec.structs.replace(metric, type="float")


def _widens(metric: Metric, value: object) -> bool:
    """Return whether a value makes an integer metric a float one."""
    return metric.type == "integer" and _is_number(value, Real) and not isinstance(value, Integral)


def _checked(metric: Metric, value: object) -> Value:
    """Return the value in the type of its metric. Raises ReadingError."""
    match metric.type:
        case "boolean" if isinstance(value, bool):
            return value
        case "string" if isinstance(value, str):
            return _string(metric, value)
        case "integer" if _is_number(value, Integral):
            return _integer(metric, value)
        case "float" if _is_number(value, Real):
            return _float(metric, value)
    raise ReadingError(Code.WRONG_TYPE, metric.name, _wrong_type(metric, value))


def _wrong_type(metric: Metric, value: object) -> str:
    """Return why a value is refused, and how its metric gets the type of the value."""
    given = f"{type(value).__name__} given, but the metric is {metric.type}"
    try:
        wanted = _infer(metric.name, value).type
    except ReadingError:
        return given
    return (
        f"{given}, from a declaration or its first value. If it must be {wanted}, open the agent with "
        f'metrics=[Metric("{metric.name}", "{wanted}")]; if the hub stores it as {metric.type}, change it there, too, '
        f"with `hub metric retype`"
    )


def _are_finite_floats(column: list[Any]) -> bool:
    """Return whether no value needs its own check; this usual case costs a tenth."""
    return set(map(type, column)) <= {float, NoneType} and all(isfinite(value) for value in column if value is not None)


def _is_number(value: object, kind: type[Integral] | type[Real]) -> bool:
    """Return whether it is such a number, or is registered as one like numpy's scalars. A boolean is not."""
    return isinstance(value, kind) and not isinstance(value, bool)


def _integer(metric: Metric, value: Any) -> int:
    integer = int(value)
    if not limits.MIN_INTEGER <= integer <= limits.MAX_INTEGER:
        raise ReadingError(Code.OUT_OF_RANGE, metric.name, "the integer needs more than 64 bits")
    return integer


def _float(metric: Metric, value: Any) -> float:
    try:
        number = float(value)
    except OverflowError:
        raise ReadingError(Code.OUT_OF_RANGE, metric.name, "the number is too large for a float") from None
    if not isfinite(number):
        message = f"{number} is not a finite number; leave it out or give None"
        raise ReadingError(Code.NOT_FINITE, metric.name, message)
    return number


def _string(metric: Metric, value: str) -> str:
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        message = "the string contains a lone surrogate, which is not Unicode text"
        raise ReadingError(Code.BAD_MESSAGE, metric.name, message) from None
    if size > limits.MAX_STRING_VALUE_BYTES:
        message = f"a string of {size} bytes; the limit is {limits.MAX_STRING_VALUE_BYTES}"
        raise ReadingError(Code.OUT_OF_RANGE, metric.name, message)
    return str(value)
