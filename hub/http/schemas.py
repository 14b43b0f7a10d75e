"""The shapes of the HTTP API's answers, for its OpenAPI description; the answers themselves are encoded by msgspec."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

TimeNs = int
MetricType = Literal["float", "integer", "boolean", "string"]

MAX_TOKEN_LIFE_S = 100 * 366 * 86_400
"""A token that is to live for longer has no expiry."""


class Problem(BaseModel):
    """What went wrong and what to do (RFC 9457)."""

    type: str = Field(description="`urn:telemetry-hub:problem:` and the code.")
    title: str = Field(description="The status in words.")
    status: int
    detail: str = Field(description="What is wrong with this request, and what to do.")
    code: str = Field(description="What went wrong, for programs; its meaning never changes.")


class Hub(BaseModel):
    """Which hub and journal this is, the caller's role, and what is in the way of the hub's work, as /ready has it."""

    hub: str
    name: str
    version: str
    journal: str
    started_ns: TimeNs
    time_ns: TimeNs
    role: str
    problems: dict[str, str]
    mqtt: bool = Field(description="Whether it has a bridge to an MQTT broker.")


class Reading(BaseModel):
    """A value at a time (nanoseconds since 1970 UTC)."""

    time_ns: TimeNs
    value: float | int | bool | str


class Metric(BaseModel):
    """A metric and its latest reading."""

    metric: str
    type: MetricType
    unit: str
    description: str
    latest: Reading | None


class Device(BaseModel):
    """A device as the fleet shows it; times are 0 when there is none yet."""

    device: str
    connected: bool
    since: TimeNs
    seen: TimeNs
    epoch: str | None
    acked: int
    backlog: int
    agent: str
    tags: dict[str, str]
    clock_offset_ns: int | None
    clock_error_ns: int | None
    retired: bool
    metrics: list[Metric]


class Page(BaseModel):
    """A part of a list, in the list's order."""

    next: str | None = Field(description="Given back as `cursor`, it gets the part that follows; null at the end.")


class Devices(Page):
    """The fleet."""

    devices: list[Device]


class Metrics(Page):
    """A device's metrics."""

    metrics: list[Metric]


class LatestReading(Metric):
    """A metric of a device and its latest reading."""

    device: str


class Latest(Page):
    """Latest readings."""

    latest: list[LatestReading]


class Event(BaseModel):
    """Something that happened to a device."""

    id: int
    time_ns: TimeNs
    kind: str
    detail: str


class Events(Page):
    """A device's recent events, newest first."""

    events: list[Event]


class SeriesHistory(BaseModel):
    """The readings of one series, in order of time."""

    device: str
    metric: str
    type: MetricType
    unit: str
    resolution: Literal["raw", "reduced", "minute", "hour"] = Field(
        description="Every reading there is, or points made of readings, of minutes or of hours."
    )
    time_ns: list[TimeNs]
    values: list[float | int | bool | str]


class History(BaseModel):
    """Stored readings; they hold exactly what the journal has up to `offset`."""

    offset: int
    series: list[SeriesHistory]


class JournalState(BaseModel):
    """Where the journal stands."""

    id: str
    first_offset: int
    last_offset: int
    size_bytes: int


class Balance(BaseModel):
    """What became of the accepted readings: `accepted` = `stored` + `waiting` + `refused` + `expired`."""

    stored: int | None = Field(description="In the store. null while it has not been open since the start")
    waiting: int | None = Field(description="In the journal, for the store. null while they are being counted")
    refused: int | None = Field(description="In quarantine, since the store will never take them")
    expired: int | None = Field(description="Deleted from the store when they were old enough")
    difference: int | None = Field(
        description="`accepted` less the other four: 0 where the books balance. null while one of them is not known"
    )


class ConsumerState(Balance):
    """How far a consumer of the journal has come, and its books. `lag` counts the entries it has still to do."""

    name: str
    offset: int
    lag: int


class StoreState(BaseModel):
    """Where the store stands: its phase, since when, what is the matter while it waits."""

    phase: Literal["opening", "running", "waiting"]
    since_ns: TimeNs
    error: str | None
    missed: int = Field(
        description="Journal entries that were deleted before the store got them, since the hub started: only where "
        "the journal or the store was put back from a copy."
    )


class Counts(Balance):
    """Totals since the data directory was made. `accepted`, `moved` and the balance count readings."""

    accepted_batches: int
    accepted: int
    duplicate_batches: int
    quarantined_batches: int
    lost_batches: int
    moved: int


class DeviceFlow(Counts):
    """A device's books: its epoch, what is acknowledged of it, and its totals."""

    device: str
    epoch: str
    acked: int


class Flow(BaseModel):
    """Where every batch and reading is."""

    journal: JournalState
    consumers: list[ConsumerState]
    store: StoreState
    totals: Counts
    quarantine_dropped: int = Field(description="Batches that left the quarantine at its bound, the oldest first.")
    dropped_events: int = Field(description="Events lost to a disk that refused them, since the hub started.")
    bad_messages: int = Field(
        description="Frames that were no message of the device protocol and ended their connection, since the hub "
        "started. A batch that is wrong in itself is in quarantine instead."
    )
    devices: list[DeviceFlow]


class AuditedMetric(BaseModel):
    """A metric's readings: by the books between the two numbers, of which the second is another one only where
    readings were written or deleted meanwhile; and as counted in the store."""

    metric: str
    type: MetricType
    stored_least: int
    stored_most: int
    counted: int
    expired: int
    refused: int


class Audit(DeviceFlow):
    """A device's books beside what the store has of it."""

    metrics: list[AuditedMetric]


class NewToken(BaseModel):
    """A token to make: a device's with `device`, a gateway's with `devices` (a pattern), others with neither."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["device", "gateway", "viewer", "operator", "admin"]
    device: str | None = None
    devices: str | None = None
    label: str = Field(default="", max_length=128)
    expires_in_s: int | None = Field(
        default=None, ge=1, le=MAX_TOKEN_LIFE_S, description="Seconds that it is valid for; without it, until revoked."
    )


class MadeToken(BaseModel):
    """A token that was made; `token` is told this once and never again."""

    id: str
    token: str


class Token(BaseModel):
    """A token, without its secret."""

    id: str
    role: str
    pattern: str
    label: str
    created_ns: TimeNs
    last_used_ns: TimeNs | None
    expires_ns: TimeNs | None


class Tokens(Page):
    """All tokens that are not revoked."""

    tokens: list[Token]


class SignIn(BaseModel):
    """A token to sign in with."""

    model_config = ConfigDict(extra="forbid")

    token: str = Field(max_length=256)


class Readiness(BaseModel):
    """Whether the hub can do its work, and what is in the way, by part."""

    ready: bool
    problems: dict[str, str]
    warnings: dict[str, str] = Field(
        description="What is the matter beside that, by part: a broker that is away leaves the hub ready."
    )


class BridgeInward(BaseModel):
    """What came from a broker since the hub started."""

    received: int = Field(description="Messages: those below, and those that are just being taken in.")
    taken: int = Field(description="Messages whose readings are durable.")
    undecodable: int = Field(description="Messages that are in quarantine, with their topics and payloads.")
    retained: int = Field(description="Messages older than the subscription, which are no new readings.")
    own: int = Field(description="Messages that this hub had published itself.")
    copies: int = Field(description="Messages that came once more, by another subscription that takes their topic.")
    accepted: int = Field(description="Readings that are durable.")
    duplicates: int = Field(description="Readings that were there already: the broker sent them again.")


class BridgeOutward(BaseModel):
    """What went to a broker since the hub started, and how far the bridge has come in the journal."""

    published: int = Field(description="Messages given to the connection.")
    acknowledged: int = Field(description="Messages that the broker acknowledged, or the socket at QoS 0.")
    in_flight: int = Field(description="Messages that wait for that now.")
    passed_over: int = Field(description="Journal entries that no template is for.")
    offset: int
    lag: int = Field(description="Journal entries that it has still to do.")
    too_large: int = Field(description="Messages passed over: larger than the broker's packets.")
    refused: int = Field(description="Messages passed over: the broker refused them.")
    missed: int = Field(description="Journal entries that were deleted, or cannot be decoded, before they went out.")


class Bridge(BaseModel):
    """A bridge to an MQTT broker. `inward` is null where it subscribes to nothing, `outward` where it publishes
    nothing."""

    name: str
    address: str
    version: str = Field(description="MQTT's version that was agreed: `5` or `3.1.1`; empty before the first time.")
    phase: Literal["connecting", "connected", "waiting"]
    since_ns: TimeNs
    last_error: str | None = Field(description="What is the matter, and what to do; null while all is well.")
    inward: BridgeInward | None
    outward: BridgeOutward | None
    sparkplug: dict[str, int] | None = Field(
        description="Of a Sparkplug host application: what was late, asked for again or left out, by reason."
    )


class Bridges(BaseModel):
    """Every bridge to an MQTT broker, in the order of the settings."""

    time_ns: TimeNs
    bridges: list[Bridge]
