from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from hub.storage.duckdb.query_plan import HOUR_NS, MINUTE_NS, TierStarts, plan_tables, resolution_for
from hub.storage.duckdb.schema import Resolution
from hub.storage.query import TimeRange

MOMENTS = st.builds(
    lambda hour, minute, rest: hour * HOUR_NS + minute * MINUTE_NS + rest,
    st.integers(0, 4),
    st.integers(0, 59),
    st.sampled_from([0, 0, 1, MINUTE_NS - 1]) | st.integers(0, MINUTE_NS - 1),
)


@given(
    MOMENTS,
    MOMENTS,
    st.sampled_from(["raw", "minute", "hour"]),
    MOMENTS | st.just(0),
    MOMENTS | st.just(0),
    st.lists(MOMENTS, max_size=20),
)
def test_each_reading_is_read_once(
    item: int, other: int, resolution: Resolution, raw_from: int, minute_from: int, times: list[int]
) -> None:
    """Exactly one table range contains a reading, whichever rollups contain it, except at ends of the range that no
    finer table has any more."""
    time_range = TimeRange(min(item, other), max(item, other))
    # Raw readings are not kept longer than minutes.
    tier_starts = TierStarts(max(raw_from, minute_from), minute_from)
    table_ranges = plan_tables(time_range, resolution, tier_starts)
    hour_of_cut = -(-tier_starts.raw_from_ns // HOUR_NS) * HOUR_NS
    for time in [*times, *time_range]:
        # The tables that contain a reading of this time, by how far it is rolled up.
        for state in ("raw", "minute", "hour"):
            found = 0
            for table_range in table_ranges:
                bucket = {"raw": 1, "minute": MINUTE_NS, "hour": HOUR_NS}[table_range.table]
                is_expected = {
                    "raw": table_range.table == "raw",
                    "minute": table_range.table == "minute"
                    or (table_range.table == "raw" and not table_range.backlog_only),
                    "hour": not table_range.backlog_only,
                }[state]
                if table_range.table == "raw" and time < tier_starts.raw_from_ns and state != "raw":
                    is_expected = False
                found += (
                    is_expected
                    and table_range.time_range.first_ns <= time - time % bucket <= table_range.time_range.last_ns
                )
            inside = time_range.first_ns <= time <= time_range.last_ns
            if time >= hour_of_cut or (inside and state == "hour"):
                assert found == inside
            else:
                assert found <= 1


@given(st.integers(1, 10**18), st.none() | st.integers(-(10**18), 10**18))
def test_the_resolution_is_not_coarser_than_the_intervals(width_ns: int, start_ns: int | None) -> None:
    """An interval is at least one bucket."""
    bucket = {"raw": 1, "minute": MINUTE_NS, "hour": HOUR_NS}[resolution_for(width_ns, start_ns)]
    assert width_ns >= bucket
