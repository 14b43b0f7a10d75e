"""The live side of the hub: latest values and groups of subscriptions, fed with every committed batch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hub.live.cadence import ARRIVAL_NS, Cadences
from hub.live.fleet import FleetFeed
from hub.live.group import Group, GroupKey, LiveSeries, Member
from hub.live.outbox import Outbox
from hub.model.batch import Entry, Series
from hub.model.metric import is_value
from wire import live as messages
from wire.model import Value

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

    from hub.live.group import Times

FUTURE_NS = 10_000_000_000
"""A latest reading that is further than this ahead of the hub's clock is replaced by any later arrival: one wrong time
must not hide a series until that time is reached. Clocks that are set over a network differ by less."""


class LiveHub:
    """Latest values, groups, and the `fleet` of devices. `offset` is the last journal entry that was applied."""

    def __init__(
        self,
        *,
        offset: int,
        clock: Callable[[], int] = time.time_ns,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """`offset` is the journal's newest entry."""
        self.offset = offset
        self.cadences = Cadences()
        self._clock = clock
        self._monotonic_ns = monotonic_ns
        self._series: dict[int, Series] = {}
        # Made with the first reading or subscription, which saves 0.6 kB of an idle device with four metrics.
        self._live: dict[int, LiveSeries] = {}
        self._groups: dict[GroupKey, Group] = {}
        self._schemas = 0
        self._timers: dict[Group, asyncio.TimerHandle] = {}
        self.fleet = FleetFeed()
        self._applied = asyncio.Event()

    def add_series(self, series: Sequence[Series]) -> None:
        """Add the series that are new to the groups that select them. Series are matched here and never per reading."""
        fresh = {new.id: new for new in series if new.id not in self._series}
        self._series.update(fresh)
        if fresh:
            for group in self._groups.values():
                group.add_series(fresh.values())

    def replace_series(self, changed: Series) -> None:
        """Use a series whose name, type, unit or description has changed, and send its new declaration.

        What was collected before is sent first, under the declaration that it had.
        """
        self._series[changed.id] = changed
        live = self._live.get(changed.id)
        if live is not None and not is_value(live.value, changed.type):
            live.value = None
        for group in list(self._groups.values()):
            if changed.id in group.positions:
                self.flush(group)
            group.replace_series(changed)

    def live_series(self, series: Series) -> LiveSeries:
        """Return the live state of a series."""
        live = self._live.get(series.id)
        if live is None:
            live = self._live[series.id] = LiveSeries()
            self.cadences.reserve(series.id)
        return live

    def apply(self, entries: Iterable[Entry]) -> None:
        """Apply committed entries, in order; the hot path."""
        offset = self.offset
        live = self._live
        now_ns = self._monotonic_ns()
        for entry in entries:
            offset = entry.offset
            batch = entry.batch
            if batch is None:
                continue
            times = batch.times
            historical = batch.historical
            rising = batch.rising
            for series, values in batch.columns:
                latest = live.get(series.id) or self.live_series(series)
                if not historical:
                    value = values[-1] if isinstance(values, list) else values.item(-1)
                    if rising and value is not None and value == value:
                        time_ns = times[-1] if isinstance(times, list) else times.item(-1)
                    else:
                        time_ns, value = _newest(times, values, rising=rising)
                    if value is not None:
                        if now_ns >= latest.arrive_ns:
                            latest.arrive_ns = now_ns + ARRIVAL_NS
                            elapsed_ns, is_repeated = time_ns - latest.time_ns, value == latest.value
                            self.cadences.arrive(series, now_ns, elapsed_ns, repeated=is_repeated)
                        if time_ns >= latest.time_ns or latest.time_ns > self._clock() + FUTURE_NS:
                            latest.time_ns = time_ns
                            latest.value = value
                for group, position in latest.groups:
                    if not historical or group.key.policy == "every":
                        group.collect(position, times, values)
        self.offset = offset
        self._applied.set()

    def restore(self, series: Series, time_ns: int, value: Value) -> None:
        """Set the latest reading that the store knows, before the hub accepts data."""
        latest = self.live_series(series)
        # A series that became a number may have a text as its newest reading.
        if time_ns > latest.time_ns and is_value(value, series.type):
            latest.time_ns = time_ns
            latest.value = value
        series.reach(time_ns)

    def forget_arrivals(self) -> None:
        """Record the next reading of each series as an arrival: those until now were restored."""
        for live in self._live.values():
            live.arrive_ns = 0

    async def reached(self, offset: int) -> None:
        """Wait until everything up to this offset is applied."""
        while self.offset < offset:
            self._applied.clear()
            await self._applied.wait()

    def join(self, subscription: messages.Subscribe, key: GroupKey, outbox: Outbox) -> tuple[Group, Member]:
        """Add a member to the group of this key, which is created on first use. The member does not share frames
        yet."""
        group = self._groups.get(key)
        if group is None:
            self._schemas += 1
            group = Group(key, self._schemas, offset=self.offset, live_series=self.live_series, schedule=self._schedule)
            group.add_series(self._series.values())
            self._groups[key] = group
        member = Member(subscription.id, outbox)
        group.members.append(member)
        return group, member

    def leave(self, group: Group, member: Member) -> None:
        """Remove the member. A group without members is removed, too."""
        group.members.remove(member)
        if not group.members:
            del self._groups[group.key]
            timer = self._timers.pop(group, None)
            if timer is not None:
                timer.cancel()
            for series in group.series:
                live = self.live_series(series)
                live.groups = [entry for entry in live.groups if entry[0] is not group]

    def flush(self, group: Group) -> None:
        """Send what the group has collected."""
        timer = self._timers.pop(group, None)
        if timer is not None:
            timer.cancel()
        group.scheduled = False
        group.flush(self.offset)

    def _schedule(self, group: Group) -> None:
        """Flush the group after its period, or in the next turn of the event loop when it has collected much."""
        loop = asyncio.get_running_loop()
        if group.scheduled:
            self._timers.pop(group).cancel()
            self._timers[group] = loop.call_later(0, self.flush, group)
        else:
            group.scheduled = True
            self._timers[group] = loop.call_later(group.key.period_ms / 1000, self.flush, group)


def _newest(times: Times, values: list[Value] | NDArray[float64], *, rising: bool) -> tuple[int, Value]:
    """Return the newest reading of a column; of several with the same time the last."""
    if not isinstance(values, list):
        values = values.tolist()
    if not isinstance(times, list):
        times = np.asarray(times).tolist()
    best_time = -1
    best_value: Value = None
    for index in range(len(times) - 1, -1, -1):
        value = values[index]
        if value is not None and value == value and times[index] > best_time:
            best_time, best_value = times[index], value
            if rising:
                break
    return best_time, best_value
