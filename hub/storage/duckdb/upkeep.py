"""Work of the writer's thread beside writing: rolling up readings, and deleting data older than its retention.

It runs in steps, each a transaction of 0.3 s at most, so that writes run in between. While so much data arrives that
all of the processor is needed, it waits, unless the backlog exceeds its limit.
"""

from __future__ import annotations

from typing import NamedTuple

import structlog

from hub.storage.duckdb import schema
from hub.storage.duckdb.query_plan import HOUR_NS
from hub.storage.duckdb.tables import STEP_PIECES, STEP_READINGS, Tables

DAY_NS = 24 * HOUR_NS

ROLL_EVERY_S = 300.0
"""Interval between two rollups of all readings. A minute of a series then has one piece, sometimes two. Readings that
are not rolled up yet are read raw: for 1,000 series at 1 Hz these are 300,000 readings, 1 ms of a query."""

FOLD_EVERY_S = 3_600.0
"""Interval between two folds of all minutes into hours."""

EXPIRE_EVERY_S = 3_600.0
"""Interval between two deletions of old data, in whole hours."""

EXPIRE_NS = HOUR_NS
"""Time that one step deletes from the oldest readings."""

CATCH_UP = 12
"""Retentions use a clock of their own, which follows the hub's clock at most this many times as fast as real time. If
the hub's clock leaps a year ahead, half a day of the oldest readings is deleted in an hour, and an operator has time to
notice. Time for which a hub was off is caught up as well: a month in two and a half days, in which slightly more is
kept than configured."""

CATCH_UP_AT_START_NS = HOUR_NS
"""Advance of that clock at the first step after a start, so that it also advances on a hub that never runs for long."""

LEAP_NS = DAY_NS
"""Lead of the hub's clock over that clock from which the log contains a warning."""

BUSY_READINGS_PER_S = 1_000_000
"""Rate from which rolling up waits: it would take 7 % of a core that has none to spare."""

MAX_BACKLOG = 100_000_000
"""Maximum backlog. A query of a day of one series then takes 300 ms. Beyond it, rolling up continues at any rate."""


log = structlog.get_logger(__name__)


class RetentionPeriods(NamedTuple):
    """Time that the raw readings and each of schema.TIERS are kept, in days; 0 means forever."""

    raw_days: float = 0
    minute_days: float = 0
    hour_days: float = 0


class RetentionClock:
    """The time that retentions use: the hub's time, except that it follows leaps ahead at CATCH_UP only."""

    def __init__(self) -> None:
        self._last_s: float | None = None
        self._is_reported = False

    def advance(self, clock_ns: int, *, now_ns: int, now_s: float) -> int:
        """Return the new time after `clock_ns`, the previous time; 0 is the time of a new store, which has nothing to
        lose.

        `now_ns` is the time of day, `now_s` a monotonic clock.
        """
        passed_ns = CATCH_UP_AT_START_NS
        if self._last_s is not None:
            passed_ns = round((now_s - self._last_s) * CATCH_UP * 10**9)
        self._last_s = now_s
        reached_ns = min(now_ns, clock_ns + passed_ns) if clock_ns else now_ns
        has_leapt = now_ns - reached_ns > LEAP_NS
        if has_leapt and not self._is_reported:
            log.warning(
                "clock is far ahead of the retention clock, which follows slowly: if the time is wrong, correct it "
                "before more readings are deleted",
                ahead_days=round((now_ns - reached_ns) / DAY_NS, 1),
            )
        self._is_reported = has_leapt
        return reached_ns


class Upkeep:
    """Decides what is due. Its caller gives it the time."""

    def __init__(self, retention: RetentionPeriods) -> None:
        self._retention = retention
        self._clock = RetentionClock()
        self._last_count: tuple[float, int] | None = None
        self._rolled_s = self._folded_s = self._expired_s = float("-inf")

    def step(self, tables: Tables, *, now_ns: int, now_s: float) -> bool:
        """Do one step of what is due, and return True if there was one.

        `now_ns` is the time of day, which decides what is too old; `now_s` is a monotonic clock.
        """
        if self._roll_up(tables, now_s) or self._fold(tables, now_s):
            return True
        return now_s - self._expired_s >= EXPIRE_EVERY_S and self._expire(tables, now_ns, now_s)

    def _roll_up(self, tables: Tables, now_s: float) -> bool:
        stored = sum(tables.stored.values())
        counted_s, counted = self._last_count or (now_s, stored)
        self._last_count = now_s, stored
        is_busy = stored - counted > BUSY_READINGS_PER_S * (now_s - counted_s)
        waiting = {type: backlog.readings for type, backlog in tables.rollups.backlog.items()}
        type = max(waiting, key=waiting.__getitem__)
        if not waiting[type]:
            self._rolled_s = now_s
            return False
        is_due = waiting[type] >= STEP_READINGS or now_s - self._rolled_s >= ROLL_EVERY_S
        if not is_due or (is_busy and sum(waiting.values()) <= MAX_BACKLOG):
            return False
        return tables.rollups.roll_up(type, STEP_READINGS) > 0

    def _fold(self, tables: Tables, now_s: float) -> bool:
        is_due = now_s - self._folded_s >= FOLD_EVERY_S
        for type, backlog in tables.rollups.backlog.items():
            if backlog.minutes >= STEP_PIECES or (is_due and backlog.minutes):
                return tables.rollups.fold(type, STEP_PIECES) > 0
        if is_due:
            self._folded_s = now_s
        return False

    def _expire(self, tables: Tables, now_ns: int, now_s: float) -> bool:
        """Delete whole hours, so that rollups begin where a bucket begins."""
        before_ns = tables.clock_ns()
        now_ns = self._clock.advance(before_ns, now_ns=now_ns, now_s=now_s)
        if now_ns != before_ns:
            tables.save_clock(now_ns)
        oldest_kept_ns = _oldest_kept(now_ns, self._retention.raw_days)
        oldest_ns = tables.oldest_ns()
        if oldest_ns is not None and oldest_ns < oldest_kept_ns:
            # If the oldest reading is isolated in time, the next step continues at the next reading.
            tables.delete_before(min(oldest_kept_ns, oldest_ns - oldest_ns % EXPIRE_NS + EXPIRE_NS))
            return True
        for tier, days in zip(schema.TIERS, self._retention[1:], strict=True):
            if (oldest_kept_ns := _oldest_kept(now_ns, days)) > 0:
                tables.delete_rollups_before(tier, oldest_kept_ns)
        self._expired_s = now_s
        return True


def _oldest_kept(now_ns: int, days: float) -> int:
    """Return the begin of the oldest hour that is kept; 0 if all are kept."""
    return max(0, (now_ns - round(days * DAY_NS)) // HOUR_NS * HOUR_NS) if days else 0
