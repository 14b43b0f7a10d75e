"""Presence of devices in a running hub: it follows the devices, looks at the clock, and keeps its state in a file."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from pathlib import Path

import structlog

from hub.ingest.agent_session import AgentSession
from hub.ingest.device import Device, Devices
from hub.live.cadence import Freshness
from hub.live.hub import LiveHub
from hub.live.presence import DeviceLink, PresenceTracker
from hub.model.batch import Series
from hub.model.presence import DevicePresence
from hub.mqtt.inbound import AGENT_PREFIX
from hub.registry.presence_file import read_presence, write_presence
from hub.registry.registry import Registry
from wire.live import Presence

SWEEP_S = 1.0
"""Time between two looks at the ages of all series, which take 0.2 ms for 40,000 of them."""

SAVE_S = 60.0
"""Time between two writes of the state. A killed hub forgets what it learned in this time, and alarms nobody."""

log = structlog.get_logger(__name__)


class PresenceService:
    """Presence of every device and freshness of every series. `run` keeps both up to date until it is cancelled."""

    def __init__(
        self,
        registry: Registry,
        devices: Devices,
        live: LiveHub,
        path: Path,
        series_of: Callable[[str], list[Series]],
    ) -> None:
        """`path` is that of the registry, beside which the state is kept."""
        self._registry = registry
        self._devices = devices
        self._live = live
        self._path = path
        self._saved_s = time.monotonic()
        self._watchers: list[Callable[[Device], None]] = []
        self._tracker = PresenceTracker(
            live.cadences,
            series=registry.series,
            series_of=series_of,
            latest_time_ns=lambda series: live.live_series(series).time_ns,
            on_change=self._changed,
            record=registry.record_event,
        )

    def restore(self, connected: Collection[str]) -> None:
        """Begin with what an earlier run of the hub knew, and follow the devices.

        `connected` are the devices that were connected when the hub was killed.
        """
        self._live.forget_arrivals()
        self._tracker.restore(
            read_presence(self._path, self._registry.id),
            [(device.id, device_link(device), device.since_ns) for device in self._devices],
            now_ns=time.monotonic_ns(),
            connected=connected,
        )
        for device in self._devices:
            device.presence = self._tracker.presence(device.id)
        self._devices.watch(self.follow)

    @property
    def counts(self) -> dict[Presence, int]:
        """Number of devices in each state."""
        return self._tracker.counts()

    def watch(self, watcher: Callable[[Device], None]) -> None:
        """Call `watcher` with each device whose presence or stale metrics changed."""
        self._watchers.append(watcher)

    def presence(self, device: str) -> DevicePresence:
        """Return the presence of a device."""
        return self._tracker.presence(device)

    def freshness(self, series: Series) -> Freshness:
        """Return what is known of the cadence of a series, and its age."""
        return self._live.cadences.freshness(series, time.monotonic_ns())

    async def run(self) -> None:
        """Update what follows from the time alone, and save the state, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self._tracker.sweep(now_ns=time.monotonic_ns(), wall_ns=self._devices.clock())
            if time.monotonic() - self._saved_s >= SAVE_S:
                await self.save()

    async def save(self) -> None:
        """Write the state to its file. If the disk does not take it, the next start of the hub knows less."""
        self._saved_s = time.monotonic()
        saved = self._tracker.save(now_ns=time.monotonic_ns(), wall_ns=self._devices.clock())
        try:
            await asyncio.to_thread(write_presence, self._path, self._registry.id, saved)
        except OSError as error:
            log.warning("presence of devices cannot be saved", error=error.strerror)

    def follow(self, device: Device) -> None:
        """Apply a change of a device: it connected or disconnected, was retired or is back."""
        times = {"now_ns": time.monotonic_ns(), "wall_ns": self._devices.clock()}
        self._tracker.follow(device.id, device_link(device), **times)

    def _changed(self, id: str) -> None:
        device = self._devices.get(id)
        if device is not None:
            device.presence = self._tracker.presence(id)
            for watcher in self._watchers:
                watcher(device)


def device_link(device: Device) -> DeviceLink:
    """Return the facts about a device from which its presence follows.

    After a start of the hub, the agent's name shows whether the device is behind a broker.
    """
    return DeviceLink(
        connected=device.session is not None,
        by_agent=(
            not device.agent.startswith(AGENT_PREFIX)
            if device.session is None
            else isinstance(device.session, AgentSession)
        ),
        has_agent=device.session is not None or device.agent != "",
        retired=device.retired,
        has_sent=device.seen_ns > 0,
        has_left=device.has_left,
    )
