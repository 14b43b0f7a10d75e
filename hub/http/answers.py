"""The answers of the HTTP API and the bodies of its requests.

These structs are the only definition: the hub encodes and validates with them, the OpenAPI document is made from them,
and the page's TypeScript types are generated from that document. The states of MQTT bridges are in hub.model.bridge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

from hub.model.bridge import BridgeState
from wire import limits
from wire.live import Presence
from wire.model import MetricName, MetricType, Value
from wire.plain import RefusedReading

TimeNs = int
"""Nanoseconds since 1970 UTC; 0 where there is no such time yet."""

DEVICE_SELECTORS = "Device ids; `*` stands for any run of characters."
METRIC_SELECTORS = "Metric names, likewise; all without it."

MAX_TOKEN_LIFE_S = 100 * 366 * 86_400
"""A token that has to live longer needs no expiry."""

MAX_TOKEN_LABEL = 128
"""Characters."""

DEFAULT_OVERLAP_S = 86_400
"""Validity of a token after its rotation: a day to bring the new one to the device."""

MAX_RETIRED = 1_000
"""Devices that an answer lists by id. For more of them it contains only the count."""

Resolution = Literal["raw", "reduced", "minute", "hour"]

Selector = Annotated[str, Meta(min_length=1, max_length=limits.MAX_METRIC_NAME)]


class Page(Struct, kw_only=True):
    """A part of a list, in the order of the list."""

    next: Annotated[str | None, Meta(description="The `cursor` of the next part; null at the end.")]


# The hub, its devices and their readings.


class HubDetails(Struct, frozen=True):
    """The hub, its journal, the caller's role, and the problems that /ready reports."""

    hub: str
    name: str
    version: str
    journal: str
    started_ns: TimeNs
    time_ns: TimeNs
    role: str
    problems: Annotated[Mapping[str, str], Meta(description="By part: what is wrong and what to do.")]
    damage: Annotated[Sequence[str], Meta(description="What the journal has lost or repaired since the hub started.")]
    mqtt: Annotated[bool, Meta(description="Whether the hub has a bridge to an MQTT broker.")]


class StoredReadings(Struct, frozen=True):
    """Readings of a request that are durable, and values that are refused: they are in quarantine."""

    ok: Annotated[int, Meta(description="Readings that are stored.")]
    refused_count: int
    refused: Annotated[Sequence[RefusedReading], Meta(description="Up to 100 of them.")]


class ConnectionRequest(Struct, frozen=True):
    """A WebSocket endpoint to check."""

    path: Annotated[str, Meta(max_length=64, description="`/v1/live`, `/v1/device` or `/v1/plain`.")]
    device: Annotated[
        str,
        Meta(max_length=limits.MAX_DEVICE_ID, description="Device whose readings would be sent; empty: any."),
    ] = ""


class ConnectionCheck(Struct, frozen=True):
    """Answer that a WebSocket endpoint would give to the caller."""

    code: Annotated[str, Meta(description="`ok`, or the reason of the refusal, for programs.")]
    reason: Annotated[str, Meta(description="What is wrong; empty with `ok`.")]
    remedy: Annotated[str, Meta(description="What to do; empty with `ok`.")]


class RefusedClient(Struct, frozen=True):
    """Requests and connections of one client that the hub refused for one reason at one path, since it started."""

    code: Annotated[str, Meta(description="The reason, for programs; a label of `hub_refused_requests` in /metrics.")]
    reason: Annotated[str, Meta(description="What was wrong with the last one; may be empty.")]
    remedy: Annotated[str, Meta(description="What to do.")]
    path: str
    peer: Annotated[str, Meta(description="The address of the client.")]
    count: int
    last_ns: Annotated[TimeNs, Meta(description="When the last one was refused.")]


class RefusalsAnswer(Struct, frozen=True):
    """The clients that were refused lately, the newest first."""

    refusals: Sequence[RefusedClient]


class TimedValue(Struct, frozen=True):
    """A value at a time (nanoseconds since 1970 UTC)."""

    time_ns: TimeNs
    value: Value


class FreshnessDetails(Struct, frozen=True):
    """The reporting of a metric, and whether it is stale. Only a `periodic` one can be: its intervals are regular."""

    reporting: Annotated[
        Literal["learning", "periodic", "on_change"],
        Meta(description="`learning`: too few readings have arrived. `on_change`: the intervals are irregular."),
    ]
    interval_ns: Annotated[int | None, Meta(description="The usual interval of a periodic metric.")]
    stale_after_ns: Annotated[int | None, Meta(description="The age at which a periodic metric is stale.")]
    stale: bool


class MetricDetails(Struct, frozen=True):
    """A metric and its latest reading."""

    metric: str
    type: MetricType
    unit: str
    description: str
    latest: TimedValue | None


class DeviceMetric(MetricDetails, frozen=True, kw_only=True):
    """A metric, its latest reading, and its freshness."""

    freshness: FreshnessDetails


class SourceDetails(Struct, frozen=True):
    """A source of a device, such as a port: whether it works, since when, and the error if it does not."""

    name: str
    ok: bool
    since: TimeNs
    error: str


class DeviceDetails(Struct, frozen=True):
    """A device as the fleet shows it; times are 0 when there is none yet."""

    device: str
    connected: bool
    since: Annotated[TimeNs, Meta(description="When it connected or disconnected.")]
    seen: Annotated[TimeNs, Meta(description="When the hub received its last batch.")]
    epoch: str | None
    acked: int
    backlog: int
    agent: Annotated[str, Meta(description="Its agent, as it named itself last; empty if none has ever connected.")]
    tags: dict[str, str]
    clock_offset_ns: int | None
    clock_error_ns: int | None
    retired: bool
    sources: Annotated[
        Sequence[SourceDetails],
        Meta(description="What its agent reads and whether it works, as it reported last; times by the hub's clock."),
    ]
    source_refused: Annotated[
        int, Meta(description="Lines and values that its sources refused before the spool, as its agent reported.")
    ]
    presence: Annotated[Presence, Meta(description="Its state: see operations.md, States of devices.")]
    presence_since: Annotated[TimeNs, Meta(description="When the state began.")]
    stale: Annotated[Sequence[str], Meta(description="Metrics without a reading for several usual intervals.")]
    metrics: Sequence[DeviceMetric]


class DevicesPage(Page):
    """The fleet."""

    devices: Sequence[DeviceDetails]


class DescribedMetric(MetricDetails, frozen=True, kw_only=True):
    """A metric, its latest reading, and the names and types that it had before."""

    earlier_names: Annotated[Sequence[str], Meta(description="Under these, its readings may still arrive.")]
    earlier_types: Annotated[Sequence[MetricType], Meta(description="Stored readings may have these.")]


class MetricsPage(Page):
    """The metrics of a device."""

    metrics: Sequence[DescribedMetric]


class LatestMetric(MetricDetails, frozen=True, kw_only=True):
    """A metric of a device and its latest reading."""

    device: str


class LatestPage(Page):
    """Latest readings."""

    latest: Sequence[LatestMetric]


class PresenceInterval(Struct, frozen=True):
    """A state that a device had for a time."""

    state: Annotated[
        Literal["connected", "reconnecting", "silent", "offline", "retired", "unconnected", "unknown"],
        Meta(description="`unknown`: the hub was off."),
    ]
    from_ns: TimeNs
    to_ns: Annotated[TimeNs | None, Meta(description="null: until now.")]
    reason: Annotated[str, Meta(description="Why the state began; may be empty.")]


class PresenceTimeline(Struct, frozen=True):
    """The connection timeline of a device, newest first, as far as its last 200 events reach.

    Those of its commands do not count.
    """

    device: str
    intervals: Sequence[PresenceInterval]


class EventDetails(Struct, frozen=True):
    """An event of a device."""

    id: int
    time_ns: TimeNs
    kind: str
    detail: str


class EventsPage(Page):
    """The recent events of a device, newest first."""

    events: Sequence[EventDetails]


class SeriesPoints(Struct, frozen=True):
    """The readings of one series, in order of time."""

    device: str
    metric: str
    type: MetricType
    unit: str
    resolution: Annotated[Resolution, Meta(description="Every reading, or points made of readings, minutes or hours.")]
    time_ns: list[TimeNs]
    values: list[Value]


class HistoryAnswer(Struct, frozen=True):
    """Stored readings. They contain exactly the entries of the journal up to `offset`."""

    offset: int
    series: list[SeriesPoints]


class RetireRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The devices to retire."""

    devices: Annotated[
        list[Selector], Meta(min_length=1, max_length=limits.MAX_SELECTORS, description=DEVICE_SELECTORS)
    ]
    unseen_since_ns: Annotated[
        TimeNs | None, Meta(description="Only devices that have sent nothing since this time. null: all.")
    ] = None
    dry_run: Annotated[bool, Meta(description="Only return the devices that would be retired.")] = False


class RetireResult(Struct, frozen=True):
    """The devices that were retired, or would be."""

    count: int
    devices: Annotated[Sequence[str], Meta(description=f"In order of ids, the first {MAX_RETIRED:,}.")]
    connected: Annotated[int, Meta(description="Of these, connected. They return to service with their next batch.")]


class MetricChangeRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A change of a metric. What is null stays."""

    metric: Annotated[MetricName, Meta(description="Its current name, or an earlier one.")]
    name: Annotated[
        MetricName | None, Meta(description="The new name. Readings that arrive under an old one belong to it, too.")
    ] = None
    type: Annotated[
        MetricType | None, Meta(description="The type of new readings. Stored ones stay readable as they are.")
    ] = None
    unit: Annotated[
        Annotated[str, Meta(max_length=limits.MAX_UNIT)] | None,
        Meta(description="The device's declarations do not change it any more."),
    ] = None
    description: Annotated[
        Annotated[str, Meta(max_length=limits.MAX_DESCRIPTION)] | None, Meta(description="Likewise.")
    ] = None


# The flow: the accounting of every batch and reading.


class JournalDetails(Struct, frozen=True):
    """The range and the size of the journal."""

    id: str
    first_offset: int
    last_offset: int
    size_bytes: int


class ReadingBalance(Struct, frozen=True, kw_only=True):
    """The places of the accepted readings: `accepted` = `stored` + `waiting` + `refused` + `expired` + `damaged`."""

    stored: Annotated[int | None, Meta(description="In the store. null until the store is open.")]
    waiting: Annotated[int | None, Meta(description="In the journal, for the store. null while they are counted.")]
    refused: Annotated[int | None, Meta(description="In quarantine, because the store never takes them.")]
    expired: Annotated[int | None, Meta(description="Deleted from the store by its retention.")]
    difference: Annotated[int | None, Meta(description="`accepted` minus the others: 0 if the accounting balances.")]


class ConsumerDetails(ReadingBalance, frozen=True, kw_only=True):
    """A consumer of the journal: its offset, its lag in entries, and its accounting."""

    name: str
    offset: int
    lag: int


class StoreDetails(Struct, frozen=True):
    """The state of the store: its phase, since when, and the error for which it waits."""

    phase: Literal["opening", "running", "waiting"]
    since_ns: TimeNs
    error: str | None
    missed: Annotated[int, Meta(description="Journal entries deleted before the store got them, since the start.")]


class FlowCounts(ReadingBalance, frozen=True, kw_only=True):
    """Totals since the data directory was created. `accepted`, `moved` and the balance count readings."""

    accepted_batches: int
    accepted: int
    duplicate_batches: int
    quarantined: Annotated[
        int, Meta(description="Readings in quarantine instead of accepted. With `accepted` they are the received ones.")
    ]
    quarantined_batches: Annotated[int, Meta(description="Batches in quarantine, and parts of batches.")]
    lost_batches: int
    moved: int
    damaged: Annotated[int, Meta(description="Accepted readings that the journal's disk lost before they were stored.")]
    repaired_batches: Annotated[int, Meta(description="Batches that the hub had lost and an agent sent again.")]
    source_refused: Annotated[
        int, Meta(description="Lines and values that sources refused before the spool, as their agents reported.")
    ]


class DeviceFlow(FlowCounts, frozen=True, kw_only=True):
    """The accounting of a device: its epoch, its newest acknowledged batch, and its totals."""

    device: str
    epoch: str
    acked: int


class FlowDetails(Struct, frozen=True):
    """The accounting: the place of every batch and reading."""

    journal: JournalDetails
    consumers: list[ConsumerDetails]
    store: StoreDetails
    totals: FlowCounts
    quarantine_dropped: Annotated[int, Meta(description="Batches that left the full quarantine, the oldest first.")]
    dropped_events: Annotated[int, Meta(description="Events lost to a failing disk since the hub started.")]
    bad_messages: Annotated[int, Meta(description="Invalid frames that ended their connection, since the hub started.")]
    devices: list[DeviceFlow]


class AuditedMetric(Struct, frozen=True):
    """The readings of a metric: by the accounting between the first two numbers, and as counted in the store.

    The first two numbers differ only if readings were written or deleted during the count.
    """

    metric: str
    type: MetricType
    stored_least: int
    stored_most: int
    counted: int
    expired: int
    refused: int


class DeviceAudit(DeviceFlow, frozen=True, kw_only=True):
    """The accounting of a device, and what the store contains of it."""

    metrics: list[AuditedMetric]


# The store compared with the journal, and readings that it lost.


class ResendRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The batches to write to the store again: those since a time, or the next part of them."""

    since_ns: Annotated[
        Annotated[int, Meta(ge=0, le=limits.MAX_TIME_NS)] | None,
        Meta(
            description="Batches that arrived or were acknowledged by the store since then. null: all in the journal."
        ),
    ] = None
    after: Annotated[
        Annotated[int, Meta(ge=0, le=limits.MAX_SEQ)] | None,
        Meta(description="The `next` of the part before, with its `up_to`, instead of `since_ns`."),
    ] = None
    up_to: Annotated[int, Meta(ge=0, le=limits.MAX_SEQ)] = limits.MAX_SEQ


class JournalPart(Struct, frozen=True, kw_only=True):
    """A part of the batches that the store has acknowledged and the journal still has."""

    after: Annotated[int, Meta(description="The part begins after this offset.")]
    up_to: Annotated[int, Meta(description="The last offset of all parts: what the store has acknowledged.")]
    next: Annotated[int | None, Meta(description="The `after` of the next part; null at the end.")]
    received_ns: Annotated[TimeNs, Meta(description="When the hub received the first batch of the part.")]
    is_oldest: Annotated[bool, Meta(description="Whether the journal has nothing from before this part.")]
    batches: int
    readings: int
    undecodable: Annotated[int, Meta(description="Batches whose metrics the hub does not know any more.")]


class ResentReadings(JournalPart, frozen=True, kw_only=True):
    """A part of the batches, and what was written to the store again."""

    resent: Annotated[int, Meta(description="Readings that the store lacked, and has now.")]
    refused: Annotated[int, Meta(description="Readings that the store refused again.")]


class LostSeries(Struct, frozen=True):
    """Readings of a series that the store had acknowledged and lacks, with the first and the last of their times."""

    device: str
    metric: str
    readings: int
    first_ns: TimeNs
    last_ns: TimeNs


class MissingInStore(JournalPart, frozen=True, kw_only=True):
    """A part of the batches, and the readings in it that the store lacks, by device and metric."""

    missing: list[LostSeries]
    left_out: Annotated[int, Meta(description="Series that `missing` omits, beyond its bound.")]


# Tokens and sessions.


class TokenRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A token to create: for a device with `device`, for a gateway with `devices` (a pattern), else with neither."""

    role: Literal["device", "gateway", "viewer", "operator", "admin"]
    device: str | None = None
    devices: str | None = None
    label: Annotated[str, Meta(max_length=MAX_TOKEN_LABEL)] = ""
    expires_in_s: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_TOKEN_LIFE_S)] | None,
        Meta(description="Seconds for which it is valid; without it, until it is revoked."),
    ] = None


class CreatedToken(Struct, frozen=True):
    """A created token. Only this answer contains the token itself."""

    id: str
    token: str


class TokenDetails(Struct, frozen=True):
    """A token, without its secret."""

    id: str
    role: str
    pattern: str
    label: str
    created_ns: TimeNs
    last_used_ns: TimeNs | None
    expires_ns: TimeNs | None


class TokenRotation(Struct, frozen=True, forbid_unknown_fields=True):
    """The replacement of a token by a new one with the same rights."""

    overlap_s: Annotated[
        int, Meta(ge=1, le=MAX_TOKEN_LIFE_S, description="Seconds for which the old token stays valid.")
    ] = DEFAULT_OVERLAP_S


class TokenReplacement(Struct, frozen=True):
    """The new token, which only this answer contains, and the time at which the old one ends."""

    id: str
    token: str
    old_expires_ns: TimeNs


class TokensPage(Page):
    """All tokens that are not revoked."""

    tokens: list[TokenDetails]


class SessionDetails(Struct, frozen=True):
    """A signed-in browser: it has the rights of its token."""

    id: str
    token: Annotated[str, Meta(description="The id of its token.")]
    role: str
    label: Annotated[str, Meta(description="That of its token.")]
    created_ns: Annotated[TimeNs, Meta(description="When the browser was signed in.")]
    last_used_ns: Annotated[TimeNs | None, Meta(description="null: not since the hub started.")]
    expires_ns: TimeNs
    current: Annotated[bool, Meta(description="Whether this request comes from that browser.")]


class SessionsPage(Page):
    """All signed-in browsers."""

    sessions: list[SessionDetails]


class SignIn(Struct, frozen=True, forbid_unknown_fields=True):
    """A token to sign in with."""

    token: Annotated[str, Meta(max_length=limits.MAX_TOKEN)]


# Operations and MQTT.


class Readiness(Struct, frozen=True):
    """The readiness of the hub, and by part what prevents its work."""

    ready: bool
    problems: Mapping[str, str]
    warnings: Annotated[Mapping[str, str], Meta(description="Problems that leave the hub ready, by part.")]


class DownloadDetails(Struct, frozen=True):
    """The file from which devices install the agent: a Python wheel of this hub's version."""

    file: str
    path: Annotated[str, Meta(description="Where the hub serves it, for example below `https://hub.example`.")]
    sha256: Annotated[str, Meta(description="In hexadecimal. `pip install URL#sha256=…` checks it.")]
    size_bytes: int
    requires_python: str
    libraries: Annotated[
        int, Meta(description="Files of libraries beside it. With some, pip needs no package index: `--find-links`.")
    ]


class BridgesAnswer(Struct, frozen=True):
    """Every bridge to an MQTT broker, in the order of the settings."""

    time_ns: TimeNs
    bridges: Sequence[BridgeState]


# The files of the store.


class StoreHoldDetails(Struct, frozen=True):
    """A hold on the store: its files have the entries of the journal up to `offset`, and do not change."""

    id: str
    journal: str
    offset: int


class StoreVerification(Struct, frozen=True):
    """A part of the store's own files that was read: rows, and damage."""

    next: Annotated[int | None, Meta(description="The `position` of the next part; null at the end.")]
    verified: Annotated[int, Meta(description="Rows up to the end of this part.")]
    total: Annotated[int, Meta(description="Rows in all parts. With InfluxDB there is none.")]
    problem: Annotated[str | None, Meta(description="What is damaged in this part; null if it is intact.")]
