"""Devices that are gone for good: out of service everywhere at once, and back as soon as they send."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hub.ingest.device import Device
from hub.ingest.intake import Intake
from hub.live.selection import matcher
from hub.registry.registry import Registry


class Retirement:
    """Implements hub.http.routes.devices.RetireDevices. `on_change` is told of each device that goes or comes back."""

    def __init__(self, registry: Registry, intake: Intake, *, on_change: Callable[[Device], None]) -> None:
        self._registry = registry
        self._intake = intake
        self._on_change = on_change

    def choose(self, selectors: Sequence[str], unseen_since_ns: int | None) -> tuple[list[str], int]:
        """Those in service that are selected, in order; with a time only those that sent nothing since then."""
        is_meant = matcher(selectors)
        chosen = [
            device
            for id, device in sorted(self._intake.devices.items())
            if not device.retired
            and id in self._registry.devices
            and is_meant(id)
            and (unseen_since_ns is None or device.seen_ns < unseen_since_ns)
        ]
        return [device.id for device in chosen], sum(device.conversation is not None for device in chosen)

    async def retire(self, devices: Sequence[str]) -> None:
        """Takes them out of service; durable when this returns. Raises RegistryError."""
        chosen = [self._intake.devices[id] for id in devices]
        for device in chosen:
            # Before it is on disk: what is committed meanwhile puts a device back.
            device.retired = True
        try:
            await self._registry.retire(devices)
        except BaseException:
            for device in chosen:
                device.retired = False
            raise
        for device in chosen:
            if device.retired:
                self._registry.record_event(device.id, self._intake.clock(), "retired")
                self._on_change(device)
            else:
                self._registry.restore(device.id)

    def look(self, device: Device) -> None:
        """A device has changed: whether it is back."""
        known = self._registry.devices.get(device.id)
        if known is not None and known.retired_ns is not None and not device.retired:
            self._registry.restore(device.id)
            self._registry.record_event(device.id, self._intake.clock(), "back in service")
            self._on_change(device)
