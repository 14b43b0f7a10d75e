"""The live side of the hub: fed with every committed batch, it keeps latest values and drives the subscriptions'
groups."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hub.live.group import Group, Key, LiveSeries, Member, latest_of
from hub.live.outbox import Outbox
from hub.model.batch import Entry, Series
from wire import live as messages
from wire.codec import LIVE_MESSAGES
from wire.model import Value

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

    from hub.live.columns import Times

FLEET_PERIOD_S = 0.25
"""Changes of devices' states are collected for this long: 10,000 agents coming back are a few frames, not 10,000
wakeups."""

FUTURE_NS = 10_000_000_000
"""A latest reading that is further than this ahead of the hub's clock gives way to any that comes after it: one wrong
time must not hide a series until that time is there. Clocks that are set by a network differ by less."""


class Live:
    """Latest values, groups and fleet watchers. `offset` is the last journal entry that was applied."""

    def __init__(
        self,
        *,
        offset: int,
        fleet: Callable[[], list[messages.DeviceState]],
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.offset = offset
        self._fleet = fleet
        self._clock = clock
        self._series: list[Series] = []
        self._groups: dict[Key, Group] = {}
        self._schemas = 0
        self._timers: dict[Group, asyncio.TimerHandle] = {}
        self._watchers: set[Outbox] = set()
        self._changed: dict[str, messages.DeviceState] = {}
        self._fleet_timer: asyncio.TimerHandle | None = None
        self._applied = asyncio.Event()

    def add_series(self, series: Sequence[Series]) -> None:
        """New series exist; groups whose selection matches take them in. Series are matched here and never per
        reading."""
        self._series.extend(series)
        for one in series:
            latest_of(one)
        for group in self._groups.values():
            group.add_series(series)

    def apply(self, entries: Iterable[Entry]) -> None:
        """Committed entries, in order; the hot path."""
        offset = self.offset
        for entry in entries:
            offset = entry.offset
            batch = entry.batch
            if batch is None:
                continue
            times = batch.times
            historical = batch.historical
            rising = batch.rising
            for series, values in batch.columns:
                latest = series.live
                if type(latest) is not LiveSeries:
                    latest = latest_of(series)
                if not historical:
                    value = values[-1] if isinstance(values, list) else values.item(-1)
                    if rising and value is not None and value == value:
                        time_ns = times[-1] if isinstance(times, list) else times.item(-1)
                    else:
                        time_ns, value = _newest(times, values, rising=rising)
                    if value is not None and (time_ns >= latest.time_ns or latest.time_ns > self._clock() + FUTURE_NS):
                        latest.time_ns = time_ns
                        latest.value = value
                for group, position in latest.groups:
                    if not historical or group.key.policy == "every":
                        group.collect(position, times, values)
        self.offset = offset
        self._applied.set()

    def seed(self, series: Series, time_ns: int, value: Value) -> None:
        """What the store knows as the latest reading, before live begins."""
        latest = latest_of(series)
        if time_ns > latest.time_ns:
            latest.time_ns = time_ns
            latest.value = value
        series.reach(time_ns)

    async def reached(self, offset: int) -> None:
        """Returns when everything up to this offset was applied."""
        while self.offset < offset:
            self._applied.clear()
            await self._applied.wait()

    def join(self, subscription: messages.Subscribe, key: Key, outbox: Outbox) -> tuple[Group, Member]:
        """A new member of the group of this key, which is made on first use. The member does not share frames yet."""
        group = self._groups.get(key)
        if group is None:
            self._schemas += 1
            group = Group(key, self._schemas, offset=self.offset, schedule=self._schedule)
            group.add_series(self._series)
            self._groups[key] = group
        member = Member(subscription.id, outbox)
        group.members.append(member)
        return group, member

    def leave(self, group: Group, member: Member) -> None:
        """The subscription ended; a group without members is forgotten."""
        group.members.remove(member)
        if not group.members:
            del self._groups[group.key]
            timer = self._timers.pop(group, None)
            if timer is not None:
                timer.cancel()
            for series in group.series:
                latest_of(series).groups = [entry for entry in latest_of(series).groups if entry[0] is not group]

    def flush(self, group: Group) -> None:
        """Sends what the group has collected, now."""
        timer = self._timers.pop(group, None)
        if timer is not None:
            timer.cancel()
        group.scheduled = False
        group.flush(self.offset)

    def _schedule(self, group: Group) -> None:
        """The group has something to send: after its period, or with the next turn of the loop when it has much."""
        loop = asyncio.get_running_loop()
        if group.scheduled:
            self._timers.pop(group).cancel()
            self._timers[group] = loop.call_later(0, self.flush, group)
        else:
            group.scheduled = True
            self._timers[group] = loop.call_later(group.key.period_ms / 1000, self.flush, group)

    def watch_fleet(self, outbox: Outbox) -> None:
        """The fleet now, and every change from now on."""
        outbox.control(LIVE_MESSAGES.encode(messages.Fleet(self._fleet())))
        self._watchers.add(outbox)

    def forget(self, outbox: Outbox) -> None:
        """The connection is gone."""
        self._watchers.discard(outbox)

    def device_changed(self, state: messages.DeviceState) -> None:
        """A device connected, disconnected, or told something new of itself."""
        if self._watchers:
            self._changed[state.device] = state
            if self._fleet_timer is None:
                self._fleet_timer = asyncio.get_running_loop().call_later(FLEET_PERIOD_S, self._send_changes)

    def _send_changes(self) -> None:
        self._fleet_timer = None
        changed, self._changed = self._changed, {}
        for state in changed.values():
            frame = LIVE_MESSAGES.encode(state)
            for outbox in self._watchers:
                outbox.control(frame)


def _newest(times: Times, values: list[Value] | NDArray[float64], *, rising: bool) -> tuple[int, Value]:
    """The newest reading of a column that has a value there; of several at that time the last."""
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
