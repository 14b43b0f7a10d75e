"""Groups of subscriptions: what they collect, how a frame is divided, and which member gets it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hub.live.group import FEW_TIMES, MAX_PENDING_READINGS, FrameColumns, Group, GroupKey, LiveSeries, Member
from hub.live.outbox import MAX_DATA_BYTES, Outbox
from hub.live.selection import selection
from hub.model.batch import Batch, Series
from tests.wire.golden_file import named, read_golden
from wire import live as messages
from wire.codec import LIVE_MESSAGES
from wire.columns import unpack_floats
from wire.frames import MAX_COLUMNS, Kind, NumberColumn, TextColumn, Update, decode_update, encode_update, readings

MS = 1_000_000
LEVEL = Series(1, "pump", "level", "float")
STATE = Series(2, "pump", "state", "string")
OTHER = Series(3, "boiler", "level", "float")

MAX_TIME_MS = 9_223_372_036_854
"""The last whole millisecond of an int64 of nanoseconds."""

KINDS = {"live": Kind.LIVE, "history": Kind.HISTORY, "missed": Kind.MISSED, "snapshot": Kind.SNAPSHOT}
WHOLE = [frame for frame in read_golden("live_frames.json", "frames") if "milliseconds" in frame["name"]]

times_ms = st.integers(0, 2**40)
numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False, width=32)


class Requests:
    """Group over some series, and the number of flushes that it requested."""

    def __init__(self, policy: messages.Policy = "every", devices: str = "*") -> None:
        self.live: dict[int, LiveSeries] = {}
        self.flushes = 0
        key = GroupKey(selection([devices], ["*"]), policy, 20)
        self.group = Group(key, 7, offset=4, live_series=self.live_series, schedule=self.schedule)

    def live_series(self, series: Series) -> LiveSeries:
        return self.live.setdefault(series.id, LiveSeries())

    def schedule(self, group: Group) -> None:
        self.flushes += 1
        group.scheduled = True

    def join(self, *, live: bool = True, outbox: Outbox | None = None) -> Member:
        member = Member(len(self.group.members) + 1, outbox or Outbox(on_overflow=lambda: None), live=live)
        self.group.members.append(member)
        return member


async def frames(member: Member) -> list[Update]:
    """Return the data frames that wait for a member."""
    found = []
    while member.outbox.data_bytes:
        frame = await member.outbox.next_frame()
        if isinstance(frame, bytes):
            found.append(decode_update(frame))
    return found


def points(update: Update) -> list[tuple[float, float | None]]:
    return [point for column in update.numbers for point in readings(column)]


@given(st.lists(st.tuples(times_ms, numbers)), st.booleans())
def test_a_column_has_exactly_the_rows_with_a_value(rows: list[tuple[int, float | None]], packed: bool) -> None:
    """None and NaN mean no value, in lists and in arrays; the count is of what the column has."""
    columns = FrameColumns()
    times = [time * MS for time, _ in rows]
    values = [value for _, value in rows]
    if packed:
        columns.add(3, LEVEL, np.array(times, np.int64), np.array(values, np.float64))
    else:
        columns.add(3, LEVEL, times, values)
    expected = [(float(time), value) for time, value in rows if value is not None]
    assert columns.readings == len(expected)
    assert [point for column in columns.numbers for point in readings(column)] == expected
    assert {column.series for column in columns.numbers} <= {3}


@given(st.lists(st.tuples(times_ms, st.none() | st.text(max_size=3))))
def test_texts_stay_apart_from_numbers(rows: list[tuple[int, str | None]]) -> None:
    """A string series without a value has no column at all."""
    columns = FrameColumns()
    columns.add(2, STATE, [time * MS for time, _ in rows], [text for _, text in rows])
    given_rows = [(float(time), text) for time, text in rows if text is not None]
    assert (columns.numbers, columns.readings) == ([], len(given_rows))
    expected = [TextColumn(2, [time_ms for time_ms, _ in given_rows], [text for _, text in given_rows])]
    assert columns.texts == (expected if given_rows else [])


def test_chunks_of_a_series_become_one_column() -> None:
    """In the order in which they arrived, whether they are lists or arrays."""
    columns = FrameColumns()
    chunks: list[tuple[Any, Any]] = [
        ([1 * MS], [1.0]),
        (np.array([2 * MS, 3 * MS]), np.array([2.0, math.nan])),
        ([4 * MS], [4]),
    ]
    columns.add_chunks(0, LEVEL, chunks)
    assert [readings(column) for column in columns.numbers] == [[(1.0, 1.0), (2.0, 2.0), (4.0, 4.0)]]
    assert columns.readings == 3


@pytest.mark.parametrize("count", [0, 1, MAX_COLUMNS, MAX_COLUMNS + 1, 2 * MAX_COLUMNS, 2 * MAX_COLUMNS + 1])
def test_a_large_update_is_divided(count: int) -> None:
    """No part has more numeric columns than a frame may have; the texts are in the last part, and nothing is lost."""
    columns = FrameColumns()
    pair = np.zeros(1).tobytes()
    columns.numbers = [NumberColumn(position, pair, pair) for position in range(count)]
    columns.texts = [TextColumn(count, [1.0, 2.0], ["on", "off"])]
    columns.readings = count + 2
    parts = list(columns.parts())
    assert all(len(part.numbers) <= MAX_COLUMNS for part in parts)
    assert [column.series for part in parts for column in part.numbers] == list(range(count))
    assert [part.texts for part in parts] == [[]] * (len(parts) - 1) + [columns.texts]
    assert sum(part.readings for part in parts) == count + 2
    assert len(parts) == max(1, -(-count // MAX_COLUMNS))


async def test_only_matching_series_are_added_once_and_described() -> None:
    """The members of a connection get the new part of the schema once, and nothing if nothing new matches."""
    requests = Requests(devices="pump")
    group = requests.group
    group.add_series([LEVEL])
    outbox = Outbox(on_overflow=lambda: None)
    requests.join(outbox=outbox)
    requests.join(outbox=outbox, live=False)
    group.add_series([LEVEL, OTHER])
    group.add_series([STATE, STATE])
    outbox.control(b"end")
    schema = LIVE_MESSAGES.decode(await outbox.next_frame())
    assert isinstance(schema, messages.Schema)
    assert (schema.schema, schema.first, [series.metric for series in schema.series]) == (7, 1, ["state"])
    assert await outbox.next_frame() == "end"
    assert group.positions == {LEVEL.id: 0, STATE.id: 1}
    assert requests.live[LEVEL.id].groups == [(group, 0)]
    assert [series.metric for series in group.describe().series] == ["level", "state"]


async def test_a_changed_series_is_declared_again_with_all_that_follow() -> None:
    """Viewers replace their schema from its position on; a group that did not select it may do so now."""
    requests = Requests(devices="pump")
    group = requests.group
    group.add_series([LEVEL, STATE])
    outbox = Outbox(on_overflow=lambda: None)
    requests.join(outbox=outbox)
    changed = Series(LEVEL.id, LEVEL.device, "fill", "string", "cm")
    group.replace_series(changed)
    schema = LIVE_MESSAGES.decode(await outbox.next_frame())
    assert isinstance(schema, messages.Schema)
    assert (schema.first, [(series.metric, series.type) for series in schema.series]) == (
        0,
        [("fill", "string"), ("state", STATE.type)],
    )
    assert group.series == [changed, STATE]
    new = Series(99, "pump", "new", "float")
    group.replace_series(new)
    assert group.positions[new.id] == 2


def test_texts_have_no_place_among_numbers() -> None:
    """A metric that became a number just now: the last texts are left out of its column."""
    columns = FrameColumns()
    columns.add(0, Series(1, "pump", "level", "float"), [1 * MS, 2 * MS, 3 * MS], ["n/a", 2.0, None])
    assert [readings(column) for column in columns.numbers] == [[(2.0, 2.0)]]


async def test_a_flush_is_requested_once_a_period_and_again_when_much_waits() -> None:
    """At MAX_PENDING_READINGS the group requests a flush although one is scheduled; the count starts anew with it."""
    requests = Requests()
    requests.group.add_series([LEVEL])
    half = [0] * (MAX_PENDING_READINGS // 2)
    requests.group.collect(0, half[1:], [1.0] * (len(half) - 1))
    requests.group.collect(0, half, [1.0] * len(half))
    assert requests.flushes == 1
    requests.group.collect(0, [1], [1.0])
    assert requests.flushes == 2
    requests.group.flush(5)
    requests.group.collect(0, half, [1.0] * len(half))
    assert requests.flushes == 2
    requests.group.scheduled = False
    requests.group.collect(0, [1], [1.0])
    assert requests.flushes == 3


async def test_latest_collects_no_readings() -> None:
    """However much arrives within a period, a group with policy latest keeps only which series changed."""
    requests = Requests("latest")
    requests.group.add_series([LEVEL])
    for _ in range(3):
        requests.group.collect(0, [0] * MAX_PENDING_READINGS, [1.0] * MAX_PENDING_READINGS)
    assert requests.flushes == 1
    requests.live[LEVEL.id].time_ns, requests.live[LEVEL.id].value = 9 * MS, 2.5
    member = requests.join()
    requests.group.flush(6)
    (update,) = await frames(member)
    assert (points(update), update.offset, update.conflated) == ([(9.0, 2.5)], 6, 0)


async def test_a_connection_with_two_subscriptions_gets_a_shared_frame_once() -> None:
    """A member that still catches up gets none; the offset of the group moves although nobody was live."""
    requests = Requests()
    requests.group.add_series([LEVEL])
    outbox = Outbox(on_overflow=lambda: None)
    first, _ = requests.join(outbox=outbox), requests.join(outbox=outbox)
    late = requests.join(live=False)
    requests.group.collect(0, [1 * MS], [1.0])
    requests.group.flush(5)
    assert [points(update) for update in await frames(first)] == [[(1.0, 1.0)]]
    assert await frames(late) == []
    assert requests.group.flushed == 5
    requests.group.flush(6)
    assert (await frames(first), requests.group.flushed) == ([], 6)


async def test_a_member_that_fell_behind_gets_the_latest_values_of_what_it_missed() -> None:
    """Not before half of its outbox is free; the first frame afterwards says how many readings it stands for."""
    requests = Requests()
    group = requests.group
    group.add_series([LEVEL, STATE])
    member = requests.join()
    assert member.outbox.offer(bytes(MAX_DATA_BYTES))
    group.collect(0, [1 * MS, 2 * MS], [1.0, 2.0])
    group.collect(1, [3 * MS], ["on"])
    group.flush(5)
    assert (member.lagging, member.conflated) == ({0, 1}, 3)
    requests.live[LEVEL.id].time_ns, requests.live[LEVEL.id].value = 2 * MS, 2.0
    requests.live[STATE.id].time_ns, requests.live[STATE.id].value = 3 * MS, "on"
    await member.outbox.next_frame()
    # There is room for the new frame, but its place is within the summary: a frame of its own would be out of order.
    group.collect(0, [4 * MS], [4.0])
    requests.live[LEVEL.id].time_ns, requests.live[LEVEL.id].value = 4 * MS, 4.0
    group.flush(6)
    (update,) = await frames(member)
    assert (points(update), update.conflated, update.offset) == ([(4.0, 4.0)], 4, 6)
    assert update.texts == [TextColumn(1, [3.0], ["on"])]
    assert (member.lagging, member.conflated) == (set(), 0)
    group.collect(0, [5 * MS], [5.0])
    group.flush(7)
    assert [update.conflated for update in await frames(member)] == [0]


def batch(series: Series, number: int, *, historical: bool = False) -> Batch:
    return Batch([number * MS], [(series, [float(number)])], readings=1, historical=historical)


def test_missed_batches_are_reduced_to_the_selection() -> None:
    """`every` gets all readings of its series, historical ones too; `latest` the newest value of what was not."""
    every, latest = Requests("every", "pump"), Requests("latest", "pump")
    for requests in (every, latest):
        requests.group.add_series([LEVEL, OTHER])
        requests.live_series(LEVEL).time_ns, requests.live_series(LEVEL).value = 9 * MS, 9.0
    batches = [batch(LEVEL, 1), batch(OTHER, 2), batch(LEVEL, 3, historical=True)]
    columns = every.group.select(batches)
    assert [readings(column) for column in columns.numbers] == [[(1.0, 1.0), (3.0, 3.0)]]
    columns = latest.group.select(batches)
    assert [readings(column) for column in columns.numbers] == [[(9.0, 9.0)]]
    assert latest.group.select(batches[1:]).numbers == []


def test_a_series_without_a_reading_has_no_latest_value() -> None:
    """The latest values of all series, or of some, in the order of the schema."""
    requests = Requests()
    requests.group.add_series([LEVEL, STATE, OTHER])
    requests.live[STATE.id].value, requests.live[STATE.id].time_ns = "off", 2 * MS
    requests.live[OTHER.id].value, requests.live[OTHER.id].time_ns = 3.0, 3 * MS
    everything = requests.group.latest()
    assert ([c.series for c in everything.numbers], [t.series for t in everything.texts]) == ([2], [1])
    assert everything.readings == 2
    some = requests.group.latest([2, 0])
    assert ([c.series for c in some.numbers], some.texts) == ([2], [])


def test_only_the_last_frame_of_an_update_moves_the_cursor() -> None:
    """A dashboard that disconnects between two frames of one update resumes before both."""
    requests = Requests()
    columns = FrameColumns()
    pair = np.zeros(1).tobytes()
    columns.numbers = [NumberColumn(position, pair, pair) for position in range(MAX_COLUMNS + 1)]
    made = [decode_update(frame) for frame in requests.group.frames(Kind.MISSED, columns, 12, subscription=5)]
    assert [update.offset for update in made] == [0, 12]
    assert {(update.kind, update.schema, update.subscription, update.conflated) for update in made} == {
        (Kind.MISSED, 7, 5, 0)
    }
    assert [len(update.numbers) for update in made] == [MAX_COLUMNS, 1]


def framed(times_ns: list[int]) -> tuple[list[float | None], list[float]]:
    """Return the times of a numeric column and of a text column of a frame with these times."""
    columns = FrameColumns()
    columns.add(0, LEVEL, np.array(times_ns, dtype=np.int64), [1.0] * len(times_ns))
    columns.add(1, STATE, times_ns, ["on"] * len(times_ns))
    return unpack_floats(columns.numbers[0].times_ms), list(columns.texts[0].times_ms)


@given(st.lists(st.integers(0, MAX_TIME_MS), min_size=1, max_size=3 * FEW_TIMES))
@example([1_767_225_600_001, 1_767_225_600_002, 1_767_225_600_003])
def test_whole_milliseconds_are_exact(times_ms: list[int]) -> None:
    """A reading that a device timed to the millisecond has that time in every frame, as in the history."""
    numbers, texts = framed([time * 1_000_000 for time in times_ms])
    assert numbers == texts == times_ms


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=3 * FEW_TIMES))
def test_any_time_is_the_nearest_number(times_ns: list[int]) -> None:
    """The error is at most the distance of two float64: 0.2 µs today."""
    numbers, texts = framed(times_ns)
    exact = [time / 1_000_000 for time in times_ns]  # a division of integers is rounded correctly
    assert texts == exact
    for number, nearest in zip(numbers, exact, strict=True):
        assert number is not None
        assert abs(number - nearest) <= math.ulp(nearest)


@pytest.mark.parametrize("frame", WHOLE, ids=named)
def test_the_hub_makes_the_golden_frames(frame: Any) -> None:
    """From nanoseconds come the very bytes that the page's tests decode."""
    update = frame["update"]
    columns = FrameColumns()
    for column in update["numbers"]:
        times_ns = np.array([int(time * 1_000_000) for time in column["times_ms"]], dtype=np.int64)
        columns.add(column["series"], LEVEL, times_ns, column["values"])
    for text in update["texts"]:
        columns.add(text["series"], STATE, [int(time * 1_000_000) for time in text["times_ms"]], text["values"])
    encoded = encode_update(
        KINDS[str(update["kind"])],
        update["schema"],
        offset=update["offset"],
        numbers=columns.numbers,
        texts=columns.texts,
        subscription=update["subscription"],
        conflated=update["conflated"],
    )
    assert encoded.hex() == frame["hex"]
