"""The messages of the live protocol, /v1/live: viewer (dashboard) to hub and hub to viewer, as JSON text frames.

Updates are sent between them in binary frames: see wire.frames.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from wire import limits
from wire.device import Sources
from wire.errors import Code
from wire.model import DeviceId, Epoch, MetricName, MetricType, Offset, TimeNs

SUBPROTOCOL = "telemetry.live.v1"

TOKEN_SUBPROTOCOL = "token."
"""Beginning of an offered subprotocol that is a token: a browser can set no other header of a handshake."""

Policy = Literal["every", "latest"]
"""`every`: each reading, collected for at most period_ms. `latest`: the newest value of each changed series, once per
period."""
Selectors = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=limits.MAX_METRIC_NAME)]],
    Meta(min_length=1, max_length=limits.MAX_SELECTORS),
]
"""Names; `*` matches any characters."""
ResetReason = Literal["other_journal", "too_old", "too_much"]
Presence = Literal["connected", "reconnecting", "silent", "offline", "retired", "unconnected"]
"""State of a device. `reconnecting`: it has disconnected and has time to return. `silent`: it is connected, and every
metric with a usual interval is stale. `unconnected`: no agent of it has ever connected."""
SubscriptionId = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class Cursor(Struct, frozen=True, forbid_unknown_fields=True):
    """Position of a subscription: the journal, and the offset up to which everything was received."""

    journal: Annotated[str, Meta(max_length=64)]
    offset: Offset


class History(Struct, frozen=True, forbid_unknown_fields=True):
    """Requested history: the last `span_ms` milliseconds in at most `points` points per series."""

    span_ms: Annotated[int, Meta(ge=1, le=limits.MAX_HISTORY_SPAN_MS)]
    points: Annotated[int, Meta(ge=2, le=limits.MAX_HISTORY_POINTS)] = 1000


class Authenticate(Struct, frozen=True, forbid_unknown_fields=True, tag="authenticate"):
    """Viewer → hub, first, from clients without the cookie and without an Authorization header."""

    token: Annotated[str, Meta(max_length=limits.MAX_TOKEN)]


class Subscribe(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="subscribe"):
    """Viewer → hub: send the series of these devices and metrics, by this policy.

    With `cursor`, all readings after it are sent first. Without it, or if they are not available any more (then a
    `reset` follows), `history` is sent first. The viewer chooses `id`.
    """

    id: SubscriptionId
    devices: Selectors
    metrics: Selectors
    policy: Policy = "every"
    period_ms: Annotated[int, Meta(ge=limits.MIN_PERIOD_MS, le=limits.MAX_PERIOD_MS)] = 50
    history: History | None = None
    cursor: Cursor | None = None


class Unsubscribe(Struct, frozen=True, forbid_unknown_fields=True, tag="unsubscribe"):
    """Viewer → hub: end the subscription `id`."""

    id: SubscriptionId


class WatchFleet(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="watch_fleet"):
    """Viewer → hub: send the fleet now and every change of a device's state from now on.

    With `progress`, changes are sent together as `devices`, states have their `sources`, and `progress` follows the
    acknowledgements. With `presence`, states have `presence`, `presence_since` and `stale`. Viewers of an older version
    know none of these.
    """

    progress: bool = False
    presence: bool = False


class Ping(Struct, frozen=True, forbid_unknown_fields=True, tag="ping"):
    """Viewer → hub: a ping of the protocol, since browsers cannot see WebSocket pings; the answer repeats `time_ms`."""

    time_ms: float


ViewerMessage = Authenticate | Subscribe | Unsubscribe | WatchFleet | Ping


class Welcome(Struct, frozen=True, forbid_unknown_fields=True, tag="welcome"):
    """Hub → viewer, after authentication: the hub, its journal, the newest offset, the hub's clock."""

    hub: str
    version: str
    journal: str
    offset: Offset
    time: TimeNs
    role: str


class Series(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One (device, metric) of a schema; update frames name it by its position in the list."""

    device: DeviceId
    metric: str
    type: MetricType = "float"
    unit: str = ""
    description: str = ""


class Schema(Struct, frozen=True, forbid_unknown_fields=True, tag="schema"):
    """Hub → viewer: the series of `schema`, from position `first` on; sent once, and again for additions."""

    schema: Annotated[int, Meta(ge=1, le=2**32 - 1)]
    first: Annotated[int, Meta(ge=0)]
    series: list[Series]


class Subscribed(Struct, frozen=True, forbid_unknown_fields=True, tag="subscribed"):
    """Hub → viewer: subscription `id` receives the updates of `schema`.

    `start` says what is sent first: `snapshot` (latest values, then live), `history` (stored points, then live) or
    `cursor` (all missed readings, then live).
    """

    id: SubscriptionId
    schema: Annotated[int, Meta(ge=1, le=2**32 - 1)]
    start: Literal["snapshot", "history", "cursor"]


class CaughtUp(Struct, frozen=True, forbid_unknown_fields=True, tag="caught_up"):
    """Hub → viewer: subscription `id` has received all up to `offset`, and is live from now on."""

    id: SubscriptionId
    offset: Offset


class Reset(Struct, frozen=True, forbid_unknown_fields=True, tag="reset"):
    """Hub → viewer: the cursor of subscription `id` cannot be served; discard its readings, history follows."""

    id: SubscriptionId
    reason: ResetReason


class DeviceState(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="device"):
    """Hub → viewer: a device as the fleet list shows it. Times are 0 when there is none yet.

    `since` is the time of the last connect or disconnect, `seen` the time of the last batch. `clock_offset_ns` is how
    far the device's clock is ahead of the hub's, `clock_error_ns` the error of that. A `retired` device is not part of
    the fleet until it sends again. `sources` has the states of the device's sources, by the hub's clock, and
    `source_refused` counts the lines and values that they refused. `events` counts the events that the device's agent
    reported since the hub started. `presence_since` is when the `presence` began, and `stale` has the metrics without a
    reading for several of their usual intervals.
    """

    device: DeviceId
    connected: bool
    since: TimeNs = 0
    seen: TimeNs = 0
    epoch: Epoch | None = None
    acked: Annotated[int, Meta(ge=0)] = 0
    backlog: Annotated[int, Meta(ge=0)] = 0
    agent: str = ""
    tags: dict[str, str] = {}
    clock_offset_ns: int | None = None
    clock_error_ns: int | None = None
    retired: bool = False
    sources: Sources = []
    source_refused: Annotated[int, Meta(ge=0)] = 0
    events: Annotated[int, Meta(ge=0)] = 0
    presence: Presence | None = None
    presence_since: TimeNs = 0
    stale: list[MetricName] = []


class Fleet(Struct, frozen=True, forbid_unknown_fields=True, tag="fleet"):
    """Hub → viewer: the whole fleet, the answer to watch_fleet."""

    devices: list[DeviceState]


class DeviceStates(Struct, frozen=True, forbid_unknown_fields=True, tag="devices"):
    """Hub → viewer: the states of the devices that changed, to a watcher of progress."""

    devices: list[DeviceState]


class FleetProgress(Struct, frozen=True, forbid_unknown_fields=True, tag="progress"):
    """Hub → viewer: columns with the new `acked`, `backlog` and `seen` of the devices that progressed.

    A device is in it at most once a second.
    """

    devices: list[DeviceId]
    acked: list[Annotated[int, Meta(ge=0)]]
    backlog: list[Annotated[int, Meta(ge=0)]]
    seen: list[TimeNs]


class Pong(Struct, frozen=True, forbid_unknown_fields=True, tag="pong"):
    """Hub → viewer: the answer to a ping."""

    time_ms: float


class Error(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag="error"):
    """Hub → viewer: an error; with `id` it concerns that subscription only and the connection continues."""

    code: Code
    message: str
    id: SubscriptionId | None = None


LiveMessage = (
    Welcome | Schema | Subscribed | CaughtUp | Reset | Fleet | DeviceState | DeviceStates | FleetProgress | Pong | Error
)
