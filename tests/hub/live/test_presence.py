"""Presence of devices: a fleet on a simulated clock, and the rules of each state."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from typing import Literal, NamedTuple

import msgspec
import pytest

from hub.live.cadence import ARRIVAL_NS, MIN_STALE_NS, STALE_INTERVALS
from hub.live.hub import LiveHub
from hub.live.presence import (
    FIRST_READING_NS,
    GRACE_NS,
    LONGEST_GRACE_NS,
    OFFLINE,
    READINGS_AGAIN,
    SILENT,
    DeviceLink,
    PresenceTracker,
    SavedPresence,
)
from hub.model.batch import Batch, Entry, EntryKind, Series
from hub.model.presence import DevicePresence
from wire.model import Value

S = 1_000_000_000

STEP = 2 ** (1 / 10)
"""One step of the scale on which intervals are kept."""

MIN_STALE_S = MIN_STALE_NS / S

WALL = 1_700_000_000 * S


class TrackedHub:
    """Live values and presence of one run of a hub: the real classes on a clock of the test, in seconds."""

    def __init__(self, devices: dict[str, list[Series]]) -> None:
        self.now_s = self.wall_s = 0.0
        self.live = LiveHub(offset=0, monotonic_ns=lambda: round(self.now_s * S))
        self.events: list[tuple[str, str]] = []
        self.details: list[str] = []
        self.changed: list[str] = []
        self.tracker = PresenceTracker(
            self.live.cadences,
            series={series.id: series for known in devices.values() for series in known},
            series_of=lambda device: devices.get(device, []),
            latest_time_ns=lambda series: self.live.live_series(series).time_ns,
            on_change=self.changed.append,
            record=self._record,
        )

    def _record(self, device: str, _time_ns: int, kind: str, detail: str) -> None:
        self.events.append((device, kind))
        self.details.append(detail)

    @property
    def times(self) -> dict[str, int]:
        return {"now_ns": round(self.now_s * S), "wall_ns": WALL + round(self.wall_s * S)}

    def receive(self, series: Series, value: Value, *, time_s: float | None = None) -> None:
        """Let a reading arrive, by default with the time of its arrival."""
        time_ns = WALL + round((self.wall_s if time_s is None else time_s) * S)
        batch = Batch([time_ns], [(series, [value])], readings=1, rising=True)
        entry = Entry(EntryKind.BATCH, series.device, "0" * 16, 1, time_ns, "json", b"", batch=batch, offset=1)
        self.live.apply([entry])

    def follow(self, device: str, **link: bool) -> None:
        self.tracker.follow(device, DeviceLink(**link), **self.times)

    def advance(self, seconds: float, *, sweep_s: float = 1.0) -> None:
        """Let time pass, with its sweeps."""
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            step_s = min(sweep_s, end_s - self.now_s)
            self.now_s += step_s
            self.wall_s += step_s
            self.tracker.sweep(**self.times)

    def state(self, device: str = "d") -> str:
        return self.tracker.presence(device).state


# A fleet.

BACKLOG = 50
"""Readings that a simulated device keeps while it has no connection."""

RETURN_S = 30.0
"""The longest delay of an agent before it connects again."""


class Action(NamedTuple):
    """Action of a device at a time: it connects, disconnects, or sends a reading of a time."""

    time_s: float
    device: SimulatedDevice
    kind: Literal["connect", "disconnect", "reading"]
    reading_s: float = 0.0
    series: Series | None = None
    value: Value = None


@dataclass(eq=False)
class SimulatedDevice:
    """A device of a fleet. With `interval_s` its first series has a reading in each interval, with jitter and losses;
    the other series report on change.

    The sensor is silent from `silent_s` to `again_s`, with the connection open. The connection is down in each of
    `outages`, and the readings of that time arrive after it. `gone` is the outage that is no restart of the hub.
    """

    id: str
    series: list[Series]
    interval_s: float | None
    mean_s: float
    source: random.Random
    silent_s: float = math.inf
    again_s: float = math.inf
    outages: list[tuple[float, float]] = field(default_factory=list)
    gone: tuple[float, float] | None = None
    last_s: float = 0.0

    def readings(self, end_s: float) -> Iterator[tuple[float, Series, Value]]:
        """Return every reading of the sensors, in order of time."""
        on_change = self.series if self.interval_s is None else self.series[1:]
        streams = [self._on_change(series, end_s) for series in on_change]
        if self.interval_s is not None:
            streams.append(self._periodic(self.series[0], self.interval_s, end_s))
        return heapq.merge(*streams, key=lambda reading: reading[0])

    def _periodic(self, series: Series, interval_s: float, end_s: float) -> Iterator[tuple[float, Series, Value]]:
        time_s = self.source.random() * interval_s
        while time_s < end_s:
            if not self.silent_s <= time_s < self.again_s and self.source.random() > 0.003:
                yield time_s, series, self.source.random()
            time_s += interval_s * self.source.uniform(0.8, 1.2)

    def _on_change(self, series: Series, end_s: float) -> Iterator[tuple[float, Series, Value]]:
        time_s, state = self.source.random() * 60, False
        is_random = self.source.random() < 0.5
        mean_s = self.mean_s * math.exp(self.source.uniform(-2, 3))
        while time_s < end_s:
            state = not state
            yield time_s, series, state if series.type == "boolean" else self.source.random()
            # Poisson's process, or seconds in a burst and hours of rest.
            time_s += self.source.expovariate(1 / mean_s) if is_random else mean_s * math.exp(self.source.gauss(0, 2))

    def actions(self, end_s: float) -> Iterator[Action]:
        """Return all that the hub notices of the device, in order of time."""
        switches = deque(time_s for outage in sorted(self.outages) for time_s in outage)
        backlog: deque[tuple[float, Series, Value]] = deque(maxlen=BACKLOG)
        now_s, is_down = 0.0, False
        yield Action(0.0, self, "connect")
        for time_s, series, value in chain(self.readings(end_s), [(end_s, None, None)]):
            while switches and time_s >= switches[0]:
                now_s, is_down = switches.popleft(), not is_down
                yield Action(now_s, self, "disconnect" if is_down else "connect")
                while backlog and not is_down:
                    now_s += 1e-4
                    yield Action(now_s, self, "reading", *backlog.popleft())
            if series is not None and is_down:
                backlog.append((time_s, series, value))
            elif series is not None:
                now_s = max(now_s + 1e-6, time_s)
                yield Action(now_s, self, "reading", time_s, series, value)


class FleetSimulation:
    """A fleet and its hub, which is down from each first to each second time of `restarts`; with True it was killed.

    Every change that the hub reports is compared with what the devices did: `wrong` has those that are not true.
    """

    def __init__(
        self,
        devices: Sequence[SimulatedDevice],
        *,
        restarts: Sequence[tuple[float, float, bool]],
        end_s: float,
        sweep_s: float,
    ) -> None:
        self.devices = {device.id: device for device in devices}
        self.stale_s: dict[str, float] = {}
        self.fresh_s: dict[str, float] = {}
        self.offline_s: dict[str, float] = {}
        self.wrong: list[tuple[float, str, DevicePresence]] = []
        self._series = {device.id: device.series for device in devices}
        self._restarts = list(restarts)
        self._end_s, self._sweep_s = end_s, sweep_s
        self._hub = TrackedHub(self._series)
        self._saved: SavedPresence | None = None
        self._saved_s = 0.0

    def run(self) -> None:
        """Simulate from the start to the end."""
        actions = heapq.merge(*(device.actions(self._end_s) for device in self.devices.values()), key=itemgetter(0))
        next_sweep_s = self._sweep_s
        for action in actions:
            while next_sweep_s <= action.time_s:
                self._set_time(next_sweep_s)
                self._sweep()
                next_sweep_s += self._sweep_s
            if not self._is_down(action.time_s):
                self._set_time(action.time_s)
                self._apply(action)

    def _set_time(self, time_s: float) -> None:
        self._hub.now_s += time_s - self._hub.wall_s
        self._hub.wall_s = time_s

    def _is_down(self, time_s: float) -> bool:
        return bool(self._restarts) and self._restarts[0][0] <= time_s < self._restarts[0][1]

    def _sweep(self) -> None:
        hub = self._hub
        if self._restarts and hub.wall_s >= self._restarts[0][0]:
            start_s, again_s, was_killed = self._restarts[0]
            if hub.wall_s < again_s:
                if not was_killed and self._saved_s < start_s:
                    for device in self.devices:
                        hub.follow(device, connected=False)
                    self._save()
                return
            self._restarts.pop(0)
            self._hub = later = TrackedHub(self._series)
            later.wall_s, later.now_s = hub.wall_s, 5.0  # the computer restarted, too
            links = [(id, DeviceLink(connected=False, has_sent=True), 0) for id in self.devices]
            later.tracker.restore(self._saved, links, now_ns=later.times["now_ns"])
            later.changed.extend(self.devices)
            self._compare()
            return
        hub.tracker.sweep(**hub.times)
        self._compare()
        if hub.wall_s - self._saved_s >= 60:
            self._save()

    def _save(self) -> None:
        self._saved, self._saved_s = self._hub.tracker.save(**self._hub.times), self._hub.wall_s

    def _apply(self, action: Action) -> None:
        hub, device = self._hub, action.device
        if action.series is None:
            hub.follow(device.id, connected=action.kind == "connect")
            self._compare()
            return
        hub.receive(action.series, action.value, time_s=action.reading_s)
        if action.series is device.series[0] and action.reading_s < device.silent_s:
            device.last_s = action.time_s

    def _compare(self) -> None:
        """Compare each reported change with what the device does."""
        hub = self._hub
        changed = [*hub.changed]
        hub.changed.clear()
        for id in changed:
            device, presence = self.devices[id], hub.tracker.presence(id)
            now_s = hub.wall_s
            is_silent = device.silent_s <= now_s <= device.again_s + 2 * (device.interval_s or 0) + self._sweep_s
            is_away = any(start_s <= now_s <= end_s for start_s, end_s in device.outages)
            after_s = now_s - max((end_s for _, end_s in device.outages if end_s <= now_s), default=0.0)
            may_be_stale = is_silent or is_away or after_s <= 2 * (device.interval_s or 0) + self._sweep_s
            gone_s = device.gone[0] if device.gone is not None else math.inf
            is_true = (
                (not presence.stale or (may_be_stale and presence.stale == (device.series[0].metric,)))
                and (presence.state != "silent" or is_silent)
                and (presence.state not in ("reconnecting", "offline") or is_away)
                and (presence.state != "offline" or now_s >= gone_s + GRACE_NS / S)
            )
            if not is_true or (device.interval_s is None and presence.stale):
                self.wrong.append((now_s, id, presence))
            if presence.state == "silent":
                self.stale_s.setdefault(id, now_s)
            elif id in self.stale_s and now_s >= device.again_s:
                self.fresh_s.setdefault(id, now_s)
            if presence.state == "offline":
                self.offline_s.setdefault(id, now_s)
                assert presence.since_ns == pytest.approx(WALL + gone_s * S, abs=1_000)

    def state(self, device: SimulatedDevice) -> str:
        return self._hub.state(device.id)

    def stale_bounds(self, device: SimulatedDevice) -> tuple[float, float]:
        """Return from when to when a silent device has to be found: by its own intervals, and none while the hub is
        down or devices return to it."""
        assert device.interval_s is not None
        low_s, high_s = device.interval_s * 0.8 / STEP, device.interval_s * 1.2 * STEP
        first_s = device.last_s + max(MIN_STALE_S, STALE_INTERVALS * low_s) - ARRIVAL_NS / S
        last_s = device.last_s + max(MIN_STALE_S, STALE_INTERVALS * high_s) + 2 * self._sweep_s
        return first_s, last_s


def merged(outages: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return outages that may overlap as ones that do not."""
    found: list[tuple[float, float]] = []
    for start_s, end_s in sorted(outages):
        if found and start_s <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end_s)
        else:
            found.append((start_s, end_s))
    return found


def make_fleet(
    count: int,
    shortest_s: float,
    longest_s: float,
    *,
    restarts: Sequence[tuple[float, float, bool]],
    faults_s: tuple[float, float],
    source: random.Random,
) -> list[SimulatedDevice]:
    """Return devices with intervals spread over the decades, more of them slow ones. One in five reports only on
    change; of the others, one in four becomes silent and one in eight is gone, some of them for a time."""
    devices = []
    ids = iter(range(1, 3 * count))
    for number in range(count):
        id = f"{shortest_s}-{number}"
        interval_s = shortest_s * (longest_s / shortest_s) ** math.sqrt(number / (count - 1))
        series = [Series(next(ids), id, "value", "float")]
        if number % 5 == 0:
            series = [Series(next(ids), id, "door", "boolean"), Series(next(ids), id, "level", "float")]
        elif number % 5 == 1:
            series.append(Series(next(ids), id, "door", "boolean"))
        device = SimulatedDevice(
            id, series, None if number % 5 == 0 else interval_s, longest_s / 3, random.Random(source.random())
        )
        device.outages = [(start_s, again_s + source.uniform(0.1, RETURN_S)) for start_s, again_s, _ in restarts]
        fault_s = source.uniform(*faults_s)
        if number % 4 == 2 and device.interval_s is not None:
            device.silent_s = fault_s
            device.again_s = fault_s + (8 * interval_s + 60 if number % 8 == 2 else math.inf)
        elif number % 8 == 4:
            device.gone = (fault_s, fault_s + source.uniform(80, 200))
            device.outages = merged([*device.outages, device.gone])
        devices.append(device)
    return devices


@pytest.mark.parametrize(
    ("count", "shortest_s", "longest_s", "restarts", "faults_s", "end_s", "sweep_s"),
    [
        (320, 0.1, 30.0, [(150.0, 165.0, False), (250.0, 290.0, True)], (430.0, 450.0), 660.0, 1.0),
        # Silent and offline devices are so before, during and after the restarts.
        (40, 0.1, 1.0, [(262.0, 300.0, False), (340.0, 350.0, True)], (175.0, 180.0), 420.0, 1.0),
        (
            640,
            30.0,
            3600.0,
            [(12_000.0, 12_600.0, False), (26_000.0, 32_000.0, True)],
            (42_000.0, 44_000.0),
            69_000.0,
            5.0,
        ),
    ],
)
def test_every_state_of_a_fleet_is_true_and_in_time(
    count: int,
    shortest_s: float,
    longest_s: float,
    restarts: Sequence[tuple[float, float, bool]],
    faults_s: tuple[float, float],
    end_s: float,
    sweep_s: float,
) -> None:
    """A thousand devices in three fleets, with intervals of 0.1 seconds to an hour: each silent and each offline device
    is found within its own bound, and no other. The hub stops once and is killed once."""
    source = random.Random(16)
    devices = make_fleet(count, shortest_s, longest_s, restarts=restarts, faults_s=faults_s, source=source)
    fleet = FleetSimulation(devices, restarts=restarts, end_s=end_s, sweep_s=sweep_s)
    fleet.run()
    assert fleet.wrong == []
    silent = [device for device in devices if device.silent_s < end_s]
    gone = [device for device in devices if device.gone is not None]
    assert (len(silent), len(gone)) == (count // 5, count // 8)
    for device in silent:
        first_s, last_s = fleet.stale_bounds(device)
        assert first_s <= fleet.stale_s[device.id] <= last_s, device
        if device.again_s < end_s - 2 * longest_s:
            assert fleet.fresh_s[device.id] <= device.again_s + 2 * longest_s + sweep_s, device
    for device in gone:
        assert device.gone is not None
        assert 0 <= fleet.offline_s[device.id] - device.gone[0] - GRACE_NS / S <= sweep_s, device
    for device in devices:
        if device.again_s < end_s - 2 * longest_s or device not in silent:
            assert fleet.state(device) == "connected", device
        elif device.again_s == math.inf:
            assert fleet.state(device) == "silent", device
    assert set(fleet.offline_s) == {device.id for device in gone}
    assert set(fleet.stale_s) == {device.id for device in silent}


# Rules.


def make_hub() -> tuple[TrackedHub, Series]:
    """Return a hub that knows one device with one series, and this series."""
    series = Series(1, "d", "flow", "float")
    return TrackedHub({"d": [series]}), series


def send(hub: TrackedHub, series: Series, count: int, every_s: float = 60) -> None:
    for position in range(count):
        hub.advance(every_s)
        hub.receive(series, float(position))


def restart(hub: TrackedHub, *, down_s: float, **link: bool) -> TrackedHub:
    """Return the hub after a restart, with what it saved."""
    later = TrackedHub({"d": [*hub.tracker._series.values()]})
    for series in hub.tracker._series.values():
        later.live.restore(series, hub.live.live_series(series).time_ns, 1.0)
    saved = msgspec.msgpack.decode(msgspec.msgpack.encode(hub.tracker.save(**hub.times)), type=SavedPresence)
    later.now_s, later.wall_s = 5.0, hub.wall_s + down_s
    later.tracker.restore(saved, [("d", DeviceLink(connected=False, **link), 0)], now_ns=later.times["now_ns"])
    return later


def test_a_device_goes_through_every_state() -> None:
    """It connects, becomes silent, sends again, is away for a moment, is gone, and is retired. Each change is reported,
    and what no other part of the hub records becomes an event."""
    hub, series = make_hub()
    states = [hub.state()]
    hub.follow("d", connected=True)
    send(hub, series, 10)
    states.append(hub.state())
    hub.advance(360)
    assert hub.tracker.presence("d").stale == ("flow",)
    states.append(hub.state())
    hub.receive(series, 1.0)
    hub.advance(1)
    states.append(hub.state())
    hub.follow("d", connected=False)
    gone_ns = hub.times["wall_ns"]
    hub.advance(59)
    states.append(hub.state())
    hub.advance(1)
    states.append(hub.state())
    assert hub.tracker.presence("d").since_ns == gone_ns
    hub.follow("d", connected=False, retired=True)
    states.append(hub.state())
    assert states == ["unconnected", "connected", "silent", "connected", "reconnecting", "offline", "retired"]
    assert [kind for _, kind in hub.events] == [SILENT, READINGS_AGAIN, OFFLINE]
    assert len(hub.changed) >= len(states) - 1
    assert hub.tracker.counts()["retired"] == 1


def test_one_stale_metric_does_not_make_a_device_silent() -> None:
    """The device is connected as long as one periodic metric arrives; the other one is listed."""
    flow, level = Series(1, "d", "flow", "float"), Series(2, "d", "level", "float")
    hub = TrackedHub({"d": [flow, level]})
    hub.follow("d", connected=True)
    for position in range(20):
        hub.advance(60)
        hub.receive(flow, float(position))
        if position < 10:
            hub.receive(level, float(position))
    assert hub.tracker.presence("d")[::2] == ("connected", ("level",))
    freshness = hub.live.cadences.freshness(level, hub.times["now_ns"])
    assert (freshness.is_stale, freshness.age_ns) == (True, 600 * S)
    assert freshness.interval_ns == pytest.approx(60 * S, rel=0.05)


@pytest.mark.parametrize(
    ("count", "names"),
    [(3, "m0, m1, m2"), (4, "m0, m1, m2 and 1 other metric"), (5, "m0, m1, m2 and 2 other metrics")],
)
def test_the_event_of_a_silent_device_names_some_metrics(count: int, names: str) -> None:
    """And the number of the others."""
    known = [Series(number, "d", f"m{number}", "float") for number in range(count)]
    hub = TrackedHub({"d": known})
    hub.follow("d", connected=True)
    for position in range(10):
        hub.advance(60)
        for series in known:
            hub.receive(series, float(position))
    hub.advance(360)
    assert (hub.state(), hub.details) == ("silent", [f"no reading of {names} for several usual intervals"])


def test_a_connected_device_that_never_sent_anything_is_silent_after_two_hours() -> None:
    """One that reports on change, and has sent something, is not."""
    hub, series = make_hub()
    hub.follow("d", connected=True)
    hub.advance(FIRST_READING_NS / S - 1, sweep_s=60)
    states = [hub.state()]
    hub.advance(1)
    states.append(hub.state())
    assert hub.details == ["no reading has ever arrived"]
    hub.receive(series, 1.0)
    hub.follow("d", connected=False)
    hub.follow("d", connected=True)
    hub.advance(2 * FIRST_READING_NS / S, sweep_s=60)
    states.append(hub.state())
    assert states == ["connected", "silent", "connected"]


def test_a_device_that_returns_has_its_interval_to_send() -> None:
    """Its series are stale while it was away, but it is silent only if nothing follows its connection."""
    hub, series = make_hub()
    hub.follow("d", connected=True)
    send(hub, series, 10)
    hub.follow("d", connected=False)
    hub.advance(3_600)
    hub.follow("d", connected=True)
    hub.advance(290)
    assert hub.tracker.presence("d")[::2] == ("connected", ("flow",))
    hub.advance(20)
    assert hub.state() == "silent"
    hub.follow("d", connected=False)
    hub.follow("d", connected=True)
    assert hub.state() == "silent"


def test_an_absence_teaches_no_interval() -> None:
    """A device without a spool that is away again and again keeps its usual interval, and is no report on change."""
    hub, series = make_hub()
    for _ in range(6):
        hub.follow("d", connected=True)
        send(hub, series, 5)
        hub.follow("d", connected=False)
        hub.advance(3_600, sweep_s=60)
    limit_ns = hub.live.cadences.limit_ns(series.id)
    assert limit_ns == pytest.approx(300 * S, rel=0.05)


def test_a_device_without_an_agent_is_silent_if_it_stops() -> None:
    """A program that posts readings has no connection. Its interval is known all the same."""
    hub, series = make_hub()
    hub.follow("d", connected=False, has_agent=False)
    send(hub, series, 10)
    states = [hub.state()]
    hub.advance(360)
    states.append(hub.state())
    assert restart(hub, down_s=10, has_agent=False).state() == "silent"
    hub.receive(series, 1.0)
    hub.advance(1)
    states.append(hub.state())
    assert states == ["unconnected", "silent", "unconnected"]
    assert restart(hub, down_s=10, has_agent=False).state() == "unconnected"


@pytest.mark.parametrize("down_s", [5, 86_400])
def test_a_restart_of_the_hub_is_no_change_of_a_device(down_s: float) -> None:
    """A connected device has time to return. Then it is offline, since the hub saw it last."""
    hub, series = make_hub()
    hub.follow("d", connected=True)
    send(hub, series, 10)
    seen_ns = hub.times["wall_ns"]
    for returns in (True, False):
        later = restart(hub, down_s=down_s)
        later.advance(55)
        assert later.tracker.presence("d") == ("reconnecting", seen_ns, ())
        if returns:
            later.follow("d", connected=True)
            later.advance(200)
            assert later.tracker.presence("d")[::2] == ("connected", ())
            assert later.events == []
            later.advance(60)  # 300 seconds after its last reading, without those of the hub's absence
            assert later.tracker.presence("d")[::2] == ("connected", ("flow",))
            later.advance(60)
            assert later.state() == "silent"
        else:
            later.advance(10)
            assert later.tracker.presence("d")[:2] == ("offline", seen_ns)


def test_a_silent_and_an_offline_device_are_so_after_a_restart() -> None:
    """A state of before the restart is the state after it, since the same time."""
    hub, series = make_hub()
    hub.follow("d", connected=True)
    send(hub, series, 10)
    hub.advance(400)
    later = restart(hub, down_s=10)
    assert later.tracker.presence("d")[::2] == ("reconnecting", ("flow",))
    later.follow("d", connected=True)
    assert later.tracker.presence("d")[::2] == ("silent", ("flow",))
    hub.follow("d", connected=False)
    gone_ns = hub.times["wall_ns"]
    hub.advance(20)
    assert restart(hub, down_s=10).tracker.presence("d") == ("reconnecting", gone_ns, ("flow",))
    hub.advance(80)
    later = restart(hub, down_s=10)
    later.advance(100)
    assert later.tracker.presence("d") == ("offline", gone_ns, ("flow",))
    assert later.events == []


@pytest.mark.parametrize("has_interval", [False, True])
def test_a_device_that_is_connected_by_its_messages_waits_for_its_next_one(has_interval: bool) -> None:
    """A device behind a broker cannot return before its next message, however seldom those are."""
    hub, series = make_hub()
    hub.follow("d", connected=True, by_agent=False)
    send(hub, series, 10 if has_interval else 2, every_s=600)
    later = restart(hub, down_s=10, by_agent=False)
    limit_s = 3_000 if has_interval else LONGEST_GRACE_NS / S
    later.advance(limit_s * 0.9, sweep_s=10)
    states = [later.state()]
    later.advance(limit_s * 0.2, sweep_s=10)
    states.append(later.state())
    assert states == ["reconnecting", "offline"]


def test_what_happened_before_a_kill_is_no_alarm_after_it() -> None:
    """The state is saved once a minute. A reading and a connection since then are known from elsewhere."""
    hub, series = make_hub()
    hub.follow("d", connected=True)
    send(hub, series, 10)
    hub.advance(400)
    hub.follow("d", connected=False)
    hub.advance(100)
    assert hub.tracker.presence("d")[::2] == ("offline", ("flow",))
    saved = hub.tracker.save(**hub.times)
    hub.follow("d", connected=True)
    hub.receive(series, 1.0)
    later = TrackedHub({"d": [series]})
    later.now_s, later.wall_s = 5.0, hub.wall_s
    later.live.restore(series, hub.live.live_series(series).time_ns, 1.0)
    links = [("d", DeviceLink(connected=False, has_sent=True), hub.times["wall_ns"])]
    later.tracker.restore(saved, links, now_ns=later.times["now_ns"], connected={"d"})
    assert later.tracker.presence("d")[::2] == ("reconnecting", ())
    later.advance(50)
    later.follow("d", connected=True)
    later.advance(240)
    assert later.tracker.presence("d")[::2] == ("connected", ())
    later.advance(40)  # it has its interval since it is connected: it is not silent as before
    assert later.tracker.presence("d")[::2] == ("connected", ("flow",))


def test_without_a_saved_state_every_device_has_time_to_return() -> None:
    """The first start of this version, or a lost file: nothing is known, and nothing is alarmed."""
    hub, _ = make_hub()
    links = [("d", DeviceLink(connected=False), 7), ("old", DeviceLink(connected=False, retired=True), 7)]
    hub.tracker.restore(None, links, now_ns=0)
    assert [hub.state(), hub.state("old")] == ["reconnecting", "retired"]
    hub.advance(61)
    assert hub.tracker.presence("d") == ("offline", 7, ())
    hub.tracker.restore(None, [("d", DeviceLink(connected=False, by_agent=False), 7)], now_ns=hub.times["now_ns"])
    hub.advance(LONGEST_GRACE_NS / S - 60, sweep_s=60)
    assert hub.state() == "reconnecting"
    hub.advance(120, sweep_s=60)
    assert hub.state() == "offline"


def test_a_device_that_left_in_order_is_offline_at_once() -> None:
    """Nobody has to wait for an agent that was stopped."""
    hub, _ = make_hub()
    hub.follow("d", connected=True)
    hub.follow("d", connected=False, has_left=True)
    assert (hub.state(), hub.events) == ("offline", [])
    assert restart(hub, down_s=5).state() == "offline"
