"""What an agent sent and what became of it. Pure."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple


class Count(NamedTuple):
    """The same thing counted in both units."""

    batches: int = 0
    readings: int = 0

    def plus(self, batches: int, readings: int) -> Count:
        """The count with so many more."""
        return Count(self.batches + batches, self.readings + readings)


class Counts(NamedTuple):
    """What happened since the agent was opened.

    `sent` was taken into the spool by this agent. `acknowledged` went out from here and is durable at the hub, batches
    of earlier runs too; `rejected` of those are in the hub's quarantine. `lost` left the spool because it was full.
    `waiting` is in the spool now, in batches. `transmissions` counts frames, repeated ones too; `connections` welcomes.
    """

    sent: Count
    acknowledged: Count
    rejected: Count
    lost: Count
    waiting: int
    transmissions: int
    connections: int


class Tally:
    """Counts each batch once, however often it is sent."""

    def __init__(self) -> None:
        self.acknowledged = Count()
        self.rejected = Count()
        self.transmissions = 0
        self.connections = 0
        self._under_way: deque[tuple[int, int]] = deque()
        self._newest = 0

    def transmit(self, seq: int, readings: int) -> None:
        """A batch went out."""
        self.transmissions += 1
        if seq > self._newest:
            self._newest = seq
            self._under_way.append((seq, readings))

    def acknowledge(self, acked: int) -> None:
        """All up to this number is durable."""
        under_way = self._under_way
        batches = readings = 0
        while under_way and under_way[0][0] <= acked:
            batches += 1
            readings += under_way.popleft()[1]
        if batches:
            self.acknowledged = self.acknowledged.plus(batches, readings)

    def reject(self, seq: int) -> None:
        """A batch is in quarantine; its acknowledgement comes by itself."""
        readings = next((readings for number, readings in self._under_way if number == seq), 0)
        self.rejected = self.rejected.plus(1, readings)

    def begin_epoch(self) -> None:
        """The numbers begin anew."""
        self._under_way.clear()
        self._newest = 0
