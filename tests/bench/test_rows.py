from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from bench.figure import Figure, at_least, at_most
from bench.rows import ROWS, Latency, Throughput


@pytest.mark.parametrize(("value", "ok"), [(59_999.99, False), (60_000.0, True), (60_000.01, True)])
def test_a_rate_must_reach_its_bound(value: float, ok: bool) -> None:
    """A higher value is better, and the bound itself is enough."""
    assert at_least("rate", value, "frames/s", 60_000).ok is ok


@pytest.mark.parametrize(("value", "ok"), [(19.99, True), (20.0, True), (20.01, False)])
def test_a_latency_must_not_pass_its_bound(value: float, ok: bool) -> None:
    """A lower value is better, and the bound itself is enough."""
    assert at_most("p99", value, "ms", 20).ok is ok


def test_a_figure_without_a_bound_holds() -> None:
    """A figure without a bound cannot fail."""
    assert at_least("rate", 1, "frames/s", None).ok
    assert at_most("p50", 1e9, "ms", None).ok


def test_the_file_has_the_promised_fields() -> None:
    """build/bench.json is a list of name, value, unit, must and ok."""
    assert msgspec.to_builtins(Figure("a", 1.5, "ms", None, True)) == {
        "name": "a", "value": 1.5, "unit": "ms", "must": None, "ok": True,
    }  # fmt: skip


def test_every_row_has_a_key_of_its_own() -> None:
    """Keys and names are unique, and a row that refers to another comes after it."""
    assert max(Counter(row.key for row in ROWS).values()) == 1
    assert max(Counter(row.name for row in ROWS).values()) == 1
    keys = [row.key for row in ROWS]
    for row in ROWS:
        if isinstance(row, Latency) and row.of is not None:
            assert keys.index(row.of) < keys.index(row.key)


def test_each_bound_is_also_measured_on_a_slow_disk() -> None:
    """The same load runs with five milliseconds added to every fsync, as a figure without a bound."""
    throughput = [row for row in ROWS if isinstance(row, Throughput)]
    quick = [row for row in throughput if row.must is not None and not row.slow_fsync_ms]
    slow = [row for row in throughput if row.slow_fsync_ms]
    assert [(row.shape, row.frames) for row in quick] == [(row.shape, row.frames) for row in slow]
    assert [row.must for row in quick] == [60_000, 1_000_000, 3_000_000]
    assert all(row.slow_fsync_ms == 5.0 and row.must is None for row in slow)
