"""From the hub's columns to the columns of live frames: float64 milliseconds, float64 values, text apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hub.model.batch import Series
from wire.frames import NumberColumn, TextColumn
from wire.model import Value

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Times = Sequence[int] | NDArray[np.int64]
    Values = Sequence[Value] | NDArray[np.float64]

NS_PER_MS = 1e6


class Columns:
    """The columns of one frame, in the order they were added."""

    __slots__ = ("numbers", "readings", "texts")

    def __init__(self) -> None:
        self.numbers: list[NumberColumn] = []
        self.texts: list[TextColumn] = []
        self.readings = 0

    def add(self, position: int, series: Series, times_ns: Times, values: Values) -> None:
        """Adds the readings of the series at this position of the schema; rows without a value are left out."""
        if series.type == "string":
            given = zip(times_ns, values, strict=True)
            rows = [(float(time) / NS_PER_MS, str(text)) for time, text in given if text is not None]
            if rows:
                self.texts.append(TextColumn(position, [time for time, _ in rows], [text for _, text in rows]))
                self.readings += len(rows)
            return
        times = np.asarray(times_ns, dtype=np.float64) / NS_PER_MS
        numbers = np.asarray(values, dtype=np.float64)
        missing = np.isnan(numbers)
        if missing.any():
            times, numbers = times[~missing], numbers[~missing]
        if len(times):
            self.readings += len(times)
            self.numbers.append(NumberColumn(position, _little_endian(times), _little_endian(numbers)))

    def add_chunks(self, position: int, series: Series, chunks: Sequence[tuple[Times, Values]]) -> None:
        """Adds several stretches of one series as one column."""
        if len(chunks) == 1:
            self.add(position, series, *chunks[0])
            return
        times: list[int] = []
        values: list[Value] = []
        for chunk_times, chunk_values in chunks:
            times.extend(chunk_times)
            values.extend(chunk_values)
        self.add(position, series, times, values)


def _little_endian(column: NDArray[np.float64]) -> bytes:
    return column.astype("<f8", copy=False).tobytes()
