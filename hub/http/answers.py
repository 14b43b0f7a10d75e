"""The answers of the HTTP API and the bodies of its requests.

These structs are the only definition: the hub encodes and validates with them, the OpenAPI document is made from them,
and the page's TypeScript types are generated from that document. The states of MQTT bridges are in hub.model.bridge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

from formats.rules import DEFAULT_RULES, Rules
from hub.model.bridge import BridgeState
from wire import limits
from wire.model import MetricName, MetricType, Value

TimeNs = int
"""Nanoseconds since 1970 UTC; 0 where there is no such time yet."""

DEVICE_SELECTORS = "Device ids; `*` stands for any run of characters."
METRIC_SELECTORS = "Metric names, likewise; all without it."

MAX_TOKEN_LIFE_S = 100 * 366 * 86_400
"""A token that has to live longer needs no expiry."""

MAX_TOKEN_LABEL = 128
"""Characters."""

MAX_CODE = 64
"""Characters of a reason's code, including the codes of stores."""

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


class ConnectionRequest(Struct, frozen=True):
    """A WebSocket endpoint to check."""

    path: Annotated[str, Meta(max_length=64, description="`/v1/live` or `/v1/device`.")]


class ConnectionCheck(Struct, frozen=True):
    """Answer that a WebSocket endpoint would give to the caller."""

    code: Annotated[str, Meta(description="`ok`, or the reason of the refusal, for programs.")]
    reason: Annotated[str, Meta(description="What is wrong; empty with `ok`.")]
    remedy: Annotated[str, Meta(description="What to do; empty with `ok`.")]


class TimedValue(Struct, frozen=True):
    """A value at a time (nanoseconds since 1970 UTC)."""

    time_ns: TimeNs
    value: Value


class MetricDetails(Struct, frozen=True):
    """A metric and its latest reading."""

    metric: str
    type: MetricType
    unit: str
    description: str
    latest: TimedValue | None


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
    agent: str
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
    metrics: Sequence[MetricDetails]


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


# The quarantine.


class QuarantinedBatch(Struct, frozen=True):
    """A batch that the hub could not accept, or readings that the store refused, and the reason."""

    offset: int
    device: str
    epoch: str
    seq: int
    received_ns: TimeNs
    code: str
    message: str
    format: Literal["json", "msgpack"]
    size_bytes: int


class QuarantinePage(Page):
    """The batches in quarantine, newest first."""

    quarantine: list[QuarantinedBatch]


class QuarantinedValue(Struct, frozen=True):
    """A refused value of a batch or message: its row in the batch and its time, and why it was refused, if known."""

    metric: str
    value: Annotated[str, Meta(description="As it was sent, shortened to 120 characters.")]
    row: Annotated[int | None, Meta(description="Counted from 0.")]
    time_ns: int | None
    reason: str | None


class QuarantinedMessage(QuarantinedBatch, frozen=True, kw_only=True):
    """A batch in quarantine, or a part of one, with its content, and with what a person can do about it."""

    partial: Annotated[
        bool, Meta(description="Only these values are refused; the valid ones of the batch are accepted.")
    ]
    values: Annotated[list[QuarantinedValue], Meta(description="The refused values, the first 100.")]
    readings: Annotated[int, Meta(description="The number of readings or refused lines in it; 0 if it cannot be read.")]
    raw: Annotated[
        str | None, Meta(description="The text that a broker sent, or that a source of the device could not read.")
    ]
    text: Annotated[str, Meta(description="The message as JSON. A `…` stands for omitted content.")]
    shortened: Annotated[bool, Meta(description="Whether something is omitted from `text`.")]
    advice: str


class CodeCount(Struct, frozen=True):
    """The batches in quarantine for one reason."""

    code: str
    entries: int
    devices: int
    size_bytes: int
    oldest_ns: TimeNs
    newest_ns: TimeNs
    advice: str


class DeviceCodeCount(Struct, frozen=True):
    """The batches of one device in quarantine for one reason."""

    code: str
    device: str
    entries: int
    newest_ns: TimeNs


class QuarantineCounts(Struct, frozen=True):
    """The number of batches in quarantine by reason and by device, the largest numbers first."""

    entries: int
    size_bytes: int
    newest: Annotated[int, Meta(description="The newest offset; 0 for none.")]
    dropped: Annotated[int, Meta(description="Batches that ever left the full quarantine, the oldest first.")]
    codes: list[CodeCount]
    devices: list[DeviceCodeCount]
    left_out: Annotated[int, Meta(description="Pairs of device and reason that `devices` omits, beyond its bound.")]


class RetryRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The batches to retry: all that match. Without any field, the whole quarantine."""

    device: Annotated[str, Meta(max_length=limits.MAX_DEVICE_ID)] | None = None
    code: Annotated[str, Meta(max_length=MAX_CODE)] | None = None
    after: Annotated[int, Meta(ge=0, le=limits.MAX_SEQ, description="Only offsets after this one: a `next`.")] = 0
    up_to: Annotated[int, Meta(ge=0, le=limits.MAX_SEQ, description="Only offsets up to this one.")] = limits.MAX_SEQ


class RetriedBatches(Struct, frozen=True):
    """The result of a retry of at most 1,000 batches: repeat it with `after` = `next` until that is null."""

    selected: Annotated[int, Meta(description="Batches that matched and were retried; 0 if there was none.")]
    accepted: int
    readings: Annotated[int, Meta(description="Readings in the accepted batches.")]
    refused: int
    reasons: Annotated[dict[str, int], Meta(description="The number of batches that stay, by the newest code.")]
    next: int | None


class ChangedMetric(Struct, frozen=True):
    """A changed metric, and the retry of the device's batches in quarantine that the change may make acceptable."""

    metric: DescribedMetric
    retried: RetriedBatches


class RetriedBatch(Struct, frozen=True):
    """The result of the retry of one batch; code and message say why it stays."""

    accepted: bool
    readings: int
    code: str | None
    message: str | None


class DeletedCount(Struct, frozen=True):
    """The number of deleted batches."""

    deleted: int


class TrialBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Content to read as every input of the hub would, and the rules; what they leave open is decided by evidence."""

    content: Annotated[str, Meta(description="A text, or bytes in base64, also compressed.")]
    base64: Annotated[bool, Meta(description="The content is in base64.")] = False
    rules: Annotated[Rules, Meta(description="The settings of docs/formats.md.")] = DEFAULT_RULES


class TriedRow(Struct, frozen=True):
    """The readings of one device at one time."""

    line: Annotated[int, Meta(description="Number of the line in the content, from 1.")]
    device: Annotated[str, Meta(description="Empty if the content names none: the input does.")]
    time_ns: Annotated[int | None, Meta(description="null: the time of arrival.")]
    odd_time: Annotated[bool, Meta(description="The time is before 1990 or more than a day ahead.")]
    values: Mapping[str, Value]


class TriedRefusal(Struct, frozen=True):
    """A line or a value that is refused."""

    line: int
    code: str
    reason: str
    metric: Annotated[str, Meta(description="Empty if the whole line is refused.")]
    value: str
    setting: Annotated[str, Meta(description="The setting that changes the decision; empty if there is none.")]
    raw: Annotated[str, Meta(description="The line, up to 4,096 bytes.")]


class TriedMetric(Struct, frozen=True):
    """A metric that the content has."""

    device: str
    metric: str
    type: MetricType
    unit: str
    label: Annotated[str, Meta(description="The name before it was repaired; empty if it was not.")]


class TriedNote(Struct, frozen=True):
    """A rule that decided something."""

    code: str
    sentence: str
    setting: Annotated[str, Meta(description="The line for the settings that fixes the decision; can be empty.")]


class TrialResult(Struct, frozen=True):
    """The way in which content is read. Nothing was stored."""

    container: Annotated[str, Meta(description="gzip or zlib; empty if the content is not compressed.")]
    format: Annotated[str | None, Meta(description="null: no line has a known format.")]
    reason: Annotated[str | None, Meta(description="The evidence for the format.")]
    lines: int
    rows: int
    readings: int
    no_values: Annotated[int, Meta(description="Values that are words such as nan or unavailable: no readings.")]
    odd_times: int
    refused: Annotated[Mapping[str, int], Meta(description="Refusals by code.")]
    first_rows: Annotated[Sequence[TriedRow], Meta(description="Up to 1,000.")]
    refusals: Annotated[Sequence[TriedRefusal], Meta(description="Up to 1,000.")]
    metrics: Sequence[TriedMetric]
    labels: Annotated[Mapping[str, str], Meta(description="Device ids that were repaired, and their names before.")]
    notes: Sequence[TriedNote]
    settings: Annotated[str, Meta(description="The rules with everything that was detected, in TOML.")]
