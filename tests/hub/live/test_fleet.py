"""The fleet's feed: what its watchers receive, how often, and what one costs that does not read."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from hub.live.fleet import (
    FIRST_DELAY_S,
    PART_DEVICES,
    PART_PAUSE_S,
    ROUND_S,
    FleetFeed,
    ProgressingDevice,
    ProgressRounds,
)
from hub.live.outbox import CONTROL_ROOM_BYTES, Outbox
from wire import live as messages
from wire.codec import LIVE_MESSAGES
from wire.device import SourceState

SOURCE = SourceState("port", False, 5, "no connection")


@dataclass(eq=False)
class Pump:
    """Device of a test."""

    id: str
    acked: int = 0
    backlog: int = 0
    seen_ns: int = 0


class Watcher:
    """A dashboard that watches the fleet of a feed."""

    def __init__(self, feed: FleetFeed, *, progress: bool, fleet: list[messages.DeviceState] | None = None) -> None:
        self.overflows = 0
        self.outbox = Outbox(self._overflow)
        self._feed = feed
        feed.watch(self.outbox, fleet or [], progress=progress)

    def _overflow(self) -> None:
        self.overflows += 1

    async def receive(self) -> messages.LiveMessage:
        """Read one frame, as a connection does."""
        frame = await self.outbox.next_frame()
        self._feed.serve(self.outbox)
        return LIVE_MESSAGES.decode(frame)


# The schedule.

pumps = [Pump(f"p{number}") for number in range(3 * PART_DEVICES)]
steps = st.lists(
    st.tuples(st.floats(0, 2), st.integers(0, len(pumps) - 1), st.integers(0, 2 * PART_DEVICES)), max_size=30
)


@given(steps)
def test_each_progress_is_reported_once_a_round(steps: list[tuple[float, int, int]]) -> None:
    """Every device that progressed is reported after it, at most once a round; rounds are ROUND_S apart, parts are
    bounded, and in the end nothing waits."""
    rounds, now = ProgressRounds(), 0.0
    pending: set[ProgressingDevice] = set()
    reported: dict[ProgressingDevice, list[float]] = {}
    additions = 0

    def report_until(end: float) -> None:
        nonlocal now
        while (delay := rounds.delay_s(now)) is not None and now + delay <= end:
            assert delay > 0
            now += delay
            part = rounds.take(now)
            assert len(part) <= PART_DEVICES
            assert len(set(part)) == len(part)
            pending.difference_update(part)
            for pump in part:
                reported.setdefault(pump, []).append(now)
        now = max(now, end)

    for pause, first, count in steps:
        report_until(now + pause)
        chosen = pumps[first : first + count]
        rounds.add(chosen)
        pending.update(chosen)
        additions += len(chosen)
    longest_round = ROUND_S + len(pumps) / PART_DEVICES * PART_PAUSE_S
    report_until(now + 2 * longest_round + FIRST_DELAY_S)
    assert not pending
    assert rounds.delay_s(now) is None
    assert rounds.take(now) == []
    assert sum(map(len, reported.values())) <= additions
    for times in reported.values():
        assert len(times) <= (times[-1] - times[0]) / ROUND_S + 2


def test_the_first_progress_after_a_pause_waits_only_a_moment() -> None:
    """A dashboard follows a single acknowledgement at once, and a stream of them once a second."""
    rounds = ProgressRounds()
    rounds.add(pumps[:1])
    assert rounds.delay_s(100.0) == FIRST_DELAY_S
    assert rounds.take(100.05) == pumps[:1]
    rounds.add(pumps[:1])
    assert rounds.delay_s(100.05) == ROUND_S
    assert rounds.take(100.5) == []


# The feed.


async def test_watchers_get_the_fleet_and_then_its_changes() -> None:
    """The whole fleet comes first; of several changes of a device within a period the last one comes."""
    feed = FleetFeed()
    watcher = Watcher(feed, progress=False, fleet=[messages.DeviceState("a", True)])
    feed.state_changed(messages.DeviceState("b", True))
    feed.state_changed(messages.DeviceState("b", False))
    assert await watcher.receive() == messages.Fleet([messages.DeviceState("a", True)])
    assert await watcher.receive() == messages.DeviceState("b", False)


async def test_an_older_viewer_gets_what_it_knows() -> None:
    """Without progress there are no sources, and one message a state; with it, one message has all of them."""
    feed = FleetFeed()
    states = [messages.DeviceState("a", True, sources=[SOURCE]), messages.DeviceState("b", True)]
    older, newer = Watcher(feed, progress=False, fleet=states), Watcher(feed, progress=True, fleet=states)
    for state in states:
        feed.state_changed(state)
    feed.progressed([Pump("a", 1)])
    plain = [messages.DeviceState("a", True), states[1]]
    assert await older.receive() == messages.Fleet(plain)
    assert [await older.receive() for _ in plain] == plain
    assert await newer.receive() == messages.Fleet(states)
    received = [await newer.receive(), await newer.receive()]
    assert messages.DeviceStates(states) in received
    assert messages.FleetProgress(["a"], [1], [0], [0]) in received
    assert older.outbox._frames == newer.outbox._frames == type(older.outbox._frames)()


async def test_progress_has_the_numbers_of_its_moment() -> None:
    """A device that progressed a hundred times is in one frame, with its last numbers."""
    feed = FleetFeed()
    watcher = Watcher(feed, progress=True)
    pump = Pump("a")
    for number in range(1, 101):
        pump.acked, pump.backlog, pump.seen_ns = number, 100 - number, number
        feed.progressed([pump])
    await watcher.receive()
    assert await watcher.receive() == messages.FleetProgress(["a"], [100], [0], [100])


async def test_nothing_is_collected_while_nobody_watches() -> None:
    """Neither before the first watcher nor after the last one, and no timer runs."""
    feed = FleetFeed()
    feed.progressed([Pump("a")])
    feed.state_changed(messages.DeviceState("a", True))
    watcher = Watcher(feed, progress=True)
    feed.progressed([Pump("b")])
    feed.state_changed(messages.DeviceState("b", True))
    feed.unwatch(watcher.outbox)
    feed.progressed([Pump("c")])
    feed.state_changed(messages.DeviceState("c", True))
    assert (feed._progress_timer, feed._states_timer, feed._changed) == (None, None, {})
    assert isinstance(await watcher.receive(), messages.Fleet)
    assert not watcher.outbox._frames


async def test_a_watcher_that_does_not_read_costs_one_change_a_device() -> None:
    """Its changes wait by device, the newest of each, however many there are; when it reads again it gets them all.
    Other watchers get everything meanwhile."""
    feed = FleetFeed()
    slow, quick = Watcher(feed, progress=True), Watcher(feed, progress=True)
    names = [f"{number:064}" for number in range(1000)]
    fleet = [Pump(name) for name in names]
    assert isinstance(await quick.receive(), messages.Fleet)
    for turn in range(1, 12):
        for name in names:
            feed.state_changed(messages.DeviceState(name, turn % 2 == 0, since=turn))
        states = await quick.receive()
        while not isinstance(states, messages.DeviceStates):
            states = await quick.receive()
        for pump in fleet:
            pump.acked = turn
        feed.progressed(fleet)
    progress = await quick.receive()
    while not isinstance(progress, messages.FleetProgress) or progress.acked[0] < 11:
        progress = await quick.receive()
    assert slow.overflows == 0
    waiting = sum(len(frame) for frame in slow.outbox._frames)
    assert waiting <= CONTROL_ROOM_BYTES + 250_000
    states_of: dict[str, int] = {}
    acked_of: dict[str, int] = {}
    while slow.outbox._frames:
        match await slow.receive():
            case messages.DeviceStates(devices):
                states_of.update((state.device, state.since) for state in devices)
            case messages.FleetProgress(devices=ids, acked=acked):
                acked_of.update(zip(ids, acked, strict=True))
    assert states_of == dict.fromkeys(names, 11)
    assert acked_of == dict.fromkeys(names, 11)


async def test_only_a_watcher_of_presence_receives_it() -> None:
    """A viewer of an older version knows no such fields, in the fleet and in later changes."""
    state = messages.DeviceState("a", True, presence="silent", presence_since=5, stale=["flow"])
    plain = messages.DeviceState("a", True)
    feed = FleetFeed()
    for progress, presence in ((False, False), (True, False), (True, True)):
        outbox = Outbox(lambda: None)
        feed.watch(outbox, [state], progress=progress, presence=presence)
        feed.state_changed(state)
        expected = state if presence else plain
        assert LIVE_MESSAGES.decode(await outbox.next_frame()) == messages.Fleet([expected])
        changed = messages.DeviceStates([expected]) if progress else plain
        assert LIVE_MESSAGES.decode(await outbox.next_frame()) == changed
        feed.unwatch(outbox)
