"""Both ends of a device's conversation, joined by links that break at any point, always agree in the end."""

from __future__ import annotations

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from wire import device
from wire.codec import AGENT_MESSAGES, HUB_MESSAGES
from wire.device_session import AgentDeviceSession, DeviceSessionState, HubDeviceSession
from wire.errors import Code

EPOCH = "0123456789abcdef"
WINDOW = 4
MOVES = [
    "spool_batch",
    "send",
    "send",
    "hub_reads",
    "hub_reads",
    "hub_reads_an_old_connection",
    "hub_welcomes",
    "commit",
    "agent_reads",
    "agent_reads",
]
"""Frequent steps; all but the first continue at the end of the test."""
INTERRUPTIONS = ["connect", "connect", "connect", "overflow", "overflow", "disk_is_full", "hub_restarts"]


class Link:
    """One connection: what is on its way in each direction, and the session of each end while that end is up."""

    def __init__(self, agent: AgentDeviceSession) -> None:
        self.agent: AgentDeviceSession | None = agent
        self.hub: HubDeviceSession | None = HubDeviceSession(window=WINDOW)
        self.asked: device.Hello | None = None
        self.to_hub: deque[bytes] = deque()
        self.to_agent: deque[bytes] = deque()

    def tell_hub(self, message: device.AgentMessage) -> None:
        self.to_hub.append(AGENT_MESSAGES["msgpack"].encode(message))

    def tell_agent(self, message: device.HubMessage) -> None:
        self.to_agent.append(HUB_MESSAGES["msgpack"].encode(message))


class Pair(RuleBasedStateMachine):
    """An agent with a durable spool and a hub with a journal, as simple as they can be and still right.

    TCP keeps order and repeats nothing, but a connection can be gone for the agent while the hub still reads from it.
    Neither end's session may ever raise: both are correct.
    """

    def __init__(self) -> None:
        super().__init__()
        # The agent. The spool holds (first, last, is a gap), in order and without holes.
        self.next_seq = 1
        self.spool: list[tuple[int, int, bool]] = []
        self.trimmed = 0
        self.dropped: set[int] = set()
        self.link: Link | None = None
        # The hub. The journal and what waits for its disk hold (first, last, is a gap).
        self.journal: list[tuple[int, int, bool]] = []
        self.waiting: list[tuple[int, int, bool]] = []
        self.received = 0
        self.current: Link | None = None
        self.links: list[Link] = []

    @property
    def durable(self) -> int:
        return self.journal[-1][1] if self.journal else 0

    # ── the agent ────────────────────────────────────────────────────────────────────────────────────────────────────

    def spool_batch(self) -> None:
        self.spool.append((self.next_seq, self.next_seq, False))
        self.next_seq += 1

    def overflow(self) -> None:
        """The spool is full: its older batches become one gap, whether they were sent or not."""
        if not self.spool:
            return
        count = (len(self.spool) + 1) // 2
        lost, self.spool = self.spool[:count], self.spool[count:]
        first, last = lost[0][0], lost[-1][1]
        self.dropped.update(seq for a, b, _ in lost for seq in range(a, b + 1))
        self.spool.insert(0, (first, last, True))

    def connect(self) -> None:
        """Also while the hub still reads from the connection before."""
        self.agent_leaves()
        self.link = Link(AgentDeviceSession(next_seq=self.next_seq))
        self.links.append(self.link)
        self.link.tell_hub(device.Hello("pump-7", EPOCH, next_seq=self.next_seq, durable=True, time=0))

    def agent_leaves(self) -> None:
        """The agent's end of the connection is gone; the hub does not know yet."""
        if self.link is not None:
            assert self.link.agent is not None
            self.link.agent.close()
            self.link.agent = None
            self.link.to_agent.clear()
            self.link = None

    def unsent(self, session: AgentDeviceSession) -> list[tuple[int, int, bool]]:
        return [entry for entry in self.spool if entry[1] > session.sent]

    def send(self) -> None:
        if self.link is None or self.link.agent is None or self.link.agent.room < 1:
            return
        session = self.link.agent
        for first, last, gap in self.unsent(session)[:1]:
            start = max(first, session.sent + 1)
            session.send(start, last)
            self.link.tell_hub(device.Gap(start, last, "full") if gap else device.Data(start, [start], {"a": [start]}))

    def agent_reads(self) -> None:
        link = self.link
        if link is None or link.agent is None or not link.to_agent:
            return
        session = link.agent
        message = HUB_MESSAGES["msgpack"].decode(link.to_agent.popleft())
        session.receive(message)
        if session.state is DeviceSessionState.CLOSED:
            self.agent_leaves()
            return
        self.trimmed = max(self.trimmed, session.acked)
        self.spool = [(max(a, self.trimmed + 1), b, gap) for a, b, gap in self.spool if b > self.trimmed]

    # ── the hub ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def hub_reads(self) -> None:
        """A frame arrives, of the newest connection that has one."""
        for link in [link for link in self.links if link.to_hub][-1:]:
            self.deliver(link)

    def hub_reads_an_old_connection(self) -> None:
        """A frame arrives, of a connection that the agent may have left."""
        for link in [link for link in self.links if link.to_hub][:1]:
            self.deliver(link)

    def deliver(self, link: Link) -> None:
        message = AGENT_MESSAGES["msgpack"].decode(link.to_hub.popleft())
        session = link.hub
        if session is None:
            return
        match message:
            case device.Data(seq=seq):
                self.take(link, session, seq, seq, gap=False)
            case device.Gap(from_seq=first, to=last):
                self.take(link, session, first, last, gap=True)
            case device.Hello():
                session.receive(message)
                link.asked = message

    def take(self, link: Link, session: HubDeviceSession, first: int, last: int, *, gap: bool) -> None:
        before = self.received
        assert session.received == before
        if session.receive_batches(first, last):
            self.received = last
            self.waiting.append((before + 1, last, gap))
        elif self.durable:
            link.tell_agent(device.Ack(session.acked))

    def hub_welcomes(self) -> None:
        """Some time after its hello a connection takes over; others of the same device end."""
        for link in [link for link in self.links if link.asked][:1]:
            self.welcome(link)

    def welcome(self, link: Link) -> None:
        link.asked = None
        session = link.hub
        if session is None:
            return
        if session.next_seq <= self.received:
            # A connection that the agent has left long ago, from before some batches were made.
            assert link is not self.link
            self.hub_ends(link)
            return
        session.welcome(acked=self.durable, received=self.received)
        if self.current is not None:
            self.current.tell_agent(device.Error(Code.SUPERSEDED, ""))
            self.hub_ends(self.current)
        self.current = link
        link.tell_agent(device.Welcome("hub-1", self.durable, WINDOW, 1000, 0, 0))

    def hub_ends(self, link: Link) -> None:
        if link.hub is not None:
            link.hub.close()
        link.hub = None
        link.to_hub.clear()
        if link is self.current:
            self.current = None

    def commit(self) -> None:
        """The oldest entry becomes durable; the current connection gets the ack."""
        self.journal += self.waiting[:1]
        del self.waiting[:1]
        if self.current is not None and self.current.hub is not None:
            ack = self.current.hub.commit(self.durable)
            if ack is not None:
                self.current.tell_agent(ack)

    def disk_is_full(self) -> None:
        """Nothing that waits gets to the disk; the connection ends."""
        self.waiting.clear()
        self.received = self.durable
        if self.current is not None:
            self.current.tell_agent(device.Error(Code.STORAGE_FULL, "", retry_ms=1))
            self.hub_ends(self.current)

    def hub_restarts(self) -> None:
        self.waiting.clear()
        self.received = self.durable
        for link in self.links:
            self.hub_ends(link)
        self.agent_leaves()
        self.links.clear()

    # ── both ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(interruption=st.sampled_from(INTERRUPTIONS))
    def interrupt(self, interruption: str) -> None:
        getattr(self, interruption)()

    @rule(moves=st.lists(st.sampled_from(MOVES), min_size=20, max_size=60))
    def go_on(self, moves: list[str]) -> None:
        for move in moves:
            getattr(self, move)()

    # ── what always holds ────────────────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def everything_is_accepted_once_and_in_order(self) -> None:
        expected = 1
        for first, last, gap in [*self.journal, *self.waiting]:
            assert first == expected
            assert last >= first
            assert not gap or self.dropped.issuperset(range(first, last + 1))
            expected = last + 1
        assert self.received == expected - 1 < self.next_seq

    @invariant()
    def nothing_is_trimmed_that_is_not_durable(self) -> None:
        assert self.trimmed <= self.durable
        if self.link is not None and self.link.agent is not None:
            assert self.link.agent.acked <= self.durable

    @invariant()
    def the_spool_holds_all_that_is_not_trimmed(self) -> None:
        expected = self.trimmed + 1
        for first, last, _ in self.spool:
            assert first == expected
            expected = last + 1
        assert expected == self.next_seq

    def teardown(self) -> None:
        """With a link that holds, everything becomes durable and acknowledged."""
        self.connect()
        for _ in range(20 * (len(self.links) + self.next_seq)):
            for move in MOVES[1:]:
                getattr(self, move)()
            if self.link is None:
                self.connect()
        assert not self.spool
        assert self.trimmed == self.durable == self.received == self.next_seq - 1


TestPair = Pair.TestCase
TestPair.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
