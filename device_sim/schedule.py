"""When which device is due: an open model, whose times depend on nothing that happens. Pure.

Reading `row` of device `i` is due at start + offset(i) + row / rate. Nothing is ever added up, so nothing drifts; a
reading that goes out late does not move the next one. Times are seconds since the run's start.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import NamedTuple

MAX_RATE_HZ = 1000.0
"""Readings a second of one device; faster ones are the bench's matter, which does not simulate."""


class Schedule(NamedTuple):
    """`devices` devices that read `rate_hz` times a second, begin spread over `ramp_up_s`, and end at `duration_s`."""

    devices: int
    rate_hz: float
    ramp_up_s: float = 0.0
    duration_s: float | None = None

    def joins_s(self, device: int) -> float:
        """When the device connects."""
        return self.ramp_up_s * device / self.devices

    def due_s(self, device: int, row: int) -> float:
        """When the device's reading number `row` (from 0) is due.

        Devices that join together are spread over one period: a fleet of sensors does not tick in step.
        """
        return self.joins_s(device) + (device / self.devices + row) / self.rate_hz

    def in_order(self) -> Iterator[tuple[float, int, int]]:
        """Every (due_s, device, row), the next one first."""
        waiting = [(self.due_s(device, 0), device, 0) for device in range(self.devices)]
        heapq.heapify(waiting)
        while waiting:
            due_s, device, row = waiting[0]
            if self.duration_s is not None and due_s >= self.duration_s:
                return
            yield due_s, device, row
            heapq.heapreplace(waiting, (self.due_s(device, row + 1), device, row + 1))
