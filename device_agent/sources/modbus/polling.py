"""Requests of a Modbus bus: which registers are read together, and which slave is asked next. Pure.

A slave that does not answer is asked again later and later, and all such slaves together get a small share of the
bus, so that they do not slow down the others. The same holds for one map of a slave that answers to its other maps:
some slaves ignore a function that they do not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from device_agent.sources import next_tick
from device_agent.sources.modbus.settings import PolledMap
from formats.modbus import Register

MISSES = 2
"""Requests in a row without an answer after which a slave, or one of its maps, fails: a single one can be noise."""

FIRST_RETRY_S = 1.0
MAX_RETRY_S = 60.0
"""Delays before a failing slave is asked again: the first, which doubles up to the last. A slave that is switched on is
seen within a minute."""

FAILING_SHARE = 0.1
"""Share of the time of the bus that failing slaves get while others work. Each costs a whole timeout."""

REFUSED_RETRY_S = 60.0
"""Time until registers that a slave refuses are asked for again: a slave may be configured meanwhile."""


class RegisterBlock(NamedTuple):
    """Registers that one request reads, and the fields in them, in the order of their addresses."""

    start: int
    size: int
    fields: tuple[str, ...]


def blocks_of(fields: Mapping[str, Register], *, limit: int, max_gap: int) -> list[RegisterBlock]:
    """Return the requests that read these fields, each of at most `limit` registers.

    Fields that follow each other, or with at most `max_gap` unused registers between them, are read together.
    """
    blocks: list[RegisterBlock] = []
    names: list[str] = []
    start = end = 0
    for name, register in sorted(fields.items(), key=lambda item: (item[1].address, item[1].count)):
        first, last = register.address, register.address + register.count
        if names and (first > end + max_gap or max(end, last) - start > limit):
            blocks.append(RegisterBlock(start, end - start, tuple(names)))
            names = []
        if not names:
            start = end = first
        names.append(name)
        end = max(end, last)
    if names:
        blocks.append(RegisterBlock(start, end - start, tuple(names)))
    return blocks


def halves(block: RegisterBlock, fields: Mapping[str, Register]) -> tuple[RegisterBlock, RegisterBlock] | None:
    """Return the two parts of a block that a slave refuses; None if its fields share their registers."""
    best: tuple[int, int] | None = None
    end = 0
    for place, name in enumerate(block.fields):
        register = fields[name]
        if place and register.address >= end:
            distance = abs(place - len(block.fields) / 2)
            if best is None or distance < best[0]:
                best = int(distance), place
        end = max(end, register.address + register.count)
    if best is None:
        return None
    parts = block.fields[: best[1]], block.fields[best[1] :]
    first, second = (_block_with(names, fields) for names in parts)
    return first, second


def _block_with(names: Sequence[str], fields: Mapping[str, Register]) -> RegisterBlock:
    start = min(fields[name].address for name in names)
    end = max(fields[name].address + fields[name].count for name in names)
    return RegisterBlock(start, end - start, tuple(names))


@dataclass(slots=True)
class Misses:
    """Requests in a row without an answer, and the time before which there is no other one."""

    count: int = 0
    retry_s: float = -inf

    @property
    def is_failing(self) -> bool:
        """Return whether there is no answer any more."""
        return self.count >= MISSES

    def add(self, now_s: float, timeout_s: float) -> None:
        """Record a request without an answer. A late answer arrives within `timeout_s`, or not at all."""
        self.count += 1
        delay_s = FIRST_RETRY_S * 2 ** min(self.count - MISSES, 16) if self.is_failing else 0.0
        self.retry_s = now_s + max(timeout_s, min(MAX_RETRY_S, delay_s))

    def clear(self) -> None:
        """Record an answer."""
        self.count = 0
        self.retry_s = -inf


@dataclass(slots=True, eq=False)
class Poll:
    """One map with its requests, and the time at which it is due.

    A request that the slave refuses is left out for a while.
    """

    polled: PolledMap
    blocks: list[RegisterBlock]
    start_s: float
    due_s: float
    asked_s: float = -inf
    misses: Misses = field(default_factory=Misses)
    _refused_until: dict[RegisterBlock, float] = field(default_factory=dict)

    @property
    def slave(self) -> int:
        """Return the number of the slave."""
        return self.polled.slave

    def wanted(self, now_s: float) -> list[RegisterBlock]:
        """Return the requests to send now."""
        return [block for block in self.blocks if self._refused_until.get(block, -inf) <= now_s]

    def split(self, block: RegisterBlock) -> tuple[RegisterBlock, RegisterBlock] | None:
        """Replace a request that the slave refuses by two; return them, None if it cannot be split."""
        parts = halves(block, self.polled.fields)
        if parts is not None:
            place = self.blocks.index(block)
            self.blocks[place : place + 1] = parts
        return parts

    def refuse(self, block: RegisterBlock, now_s: float) -> None:
        """Leave out a request that the slave refuses."""
        self._refused_until[block] = now_s + REFUSED_RETRY_S


class PollSchedule:
    """The order of the polls on one bus. Times are arguments, in seconds of one clock.

    A map is due on a schedule without drift; missed times are left out. The map that is due first is polled first. A
    slave that misses an answer is not asked again within `timeout_s`: its late answer would be taken for another one.
    """

    def __init__(self, maps: Iterable[PolledMap], *, timeout_s: float, now_s: float) -> None:
        self.polls = [
            Poll(polled, blocks_of(polled.fields, limit=polled.limit, max_gap=polled.max_gap), now_s, now_s)
            for polled in maps
        ]
        self.slaves = {poll.slave: Misses() for poll in self.polls}
        self._timeout_s = timeout_s
        self._failing_from_s = -inf

    def next(self) -> tuple[Poll, float]:
        """Return the poll that is next, and the time at which it is due."""
        has_working = any(not self.is_failing(poll) for poll in self.polls)

        def due_s(poll: Poll) -> tuple[float, float, float]:
            own_s = max(poll.due_s, poll.misses.retry_s, self.slaves[poll.slave].retry_s)
            shared_s = max(own_s, self._failing_from_s) if has_working and self.is_failing(poll) else own_s
            # Of several that are due at one time, the one that waits longest is next: no order of the maps wins.
            return shared_s, own_s, poll.asked_s

        poll = min(self.polls, key=due_s)
        return poll, due_s(poll)[0]

    def is_failing(self, poll: Poll) -> bool:
        """Return whether the slave of a poll does not answer, or not to this map."""
        return poll.misses.is_failing or self.slaves[poll.slave].is_failing

    def answered(self, poll: Poll, now_s: float) -> None:
        """Record that all requests of a poll were answered."""
        poll.asked_s = now_s
        poll.misses.clear()
        self.slaves[poll.slave].clear()
        poll.due_s = next_tick(poll.start_s, poll.polled.interval_s, now_s)

    def missed(self, poll: Poll, now_s: float) -> None:
        """Record that a request of a poll was not answered."""
        poll.asked_s = now_s
        for misses in (poll.misses, self.slaves[poll.slave]):
            misses.add(now_s, self._timeout_s)
        if self.is_failing(poll):
            # The request took the whole timeout, which is the share of the time until the next such request.
            self._failing_from_s = now_s + self._timeout_s * (1 / FAILING_SHARE - 1)
