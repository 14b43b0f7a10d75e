"""What the writer's thread does beside writing: rolls up what came in, and deletes what is older than it is kept.

In steps, each a transaction of its own of some 0.3 s at most, so that writes come in between; and not while so much
comes in that every bit of the processor is needed, as long as what is left to do stays within its bound.
"""

from __future__ import annotations

from typing import NamedTuple

import structlog

from hub.storage.duckdb import schema
from hub.storage.duckdb.plan import HOUR_NS
from hub.storage.duckdb.tables import STEP_PIECES, STEP_READINGS, Tables

DAY_NS = 24 * HOUR_NS

ROLL_EVERY_S = 300.0
"""How often all that came is rolled up: a minute of a series then has one piece, sometimes two. What is not rolled up
yet is read raw; of 1,000 series at 1 Hz that are 300,000 readings, 1 ms of a query."""

FOLD_EVERY_S = 3_600.0
"""How often all minutes are folded into hours."""

EXPIRE_EVERY_S = 3_600.0
"""How often something is deleted: whole hours, once each."""

EXPIRE_NS = HOUR_NS
"""Of the oldest readings, one step deletes so much time."""

CATCH_UP = 12
"""Retentions count from a time of their own, which follows the hub's clock at most so many times as fast as it runs: a
clock that leaps a year ahead costs half a day of the oldest readings in an hour, and somebody has time to see it. What
a hub was off for is caught up as well: a month in two and a half days, in which a little more is kept than was asked
for."""

CATCH_UP_AT_START_NS = HOUR_NS
"""How far that time comes with the first look after a start, so that a hub that never runs for long gets on, too."""

LEAP_NS = DAY_NS
"""By which the clock is ahead of that time before the log says so."""

BUSY_READINGS_PER_S = 1_000_000
"""From here on rolling up waits: it would take 7 % of a core that has none to spare."""

MAX_BEHIND = 100_000_000
"""Readings that wait for it at most; a query of a day of one series then takes 300 ms. Beyond it rolling up goes on
whatever comes in."""


log = structlog.get_logger(__name__)


class Keep(NamedTuple):
    """How long each tier is kept, in days; 0 is for ever."""

    raw_days: float = 0
    minute_days: float = 0
    hour_days: float = 0


class RetentionClock:
    """The time that retentions count from: the hub's, but for leaps ahead, which it follows at CATCH_UP only."""

    def __init__(self) -> None:
        self._last_s: float | None = None
        self._told = False

    def advance(self, clock_ns: int, *, now_ns: int, now_s: float) -> int:
        """Where it comes from `clock_ns`, where it was before; 0 is a new store's, which has nothing to lose yet.

        `now_ns` is the time of day, `now_s` a clock that only runs forward.
        """
        passed_ns = CATCH_UP_AT_START_NS
        if self._last_s is not None:
            passed_ns = round((now_s - self._last_s) * CATCH_UP * 10**9)
        self._last_s = now_s
        reached_ns = min(now_ns, clock_ns + passed_ns) if clock_ns else now_ns
        leapt = now_ns - reached_ns > LEAP_NS
        if leapt and not self._told:
            log.warning(
                "the hub's clock is far ahead of where the store's retentions are: they follow it slowly. If it is "
                "wrong, set it right before more is deleted",
                ahead_days=round((now_ns - reached_ns) / DAY_NS, 1),
            )
        self._told = leapt
        return reached_ns


class Upkeep:
    """Decides what is due. Times are given, so that it has no clock of its own."""

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self._clock = RetentionClock()
        self._seen: tuple[float, int] | None = None
        self._rolled_s = self._folded_s = self._expired_s = float("-inf")

    def step(self, tables: Tables, *, now_ns: int, now_s: float) -> bool:
        """Does one step of what is due, if anything is. Tells whether it did.

        `now_ns` is the time of day, for what is too old; `now_s` a clock that only runs forward.
        """
        if self._roll_up(tables, now_s) or self._fold(tables, now_s):
            return True
        return now_s - self._expired_s >= EXPIRE_EVERY_S and self._expire(tables, now_ns, now_s)

    def _roll_up(self, tables: Tables, now_s: float) -> bool:
        stored = sum(tables.stored.values())
        before_s, before = self._seen or (now_s, stored)
        self._seen = now_s, stored
        busy = stored - before > BUSY_READINGS_PER_S * (now_s - before_s)
        behind = {type: behind.readings for type, behind in tables.rollups.behind.items()}
        type = max(behind, key=behind.__getitem__)
        if not behind[type]:
            self._rolled_s = now_s
            return False
        due = behind[type] >= STEP_READINGS or now_s - self._rolled_s >= ROLL_EVERY_S
        if not due or (busy and sum(behind.values()) <= MAX_BEHIND):
            return False
        return tables.rollups.roll_up(type, STEP_READINGS) > 0

    def _fold(self, tables: Tables, now_s: float) -> bool:
        due = now_s - self._folded_s >= FOLD_EVERY_S
        for type, behind in tables.rollups.behind.items():
            if behind.minutes >= STEP_PIECES or (due and behind.minutes):
                return tables.rollups.fold(type, STEP_PIECES) > 0
        if due:
            self._folded_s = now_s
        return False

    def _expire(self, tables: Tables, now_ns: int, now_s: float) -> bool:
        """Whole hours, so that rollups begin where a bucket begins."""
        before_ns = tables.clock_ns()
        now_ns = self._clock.advance(before_ns, now_ns=now_ns, now_s=now_s)
        if now_ns != before_ns:
            tables.save_clock(now_ns)
        cut_ns = _cut(now_ns, self._keep.raw_days)
        oldest_ns = tables.oldest_ns()
        if oldest_ns is not None and oldest_ns < cut_ns:
            # Even where the oldest is alone in its time, the next step goes on at the next reading.
            tables.delete_before(min(cut_ns, oldest_ns - oldest_ns % EXPIRE_NS + EXPIRE_NS))
            return True
        tiers: list[tuple[schema.Tier, float]] = [("minute", self._keep.minute_days), ("hour", self._keep.hour_days)]
        for tier, days in tiers:
            if (cut_ns := _cut(now_ns, days)) > 0:
                tables.delete_rollups_before(tier, cut_ns)
        self._expired_s = now_s
        return True


def _cut(now_ns: int, days: float) -> int:
    """The begin of the oldest hour that is kept; 0 where all are."""
    return max(0, (now_ns - round(days * DAY_NS)) // HOUR_NS * HOUR_NS) if days else 0
