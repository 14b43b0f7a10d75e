"""A journalled batch is counted as its validation counted it, without knowing its metrics."""

from __future__ import annotations

import math
import struct
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from hub.ingest.validate import count_readings, validate
from hub.model.batch import Entry, EntryKind, Series
from wire.codec import AGENT_MESSAGES, Format
from wire.device import Data, Gap

ROWS = st.integers(1, 20)

TYPES = {"packed": "float", "seen": "boolean"}
"""Types of the metrics that are not named after their type."""


def columns(rows: int) -> st.SearchStrategy[dict[str, Any]]:
    def of(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
        return st.lists(st.none() | values, min_size=rows, max_size=rows)

    numbers = st.floats(allow_nan=False, allow_infinity=False)
    packed = st.lists(numbers | st.just(math.nan), min_size=rows, max_size=rows)
    return st.fixed_dictionaries(
        {},
        optional={
            "float": of(numbers),
            "packed": packed.map(lambda values: struct.pack(f"<{rows}d", *values)),
            "integer": of(st.integers(-(2**63), 2**63 - 1)),
            "boolean": of(st.booleans()),
            "string": of(st.text(st.characters(exclude_categories=["Cs"]), max_size=5)),
        },
    )


def entry(format: Format, payload: bytes, kind: EntryKind = EntryKind.BATCH) -> Entry:
    return Entry(kind, "pump", "0" * 16, 1, 0, format, payload)


@given(st.data(), ROWS)
def test_it_is_what_was_accepted(data: st.DataObject, rows: int) -> None:
    """In both formats, for lists and packed columns, with and without missing values."""
    values = data.draw(columns(rows))
    values["seen"] = [True, *[None] * (rows - 1)]  # a batch has a reading
    format: Format = "msgpack" if "packed" in values else data.draw(st.sampled_from(["json", "msgpack"]))
    message = Data(1, list(range(rows)), values)
    metrics = {
        name: Series(id, "pump", name, TYPES.get(name, name))  # type: ignore[arg-type]
        for id, name in enumerate(values, start=1)
    }
    accepted = validate(message, metrics)
    journalled = entry(format, AGENT_MESSAGES[format].encode(accepted.data))
    assert count_readings(journalled) == accepted.batch.readings
    journalled.batch = accepted.batch
    assert count_readings(journalled) == accepted.batch.readings


@pytest.mark.parametrize(
    "other",
    [
        entry("json", AGENT_MESSAGES["json"].encode(Gap(1, 2, "lost")), EntryKind.GAP),
        entry("json", b'{"type":"data"}', EntryKind.QUARANTINE),
        entry("json", AGENT_MESSAGES["json"].encode(Gap(1, 2, "lost"))),
        entry("msgpack", b"\xc1"),
    ],
)
def test_an_entry_without_a_batch_has_no_readings(other: Entry) -> None:
    """Gaps, quarantine, and what cannot be read."""
    assert count_readings(other) == 0
