"""What the hub knows of a device while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from hub.model.batch import Mark, Series
from wire import device as messages
from wire.errors import WireError


class Connected(Protocol):
    """A device's conversation, as the rest of the hub uses it. None of these waits."""

    @property
    def epoch(self) -> str:
        """Of the spool that the agent said hello with."""

    def send(self, message: messages.HubMessage) -> None:
        """Sends a message to the agent."""

    def acknowledge(self, seq: int) -> None:
        """All up to `seq` is durable."""

    def probe_clock(self) -> None:
        """Measures the device's clock once."""

    def end(self, error: WireError) -> None:
        """Ends the conversation: the device's next connection starts from what is durable."""


EPOCHS_KEPT = 8
"""Epochs before a device's current one whose numbers are remembered, so that an agent that comes back with one of them
(two agents took turns under one id, a spool was put back) goes on where it was. Of an older one the hub would take what
comes again for new."""


class Device:
    """A device's numbers and its conversation. One object per device id for the life of the hub.

    `received` is the highest seq of `epoch` taken in, durable or on its way, `earlier` those of the epochs before it;
    `durable` is the mark that is on disk. The totals count what was taken in, and are set back to the durable ones when
    a commit fails. A device that is `retired` is in service again with the next that it sends.
    """

    __slots__ = (
        "agent",
        "batches",
        "clock_error_ns",
        "clock_offset_ns",
        "conversation",
        "duplicates",
        "durable",
        "earlier",
        "epoch",
        "id",
        "lost",
        "metrics",
        "moved",
        "next_seq",
        "quarantined",
        "readings",
        "received",
        "retired",
        "seen_ns",
        "since_ns",
        "tags",
    )

    def __init__(self, id: str, mark: Mark | None = None) -> None:
        self.id = id
        self.durable = mark or Mark(id, "", 0)
        self.metrics: Mapping[str, Series | WireError] = {}
        self.conversation: Connected | None = None
        self.since_ns = 0
        self.seen_ns = 0
        self.retired = False
        self.next_seq = 1
        self.tags: dict[str, str] = {}
        self.agent = ""
        self.clock_offset_ns: int | None = None
        self.clock_error_ns: int | None = None
        self.roll_back()

    def roll_back(self) -> None:
        """Forgets what was taken in and is not durable."""
        mark = self.durable
        self.epoch = mark.epoch
        self.received = mark.seq
        self.earlier = mark.earlier
        self.batches = mark.batches
        self.readings = mark.readings
        self.duplicates = mark.duplicates
        self.quarantined = mark.quarantined
        self.lost = mark.lost
        self.moved = mark.moved

    def begin_epoch(self, epoch: str) -> None:
        """The device has another spool: a new one, whose numbers start again, or one of before. Its totals go on."""
        known = dict(((self.epoch, self.received), *self.earlier)) if self.epoch else {}
        self.epoch = epoch
        self.received = known.pop(epoch, 0)
        self.earlier = tuple(known.items())[:EPOCHS_KEPT]

    def mark(self) -> Mark:
        """The mark that becomes durable together with everything taken in so far."""
        return Mark(
            self.id, self.epoch, self.received, self.batches, self.readings, self.duplicates, self.quarantined,
            self.lost, self.moved, self.earlier
        )  # fmt: skip

    @property
    def acked(self) -> int:
        """The highest durable seq of the current epoch."""
        mark = self.durable
        return mark.seq if mark.epoch == self.epoch else dict(mark.earlier).get(self.epoch, 0)

    @property
    def backlog(self) -> int:
        """Batches that the agent holds and the hub has not acknowledged, as far as the agent has told."""
        return max(0, max(self.next_seq - 1, self.received) - self.acked)
