"""The report of a run. Pure; the JSON of `--json` is exactly these structs.

The schema is stable: fields are added and never renamed; `version` changes when the meaning of a field changes.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class RunSettings(msgspec.Struct, frozen=True):
    """The options of the run. A device reads its metrics `rate_hz` times a second, `batch_rows` rows in a batch."""

    hub: str
    devices: int
    rate_hz: float
    duration_s: float | None
    ramp_up_s: float
    batch_rows: int
    seed: int
    profiles: list[str]
    prefix: str
    past_s: float = 0.0


class DeviceCounts(msgspec.Struct, frozen=True):
    """`connected` were welcomed at least once, `failed` never; `reconnects` counts later welcomes."""

    connected: int
    failed: int
    reconnects: int


class Amounts(msgspec.Struct, frozen=True):
    """Counts of the devices: always sent = acked + waiting + lost.

    `sent` were stored in the spools, `acked` acknowledged by the hub, `waiting` are not acknowledged, `lost` left a
    full spool and were declared as a gap.
    """

    sent: int
    acked: int
    waiting: int
    lost: int


class HubCounts(msgspec.Struct, frozen=True):
    """Counts of the hub for these devices since the run began.

    `accepted` and `stored` are readings; `duplicated` are readings stored without being accepted, `quarantined` were
    received and not accepted. The rest are batches: `repeated` arrived more than once and were stored once,
    `quarantined` were rejected with a reason, as a whole or in part.
    """

    accepted: int
    stored: int
    duplicated: int
    repeated_batches: int
    quarantined_batches: int
    lost_batches: int
    quarantined: int = 0


class Distribution(msgspec.Struct, frozen=True):
    """Durations in milliseconds; all 0 when `count` is 0. `p999` is the 99.9th percentile."""

    count: int = 0
    mean: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    max: float = 0.0


class Generator(msgspec.Struct, frozen=True):
    """Resources of the simulator: processor time over elapsed time (1.0 is one core), and resident memory."""

    cpu: float
    rss_bytes: int


class AssertionResult(msgspec.Struct, frozen=True):
    """The result of one assertion; `found` is the left side in its unit, as text."""

    expression: str
    holds: bool
    found: str


class Report(msgspec.Struct, frozen=True):
    """One run. `ack_ms` counts from the time a batch was due to its acknowledgement, `lag_ms` from due to sent.

    `hub` is null if the hub's counts could not be read; `problems` has the reason and all other problems.
    """

    started_ns: int
    elapsed_s: float
    settings: RunSettings
    devices: DeviceCounts
    batches: Amounts
    readings: Amounts
    rejected_batches: int
    hub: HubCounts | None
    ack_ms: Distribution
    lag_ms: Distribution
    acked_per_s: float
    generator: Generator
    problems: list[str]
    assertions: list[AssertionResult] = []
    rejected_readings: int = 0
    version: Literal[1] = 1

    @property
    def complete(self) -> bool:
        """True if every device connected and every reading is acknowledged and (by the hub's counts) stored once."""
        counts = self.hub
        kept = self.readings.sent == self.readings.acked and not self.devices.failed
        return kept and (counts is None or (counts.stored == counts.accepted == self.readings.acked))

    @property
    def ok(self) -> bool:
        """True if the run is complete, without problems, and every assertion holds."""
        return self.complete and not self.problems and all(result.holds for result in self.assertions)


def encode_report(report: Report) -> bytes:
    """Return the report as indented JSON with a final newline."""
    return msgspec.json.format(msgspec.json.encode(report)) + b"\n"


def decode_report(text: bytes) -> Report:
    """Parse a report. Raises msgspec.DecodeError."""
    return msgspec.json.decode(text, type=Report)
