"""How the quarantine is counted, and that there is advice for everything in it."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.http.advice import advice
from hub.http.quarantine import MAX_DEVICE_COUNTS, count
from hub.http.quarantine_schemas import QuarantineCounts
from hub.model.journal import Held
from wire.errors import Code

held = st.builds(
    Held,
    st.just(0),
    st.sampled_from("abc"),
    st.sampled_from(["empty", "not_finite"]),
    st.integers(0, 99),
    st.integers(0, 9),
)


@given(st.lists(held, max_size=20))
def test_every_entry_is_counted_once_by_reason_and_by_device(entries: list[Held]) -> None:
    """The sums of both lists are all there is, and the first has the most."""
    entries = [entry._replace(offset=offset) for offset, entry in enumerate(entries, 1)]
    counts = QuarantineCounts.model_validate({**count(entries), "dropped": 0})
    assert counts.entries == len(entries) == counts.newest
    assert counts.size_bytes == sum(entry.size_bytes for entry in entries)
    assert {one.code: one.entries for one in counts.codes} == Counter(entry.code for entry in entries)
    by_device = Counter((entry.code, entry.device) for entry in entries)
    assert {(one.code, one.device): one.entries for one in counts.devices} == by_device
    for one in counts.codes:
        times = [entry.received_ns for entry in entries if entry.code == one.code]
        assert (one.oldest_ns, one.newest_ns) == (min(times), max(times))
    for ranked in ([one.entries for one in counts.codes], [one.entries for one in counts.devices]):
        assert ranked == sorted(ranked, reverse=True)


def test_of_many_devices_the_first_are_told() -> None:
    """The others are counted."""
    counts = count(Held(offset, f"d{offset}", "empty", 0, 1) for offset in range(1, MAX_DEVICE_COUNTS + 8))
    assert (len(counts["devices"]), counts["left_out"]) == (MAX_DEVICE_COUNTS, 7)
    assert counts["codes"][0]["devices"] == MAX_DEVICE_COUNTS + 7


@pytest.mark.parametrize(
    "code",
    [
        Code.BAD_MESSAGE, Code.UNKNOWN_METRIC, Code.TYPE_CONFLICT, Code.WRONG_TYPE, Code.OUT_OF_RANGE, Code.NOT_FINITE,
        Code.LENGTH_MISMATCH, Code.EMPTY, Code.TOO_MANY,
    ],
)  # fmt: skip
def test_there_is_advice_for_each_reason_of_the_device_protocol(code: Code) -> None:
    """One of its own; what else there is comes from a store."""
    assert advice(code.value) != advice("whatever the store says")
    assert "store" in advice("whatever the store says")
