"""The devices: the fleet, metrics and latest readings, events, the audit of the store, and retirement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from operator import attrgetter
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta, Struct

from hub.http import answers, paging
from hub.http.answers import DEVICE_SELECTORS, METRIC_SELECTORS
from hub.http.paging import PageQuery, select_page
from hub.http.problem import RETRY_AFTER, Refusal
from hub.http.routing import Operation
from hub.http.status import Status
from hub.live.selection import matches, selection
from hub.live.timeline import presence_timeline
from hub.model.batch import Series
from hub.model.event import Event
from hub.model.identity import Action, Identity
from hub.model.store import ReadingCounts, Store, StoreError
from wire.limits import MAX_DEVICE_ID, MAX_TIME_NS

MAX_EVENT_PAGE = 200
"""Events in one answer."""

KEPT_EVENTS = 600
"""All events that the registry keeps of a device: 400 of its commands, and 200 others."""

NO_READINGS = ReadingCounts(0, 0)

DeviceName = Annotated[str, Meta(max_length=MAX_DEVICE_ID)]


class ReadEvents(Protocol):
    """Reads the newest events of a device, those before the event `before`."""

    async def __call__(
        self, device: str | None = None, *, limit: int = 100, before: int | None = None
    ) -> Sequence[Event]: ...


class ReadHubEvents(Protocol):
    """Reads the newest events of the hub itself."""

    async def __call__(self, *, limit: int = 100) -> Sequence[Event]: ...


class RetireDevices(Protocol):
    """Takes devices out of service."""

    def choose(self, selectors: Sequence[str], unseen_since_ns: int | None) -> tuple[Sequence[str], int]:
        """Return the ids of these devices, and how many of them are connected."""

    async def retire(self, devices: Sequence[str]) -> None: ...


class EventsQuery(Struct, frozen=True):
    """The parameters of a device's events."""

    limit: Annotated[int, Meta(ge=1, le=MAX_EVENT_PAGE, description=paging.LIMIT)] = 100
    cursor: paging.Cursor = None


def events_page(found: Sequence[Event], limit: int) -> answers.EventsPage:
    """Return a page of at most `limit` of these events, of which one more was read."""
    events, following = paging.end_page([*found], attrgetter("id"), list_name="events", limit=limit)
    return answers.EventsPage(
        events=[answers.EventDetails(event.id, event.time_ns, event.kind, event.detail) for event in events],
        next=following,
    )


class DevicesQuery(PageQuery, frozen=True):
    """The parameters of the list of devices."""

    retired: Annotated[bool, Meta(description="Return the retired devices instead of those in service.")] = False


class LatestQuery(PageQuery, frozen=True):
    """The parameters of the latest readings."""

    device: Annotated[list[str] | None, Meta(description=f"{DEVICE_SELECTORS} All without it.")] = None
    metric: Annotated[list[str] | None, Meta(description=METRIC_SELECTORS)] = None


@dataclass(frozen=True)
class DeviceRoutes:
    """The operations about devices. `series` returns every series that the hub knows."""

    status: Status
    store: Store
    series: Callable[[], Iterable[Series]]
    read_events: ReadEvents
    read_hub_events: ReadHubEvents
    retirement: RetireDevices

    @Operation("GET", "/api/v1/devices", may=Action.READ)
    async def devices(self, query: DevicesQuery) -> answers.DevicesPage:
        """Return the fleet in order of ids: every device in service, or every retired one, with its state, metrics and
        latest values."""
        listed = self.status.device_ids(retired=query.retired)
        list_name = "retired" if query.retired else "devices"
        ids, following = select_page(listed, str, query, list_name=list_name, kind=str)
        devices = [device for device in map(self.status.device, ids) if device is not None]
        return answers.DevicesPage(devices=devices, next=following)

    @Operation("GET", "/api/v1/devices/{device}", may=Action.READ)
    async def device(self, device: DeviceName) -> answers.DeviceDetails:
        """Return one device."""
        return self._known(device)

    @Operation("GET", "/api/v1/devices/{device}/events", may=Action.READ)
    async def events(self, device: DeviceName, query: EventsQuery) -> answers.EventsPage:
        """Return a device's recent events, newest first."""
        self._known(device)
        before = None if query.cursor is None else paging.decode_cursor(query.cursor, "events", int)
        found = [*await self.read_events(device, limit=query.limit + 1, before=before)]
        return events_page(found, query.limit)

    @Operation("GET", "/api/v1/devices/{device}/presence", may=Action.READ)
    async def presence(self, device: DeviceName) -> answers.PresenceTimeline:
        """Return a device's connection timeline: the states that it had, newest first."""
        self._known(device)
        known = self.status.devices.device(device)
        events = await self.read_events(device, limit=KEPT_EVENTS)
        of_hub = await self.read_hub_events(limit=MAX_EVENT_PAGE)
        spans = presence_timeline(events, of_hub, known.presence)
        return answers.PresenceTimeline(device, [answers.PresenceInterval(*span) for span in spans])

    @Operation("GET", "/api/v1/latest", may=Action.READ)
    async def latest(self, query: LatestQuery) -> answers.LatestPage:
        """Return the latest reading of each metric of these devices, as far as they are in service, in order of devices
        and metrics."""
        in_service = set(self.status.device_ids())
        chosen = filter(matches(selection(query.device or ["*"], query.metric or ["*"])), self.series())
        page, following = select_page(
            (series for series in chosen if series.device in in_service),
            attrgetter("device", "metric"),
            query,
            list_name="latest",
            kind=tuple[str, str],
        )
        latest = [
            answers.LatestMetric(device=series.device, **msgspec.structs.asdict(self.status.metric(series)))
            for series in page
        ]
        return answers.LatestPage(latest=latest, next=following)

    @Operation("GET", "/api/v1/devices/{device}/audit", may=Action.READ, errors=(503,))
    async def audit(self, caller: Identity, device: DeviceName) -> answers.DeviceAudit:
        """Return a device's accounting, and for each metric the number of stored readings by the accounting and as
        counted in the store, reading by reading. To count a hundred million readings takes some seconds."""
        self._known(device)
        series = sorted((known for known in self.series() if known.device == device), key=attrgetter("metric"))
        try:
            before = await self.store.counts()
            counted = await _count(self.store, series)
            after = await self.store.counts()
        except StoreError as error:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, str(error), RETRY_AFTER) from None
        metrics = []
        for known in series:
            was, now = before.get(known.id, NO_READINGS), after.get(known.id, NO_READINGS)
            # The count may or may not contain what was written and deleted during it.
            least, most = sorted((was.stored, now.stored))
            metrics.append(
                answers.AuditedMetric(
                    known.metric, known.type, least, most, counted[known.id], now.expired, now.refused
                )
            )
        flow = await self.status.flow(caller)
        accounting = next(found for found in flow.devices if found.device == device)
        return answers.DeviceAudit(**msgspec.structs.asdict(accounting), metrics=metrics)

    @Operation("POST", "/api/v1/devices/retire", may=Action.OPERATE, errors=(503,))
    async def retire(self, body: answers.RetireRequest) -> answers.RetireResult:
        """Take devices out of service: they leave the fleet, the latest values and Home Assistant. Their history and
        their accounting stay. A device that sends again returns to service."""
        chosen, connected = self.retirement.choose(body.devices, body.unseen_since_ns)
        if not body.dry_run:
            await self.retirement.retire(chosen)
        return answers.RetireResult(len(chosen), chosen[: answers.MAX_RETIRED], connected)

    def _known(self, device_id: str) -> answers.DeviceDetails:
        device = self.status.device(device_id)
        if device is None:
            raise Refusal(HTTPStatus.NOT_FOUND, f"there is no device {device_id}")
        return device


async def _count(store: Store, series: Sequence[Series]) -> Counter[int]:
    counted: Counter[int] = Counter()
    async with aclosing(store.scan(series, 0, MAX_TIME_NS + 1)) as pieces:
        async for piece in pieces:
            counted[piece.series.id] += len(piece.times_ns)
    return counted
