"""Report by exception: the decision which readings of a metric are reported. Pure: the time of arrival is an argument.

A rule with a dead band suppresses values that differ little from the last reported one. When a value leaves the dead
band, the value just before it is reported, too: a chart shows the step and not a slope from the last report. The last
value before the end of a source is always reported. Everything else that is suppressed is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from math import inf, isfinite
from typing import Annotated, NamedTuple, cast

from msgspec import Meta, Struct

from wire.limits import MAX_METRICS
from wire.model import Value

NS_PER_S = 1_000_000_000

DAY_SECONDS = 86_400.0

Interval = Annotated[float, Meta(ge=0, le=DAY_SECONDS)]
Deadband = Annotated[float, Meta(ge=0)]


class ReportRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rule for the metrics and sources that match one of the patterns, in which `*` is any text. The first rule counts.

    A value is suppressed while it differs from the last reported one by at most `deadband`, or by at most
    `deadband_percent` of it; 0 suppresses what does not change, and None nothing. Text and booleans are then reported
    when they change. Two reports are `min_interval_s` apart, and the newest value is reported after that time. A value
    that is suppressed is reported after `max_interval_s`; 0 is no bound. `max_delay_ms` and `max_rows` bound a batch.
    """

    metrics: tuple[str, ...] = ("*",)
    sources: tuple[str, ...] = ("*",)
    deadband: Deadband | None = None
    deadband_percent: Deadband | None = None
    min_interval_s: Interval = 0.0
    max_interval_s: Interval = 0.0
    max_delay_ms: Annotated[int, Meta(ge=0, le=3_600_000)] | None = None
    max_rows: Annotated[int, Meta(ge=1, le=1000)] | None = None

    def __post_init__(self) -> None:
        if self.max_interval_s and self.max_interval_s < self.min_interval_s:
            raise ValueError("max_interval_s is less than min_interval_s")
        if self.max_interval_s and not self.has_deadband and not self.min_interval_s:
            raise ValueError("max_interval_s needs deadband, deadband_percent or min_interval_s: nothing is suppressed")

    @property
    def has_deadband(self) -> bool:
        """True if values are suppressed that did not change."""
        return self.deadband is not None or self.deadband_percent is not None

    @property
    def suppresses(self) -> bool:
        """True if the rule suppresses values at all."""
        return self.has_deadband or self.min_interval_s > 0

    def is_change(self, before: Value, value: Value) -> bool:
        """Return whether a value has to be reported after another one, apart from time."""
        if not self.has_deadband:
            return True
        if not (_is_number(before) and _is_number(value)):
            return value != before or type(value) is not type(before)
        reported, new = cast("float", before), cast("float", value)
        return abs(new - reported) > max(self.deadband or 0.0, abs(reported) * (self.deadband_percent or 0.0) / 100)


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def matching_rule(rules: Iterable[ReportRule], *, source: str, metric: str) -> ReportRule | None:
    """Return the first rule for a metric of a source."""
    for rule in rules:
        if any(fnmatchcase(source, pattern) for pattern in rule.sources) and any(
            fnmatchcase(metric, pattern) for pattern in rule.metrics
        ):
            return rule
    return None


class TimedRow(NamedTuple):
    """Values of one time that are reported."""

    time_ns: int
    values: dict[str, Value]


class _Sample(NamedTuple):
    value: Value
    time_ns: int


@dataclass(slots=True)
class _Metric:
    """State of one metric: the last reported value, and the newest value that was suppressed since."""

    rule: ReportRule
    reported: _Sample
    reported_s: float
    held: _Sample | None = None
    is_change: bool = False
    """True if the held value is outside the dead band, and waits for `min_interval_s`."""

    @property
    def due_s(self) -> float:
        """Time of arrival at which the held value is reported; inf: not by time."""
        if self.held is None:
            return inf
        if self.is_change:
            return self.reported_s + self.rule.min_interval_s
        return self.reported_s + self.rule.max_interval_s if self.rule.max_interval_s else inf


@dataclass(slots=True, eq=False)
class ExceptionFilter:
    """The readings of one source that are reported. `suppressed` counts the others; a held value is not counted yet."""

    source: str
    rules: Sequence[ReportRule] = ()
    suppressed: int = 0
    _metrics: dict[str, _Metric | None] = field(default_factory=dict)
    _due_s: float = inf

    @property
    def due_s(self) -> float:
        """Time of arrival at which `due` has something to report; inf: never. It may be early, and not late."""
        return self._due_s

    @property
    def held(self) -> int:
        """Number of suppressed values that may still be reported."""
        return sum(metric is not None and metric.held is not None for metric in self._metrics.values())

    def add(self, values: Mapping[str, Value], time_ns: int, now_s: float) -> list[TimedRow]:
        """Return the rows to report for a row that arrives at `now_s`, in the order of their times."""
        if not self.rules:
            return [TimedRow(time_ns, dict(values))]
        row: dict[str, Value] = {}
        earlier: list[tuple[int, str, Value]] = []
        for name, value in values.items():
            if value is None:
                continue
            before = self._add(name, _Sample(value, time_ns), now_s)
            if before is None:
                continue
            row[name] = value
            earlier += ((sample.time_ns, name, sample.value) for sample in before)
        rows = _rows(earlier)
        return [*rows, TimedRow(time_ns, row)] if row else rows

    def due(self, now_s: float) -> list[TimedRow]:
        """Return held values that have to be reported at this time."""
        found: list[tuple[int, str, Value]] = []
        self._due_s = inf
        for name, metric in self._metrics.items():
            if metric is None or metric.held is None:
                continue
            if metric.due_s <= now_s:
                found.append((metric.held.time_ns, name, metric.held.value))
                self._report(metric, metric.held, now_s)
            else:
                self._due_s = min(self._due_s, metric.due_s)
        return _rows(found)

    def finish(self, now_s: float) -> list[TimedRow]:
        """Return all held values, at the end of the source."""
        found: list[tuple[int, str, Value]] = []
        for name, metric in self._metrics.items():
            if metric is not None and metric.held is not None:
                found.append((metric.held.time_ns, name, metric.held.value))
                self._report(metric, metric.held, now_s)
        self._due_s = inf
        return _rows(found)

    def _add(self, name: str, sample: _Sample, now_s: float) -> tuple[_Sample, ...] | None:
        """Return the held values to report before this one, if it is reported; None if it is not."""
        metric = self._metrics.get(name)
        if isinstance(sample.value, float) and not isfinite(sample.value):
            return ()  # the agent refuses it and counts it
        if metric is None:
            if name not in self._metrics and len(self._metrics) < MAX_METRICS:
                rule = matching_rule(self.rules, source=self.source, metric=name)
                suppresses = rule is not None and rule.suppresses
                self._metrics[name] = _Metric(rule, sample, now_s) if rule is not None and suppresses else None
            return ()
        rule, elapsed_ns = metric.rule, sample.time_ns - metric.reported.time_ns
        is_change = rule.is_change(metric.reported.value, sample.value)
        # A clock that was set back begins anew.
        if elapsed_ns < 0 or (
            elapsed_ns >= rule.min_interval_s * NS_PER_S
            and (is_change or (rule.max_interval_s and elapsed_ns >= rule.max_interval_s * NS_PER_S))
        ):
            held = metric.held
            is_step = is_change and held is not None and not metric.is_change and held.time_ns < sample.time_ns
            if held is not None and not is_step:
                self.suppressed += 1
            self._report(metric, sample, now_s)
            return (held,) if held is not None and is_step else ()
        if metric.held is not None:
            self.suppressed += 1
        metric.held, metric.is_change = sample, is_change
        self._due_s = min(self._due_s, metric.due_s)
        return None

    def _report(self, metric: _Metric, sample: _Sample, now_s: float) -> None:
        metric.reported, metric.reported_s, metric.held = sample, now_s, None


def _rows(samples: Iterable[tuple[int, str, Value]]) -> list[TimedRow]:
    """Return values as rows, in the order of their times."""
    return list(_merged(sorted(samples, key=lambda sample: sample[0])))


def _merged(samples: Iterable[tuple[int, str, Value]]) -> Iterator[TimedRow]:
    row: TimedRow | None = None
    for time_ns, name, value in samples:
        if row is None or row.time_ns != time_ns:
            if row is not None:
                yield row
            row = TimedRow(time_ns, {})
        row.values[name] = value
    if row is not None:
        yield row
