"""The fleet for the dashboards that watch it: states and progress, collected, encoded once and sent together."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from hub.live.outbox import Outbox
from wire import live as messages
from wire.codec import LIVE_MESSAGES

STATES_PERIOD_S = 0.25
"""Changes of devices' states are collected for this long: 10,000 agents that reconnect are a few frames, not 10,000
wakeups."""

ROUND_S = 1.0
"""Shortest time between two reports of the progress of a device: nobody reads numbers that change more often."""

FIRST_DELAY_S = 0.05
"""After a pause, progress is reported this late: the devices of the same commits join."""

PART_DEVICES = 1_000
"""Devices in one progress message, about 3 ms of the event loop. A larger fleet is reported in parts."""

PART_PAUSE_S = 0.02
"""Pause between two parts, in which agents are served."""


class ProgressingDevice(Protocol):
    """Device whose progress is reported. It is hashed by identity."""

    id: str
    seen_ns: int

    @property
    def acked(self) -> int: ...

    @property
    def backlog(self) -> int: ...


class ProgressRounds:
    """Schedule of progress reports. Pure: times are arguments, in seconds.

    A device that progressed is reported in the next round, once, however often it progressed. Rounds begin at least
    ROUND_S apart. The parts of a round are due PART_PAUSE_S apart. The work depends on the devices that progressed and
    not on the size of the fleet.
    """

    def __init__(self) -> None:
        self._waiting: set[ProgressingDevice] = set()
        self._round: list[ProgressingDevice] = []
        self._next_round_s = 0.0

    def add(self, devices: Iterable[ProgressingDevice]) -> None:
        """Add devices that progressed."""
        self._waiting.update(devices)

    def clear(self) -> None:
        """Discard everything that waits."""
        self._waiting.clear()
        self._round.clear()

    def delay_s(self, now_s: float) -> float | None:
        """Return the time until the next part is due; None: nothing waits."""
        if self._round:
            return PART_PAUSE_S
        return max(FIRST_DELAY_S, self._next_round_s - now_s) if self._waiting else None

    def take(self, now_s: float) -> list[ProgressingDevice]:
        """Remove and return the next part, which begins a round if there is none; empty if nothing is due."""
        if not self._round and self._waiting and now_s >= self._next_round_s:
            self._round = list(self._waiting)
            self._waiting.clear()
            self._next_round_s = now_s + ROUND_S
        part = self._round[-PART_DEVICES:]
        del self._round[-PART_DEVICES:]
        return part


@dataclass(slots=True, eq=False)
class MissedChanges:
    """Changes that a dashboard has still to receive because it reads too slowly: the newest for each device.

    `has_presence`: it asked for the presence of devices.
    """

    has_presence: bool
    states: dict[str, messages.DeviceState] = field(default_factory=dict)
    progressed: set[ProgressingDevice] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.states or self.progressed)


class FleetFeed:
    """Changes of the fleet for the dashboards that watch it. Without any it does nothing.

    A dashboard that reads slowly misses no change: its changes are collected by device until it has read what waits.
    """

    def __init__(self) -> None:
        self._plain: set[Outbox] = set()
        """Watchers that did not ask for progress: one `device` message for each changed state."""
        self._watchers: dict[Outbox, MissedChanges] = {}
        self._changed: dict[str, messages.DeviceState] = {}
        self._rounds = ProgressRounds()
        self._states_timer: asyncio.TimerHandle | None = None
        self._progress_timer: asyncio.TimerHandle | None = None

    def watch(
        self, outbox: Outbox, fleet: Sequence[messages.DeviceState], *, progress: bool, presence: bool = False
    ) -> None:
        """Send the fleet, and every change from now on."""
        if not progress:
            fleet = [_plain(state) for state in fleet]
        elif not presence:
            fleet = [_without_presence(state) for state in fleet]
        outbox.control(LIVE_MESSAGES.encode(messages.Fleet([*fleet])))
        if progress:
            self._watchers[outbox] = MissedChanges(presence)
        else:
            self._plain.add(outbox)

    def unwatch(self, outbox: Outbox) -> None:
        """Remove the watcher, after its connection closed."""
        self._plain.discard(outbox)
        self._watchers.pop(outbox, None)
        if not self._watchers:
            self._rounds.clear()
            if self._progress_timer is not None:
                self._progress_timer.cancel()
                self._progress_timer = None
        if not self._watchers and not self._plain:
            self._changed.clear()
            if self._states_timer is not None:
                self._states_timer.cancel()
                self._states_timer = None

    def state_changed(self, state: messages.DeviceState) -> None:
        """Send the watchers the new state of a device, with the next collected changes."""
        if self._watchers or self._plain:
            self._changed[state.device] = state
            if self._states_timer is None:
                self._states_timer = asyncio.get_running_loop().call_later(STATES_PERIOD_S, self._send_states)

    def progressed(self, devices: Iterable[ProgressingDevice]) -> None:
        """Report the progress of devices, of which batches were received or acknowledged; the hot path."""
        if self._watchers:
            self._rounds.add(devices)
            if self._progress_timer is None:
                self._schedule_progress()

    def serve(self, outbox: Outbox) -> None:
        """Send a watcher what it missed, after its connection accepted frames."""
        missed = self._watchers.get(outbox)
        if not missed or not outbox.has_control_room:
            return
        if missed.states:
            outbox.control(_states_frame(missed.states.values(), has_presence=missed.has_presence))
        if missed.progressed:
            outbox.control(LIVE_MESSAGES.encode(_progress(missed.progressed)))
        self._watchers[outbox] = MissedChanges(missed.has_presence)

    def _schedule_progress(self) -> None:
        loop = asyncio.get_running_loop()
        delay_s = self._rounds.delay_s(loop.time())
        self._progress_timer = None if delay_s is None else loop.call_later(delay_s, self._send_progress)

    def _send_states(self) -> None:
        self._states_timer = None
        changed, self._changed = self._changed, {}
        if self._plain:
            for frame in [LIVE_MESSAGES.encode(_plain(state)) for state in changed.values()]:
                for outbox in self._plain:
                    outbox.control(frame)
        frames: dict[bool, bytes] = {}
        for outbox, missed in self._watchers.items():
            if missed or not outbox.has_control_room:
                missed.states.update(changed)
                continue
            if missed.has_presence not in frames:
                frames[missed.has_presence] = _states_frame(changed.values(), has_presence=missed.has_presence)
            outbox.control(frames[missed.has_presence])

    def _send_progress(self) -> None:
        part = self._rounds.take(asyncio.get_running_loop().time())
        if part and self._watchers:
            frame = LIVE_MESSAGES.encode(_progress(part))
            for outbox, missed in self._watchers.items():
                if missed or not outbox.has_control_room:
                    missed.progressed.update(part)
                else:
                    outbox.control(frame)
        self._schedule_progress()


def _plain(state: messages.DeviceState) -> messages.DeviceState:
    """Return the state without the fields that only watchers of progress know."""
    state = _without_presence(state)
    if not (state.sources or state.source_refused or state.events):
        return state
    return msgspec.structs.replace(state, sources=[], source_refused=0, events=0)


def _without_presence(state: messages.DeviceState) -> messages.DeviceState:
    """Return the state without the fields that only watchers of presence know."""
    if state.presence is None:
        return state
    return msgspec.structs.replace(state, presence=None, presence_since=0, stale=[])


def _states_frame(states: Iterable[messages.DeviceState], *, has_presence: bool) -> bytes:
    return LIVE_MESSAGES.encode(
        messages.DeviceStates([state if has_presence else _without_presence(state) for state in states])
    )


def _progress(devices: Collection[ProgressingDevice]) -> messages.FleetProgress:
    return messages.FleetProgress(
        [device.id for device in devices],
        [device.acked for device in devices],
        [device.backlog for device in devices],
        [device.seen_ns for device in devices],
    )
