"""The usual interval of each series, learned from its arrivals, and the series that are stale. Pure.

A series is stale when its last reading arrived longer ago than STALE_INTERVALS of its own intervals, and at least
MIN_STALE_NS. The interval is a high quantile of the last intervals, so jitter and a few lost readings change nothing.
Only a series with regular intervals can be stale. A series that reports on change is exempt: its intervals are
irregular, or it is a state (text, boolean) that never repeats a value. One that only looked regular shows it by a pause
that ends by itself: each such pause doubles the number of regular intervals after which it counts as periodic again.

Times are arguments, of a monotonic clock in nanoseconds, so a clock that is set has no influence. State is kept in
columns by the id of the series, 47 bytes each: a million series take 47 MB, and a sweep over 40,000 of them 0.2 ms.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from hub.model.batch import Series

STALE_INTERVALS = 5
"""Intervals without a reading after which a series is stale. Four lost readings in a row are rare, and five are a
fault."""

MIN_STALE_NS = 10_000_000_000
"""No series is stale before this time: a busy network or an agent's restart delays readings as much."""

KEPT = 16
"""Intervals that are remembered: a changed cadence counts after 14 of them, and two outliers among them do not."""

ARRIVAL_NS = 1_000_000_000
"""At most one arrival of a series is recorded in this time: 100 readings a second cost no more than one. So its age is
up to a second too high, which is far below MIN_STALE_NS."""

SETTLED_NS = 10_000_000_000
"""At most one interval of a series is observed in this time if its interval is known: 10,000 devices with four readings
a second cost 1 % of a core."""

NEVER = 2**63 - 1
"""Limit of a series that cannot be stale."""

SPREAD = 10
"""Intervals are regular if the high quantile is at most twice the low one: 10 steps of the scale."""

REGULAR_NUMBERS = 6
"""Regular intervals after which a number is periodic. Six random intervals are as regular in 0.2 % of all cases."""

REGULAR_REPEATED = 4
"""The same for a number that repeats a value: what reports on change does not."""

REGULAR_STATES = 8
"""The same for text and booleans, which also have to repeat a value in a quarter of the intervals: most of them report
on change, and some events always have the same value."""

MAX_DISTRUST = 8
"""Doublings after pauses that ended by themselves."""

REGAINED = 512
"""Regular intervals in a row after which one pause is forgotten. So a thousand of them are always enough."""

_SCALE_NS = 62_500_000
_STEPS = 10
"""An interval is kept in one byte: ten steps for each doubling of 62.5 ms, to 7 %, up to 34 days."""

_MAX_CODE = 255
_MAX_COUNT = 65_535

_NO_ARRIVAL = -(2**62)
"""Arrival of a series that has none. A monotonic clock begins at 0, and what arrived before a restart is below it."""

_BREAK = -(2**62)
"""Mark of a series whose next arrival does not end an interval: the link or the hub was down."""

Reporting = Literal["learning", "periodic", "on_change"]


class Freshness(NamedTuple):
    """Cadence of a series: how it reports, its interval and its limit if it is periodic, and whether it is stale.

    `age_ns` is the time since its last reading arrived, without the time that the hub was down; None if none has.
    """

    reporting: Reporting
    interval_ns: int | None
    stale_after_ns: int | None
    is_stale: bool
    age_ns: int | None


class SavedCadences(msgspec.Struct, frozen=True, array_like=True):
    """Columns of all series as bytes, with ages in place of times: they are valid on another monotonic clock."""

    ages: bytes
    limits: bytes
    intervals: bytes
    repeats: bytes
    regular: bytes
    counts: bytes
    distrust: bytes
    stale: bytes


def encode_interval(interval_ns: int) -> int:
    """Return the code of an interval, which is not below it by more than half a step."""
    return 0 if interval_ns <= _SCALE_NS else min(_MAX_CODE, round(_STEPS * math.log2(interval_ns / _SCALE_NS)))


def decode_interval(code: int) -> int:
    """Return the interval of a code in nanoseconds."""
    return int(_SCALE_NS * math.exp2(code / _STEPS))


class Cadences:
    """Cadence and staleness of every series."""

    def __init__(self) -> None:
        # When the last reading arrived.
        self._arrived = array("q")
        # The interval that an arrival from this time on ends is observed; after _BREAK it ends none.
        self._observe_after = array("q")
        self._limits = array("q")
        self._intervals = bytearray()
        self._repeats = array("H")
        self._regular = array("H")
        self._counts = bytearray()
        self._distrust = bytearray()
        self._stale = bytearray()
        self._started_ns = self._hold_until_ns = _BREAK
        self.reserve(0)

    def reserve(self, id: int) -> None:
        """Make room for the series with this id."""
        missing = id + 1 - len(self._arrived)
        if missing <= 0:
            return
        missing = max(missing, len(self._arrived) // 8, 64)
        self._arrived.extend([_NO_ARRIVAL] * missing)
        self._observe_after.extend([_BREAK] * missing)
        self._limits.extend([NEVER] * missing)
        self._intervals.extend(bytes(KEPT * missing))
        self._repeats.extend([0] * missing)
        self._regular.extend([0] * missing)
        for column in (self._counts, self._distrust, self._stale):
            column.extend(bytes(missing))

    def arrive(self, series: Series, now_ns: int, elapsed_ns: int, *, repeated: bool) -> None:
        """Record the arrival of a reading. Of several in ARRIVAL_NS, the first one is enough.

        `elapsed_ns` is the time from the reading before by the times of both. It counts if it is positive: readings
        that were delayed, and then arrive together, have their usual intervals in it. `repeated`: both have one value.
        """
        id = series.id
        last_ns, observe_ns = self._arrived[id], self._observe_after[id]
        self._arrived[id] = now_ns
        if now_ns < observe_ns:
            return
        self._observe_after[id] = now_ns + (0 if self._limits[id] == NEVER else SETTLED_NS)
        if observe_ns == _BREAK or last_ns == _NO_ARRIVAL:
            return
        interval_ns = elapsed_ns if elapsed_ns > 0 else now_ns - last_ns
        code = encode_interval(interval_ns)
        if code == _MAX_CODE:
            return  # the device's clock was set
        is_pause = self._is_pause(id, min(interval_ns, now_ns - last_ns))
        self._repeats[id] = self._repeats[id] << 1 & 0xFFFF | repeated
        count = self._counts[id]
        start = id * KEPT
        if count < KEPT:
            self._intervals[start + count] = code
            self._counts[id] = count + 1
        else:
            self._intervals[start : start + KEPT] = self._intervals[start + 1 : start + KEPT] + bytes((code,))
        self._trust(id, is_pause=is_pause)
        self._limits[id] = self._limit(id, is_state=series.type in ("boolean", "string"))

    def break_off(self, ids: Iterable[int]) -> None:
        """Let the next arrival of these series end no interval: the link of their device is down."""
        for id in ids:
            if id < len(self._observe_after):
                self._observe_after[id] = _BREAK

    def sweep(self, now_ns: int) -> list[int]:
        """Find the series that became stale, or are not stale any more, and return their ids."""
        arrived = np.frombuffer(self._arrived, dtype=np.int64)
        is_due = now_ns - arrived > np.frombuffer(self._limits, dtype=np.int64)
        was_stale = np.frombuffer(self._stale, dtype=np.bool_)
        if now_ns < self._hold_until_ns:
            is_due &= was_stale | (arrived > self._started_ns)
        changed: list[int] = np.flatnonzero(is_due != was_stale).tolist()
        for id in changed:
            self._stale[id] ^= 1
        return changed

    def stale(self) -> list[int]:
        """Return the ids of the series that were stale in the last sweep."""
        found: list[int] = np.flatnonzero(np.frombuffer(self._stale, dtype=np.bool_)).tolist()
        return found

    def refresh(self, id: int, now_ns: int) -> None:
        """Let a series have a reading now: it arrived before the hub was killed, and after its state was saved."""
        self._arrived[id] = now_ns
        self._stale[id] = 0

    def is_stale(self, id: int) -> bool:
        """Return whether a series was stale in the last sweep."""
        return id < len(self._stale) and bool(self._stale[id])

    def is_periodic(self, id: int) -> bool:
        """Return whether a series can be stale."""
        return id < len(self._limits) and self._limits[id] != NEVER

    def has_arrived(self, id: int) -> bool:
        """Return whether a reading of the series has ever arrived."""
        return id < len(self._arrived) and self._arrived[id] != _NO_ARRIVAL

    def limit_ns(self, id: int) -> int | None:
        """Return the age at which a series is stale; None if it cannot be."""
        return self._limits[id] if self.is_periodic(id) else None

    def freshness(self, series: Series, now_ns: int) -> Freshness:
        """Return what is known of a series."""
        id = series.id
        if not self.has_arrived(id):
            return Freshness("learning", None, None, False, None)
        age_ns = max(0, now_ns - self._arrived[id])
        limit_ns = self.limit_ns(id)
        if limit_ns is not None:
            return Freshness("periodic", self._interval_ns(id), limit_ns, self.is_stale(id), age_ns)
        enough = REGULAR_STATES if series.type in ("boolean", "string") else REGULAR_NUMBERS
        return Freshness("on_change" if self._counts[id] >= enough else "learning", None, None, False, age_ns)

    def save(self, now_ns: int) -> SavedCadences:
        """Return the state to keep while the hub is down."""
        arrived = np.frombuffer(self._arrived, dtype=np.int64)
        return SavedCadences(
            np.where(arrived == _NO_ARRIVAL, -1, np.maximum(now_ns - arrived, 0)).tobytes(),
            self._limits.tobytes(),
            bytes(self._intervals),
            self._repeats.tobytes(),
            self._regular.tobytes(),
            bytes(self._counts),
            bytes(self._distrust),
            bytes(self._stale),
        )

    def restore(self, saved: SavedCadences | None, now_ns: int, *, hold_ns: int) -> None:
        """Continue with the saved state, or begin anew: the time in which the hub was down does not count.

        For `hold_ns` no further series becomes stale before a reading of it arrives: devices need this time to return.
        """
        self._started_ns, self._hold_until_ns = now_ns, now_ns + hold_ns
        self._arrived[:] = array("q", [_NO_ARRIVAL]) * len(self._arrived)
        self._observe_after[:] = array("q", [_BREAK]) * len(self._arrived)
        if saved is None or not _fits(saved):
            return
        size = len(saved.counts)
        self.reserve(size - 1)
        ages = np.frombuffer(saved.ages, dtype=np.int64)
        self._arrived[:size] = array("q", np.where(ages < 0, _NO_ARRIVAL, now_ns - ages).tobytes())
        self._limits[:size] = array("q", saved.limits)
        self._intervals[: size * KEPT] = saved.intervals
        self._repeats[:size] = array("H", saved.repeats)
        self._regular[:size] = array("H", saved.regular)
        self._counts[:size] = saved.counts
        self._distrust[:size] = saved.distrust
        self._stale[:size] = saved.stale

    def _is_pause(self, id: int, interval_ns: int) -> bool:
        """Return whether a series would have been stale in this interval, also if it is exempt."""
        if interval_ns <= MIN_STALE_NS or not self._counts[id]:
            return False
        return interval_ns > STALE_INTERVALS * self._interval_ns(id)

    def _trust(self, id: int, *, is_pause: bool) -> None:
        """Count a regular interval, or a pause that ended by itself; it is an alarm if the series was not exempt."""
        if is_pause:
            self._regular[id] = 0
            if self._limits[id] != NEVER:
                self._distrust[id] = min(self._distrust[id] + 1, MAX_DISTRUST)
        elif self._regular[id] < _MAX_COUNT:
            self._regular[id] += 1
            if self._regular[id] % REGAINED == 0 and self._distrust[id]:
                self._distrust[id] -= 1

    def _limit(self, id: int, *, is_state: bool) -> int:
        count = self._counts[id]
        repeats = self._repeats[id].bit_count()
        if is_state:
            if count < REGULAR_STATES or repeats * 4 < count:
                return NEVER
        elif count < (REGULAR_REPEATED if repeats else REGULAR_NUMBERS):
            return NEVER
        # What repeats values does not report on change: its pauses are faults, and it stays periodic after them.
        if repeats * 4 < count and self._distrust[id] and self._regular[id] < REGULAR_NUMBERS << self._distrust[id]:
            return NEVER
        low, high = self._quantiles(id)
        if high - low > SPREAD:
            return NEVER
        return max(MIN_STALE_NS, STALE_INTERVALS * decode_interval(high))

    def _quantiles(self, id: int) -> tuple[int, int]:
        count = self._counts[id]
        codes = sorted(self._intervals[id * KEPT : id * KEPT + count])
        return codes[count // 8], codes[count - 1 - count // 8]

    def _interval_ns(self, id: int) -> int:
        return decode_interval(self._quantiles(id)[1])


def _fits(saved: SavedCadences) -> bool:
    """Return whether the columns of a saved state have the same length."""
    size = len(saved.counts)
    wide = (saved.ages, saved.limits)
    return (
        all(len(column) == 8 * size for column in wide)
        and len(saved.intervals) == KEPT * size
        and len(saved.repeats) == len(saved.regular) == 2 * size
        and len(saved.distrust) == len(saved.stale) == size
    )
