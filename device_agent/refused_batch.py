"""The search for a batch that the hub cannot read, and that ends every connection with `bad_message`.

The hub's answer does not name the batch. So the agent sends the batches of that connection again one at a time, each on
a connection that has proven itself: a batch that ends several connections alone is the one, and is declared lost. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

REFUSALS = 3
"""A batch that was refused this often when sent alone is declared lost. Fewer could be an accident of the network."""

QUIET_SECONDS = 1.0
"""Time without an error after the welcome before a batch is sent alone. An error before that has another cause."""


@dataclass(slots=True)
class RefusedBatchSearch:
    """State of the search. `until` is the last number under suspicion, 0 without a search."""

    until: int = 0
    _seq: int = 0
    _refusals: int = 0

    def refused(self, *, sent: int, acked: int) -> int | None:
        """Record a `bad_message` on a connection with these numbers; return a batch to declare lost, if it is known."""
        if sent <= acked:
            return None
        alone = self.until > 0 and sent == acked + 1
        self.until = max(self.until, sent)
        if not alone:
            return None
        self._refusals = self._refusals + 1 if self._seq == sent else 1
        self._seq = sent
        if self._refusals < REFUSALS:
            return None
        self._seq = self._refusals = 0
        return sent

    def is_searching(self, acked: int) -> bool:
        """Return whether batches are sent one at a time. The search ends when all under suspicion are acknowledged."""
        if self.until and acked >= self.until:
            self.until = self._seq = self._refusals = 0
        return self.until > 0
