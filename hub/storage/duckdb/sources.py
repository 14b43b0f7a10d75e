"""The relations that a query reads: raw rows and pieces of rollups, each reading of the range in one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hub.model.store import StoreCursor
from hub.storage.duckdb import schema
from hub.storage.duckdb.database import Reader
from hub.storage.duckdb.plan import Held, Part, Resolution
from hub.storage.duckdb.rollup import Behind
from wire.model import MetricType

RESOLUTIONS: tuple[Resolution, ...] = ("raw", "minute", "hour")
"""In the relations they are numbers, the coarser the greater."""


class Sources(NamedTuple):
    """What the reader's snapshot holds: up to which entry, from when on, and how many rows at the end of each table no
    rollup has yet."""

    reader: Reader
    cursor: StoreCursor
    held: Held
    behind: Mapping[str, Behind]

    def readings(self, type: MetricType, parts: Sequence[Part]) -> str:
        """(series, time_ns, value, resolution): the readings of the table `wanted`'s series.

        A piece of a rollup gives those that it has kept at their own times: first and last, and of numbers the least
        and the greatest, some of them twice. They may lie outside of the range by less than a bucket.
        """
        kept = ("first", "low", "high", "last") if type in schema.NUMBERS else ("first", "last")
        times, values = (", ".join(f"{name}{end}" for name in kept) for end in ("_ns", ""))
        return self._union(
            type, parts, "series, time_ns, value", f"series, unnest([{times}]) AS time_ns, unnest([{values}]) AS value"
        )

    def pieces(self, type: MetricType, parts: Sequence[Part]) -> str:
        """Pieces as the rollups have them, a raw reading being one of its own; and their resolution."""
        extremes = type in schema.NUMBERS
        columns = (
            f"series, time_ns, readings, {'sum, low, low_ns, high, high_ns, ' if extremes else ''}"
            "first, first_ns, last, last_ns"
        )
        raw = (
            "series, time_ns, 1 AS readings, "
            f"{f'value::{schema.NUMBERS[type]} AS sum, value AS low, time_ns AS low_ns, ' if extremes else ''}"
            f"{'value AS high, time_ns AS high_ns, ' if extremes else ''}"
            "value AS first, time_ns AS first_ns, value AS last, time_ns AS last_ns"
        )
        return self._union(type, parts, raw, columns)

    def _union(self, type: MetricType, parts: Sequence[Part], raw: str, piece: str) -> str:
        # Parts of one table are one scan: each begins with a look at the bounds of all row groups, which is half of the
        # work where there are a billion rows.
        scans: dict[tuple[Resolution, bool], list[str]] = {}
        for part in parts:
            within = f"time_ns BETWEEN {part.within.first_ns} AND {part.within.last_ns}"
            scans.setdefault((part.table, part.behind), []).append(within)
        selects = []
        for (name, behind), ranges in scans.items():
            is_raw = name == "raw"
            table = schema.raw(type) if is_raw else schema.rolled(name, type)  # type: ignore[arg-type]
            rows = ""
            if behind:
                count = self.behind[type].readings if is_raw else self.behind[type].minutes
                if not count:
                    continue
                rows = f" AND source.rowid > {self._last_row(table) - count}"
            selects.append(
                f"SELECT {raw if is_raw else piece}, {RESOLUTIONS.index(name)} AS resolution "
                f"FROM {table} AS source JOIN wanted ON series = id WHERE ({' OR '.join(ranges)}){rows}"
            )
        return " UNION ALL ".join(selects)

    def _last_row(self, table: str) -> int:
        count = int(self.reader.fetch(f"SELECT count(*) AS count FROM {table}")["count"][0])
        # See hub.storage.duckdb.rollup.last_row.
        last = self.reader.fetch(f"SELECT max(rowid) AS last FROM {table} WHERE rowid >= ?", count - 1)["last"]
        return int(last[0])


def find_sources(reader: Reader) -> Sources:
    """What this reader's snapshot has."""
    rows = reader.fetch(schema.READ_SOURCES)
    names = ("type", "readings", "minutes")
    return Sources(
        reader,
        StoreCursor(str(rows["journal"][0]), int(rows["position"][0])),
        Held(int(rows["raw_from_ns"][0]), int(rows["minute_from_ns"][0])),
        {
            str(type): Behind(int(readings), int(minutes))
            for type, readings, minutes in zip(*(rows[name] for name in names), strict=True)
        },
    )
