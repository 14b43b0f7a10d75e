"""Time of the event loop that clients without a valid credential use, by address. Pure: the clock is an argument.

One such client could otherwise use a whole core with small requests, and on a busy machine the devices would wait for
their turn of the processor. A client with a valid credential is never delayed.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from hub.http.refusals import client_of

SHARE = 0.1
"""Seconds of the event loop that one address gets in each second: 100 requests of the usual size."""

BURST_S = 0.3
"""Seconds that an address gets at once. The page with its files takes a tenth of that."""

MAX_DELAY_S = 1.0
"""Longest delay of one request. A client with a credential, whose address is that of an abusive one, is delayed once:
until its first answer the connection is not known to be valid."""

MAX_ADDRESSES = 4_096
"""About 1 MB. At the bound the address that was silent for longest is removed, and starts again without a debt."""


@dataclass(slots=True)
class LoopShares:
    """The debt of each address: the time that it has used beyond its share, as a leaky bucket."""

    max_addresses: int = MAX_ADDRESSES
    share: float = SHARE
    _debts: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    @property
    def addresses(self) -> int:
        """Number of addresses whose debt is known."""
        return len(self._debts)

    def charge(self, address: str, seconds: float, now_s: float) -> None:
        """Add the time that a request took."""
        client = client_of(address)
        debt_s = self._debt_s(client, now_s) + seconds
        # The debt is bounded, so that the delay ends soon after the last request.
        self._debts[client] = min(debt_s, BURST_S + 2 * MAX_DELAY_S * self.share), now_s
        self._debts.move_to_end(client)
        if len(self._debts) > self.max_addresses:
            self._debts.popitem(last=False)

    def delay_s(self, address: str, now_s: float) -> float:
        """Return the time that the next request of this address has to wait."""
        over_s = self._debt_s(client_of(address), now_s) - BURST_S
        return min(max(0.0, over_s / self.share), MAX_DELAY_S)

    def _debt_s(self, client: str, now_s: float) -> float:
        debt_s, since_s = self._debts.get(client, (0.0, now_s))
        return max(0.0, debt_s - (now_s - since_s) * self.share)
