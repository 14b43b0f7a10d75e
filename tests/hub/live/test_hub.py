"""Rules of live delivery: frames for a dashboard, the cost of a slow one, and what is reported to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from hub.live.group import Group, GroupKey, LiveSeries, Member
from hub.live.hub import FUTURE_NS, LiveHub
from hub.live.outbox import MAX_DATA_BYTES, Outbox
from hub.live.selection import selection
from hub.model.batch import Batch, Entry, EntryKind, Series
from wire import live as messages
from wire.codec import LIVE_MESSAGES
from wire.frames import Kind, Update, decode_update, readings
from wire.model import Value

TEMPERATURE = "temperature"


def entry(
    offset: int,
    series: Series,
    times: list[int],
    values: list[Value],
    *,
    historical: bool = False,
    rising: bool = False,
) -> Entry:
    batch = Batch(times, [(series, values)], readings=len(values), historical=historical, rising=rising)
    made = Entry(EntryKind.BATCH, series.device, "0" * 16, offset, 0, "json", b"", batch=batch)
    made.offset = offset
    return made


class Dashboard:
    """One outbox that is live in one group."""

    def __init__(self, live: LiveHub, policy: messages.Policy = "every", period_ms: int = 20) -> None:
        self.outbox = Outbox(on_overflow=lambda: None)
        key = GroupKey(selection(["*"], ["*"]), policy, period_ms)
        self.group, self.member = live.join(messages.Subscribe(1, ["*"], ["*"]), key, self.outbox)
        self.member.live = True

    async def updates(self, count: int) -> list[Update]:
        found: list[Update] = []
        while len(found) < count:
            frame = await self.outbox.next_frame()
            if isinstance(frame, bytes):
                found.append(decode_update(frame))
        return found

    async def update(self) -> Update:
        return (await self.updates(1))[0]


NOW_NS = 1_700_000_000 * 1_000_000_000


def make(*series: Series) -> LiveHub:
    live = LiveHub(offset=0, clock=lambda: NOW_NS)
    live.add_series(series)
    return live


def points(update: Update) -> list[tuple[float, float | None]]:
    return [point for column in update.numbers for point in readings(column)]


async def test_every_brings_each_reading_once_with_the_offset_of_the_newest() -> None:
    """All that arrives within a period comes in one frame, whose offset is the newest entry that it covers."""
    series = Series(1, "d", TEMPERATURE, "float")
    live = make(series)
    dashboard = Dashboard(live)
    live.apply([entry(1, series, [1_000_000], [1.0]), entry(2, series, [2_000_000, 3_000_000], [2, None])])
    update = await dashboard.update()
    assert points(update) == [(1.0, 1.0), (2.0, 2.0)]
    assert (update.kind, update.offset, update.conflated) == (Kind.LIVE, 2, 0)


async def test_latest_brings_only_the_newest_value_of_each_changed_series() -> None:
    """With policy latest a burst of a series is one point, and a series that did not change is none."""
    first, second = Series(1, "d", "a", "float"), Series(2, "d", "b", "float")
    live = make(first, second)
    dashboard = Dashboard(live, "latest")
    live.apply([entry(n, first, [n * 1_000_000], [float(n)]) for n in range(1, 50)])
    update = await dashboard.update()
    assert points(update) == [(49.0, 49.0)]
    assert update.offset == 49


async def test_historical_readings_reach_charts_and_not_latest_values() -> None:
    """Backfill is delivered to `every` and leaves the latest value alone."""
    series = Series(1, "d", TEMPERATURE, "float")
    live = make(series)
    dashboard = Dashboard(live)
    live.apply([entry(1, series, [5_000_000], [5.0]), entry(2, series, [9_000_000], [9.0], historical=True)])
    assert points(await dashboard.update()) == [(5.0, 5.0), (9.0, 9.0)]
    assert live.live_series(series).value == 5.0


@pytest.mark.parametrize("as_column", [list, np.array], ids=["list", "array"])
@pytest.mark.parametrize(
    ("times", "values", "newest"),
    [
        ([100, 50, 60], [1.0, 2.0, 3.0], (100, 1.0)),
        ([50, 100, 60], [1.0, 2.0, 3.0], (100, 2.0)),
        ([50, 60, 100], [1.0, 2.0, float("nan")], (60, 2.0)),
        ([60, 60, 50], [1.0, 2.0, 3.0], (60, 2.0)),
    ],
)
def test_the_latest_value_is_the_newest_whatever_the_order(
    as_column: Callable[[list[float]], list[Value]], times: list[int], values: list[float], newest: tuple[int, float]
) -> None:
    """Rows of a batch may come in any order of time, and some have no value."""
    series = Series(1, "d", TEMPERATURE, "float")
    live = make(series)
    rising = times == sorted(set(times))
    live.apply([entry(1, series, times, as_column(values), rising=rising)])
    assert (live.live_series(series).time_ns, live.live_series(series).value) == newest


def test_an_older_reading_that_comes_later_is_not_the_latest() -> None:
    """Within what clocks differ by, the time decides and not the order of arrival."""
    series = Series(1, "d", TEMPERATURE, "float")
    live = make(series)
    live.apply([entry(1, series, [NOW_NS + FUTURE_NS], [1.0]), entry(2, series, [NOW_NS], [2.0])])
    assert live.live_series(series).value == 1.0


def test_a_reading_from_the_future_hides_nothing_that_comes_after_it() -> None:
    """A wrong time is the latest until the next reading comes; from then on times decide again."""
    series = Series(1, "d", TEMPERATURE, "float")
    live = make(series)
    live.apply([entry(1, series, [NOW_NS + FUTURE_NS + 1], [1.0])])
    assert live.live_series(series).value == 1.0
    live.apply([entry(2, series, [NOW_NS], [2.0]), entry(3, series, [NOW_NS - 1], [3.0])])
    assert (live.live_series(series).time_ns, live.live_series(series).value) == (NOW_NS, 2.0)


async def test_policy_latest_catches_up_with_the_newest_reading_of_each_changed_series() -> None:
    """A row without a value is skipped, backfill changes nothing, and neither do series without readings."""
    touched, null, still = (Series(id, "d", name, "float") for id, name in enumerate("abc", 1))
    live = make(touched, null, still)
    dashboard = Dashboard(live, "latest")
    entries = [
        entry(1, still, [1_000_000], [9.0]),
        entry(2, touched, [2_000_000, 3_000_000], [1.0, 2.0]),
        entry(3, null, [2_000_000, 4_000_000], [3.0, None]),
        entry(4, touched, [4_000_000, 5_000_000], [4.0, None]),
        entry(5, still, [6_000_000], [5.0], historical=True),
        entry(6, touched, [7_000_000], [6.0], historical=True),
    ]
    live.apply(entries)
    columns = dashboard.group.select([each.batch for each in entries[1:] if each.batch is not None])
    assert {column.series: readings(column) for column in columns.numbers} == {0: [(4.0, 4.0)], 1: [(2.0, 3.0)]}


async def test_strings_travel_as_text_columns() -> None:
    """A string metric has its readings in the same frame, as text."""
    series = Series(1, "d", "state", "string")
    live = make(series)
    dashboard = Dashboard(live)
    live.apply([entry(1, series, [1_000_000, 2_000_000], ["on", None])])
    update = await dashboard.update()
    assert [(t.series, t.times_ms, t.values) for t in update.texts] == [(0, [1.0], ["on"])]


async def test_a_series_that_appears_later_is_described_before_its_first_update() -> None:
    """A dashboard is sent the addition to its schema, and then its readings."""
    live = make(Series(1, "d", "a", "float"))
    dashboard = Dashboard(live)
    late = Series(2, "d", "b", "boolean", "", "on or off")
    live.add_series([late])
    live.apply([entry(1, late, [1_000_000], [True])])
    schema = LIVE_MESSAGES.decode(await dashboard.outbox.next_frame())
    assert isinstance(schema, messages.Schema)
    assert (schema.first, [s.metric for s in schema.series]) == (1, ["b"])
    update = await dashboard.update()
    assert [(column.series, readings(column)) for column in update.numbers] == [(1, [(1.0, 1.0)])]


async def test_a_changed_series_is_declared_after_what_was_collected_before() -> None:
    """Integers that wait are sent under the old declaration, floats under the new one; no reading is missing."""
    integer, float_ = (Series(9, "pump", "count", type) for type in ("integer", "float"))
    live = make(integer)
    dashboard = Dashboard(live, period_ms=60_000)
    live.apply([entry(1, integer, [1], [5])])
    live.replace_series(float_)
    live.apply([entry(2, float_, [2], [5.5])])
    live.flush(dashboard.group)
    first, schema, second = [await dashboard.outbox.next_frame() for _ in range(3)]
    assert isinstance(first, bytes)
    assert isinstance(second, bytes)
    assert [value for frame in (first, second) for _, value in points(decode_update(frame))] == [5.0, 5.5]
    assert isinstance(schema, str)
    assert isinstance(declared := LIVE_MESSAGES.decode(schema), messages.Schema)
    assert [series.type for series in declared.series] == ["float"]
    assert live.live_series(integer) is live.live_series(float_)


def test_a_text_is_no_latest_value_of_a_number() -> None:
    """The newest stored reading of a metric that became a number may be a text: it only keeps its time."""
    number = Series(9, "pump", "count", "float")
    live = make(number)
    live.restore(number, 7, "n/a")
    assert (live.live_series(number).value, number.last_time_ns) == (None, 7)


async def test_a_dashboard_that_does_not_read_is_bounded_and_receives_what_was_conflated() -> None:
    """While it does not read, its outbox stays within its bound and the other dashboard gets everything; afterwards the
    the readings it got and those reported as conflated are all there were, and the newest value is among
    them."""
    series = Series(1, "d", TEMPERATURE, "float")
    live = make(series)
    slow, quick = Dashboard(live), Dashboard(live)
    assert slow.group is quick.group
    total = 0
    received = 0
    for offset in range(1, 400):
        times = [(offset * 1000 + row) * 1_000_000 for row in range(500)]
        live.apply([entry(offset, series, times, [float(offset)] * 500)])
        live.flush(slow.group)
        total += 500
        received += len(points(await quick.update()))
        assert slow.outbox.data_bytes <= MAX_DATA_BYTES
    assert received == total
    delivered: list[tuple[float, float | None]] = []
    conflated = 0
    while slow.outbox.data_bytes:
        update = await slow.update()
        delivered += points(update)
        conflated += update.conflated
        if slow.member.lagging and slow.outbox.has_room:
            live.flush(slow.group)
    assert not slow.member.lagging
    assert delivered[-1] == ((399 * 1000 + 499) * 1.0, 399.0)
    # The latest value is one of those that count as conflated.
    assert len(delivered) - 1 + conflated == total


async def test_one_encoding_serves_all_members() -> None:
    """Subscriptions of the same selection, policy and period are sent the very same bytes."""
    series = Series(1, "d", TEMPERATURE, "float")
    live = make(series)
    dashboards = [Dashboard(live) for _ in range(3)]
    live.apply([entry(1, series, [1_000_000], [1.0])])
    frames = [await dashboard.outbox.next_frame() for dashboard in dashboards]
    assert frames[0] is frames[1] is frames[2]


async def test_a_group_without_members_is_forgotten() -> None:
    """After the last member left, readings cost nothing and timers are gone."""
    series = Series(1, "d", TEMPERATURE, "float")
    live = make(series)
    dashboard = Dashboard(live)
    live.apply([entry(1, series, [1_000_000], [1.0])])
    live.leave(dashboard.group, dashboard.member)
    assert live.live_series(series).groups == []
    live.apply([entry(2, series, [2_000_000], [2.0])])
    assert Dashboard(live).group is not dashboard.group


async def test_reached_waits_for_the_offset() -> None:
    """A waiter for an offset resumes when it is applied, and not before."""
    series = Series(1, "d", TEMPERATURE, "float")
    live = make(series)
    waiting = asyncio.ensure_future(live.reached(2))
    live.apply([entry(1, series, [1], [1.0])])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    live.apply([entry(2, series, [2], [1.0])])
    await waiting


def test_member_and_group_start_without_sharing() -> None:
    """A member takes no shared frames until it has caught up."""
    outbox = Outbox(on_overflow=lambda: None)
    group = Group(
        GroupKey(selection(["*"], ["*"]), "every", 20),
        1,
        offset=0,
        live_series=lambda _: LiveSeries(),
        schedule=lambda _: None,
    )
    series = Series(1, "d", TEMPERATURE, "float")
    group.add_series([series])
    group.members.append(Member(1, outbox))
    made = entry(1, series, [1], [1.0])
    assert made.batch is not None
    group.collect(0, made.batch.times, made.batch.columns[0][1])
    group.flush(1)
    assert outbox.data_bytes == 0
