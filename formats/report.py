"""The result of a check as text and as facts: the format, the rows, the refusals, the rules that decided. Pure."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from formats.reading import Reading, Result
from formats.record import RefusedInput, Row, setting_text
from formats.rules import Rules, rules_text
from wire.text import escaped, plural
from wire.timestamp import NS_PER_S

MAX_SHOWN_READINGS = 20
"""Readings in the text; the facts contain up to MAX_ROWS rows."""

MAX_SHOWN_REFUSALS = 20
MAX_ROWS = 1000

ROW_COLUMNS = ("line", "time (UTC)", "device", "metric", "value", "unit", "type")


class Trial:
    """Counters and the first results of an input that is read and not stored.

    `container` names the compression in which the input was. `refused` counts refusals by code, and
    `refusals` are the first of them.
    """

    def __init__(self, reading: Reading, *, container: str = "") -> None:
        self.container = container
        self.refused: Counter[str] = Counter()
        self.row_count = 0
        self._reading = reading
        self._rows: list[Row] = []
        self.refusals: list[RefusedInput] = []

    def add(self, result: Result) -> None:
        """Count results and keep the first of them."""
        rows, refusals = result.all_rows, result.refusals
        self.row_count += len(rows)
        self._rows += rows[: MAX_ROWS - len(self._rows)]
        self.refused.update(refusal.code for refusal in refusals)
        self.refusals += refusals[: MAX_ROWS - len(self.refusals)]

    @property
    def is_empty(self) -> bool:
        """Return whether the input has no line."""
        return not self._reading.lines

    @property
    def settings(self) -> Rules:
        """The rules with everything that was detected."""
        return self._reading.settings()

    def facts(self) -> dict[str, Any]:
        """Return everything, for programs."""
        reading, interpreter = self._reading, self._reading.interpreter
        return {
            "container": self.container,
            "format": None if reading.detection is None else reading.detection.format,
            "reason": None if reading.detection is None else reading.detection.reason,
            "lines": reading.lines,
            "rows": self.row_count,
            "readings": interpreter.readings,
            "no_values": interpreter.no_values,
            "odd_times": interpreter.times.odd,
            "refused": dict(self.refused),
            "first_rows": [
                {
                    "line": row.line, "device": row.device, "time_ns": row.time_ns, "odd_time": row.is_time_odd,
                    "values": row.values,
                }
                for row in self._rows
            ],
            "refusals": [
                {
                    "line": refusal.line, "code": refusal.code, "reason": refusal.reason, "metric": refusal.metric,
                    "value": refusal.value, "setting": refusal.setting, "raw": refusal.raw.decode(errors="replace"),
                }
                for refusal in self.refusals
            ],
            "metrics": [
                {"device": device, "metric": s.metric, "type": s.type, "unit": s.unit, "label": s.label}
                for device, series in interpreter.metrics.items() for s in series.values() if s.type is not None
            ],
            "labels": interpreter.labels,
            "notes": [note._asdict() for note in reading.notes],
            "settings": rules_text(self.settings),
        }  # fmt: skip

    @property
    def has_times(self) -> bool:
        """Return whether each of the first rows has a time of its own."""
        return all(row.time_ns is not None for row in self._rows)

    def text(self, *, source: Sequence[str] = ()) -> str:
        """Return everything for people, in lines that cannot control a terminal.

        `source` is the beginning of a table of agent.toml, whose rest are the settings; its device is not theirs.
        """
        reading, detection = self._reading, self._reading.detection
        packed = f" in {self.container}" if self.container else ""
        unknown = "no line has a format that is known" if reading.lines else "the input is empty"
        reason = detection.reason if detection else unknown
        lines = [f"format    {detection.format if detection else 'unknown'}{packed}: {reason}"]
        if self._rows:
            lines += ["", *self._row_lines()]
        if self.refusals:
            lines += ["", *self._refusal_lines()]
        lines += ["", self._counts()]
        if reading.notes:
            lines += ["", "decided by", *(f"  {note.code:<9} {note.sentence}" for note in reading.notes)]
        if source:
            table = re.sub(r"(?m)^\[", "[source.", rules_text(replace(self.settings, device="")))
            settings = "\n".join([*source, table])
        else:
            settings = rules_text(self.settings) or "# the defaults"
        lines += ["", "settings to copy", *settings.rstrip("\n").split("\n")]
        return "\n".join(map(escaped, lines))

    def row_cells(self, rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
        """Yield the cells of ROW_COLUMNS for each reading of some rows."""
        metrics = self._reading.interpreter.metrics
        for row in rows:
            for metric, value in row.values.items():
                series = metrics[row.device][metric]
                yield (
                    str(row.line), self._time(row), row.device or "(none)", metric, _value(value), series.unit,
                    series.type or "",
                )  # fmt: skip

    def _row_lines(self) -> list[str]:
        cells = [cell for cell, _ in zip(self.row_cells(self._rows), range(MAX_SHOWN_READINGS), strict=False)]
        lines = aligned([ROW_COLUMNS, *cells])
        if (more := self._reading.interpreter.readings - len(cells)) > 0:
            lines.append(f"… and {plural(more, 'more reading')}; --json has up to {MAX_ROWS:,} rows")
        return lines

    def _refusal_lines(self) -> Iterator[str]:
        yield "refused"
        for refusal in self.refusals[:MAX_SHOWN_REFUSALS]:
            yield f"  {refusal_text(refusal)}"
        if (more := self.refused.total() - MAX_SHOWN_REFUSALS) > 0:
            yield f"  … and {more:,} more; --json has up to {MAX_ROWS:,}"

    def _counts(self) -> str:
        interpreter = self._reading.interpreter
        counts = [
            f"{plural(interpreter.readings, 'reading')} in {plural(self.row_count, 'row')}",
            plural(self._reading.lines, "line"),
            f"{interpreter.no_values:,} without a value" if interpreter.no_values else "",
            f"{self.refused.total():,} refused" if self.refused else "nothing refused",
        ]
        return "; ".join(filter(None, counts))

    def _time(self, row: Row) -> str:
        if row.time_ns is None:
            return "arrival"
        seconds, fraction = divmod(row.time_ns, NS_PER_S)
        stamp = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        digits = f".{fraction:09}".rstrip("0") if fraction else ""
        return f"{stamp}{digits}Z{' (odd)' if row.is_time_odd else ''}"


def refusal_text(refusal: RefusedInput) -> str:
    """Return a refusal in one line: where, why, its code, and the setting that changes the decision."""
    what = f", {refusal.metric}" if refusal.metric else ""
    setting = f"; {setting_text(refusal.setting)}" if refusal.setting else ""
    return f"line {refusal.line}{what}: {refusal.reason} [{refusal.code}]{setting}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows of a table as lines with aligned columns; the first column is aligned right."""
    texts = [[escaped(cell) for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(*texts, strict=True)]
    lines = []
    for first, *others in texts:
        cells = [" " * (widths[0] - _width(first)) + first]
        cells += [cell + " " * (width - _width(cell)) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines


def _width(text: str) -> int:
    """Return the columns that a terminal needs for a text."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text
    )


def _value(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
