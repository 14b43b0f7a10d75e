"""Input in quarantine: its content, and which of its values are not stored."""

from __future__ import annotations

from typing import Any

import pytest

from formats.record import RefusedInput
from hub.ingest import rejected_input
from hub.ingest.rejected_input import QuarantinedInput, read_quarantined, rejected_content
from hub.ingest.row_writer import PendingRow

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


def test_a_cut_payload_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is an entry that is a batch of an agent."""
    monkeypatch.setattr(rejected_input, "MAX_QUARANTINED_BYTES", 4)
    cut = read_quarantined(rejected_content({}, PAYLOAD, (), is_partial=False))
    assert cut is not None
    assert (cut.payload_bytes, cut.payload) == (len(PAYLOAD), None)
    assert QuarantinedInput("A").payload is None
    assert read_quarantined(b'{"type": "data"}') is None
