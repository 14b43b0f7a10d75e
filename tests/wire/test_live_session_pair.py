"""Both ends of a dashboard's conversation, joined by links that break at any point: every reading once, or a reset."""

from __future__ import annotations

from collections import deque
from typing import Literal, NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from wire import live
from wire.codec import LIVE_MESSAGES, VIEWER_MESSAGES
from wire.columns import pack_floats, unpack_floats
from wire.frames import Kind, NumberColumn, decode_update, encode_update
from wire.live_session import HubLiveSession, LiveSessionState, Progress, ViewerSession

SCHEMA = 7
MOVES = [
    "append",
    "come_back",
    "flush",
    "flush_in_two_parts",
    "hub_reads",
    "catch_up_oldest",
    "catch_up_newest",
    "viewer_reads",
    "viewer_reads",
]
"""Frequent steps; all but the first continue at the end of the test."""
INTERRUPTIONS = ["cut", "cut", "trim", "lose_the_journal"]
HISTORY = live.History(span_ms=1000, points=100)


class Member:
    """A subscription as the hub sees it: how far its own way has come, and whether it shares the live frames."""

    def __init__(self, asked: live.Subscribe) -> None:
        self.asked = asked
        self.offset = 0
        self.phase: Literal["asked", "missed", "live"] = "asked"


class Link(NamedTuple):
    """One connection: what is on its way in each direction, and the hub's end."""

    hub: HubLiveSession
    members: dict[int, Member]
    to_hub: deque[bytes]
    to_viewer: deque[bytes]


class Pair(RuleBasedStateMachine):
    """A viewer that keeps what it was sent, and a hub as simple as it can be and still right.

    The journal has the entries 1, 2, 3, …; the reading of entry n is n, so that the readings of the viewer show what it
    was sent. Neither end's session may ever raise: both are correct.
    """

    def __init__(self) -> None:
        super().__init__()
        self.journal = 1
        self.first = 1
        self.newest = 0
        self.flushed = 0
        self.link: Link | None = None
        self.viewer = ViewerSession()
        self.held: dict[int, list[int]] = {}
        self.next_id = 1

    # ── the hub ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def append(self) -> None:
        self.newest += 1

    def trim(self) -> None:
        """All but the newest entries of the journal are deleted."""
        self.first = max(self.first, self.flushed - 2)

    def lose_the_journal(self) -> None:
        """The hub begins anew with an empty data directory."""
        self.cut()
        self.journal += 1
        self.first, self.newest, self.flushed = 1, 0, 0

    def flush_in_two_parts(self) -> None:
        self.flush(2)

    def flush(self, parts: int = 1) -> None:
        """Live subscriptions get what was collected, in one frame or in two that belong together."""
        entries = range(self.flushed + 1, self.newest + 1)
        self.flushed = self.newest
        if not entries or self.link is None or all(m.phase != "live" for m in self.link.members.values()):
            return
        half = len(entries) // parts
        if parts == 2:
            self.tell_frame(Kind.LIVE, entries[:half], offset=0)
            entries = entries[half:]
        self.tell_frame(Kind.LIVE, entries, offset=self.newest)

    def send(self, message: live.LiveMessage) -> None:
        assert self.link is not None
        self.link.to_viewer.append(LIVE_MESSAGES.encode(message))

    def tell_frame(self, kind: Kind, entries: range, *, offset: int, subscription: int = 0) -> None:
        assert self.link is not None
        column = NumberColumn(0, pack_floats(entries), pack_floats(entries))
        frame = encode_update(kind, SCHEMA, offset=offset, numbers=[column], subscription=subscription)
        self.link.to_viewer.append(frame)

    def hub_reads(self) -> None:
        if self.link is None or not self.link.to_hub:
            return
        message = VIEWER_MESSAGES.decode(self.link.to_hub.popleft())
        assert self.link.hub.receive(message) is None
        match message:
            case live.Subscribe():
                self.send(live.Schema(SCHEMA, 0, [live.Series("pump-7", "count")]))
                self.link.members[message.id] = Member(message)
            case live.Unsubscribe(id=id):
                del self.link.members[id]

    def catching_up(self) -> list[Member]:
        return [] if self.link is None else [m for m in self.link.members.values() if m.phase != "live"]

    def catch_up_oldest(self) -> None:
        for member in self.catching_up()[:1]:
            self.catch_up(member)

    def catch_up_newest(self) -> None:
        for member in self.catching_up()[-1:]:
            self.catch_up(member)

    def catch_up(self, member: Member) -> None:
        """One step on the way of a subscription from where it begins to live."""
        if member.phase == "asked":
            self.begin(member)
        elif member.offset + 1 < self.first:
            self.send(live.Reset(member.asked.id, "too_old"))
            self.begin_anew(member)
        elif member.offset < self.flushed:
            entries = range(member.offset + 1, min(member.offset + 3, self.flushed) + 1)
            member.offset = entries[-1]
            self.tell_frame(Kind.MISSED, entries, offset=member.offset, subscription=member.asked.id)
        else:
            self.go_live(member)

    def begin(self, member: Member) -> None:
        cursor = member.asked.cursor
        if cursor is None:
            self.begin_anew(member)
        elif cursor.journal != str(self.journal) or cursor.offset > self.newest:
            self.send(live.Reset(member.asked.id, "other_journal"))
            self.begin_anew(member)
        else:
            self.send(live.Subscribed(member.asked.id, SCHEMA, "cursor"))
            member.offset = cursor.offset
            member.phase = "missed"

    def begin_anew(self, member: Member) -> None:
        """With what is stored (all but the two newest entries), or with the latest reading alone."""
        if member.asked.history is not None:
            self.send(live.Subscribed(member.asked.id, SCHEMA, "history"))
            member.offset = max(self.first - 1, self.newest - 2)
            self.tell_frame(Kind.HISTORY, range(1, member.offset + 1), offset=0, subscription=member.asked.id)
            member.phase = "missed"
            return
        self.flush()
        self.send(live.Subscribed(member.asked.id, SCHEMA, "snapshot"))
        latest = range(max(1, self.newest), self.newest + 1)
        self.tell_frame(Kind.SNAPSHOT, latest, offset=0, subscription=member.asked.id)
        member.offset = self.newest
        self.go_live(member)

    def go_live(self, member: Member) -> None:
        """The seam: only where the shared frames stand, in the same step."""
        if member.offset != self.flushed:
            self.flush()
        if member.offset == self.flushed:
            member.phase = "live"
            self.send(live.CaughtUp(member.asked.id, member.offset))

    # ── the viewer ───────────────────────────────────────────────────────────────────────────────────────────────────

    def connect(self) -> None:
        self.viewer.reconnect()
        self.link = Link(HubLiveSession(), {}, deque(), deque())
        self.link.hub.open()
        self.send(live.Welcome("hub-1", "1", str(self.journal), self.newest, 0, "viewer"))

    def cut(self) -> None:
        """The connection breaks; what is on its way is lost."""
        self.link = None

    def come_back(self) -> None:
        if self.link is None:
            self.connect()

    @rule(history=st.booleans(), id_step=st.integers(1, 3))
    def subscribe(self, history: bool, id_step: int) -> None:
        self.next_id += id_step
        asked = live.Subscribe(self.next_id, ["*"], ["*"], history=HISTORY if history else None)
        self.viewer.subscribe(asked)
        self.held[asked.id] = []
        if self.link is not None and self.viewer.state is LiveSessionState.OPEN:
            self.link.to_hub.append(VIEWER_MESSAGES.encode(asked))

    @precondition(lambda self: self.viewer.subscriptions)
    @rule(data=st.data())
    def unsubscribe(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.viewer.subscriptions)), label="id")
        message = self.viewer.unsubscribe(number)
        del self.held[number]
        if message is not None and self.link is not None:
            self.link.to_hub.append(VIEWER_MESSAGES.encode(message))

    def viewer_reads(self) -> None:
        if self.link is None or not self.link.to_viewer:
            return
        frame = self.link.to_viewer.popleft()
        if frame[:1] != b"{":
            update = decode_update(frame)
            for number in self.viewer.receive_update(update):
                for column in update.numbers:
                    came = [int(value or 0) for value in unpack_floats(column.values)]
                    # A connection that breaks between the frames of one flush: the first of them are repeated.
                    again = set(self.held[number]) if update.kind is Kind.MISSED else set()
                    self.held[number] += [entry for entry in came if entry not in again]
            return
        message = LIVE_MESSAGES.decode(frame)
        self.viewer.receive(message)
        match message:
            case live.Welcome():
                self.link.to_hub.extend(VIEWER_MESSAGES.encode(asked) for asked in self.viewer.opening_messages())
            case live.Reset(id=id) | live.Subscribed(id=id, start="history" | "snapshot") if id in self.held:
                self.held[id] = []

    # ── both ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(interruption=st.sampled_from(INTERRUPTIONS))
    def interrupt(self, interruption: str) -> None:
        getattr(self, interruption)()

    @rule(moves=st.lists(st.sampled_from(MOVES), min_size=20, max_size=60))
    def go_on(self, moves: list[str]) -> None:
        for move in moves:
            getattr(self, move)()
            self.what_is_held_has_no_hole_and_nothing_twice()

    # ── what always holds ────────────────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def what_is_held_has_no_hole_and_nothing_twice(self) -> None:
        for number, held in self.held.items():
            assert held == list(range(held[0], held[-1] + 1)) if held else True
            subscription = self.viewer.subscriptions[number]
            if held and subscription.asked.history is not None and subscription.progress is not Progress.ASKED:
                assert held[0] == 1

    @invariant()
    def a_cursor_is_never_ahead_of_what_is_held(self) -> None:
        for number, held in self.held.items():
            cursor = self.viewer.subscriptions[number].cursor
            if cursor is not None and held:
                assert cursor.offset <= held[-1]

    def teardown(self) -> None:
        """With a link that holds, every subscription comes to hold the newest reading, live."""
        self.cut()
        self.connect()
        assert self.link is not None
        for _ in range(10 * (len(self.held) + 1) * (self.newest + 10)):
            for move in MOVES[1:]:
                getattr(self, move)()
            if not (self.link.to_hub or self.link.to_viewer or self.catching_up() or self.flushed < self.newest):
                break
        for number, subscription in self.viewer.subscriptions.items():
            assert subscription.progress is Progress.LIVE
            assert subscription.cursor == live.Cursor(str(self.journal), self.newest)
            assert self.held[number][-1:] == ([self.newest] if self.newest else [])


TestPair = Pair.TestCase
TestPair.settings = settings(max_examples=100, stateful_step_count=20, deadline=None)
