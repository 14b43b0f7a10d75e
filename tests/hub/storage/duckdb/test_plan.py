from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from hub.storage.duckdb.answer import Range
from hub.storage.duckdb.plan import HOUR_NS, MINUTE_NS, Held, Resolution, plan, resolution_for

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
    one: int, other: int, resolution: Resolution, raw_from: int, minute_from: int, times: list[int]
) -> None:
    """Whichever rollups have a reading already, exactly one part has it, but for ends of the range that no finer table
    has any more."""
    within = Range(min(one, other), max(one, other))
    # Raw readings are not kept longer than minutes are.
    held = Held(max(raw_from, minute_from), minute_from)
    parts = plan(within, resolution, held)
    hour_of_cut = -(-held.raw_from_ns // HOUR_NS) * HOUR_NS
    for time in [*times, *within]:
        # In which tables a reading of this time is, by how far it is rolled up.
        for state in ("raw", "minute", "hour"):
            found = 0
            for part in parts:
                bucket = {"raw": 1, "minute": MINUTE_NS, "hour": HOUR_NS}[part.table]
                there = {
                    "raw": part.table == "raw",
                    "minute": part.table == "minute" or (part.table == "raw" and not part.behind),
                    "hour": not part.behind,
                }[state]
                if part.table == "raw" and time < held.raw_from_ns and state != "raw":
                    there = False
                found += there and part.within.first_ns <= time - time % bucket <= part.within.last_ns
            inside = within.first_ns <= time <= within.last_ns
            if time >= hour_of_cut or (inside and state == "hour"):
                assert found == inside
            else:
                assert found <= 1


@given(st.integers(1, 10**18), st.none() | st.integers(-(10**18), 10**18))
def test_the_resolution_is_not_coarser_than_the_intervals(width_ns: int, start_ns: int | None) -> None:
    """An interval is one bucket at least."""
    bucket = {"raw": 1, "minute": MINUTE_NS, "hour": HOUR_NS}[resolution_for(width_ns, start_ns)]
    assert width_ns >= bucket
