"""Retirement: takes devices out of service for good, and returns them when they send again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hub.ingest.device import Device, Devices
from hub.live.selection import matcher
from hub.registry.registry import Registry


@dataclass
class Retirement:
    """Implements hub.http.routes.devices.RetireDevices. `on_change` gets each device that is retired, or is back."""

    registry: Registry
    devices: Devices
    on_change: Callable[[Device], None]

    def choose(self, selectors: Sequence[str], unseen_since_ns: int | None) -> tuple[list[str], int]:
        """Return the ids of the selected devices in service, in order, and how many of them are connected.

        With `unseen_since_ns` only devices that sent nothing since then are selected.
        """
        is_selected = matcher(selectors)
        chosen = [
            device
            for device in sorted(self.devices, key=lambda device: device.id)
            if not device.retired
            and device.id in self.registry.devices
            and is_selected(device.id)
            and (unseen_since_ns is None or device.seen_ns < unseen_since_ns)
        ]
        return [device.id for device in chosen], sum(device.session is not None for device in chosen)

    async def retire(self, ids: Sequence[str]) -> None:
        """Take these devices out of service; durable when this returns. Raises RegistryError."""
        devices = [self.devices.device(id) for id in ids]
        for device in devices:
            # Before it is on disk: a commit meanwhile returns the device to service.
            device.retired = True
        try:
            await self.registry.retire(ids)
        except BaseException:
            for device in devices:
                device.retired = False
            raise
        for device in devices:
            if device.retired:
                self.registry.record_event(device.id, self.devices.clock(), "retired")
                self.on_change(device)
            else:
                self.registry.restore(device.id)

    def device_changed(self, device: Device) -> None:
        """Return a retired device to service in the registry, after it sent something."""
        known = self.registry.devices.get(device.id)
        if known is not None and known.retired_ns is not None and not device.retired:
            self.registry.restore(device.id)
            self.registry.record_event(device.id, self.devices.clock(), "back in service")
            self.on_change(device)
