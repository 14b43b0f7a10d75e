"""`--assert`: one comparison over a report, such as `lost==0`, `ack.p99<100ms` or `stored==sent`. Pure.

expression = operand ("==" | "!=" | "<=" | ">=" | "<" | ">") operand
operand    = name | number [unit]
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Literal, NamedTuple

from device_sim.report import AssertionResult, Distribution, Report

Dimension = Literal["count", "time", "rate", "share", "size"]

UNITS: dict[str, tuple[Dimension, float]] = {
    "us": ("time", 0.001),
    "µs": ("time", 0.001),
    "ms": ("time", 1.0),
    "s": ("time", 1000.0),
    "/s": ("rate", 1.0),
    "%": ("share", 0.01),
    "KB": ("size", 1e3),
    "MB": ("size", 1e6),
    "GB": ("size", 1e9),
}
"""Unit → its dimension, and its size in the base unit of the dimension (ms, per second, 1, bytes)."""

NEEDS_UNIT = frozenset({"time", "size"})
"""Dimensions whose numbers are ambiguous without a unit."""

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}

_AS_TEXT: dict[Dimension, Callable[[float], str]] = {
    "count": lambda value: f"{value:,.0f}",
    "time": lambda value: f"{value:.3f} ms",
    "rate": lambda value: f"{value:,.1f}/s",
    "share": lambda value: f"{value:.1%}",
    "size": lambda value: f"{value / 1e6:,.1f} MB",
}

_EXPRESSION = re.compile(r"\s*(.+?)\s*(==|!=|<=|>=|<|>)\s*(.+?)\s*")
_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)?(?:[eE][0-9]+)?)\s*([^0-9.\s].*)?")
_NAME = re.compile(r"[a-z_]+(\.[a-z0-9]+)?")


class AssertionSyntaxError(ValueError):
    """The expression is invalid; the message names the wrong part and the valid ones."""


class Quantity(NamedTuple):
    """A named figure of the report; None if the report does not have it."""

    dimension: Dimension
    of: Callable[[Report], float | None]


def _percentiles(name: str, pick: Callable[[Report], Distribution]) -> dict[str, Quantity]:
    def quantity(field: str) -> Quantity:
        return Quantity("time", lambda report: getattr(pick(report), field) if pick(report).count else None)

    return {f"{name}.{field}": quantity(field) for field in ("mean", "p50", "p90", "p95", "p99", "p999", "max")}


QUANTITIES: dict[str, Quantity] = {
    "sent": Quantity("count", lambda r: r.readings.sent),
    "acked": Quantity("count", lambda r: r.readings.acked),
    "waiting": Quantity("count", lambda r: r.readings.waiting),
    "lost": Quantity("count", lambda r: r.readings.lost),
    "accepted": Quantity("count", lambda r: None if r.hub is None else r.hub.accepted),
    "stored": Quantity("count", lambda r: None if r.hub is None else r.hub.stored),
    "duplicated": Quantity("count", lambda r: None if r.hub is None else r.hub.duplicated),
    "quarantined": Quantity("count", lambda r: None if r.hub is None else r.hub.quarantined),
    "rejected": Quantity("count", lambda r: r.rejected_readings),
    "batches.sent": Quantity("count", lambda r: r.batches.sent),
    "batches.acked": Quantity("count", lambda r: r.batches.acked),
    "batches.waiting": Quantity("count", lambda r: r.batches.waiting),
    "batches.lost": Quantity("count", lambda r: r.batches.lost),
    "batches.rejected": Quantity("count", lambda r: r.rejected_batches),
    "batches.repeated": Quantity("count", lambda r: None if r.hub is None else r.hub.repeated_batches),
    "batches.quarantined": Quantity("count", lambda r: None if r.hub is None else r.hub.quarantined_batches),
    "devices": Quantity("count", lambda r: r.settings.devices),
    "connected": Quantity("count", lambda r: r.devices.connected),
    "failed": Quantity("count", lambda r: r.devices.failed),
    "reconnects": Quantity("count", lambda r: r.devices.reconnects),
    "rate": Quantity("rate", lambda r: r.acked_per_s),
    "elapsed": Quantity("time", lambda r: r.elapsed_s * 1000),
    "cpu": Quantity("share", lambda r: r.generator.cpu),
    "rss": Quantity("size", lambda r: r.generator.rss_bytes),
    **_percentiles("ack", lambda r: r.ack_ms),
    **_percentiles("lag", lambda r: r.lag_ms),
}


class Assertion(NamedTuple):
    """A parsed expression."""

    expression: str
    left: Quantity
    compare: Callable[[float, float], bool]
    right: Quantity

    def evaluate(self, report: Report) -> AssertionResult:
        """Evaluate the assertion for a report. It does not hold if the report lacks one of its figures."""
        left, right = self.left.of(report), self.right.of(report)
        if left is None or right is None:
            return AssertionResult(self.expression, False, "unknown")
        return AssertionResult(self.expression, self.compare(left, right), _AS_TEXT[self.left.dimension](left))


def parse_assertion(expression: str) -> Assertion:
    """Parse an expression. Raises AssertionSyntaxError."""
    found = _EXPRESSION.fullmatch(expression)
    if found is None:
        raise AssertionSyntaxError(f"{expression!r} is not a comparison; write for example lost==0 or ack.p99<100ms")
    left, right = (_operand(expression, part) for part in found.group(1, 3))
    if not isinstance(left, Quantity) and not isinstance(right, Quantity):
        raise AssertionSyntaxError(f"{expression!r} compares two numbers and no figure of the run")
    if isinstance(left, _Number):
        assert isinstance(right, Quantity)
        left = left.as_quantity(expression, right)
    elif isinstance(right, _Number):
        right = right.as_quantity(expression, left)
    elif left.dimension != right.dimension:
        raise AssertionSyntaxError(f"{expression!r} compares a {left.dimension} with a {right.dimension}")
    assert isinstance(right, Quantity)
    return Assertion(expression, left, COMPARISONS[found.group(2)], right)


class _Number(NamedTuple):
    value: float
    unit: str

    def as_quantity(self, expression: str, beside: Quantity) -> Quantity:
        """Convert the number to the unit of the other side. Raises AssertionSyntaxError."""
        if not self.unit and beside.dimension in NEEDS_UNIT:
            units = ", ".join(unit for unit, (dimension, _) in UNITS.items() if dimension == beside.dimension)
            raise AssertionSyntaxError(f"{expression!r} lacks a unit after {self.value:g}: use one of {units}")
        dimension, size = UNITS[self.unit] if self.unit else (beside.dimension, 1.0)
        if dimension != beside.dimension:
            raise AssertionSyntaxError(f"{expression!r} compares a {beside.dimension} with a {dimension} ({self.unit})")
        value = self.value * size
        return Quantity(dimension, lambda _: value)


def _operand(expression: str, text: str) -> Quantity | _Number:
    if (number := _NUMBER.fullmatch(text)) is not None:
        unit = number.group(2) or ""
        if unit and unit not in UNITS:
            raise AssertionSyntaxError(f"{expression!r}: there is no unit {unit!r}; use one of {', '.join(UNITS)}")
        return _Number(float(number.group(1)), unit)
    if _NAME.fullmatch(text) is None:
        raise AssertionSyntaxError(f"{expression!r}: {text!r} is neither a name nor a number")
    if text not in QUANTITIES:
        raise AssertionSyntaxError(f"{expression!r}: there is no {text!r}; use one of {', '.join(QUANTITIES)}")
    return QUANTITIES[text]
