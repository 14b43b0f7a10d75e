"""Blocks: many lines of plain numbers at once. Each line on its own costs ten times as much.

A block gives exactly the rows that its lines give one by one; any other line makes it no block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from formats.record import Row
from formats.values import EXACT

_decode = msgspec.json.Decoder(list[float]).decode
_NUMBER_BYTES = b"0.+-eE"
_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_LONG = b"0" * len(str(int(EXACT)))
"""Digits of the first whole number that a float may change; a fraction can have as many."""

ReadTimes = Callable[[list[bytes], int], "list[int] | None"]
"""Return the times in nanoseconds at a time of arrival; None if one of them has to be read on its own."""


class Block(NamedTuple):
    """Readings of one device: a list of values for each metric, one value a line.

    Without `times` the readings have the time of their arrival.
    """

    line: int
    raw: bytes
    device: str
    columns: dict[str, list[float]]
    times: list[int] | None = None

    @property
    def readings(self) -> int:
        """The number of values."""
        return self.raw.count(b"\n") * len(self.columns)

    def rows(self) -> list[Row]:
        """Return the rows of the lines."""
        metrics = list(self.columns)
        lines = self.raw.split(b"\n")
        times: Sequence[int | None] = self.times or [None] * len(lines)
        return [
            Row(self.line + number, lines[number], self.device, times[number], dict(zip(metrics, values, strict=True)))
            for number, values in enumerate(zip(*self.columns.values(), strict=True))
        ]


class BlockReader:
    """Reader of blocks for one layout: `metrics` has the metric of each column, None for one that is not stored.

    With `read_times`, a column of times is before these columns.
    """

    def __init__(
        self, delimiter: str, device: str, metrics: Sequence[str | None], read_times: ReadTimes | None = None
    ) -> None:
        self._delimiter = delimiter.encode()
        self._read_times = read_times
        self._device = device
        self._metrics = metrics
        self._structure = self._delimiter * (len(metrics) - 1) + b"\n"

    def read(self, raw: bytes, line: int, max_line_bytes: int, now_ns: int = 0) -> Block | None:
        """Return the block of some complete lines, the first of which has this number; None if it is not one."""
        raw = raw.replace(b"\r\n", b"\n") if b"\r" in raw else raw
        if len(raw) > max_line_bytes and max(map(len, raw.split(b"\n"))) > max_line_bytes:
            return None
        if self._read_times is None:
            columns = self._columns(raw)
            return None if columns is None else Block(line, raw, self._device, columns)
        parts = [text.partition(self._delimiter) for text in raw[:-1].split(b"\n")]
        columns = self._columns(b"\n".join([rest for _, _, rest in parts]) + b"\n")
        times = None if columns is None else self._read_times([time for time, _, _ in parts], now_ns)
        return None if columns is None or times is None else Block(line, raw, self._device, columns, times)

    def _columns(self, raw: bytes) -> dict[str, list[float]] | None:
        count = raw.count(b"\n")
        digits = raw.translate(_ZEROS)
        # A line with more cells, a blank one, a text or an empty file has another structure.
        if not count or digits.translate(None, _NUMBER_BYTES) != self._structure * count:
            return None
        body = raw[:-1].replace(b"\n", b",")
        if self._delimiter != b",":
            body = body.replace(self._delimiter, b",")
        try:
            # A number that is too large for a float is an error, too.
            values = _decode(b"[" + body + b"]")
        except msgspec.DecodeError:
            return None
        if _LONG in digits and not -EXACT < min(values) <= max(values) < EXACT:
            # A float does not keep every whole number.
            return None
        width = len(self._metrics)
        return {metric: values[place::width] for place, metric in enumerate(self._metrics) if metric is not None}
