"""Reports for tests, as a run would make them."""

from __future__ import annotations

import msgspec

from device_sim.report import Amounts, DeviceCounts, Distribution, Generator, HubCounts, Report, RunSettings

GOOD = Report(
    started_ns=1_800_000_000_000_000_000,
    elapsed_s=10.0,
    settings=RunSettings("http://127.0.0.1:8600", 20, 1.0, 10.0, 0.0, 1, 1, ["pump"], ""),
    devices=DeviceCounts(connected=20, failed=0, reconnects=0),
    batches=Amounts(sent=200, acked=200, waiting=0, lost=0),
    readings=Amounts(sent=1200, acked=1200, waiting=0, lost=0),
    rejected_batches=0,
    hub=HubCounts(1200, 1200, 0, 3, 0, 0),
    ack_ms=Distribution(200, 2.0, 1.5, 3.0, 4.0, 8.0, 9.5, 10.25),
    lag_ms=Distribution(200, 0.2, 0.1, 0.3, 0.4, 0.8, 0.9, 1.0),
    acked_per_s=120.0,
    generator=Generator(cpu=0.25, rss_bytes=60_000_000),
    problems=[],
)


def a_report(**changes: object) -> Report:
    """The good report with some fields changed."""
    return msgspec.structs.replace(GOOD, **changes)
