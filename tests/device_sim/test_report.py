from __future__ import annotations

import msgspec
import pytest

from device_sim.report import Amounts, AssertionResult, DeviceCounts, HubCounts, decode_report, encode_report
from tests.device_sim.reports import GOOD, a_report


def test_a_report_round_trips_as_json() -> None:
    """A report is equal after writing and reading, and ends with a line break."""
    text = encode_report(GOOD)
    assert decode_report(text) == GOOD
    assert text.endswith(b"}\n")


def test_the_schema_is_stable() -> None:
    """Scripts rely on these names; a change here is a new version of the schema."""
    assert list(msgspec.to_builtins(GOOD)) == [
        "started_ns", "elapsed_s", "settings", "devices", "batches", "readings", "rejected_batches", "hub", "ack_ms",
        "lag_ms", "acked_per_s", "generator", "problems", "assertions", "rejected_readings", "version",
    ]  # fmt: skip
    nested = {name: list(value) for name, value in msgspec.to_builtins(GOOD).items() if isinstance(value, dict)}
    assert nested == {
        "settings": [
            "hub", "devices", "rate_hz", "duration_s", "ramp_up_s", "batch_rows", "seed", "profiles", "prefix",
            "past_s",
        ],
        "devices": ["connected", "failed", "reconnects"],
        "batches": ["sent", "acked", "waiting", "lost"],
        "readings": ["sent", "acked", "waiting", "lost"],
        "hub": [
            "accepted", "stored", "duplicated", "repeated_batches", "quarantined_batches", "lost_batches",
            "quarantined",
        ],
        "ack_ms": ["count", "mean", "p50", "p90", "p95", "p99", "p999", "max"],
        "lag_ms": ["count", "mean", "p50", "p90", "p95", "p99", "p999", "max"],
        "generator": ["cpu", "rss_bytes"],
    }  # fmt: skip


def test_a_good_run_is_ok() -> None:
    """All connected, all acknowledged, all stored once."""
    assert GOOD.ok
    assert a_report(hub=None).ok


@pytest.mark.parametrize(
    "changes",
    [
        {"readings": Amounts(sent=1200, acked=1199, waiting=0, lost=1)},
        {"readings": Amounts(sent=1200, acked=1199, waiting=1, lost=0)},
        {"devices": DeviceCounts(connected=19, failed=1, reconnects=0)},
        {"hub": HubCounts(1200, 1199, 0, 0, 0, 0)},
        {"hub": HubCounts(1200, 1201, 1, 0, 0, 0)},
        {"hub": HubCounts(1100, 1100, 0, 0, 0, 0)},
        {"problems": ["the disk is on fire"]},
        {"assertions": [AssertionResult("lost==0", True, "0"), AssertionResult("sent>9999", False, "1,200")]},
    ],
)
def test_a_run_that_lost_something_is_not_ok(changes: dict[str, object]) -> None:
    """Each thing that may go wrong is enough by itself."""
    assert not a_report(**changes).ok
