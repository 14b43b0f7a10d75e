"""Lines of several senders to one source: each has its own format, its own rest of a line, and its own date."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from math import inf
from typing import NamedTuple, Protocol

from device_agent.sources.lines import HEAD_SECONDS, ForeignInput, LineInput, LineResult

MAX_SENDERS = 64
"""Senders that are remembered, up to 100 kB each. A device has few sensors, and addresses of datagrams can be forged.
The sender that was silent for the longest time is forgotten; its next line begins anew."""


class Piece(NamedTuple):
    """Bytes of a sender, None at its end; `in_order` shows whether it closed its connection itself."""

    sender: Hashable
    data: bytes | None
    in_order: bool = False


class Receiver(Protocol):
    """Open socket at which a source listens."""

    async def receive(self) -> Piece:
        """Return what arrives next. Raises SourceUnavailable."""


@dataclass(slots=True)
class _Sender:
    lines: LineInput
    waits_since_s: float = inf


class SenderReader:
    """Reader of many senders, with an input for each. `is_message`: each piece is complete."""

    def __init__(self, input: ForeignInput, *, is_message: bool = False, head_s: float = HEAD_SECONDS) -> None:
        self._input = input
        self._is_message = is_message
        self._head_s = head_s
        self._senders: OrderedDict[Hashable, _Sender] = OrderedDict()
        """The least recently heard first."""

    def open(self) -> None:
        """Expect senders. Those before are known by other connections."""

    async def read(self, receiver: Receiver) -> list[LineResult]:
        """Return the results of the next piece, or of lines that waited long enough. Raises SourceUnavailable."""
        clock = asyncio.get_running_loop().time
        first_s = min((sender.waits_since_s for sender in self._senders.values()), default=inf)
        timeout = asyncio.timeout_at(None if first_s == inf else first_s + self._head_s)
        try:
            async with timeout:
                piece = await receiver.receive()
        except TimeoutError:
            return self._begin(clock(), time.time_ns())
        return self.feed(piece, clock(), time.time_ns())

    def feed(self, piece: Piece, now_s: float, now_ns: int) -> list[LineResult]:
        """Return the results of a piece."""
        results: list[LineResult] = []
        known = self._senders.get(piece.sender)
        if piece.data is None:
            if known is not None:
                del self._senders[piece.sender]
                results = known.lines.finish(now_ns) if piece.in_order else known.lines.begin(now_ns)
        else:
            if known is None:
                if len(self._senders) >= MAX_SENDERS:
                    results = self._senders.popitem(last=False)[1].lines.begin(now_ns)
                known = self._senders[piece.sender] = _Sender(LineInput(self._input))
                known.lines.open(is_whole=True)
            self._senders.move_to_end(piece.sender)
            feed = known.lines.feed_message if self._is_message else known.lines.feed
            results += feed(piece.data, now_ns)
            known.waits_since_s = now_s if known.lines.is_waiting else inf
        self._input.counts.senders = len(self._senders)
        return results

    def flush(self, now_ns: int) -> list[LineResult]:
        """Return the results of the lines of all senders that wait for others."""
        return self._begin(inf, now_ns)

    def _begin(self, now_s: float, now_ns: int) -> list[LineResult]:
        """Return the results of the lines that have waited long enough for others of their sender."""
        results: list[LineResult] = []
        for sender in self._senders.values():
            if sender.waits_since_s < inf and sender.waits_since_s + self._head_s <= now_s:
                results += sender.lines.begin(now_ns)
                sender.waits_since_s = inf
        return results
