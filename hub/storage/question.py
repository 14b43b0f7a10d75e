"""Which questions make sense, whatever store they are for. Pure."""

from __future__ import annotations

from hub.model.store import MIN_POINTS, HistoryQuery, StoreError

NUMBERS_ONLY = ("avg", "min", "max")
"""Aggregates that texts and booleans do not have."""

MIN_POINTS_WITH_ENDS = 4
"""From here on a series' first and last reading are among its points, so that a line ends where its data end."""

MAX_READINGS = 2_000_000
"""Of one answer with all readings, which is put in order of time in memory: a hub grows by 260 MB (JSON, Arrow) to
310 MB (CSV) while it makes it, and by 410 MB for four at once. Beyond it the query is refused; an export has no end."""

MAX_TEXT_BYTES = 64_000_000
"""Of the strings in one answer with all readings, of which there are some copies while it is made."""


def check(query: HistoryQuery) -> None:
    """Raises ValueError for less points than MIN_POINTS, and StoreError where the aggregate is not for the type of one
    of the series."""
    if query.points is None:
        return
    if query.points < MIN_POINTS:
        raise ValueError(f"a query asks for at least {MIN_POINTS} points")
    if query.aggregate in NUMBERS_ONLY:
        others = [
            f"{one.device} {one.metric} ({one.type})" for one in query.series if one.type not in ("float", "integer")
        ]
        if others:
            raise StoreError(
                f"{query.aggregate} is for float and integer series only, not for {', '.join(others)}: ask for first, "
                "last or count"
            )


def too_many(max_readings: int = MAX_READINGS) -> StoreError:
    """For an answer of more readings than that."""
    return StoreError(
        f"more than {max_readings} readings: ask for a shorter range, fewer series or a number of points, or take them "
        "all with /api/v1/export or `hub export`"
    )


def too_long() -> StoreError:
    """For an answer whose strings are longer in all than MAX_TEXT_BYTES."""
    return StoreError(
        f"more than {MAX_TEXT_BYTES // 1_000_000} MB of text: ask for a shorter range, fewer series or a number of "
        "points, or take it all with /api/v1/export or `hub export`"
    )
