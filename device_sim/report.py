"""The report of a run: what was sent and what became of it. Pure; the JSON of `--json` is exactly these structs.

The schema is stable: fields are added, never renamed; `version` changes when one has to change its meaning.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Settings(msgspec.Struct, frozen=True):
    """What was asked for. A device reads its metrics `rate_hz` times a second; `batch_rows` of these are a batch."""

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


class Devices(msgspec.Struct, frozen=True):
    """`connected` were welcomed at least once, `failed` never; `reconnects` counts later welcomes."""

    connected: int
    failed: int
    reconnects: int


class Amounts(msgspec.Struct, frozen=True):
    """Where things stand in the devices' own books: always sent = acked + waiting + lost.

    `sent` were given to the spools, `acked` acknowledged by the hub, `waiting` are not acknowledged, `lost` left a full
    spool and were declared as a gap.
    """

    sent: int
    acked: int
    waiting: int
    lost: int


class HubBooks(msgspec.Struct, frozen=True):
    """What the hub's own books say of these devices since the run began.

    `accepted` and `stored` are readings; `duplicated` are readings that it stored and had not accepted; the rest are
    batches: `repeated` came again and were not stored again, `quarantined` were put aside with a reason.
    """

    accepted: int
    stored: int
    duplicated: int
    repeated_batches: int
    quarantined_batches: int
    lost_batches: int


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
    """What the simulator itself used: processor time over elapsed time (1.0 is one core), and resident memory."""

    cpu: float
    rss_bytes: int


class Verdict(msgspec.Struct, frozen=True):
    """One assertion and what it came to; `found` is the left side in its own unit, as text."""

    expression: str
    holds: bool
    found: str


class Report(msgspec.Struct, frozen=True):
    """One run. `ack_ms` counts from the time a batch was due to its acknowledgement, `lag_ms` from due to sent.

    `hub` is null when the hub's books could not be read; `problems` says why, and whatever else went wrong.
    """

    started_ns: int
    elapsed_s: float
    settings: Settings
    devices: Devices
    batches: Amounts
    readings: Amounts
    rejected_batches: int
    hub: HubBooks | None
    ack_ms: Distribution
    lag_ms: Distribution
    acked_per_s: float
    generator: Generator
    problems: list[str]
    assertions: list[Verdict] = []
    version: Literal[1] = 1

    @property
    def complete(self) -> bool:
        """Every device connected, every reading is acknowledged, and, where the hub's books are known, stored once."""
        books = self.hub
        kept = self.readings.sent == self.readings.acked and not self.devices.failed
        return kept and (books is None or (books.stored == books.accepted == self.readings.acked))

    @property
    def ok(self) -> bool:
        """Complete, without problems, and every assertion holds."""
        return self.complete and not self.problems and all(verdict.holds for verdict in self.assertions)


def encode_report(report: Report) -> bytes:
    """The report as indented JSON with a final newline."""
    return msgspec.json.format(msgspec.json.encode(report)) + b"\n"


def decode_report(text: bytes) -> Report:
    """The report in JSON. Raises msgspec.DecodeError for anything else."""
    return msgspec.json.decode(text, type=Report)
