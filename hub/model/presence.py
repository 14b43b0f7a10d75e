"""Presence of a device, as the rest of the hub reads it."""

from __future__ import annotations

from typing import NamedTuple

from wire.live import Presence


class DevicePresence(NamedTuple):
    """Presence of a device, since when (nanoseconds since 1970 UTC; 0: unknown), and the metrics that are stale."""

    state: Presence = "unconnected"
    since_ns: int = 0
    stale: tuple[str, ...] = ()


NO_PRESENCE = DevicePresence()
"""Presence of a device that the hub has just created."""
