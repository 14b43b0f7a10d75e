"""Which messages are on their way to a broker, and how far the journal's cursor may go because of them. Pure."""

from __future__ import annotations

from collections.abc import Iterable


class Flight:
    """Messages that wait for their acknowledgement, of entries up to `handed_out`, which went out in order.

    A message that does not come from one entry (the latest at a period, a description) holds the cursor at an offset
    that is given with it, or not at all.
    """

    def __init__(self, offset: int) -> None:
        self.handed_out = offset
        # By message id, in the order of sending: the offset of the entry that each is from.
        self._sent: dict[int, int] = {}
        self._others: dict[int, int | None] = {}

    def __len__(self) -> int:
        return len(self._sent) + len(self._others)

    def sent(self, id: int, offset: int) -> None:
        """A message of this entry is on its way."""
        self._sent[id] = offset

    def sent_other(self, id: int, hold: int | None) -> None:
        """A message of no entry is; until it has arrived, the cursor does not pass `hold`."""
        self._others[id] = hold

    def arrived(self, id: int) -> bool:
        """It is acknowledged. False where no such message is on its way."""
        if self._sent.pop(id, None) is not None:
            return True
        if id in self._others:
            del self._others[id]
            return True
        return False

    def cursor(self, holds: Iterable[int] = ()) -> int:
        """The last entry whose every message has arrived, and no later one than any of `holds`.

        Walks over what is on its way: to be asked once for many arrivals.
        """
        first = next(iter(self._sent.values()), None)
        least = self.handed_out if first is None else first - 1
        for hold in self._others.values():
            if hold is not None and hold < least:
                least = hold
        return min([least, *holds])
