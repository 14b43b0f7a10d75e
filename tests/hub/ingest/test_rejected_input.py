"""Input in quarantine: its content, and which of its values are not stored."""

from __future__ import annotations

from collections import Counter
from datetime import UTC
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from formats.message import DecodedRow, MessageReader
from formats.record import Origin, RefusedInput
from formats.rules import Rules
from hub.ingest import rejected_input
from hub.ingest.rejected_input import QuarantinedInput, read_quarantined, rejected_content, stored_times
from hub.ingest.row_writer import PendingRow
from wire.model import MetricType

PAYLOAD = b'{"a": "ERR", "b": 3}'


def refusal(metric: str, device: str = "boiler") -> RefusedInput:
    return RefusedInput(1, PAYLOAD, "type", "no", metric, "ERR", device=device)


def quarantined(*refusals: RefusedInput, is_partial: bool = True) -> QuarantinedInput:
    found = read_quarantined(rejected_content({"topic": "j/boiler"}, PAYLOAD, refusals, is_partial=is_partial))
    assert found is not None
    assert (found.topic, found.payload) == ("j/boiler", PAYLOAD)
    return found


def unstored(found: QuarantinedInput, *values: dict[str, Any]) -> list[Any] | None:
    """Return the values that are not stored in rows of the device; None if they are ambiguous."""
    kept = found.unstored_rows({"boiler": [PendingRow("", 7, row, True, False, False) for row in values]})
    return None if kept is None else [row.values for row in kept.get("boiler", []) if row.historical]


def test_only_refused_values_are_not_stored() -> None:
    """The other values of the message are."""
    found = quarantined(refusal("a"))
    assert found.was_refused("boiler", "a")
    assert not found.was_refused("boiler", "b")
    assert not found.was_refused("other", "a")


@pytest.mark.parametrize("refusals", [[], [refusal("a")], [refusal("", "")]])
def test_no_value_of_a_message_that_was_refused_whole_is_stored(refusals: list[RefusedInput]) -> None:
    """All of them are read again, as history."""
    found = quarantined(*refusals, is_partial=False)
    assert unstored(found, {"a": 1, "b": 2}, {"a": 3}) == [{"a": 1, "b": 2}, {"a": 3}]


def test_values_that_cannot_be_told_from_stored_ones_are_ambiguous() -> None:
    """More values of a metric than were refused, a refused line, or more refusals than an entry lists."""
    one = quarantined(refusal("a"))
    assert unstored(one, {"a": 1, "c": 2}, {"c": 3}) == [{"a": 1}]
    assert unstored(one, {"a": 1}, {"a": 2}) is None
    assert unstored(quarantined(refusal("a"), refusal("", "")), {"a": 1}) is None
    assert unstored(quarantined(*[refusal("a")] * 200), {"a": 1}) is None


TYPES: list[MetricType] = ["float", "boolean", "string"]
CELLS = st.sampled_from([1.5, 2, "abc", "nan", True, 2**70, "7", None])
RECORDS = st.lists(st.dictionaries(st.sampled_from("tu"), CELLS, min_size=1), min_size=1, max_size=6)
KNOWN = st.fixed_dictionaries({"t": st.sampled_from(TYPES), "u": st.sampled_from(TYPES)})


def read(payload: bytes, types: dict[str, MetricType]) -> tuple[list[DecodedRow], list[RefusedInput]]:
    reader = MessageReader(Rules(format="json"), UTC, known_type=lambda _, metric: types[metric], device="boiler")
    rows, refusals = reader.source(Origin()).read(payload, 9)
    return [DecodedRow(row.device, row.values, row.time_ns) for row in rows], refusals


@given(RECORDS, KNOWN, st.lists(KNOWN, max_size=5), st.booleans(), st.booleans())
def test_no_value_is_stored_twice_under_any_types(
    records: list[dict[str, Any]],
    types: dict[str, MetricType],
    later: list[dict[str, MetricType]],
    has_times: bool,
    is_old: bool,
) -> None:
    """However often a message is retried. With times, all of it is stored once it can be read. An older entry does not
    have the times of the stored values."""
    times = [{"time": 1_700_000_000 + number} if has_times else {} for number in range(len(records))]
    payload = msgspec.json.encode([time | record for time, record in zip(times, records, strict=True)])
    rows, refusals = read(payload, types)
    stored = Counter((row.time_ns, name) for row in rows for name in row.values)
    expected = Counter(
        (time.get("time", 0) * 10**9 or None, name)
        for time, record in zip(times, records, strict=True)
        for name, cell in record.items()
        if cell is not None
    )
    known_times = None if is_old else stored_times(refusals, rows)
    is_partial = bool(rows)
    for known in later if refusals else ():
        found = read_quarantined(rejected_content({}, payload, refusals, is_partial=is_partial, stored=known_times))
        assert found is not None
        rows, current = read(payload, known)
        pending = [PendingRow(row.time_ns, row.time_ns or 9, row.values, has_times, False, False) for row in rows]
        again = found.unstored_rows({"boiler": pending}, current)
        if again is None:
            continue
        stored.update((row.message, name) for kept in again.values() for row in kept for name in row.values)
        assert all(count <= expected[place] for place, count in stored.items())
        if has_times and not is_old:
            assert {(row.time_ns, name) for row in rows for name in row.values} <= stored.keys()
        current = [refusal for refusal in current if found.was_refused(refusal.device, refusal.metric)]
        if not current:
            break
        if again:
            # As after a commit: the rest is an entry of its own.
            refusals, known_times, is_partial = current, found.stored_after(current, rows), True


def test_a_cut_payload_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is an entry that is a batch of an agent."""
    monkeypatch.setattr(rejected_input, "MAX_QUARANTINED_BYTES", 4)
    cut = read_quarantined(rejected_content({}, PAYLOAD, (), is_partial=False))
    assert cut is not None
    assert (cut.payload_bytes, cut.payload) == (len(PAYLOAD), None)
    assert QuarantinedInput("A").payload is None
    assert read_quarantined(b'{"type": "data"}') is None
