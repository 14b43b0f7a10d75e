"""Time of the event loop that clients without a valid credential use, by address.

One such client could otherwise use a whole core with small requests, and on a busy machine the devices would wait for
their turn of the processor. A client with a valid credential gets back what its address was charged for it.

`LoopShares` is pure: the clock is an argument. `TurnQueues` lets the work of an address wait until it has a share.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from hub.http.leaky_bucket import LeakyBuckets
from hub.http.refusals import client_of

SHARE = 0.1
"""Seconds of the event loop that one address gets in each second: 100 requests of the usual size."""

BURST_S = 0.3
"""Seconds that an address gets at once. The page with its files takes a tenth of that."""

MAX_DELAY_S = 1.0
"""Longest time until the next turn of an address. Its connections and requests take their turns one after the other."""

CONNECTION_S = 0.001
"""Time of the event loop that a connection takes apart from its requests: to accept and to close it."""

SHORT_TURN_PAUSE_S = 0.001
"""Time between two short turns of one connection: requests without a valid credential, frames other than the messages
of an agent, and messages that the application takes one by one.

The event loop can wait meanwhile, and the journal's writer gets the interpreter. Without the pause a waiting thread is
woken at the end of each turn, finds that the next one has begun, and waits anew: a flood of fragments delayed commits
by up to 550 ms, and now by 6 ms."""

ROUND = 64
"""Waiting turns of a kind that are taken in the order of their arrival: a client with a valid token, whose address is
that of an abusive one, then waits for one round of turns at most. An upgrade costs 6 ms in its turns: 4 s for 64.

Beyond, every second turn is that of the newest. The clients of the oldest have waited for seconds, and most of them are
gone; and one that holds a thousand connections would otherwise delay a new one by ten seconds. The newest ones alone
would let a client that connects again and again starve all others."""

MAX_ADDRESSES = 4_096
"""About 1 MB. At the bound the address that was silent for longest is removed, and starts again without a debt."""


@dataclass(slots=True)
class LoopShares:
    """The debt of each address: the time that it has used beyond its share."""

    max_addresses: int = MAX_ADDRESSES
    share: float = SHARE
    on_refund: Callable[[str], None] | None = None
    """Receives each client that got time back: it may have a share again before its debt has expired."""
    _debts: LeakyBuckets = field(init=False)

    def __post_init__(self) -> None:
        # The debt is bounded, so that the delay ends soon after the last request.
        most_s = BURST_S + 2 * MAX_DELAY_S * self.share
        self._debts = LeakyBuckets(leak_per_s=self.share, capacity=most_s, max_sources=self.max_addresses)

    @property
    def addresses(self) -> int:
        """Number of addresses whose debt is known."""
        return len(self._debts)

    def charge(self, address: str, seconds: float, now_s: float) -> None:
        """Add the time that a request took, or a negative time to correct an estimate."""
        self._debts.add(client_of(address), seconds, now_s)

    def refund(self, address: str, seconds: float, now_s: float) -> None:
        """Give back what was charged for a client that turned out to have a valid credential."""
        self.charge(address, -seconds, now_s)
        if self.on_refund is not None:
            self.on_refund(client_of(address))

    def delay_s(self, address: str, now_s: float) -> float:
        """Return the time that the next request of this address has to wait."""
        over_s = self._debts.level(client_of(address), now_s) - BURST_S
        return min(max(0.0, over_s / self.share), MAX_DELAY_S)


Turn = Callable[[], None]
"""Does a part of a client's work, and charges its address for it."""


@dataclass(slots=True)
class _Turns:
    """The waiting turns of one kind by their owners, in the order of their arrival."""

    by_owner: OrderedDict[object, Turn] = field(default_factory=OrderedDict)
    takes_newest: bool = False

    def pop(self) -> tuple[object, Turn]:
        """Remove and return the oldest, or in alternation the newest if more than a round of them wait."""
        self.takes_newest = len(self.by_owner) > ROUND and not self.takes_newest
        return self.by_owner.popitem(last=self.takes_newest)


@dataclass(slots=True)
class _Queue:
    """The waiting turns of one address: of new connections, first turns of open ones, and their later turns."""

    new: _Turns = field(default_factory=_Turns)
    first: _Turns = field(default_factory=_Turns)
    later: _Turns = field(default_factory=_Turns)
    next_kind: int = 0
    timer: asyncio.Handle | None = None
    due_s: float = 0.0

    @property
    def kinds(self) -> tuple[_Turns, _Turns, _Turns]:
        """All kinds, in the order in which they take turns."""
        return self.new, self.first, self.later

    def pop(self) -> tuple[object, Turn] | None:
        """Remove and return the next owner with its turn: one of each kind after the other, so that none starves."""
        for number in range(self.next_kind, self.next_kind + 3):
            turns = self.kinds[number % 3]
            if turns.by_owner:
                self.next_kind = (number + 1) % 3
                return turns.pop()
        return None

    def __bool__(self) -> bool:
        return any(turns.by_owner for turns in self.kinds)


class TurnQueues:
    """Turns that wait for the share of their address. One is taken at a time, and then the share is checked again.

    The owners bound the queues: each has one turn at most, and their number is bounded by address.
    """

    def __init__(self, shares: LoopShares) -> None:
        self.shares = shares
        self._queues: dict[str, _Queue] = {}
        self._clients: dict[object, str] = {}
        shares.on_refund = self._wake

    def __len__(self) -> int:
        return len(self._clients)

    def has_room(self, address: str, now_s: float) -> bool:
        """Return whether this address may take a turn at once: it has a share left, and no turn of it waits."""
        return client_of(address) not in self._queues and self.shares.delay_s(address, now_s) == 0

    def count_new(self, address: str) -> int:
        """Return the number of new connections of this address that wait."""
        queue = self._queues.get(client_of(address))
        return 0 if queue is None else len(queue.new.by_owner)

    def wait(self, address: str, owner: object, turn: Turn, *, is_new: bool = False, is_first: bool = False) -> None:
        """Call `turn` after those of its kind that wait already, as soon as the address has a share.

        Kinds are new connections (`is_new`), first turns of open ones (`is_first`), and their later turns. They
        alternate: the requests of many open connections do not delay a new one.
        """
        client = client_of(address)
        queue = self._queues.get(client)
        if queue is None:
            queue = self._queues[client] = _Queue()
        turns = queue.new if is_new else queue.first if is_first else queue.later
        turns.by_owner[owner] = turn
        self._clients[owner] = client
        if queue.timer is None:
            self._schedule(client, queue)

    def oldest_new(self, address: str) -> object | None:
        """Return the new connection of this address that has waited for longest."""
        queue = self._queues.get(client_of(address))
        return next(iter(queue.new.by_owner), None) if queue is not None else None

    def leave(self, owner: object) -> None:
        """Discard the waiting turn of this owner, if there is one."""
        client = self._clients.pop(owner, None)
        if client is not None:
            for turns in self._queues[client].kinds:
                turns.by_owner.pop(owner, None)

    def _schedule(self, client: str, queue: _Queue) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        delay_s = self.shares.delay_s(client, now_s)
        queue.due_s = now_s + delay_s
        if delay_s > 0:
            queue.timer = loop.call_later(delay_s, self._release, client)
        else:
            # In a turn of the event loop of its own.
            queue.timer = loop.call_soon(self._release, client)

    def _wake(self, client: str) -> None:
        queue = self._queues.get(client)
        if queue is None or queue.timer is None:
            return
        now_s = asyncio.get_running_loop().time()
        # Never later than before: a client with a valid token could otherwise postpone the next turn again and again.
        if now_s + self.shares.delay_s(client, now_s) < queue.due_s:
            queue.timer.cancel()
            self._schedule(client, queue)

    def _release(self, client: str) -> None:
        """Take one turn, and schedule the next one by the share that is left after it."""
        queue = self._queues[client]
        queue.timer = None
        found = queue.pop()
        if found is not None:
            owner, turn = found
            del self._clients[owner]
            turn()
        if not queue:
            del self._queues[client]
        elif queue.timer is None:
            self._schedule(client, queue)
