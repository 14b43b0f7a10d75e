"""The hub itself: what it is, the flow of the data through it, and its bridges to MQTT brokers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta, Struct

from hub.http import answers, paging
from hub.http.routes.devices import EventsQuery, ReadEvents, events_page
from hub.http.routing import Operation
from hub.http.status import Status
from hub.model.identity import Action, Identity
from wire import limits


class FlowQuery(Struct, frozen=True):
    """The parameters of the flow."""

    limit: Annotated[
        Annotated[int, Meta(ge=0, le=limits.MAX_SEQ)] | None,
        Meta(
            description="At most so many devices: those that do not balance, then those with most waiting. All "
            "without it. The totals are those of all devices in any case."
        ),
    ] = None


@dataclass(frozen=True)
class HubRoutes:
    """The operations about the hub."""

    status: Status
    read_events: ReadEvents

    @Operation("GET", "/api/v1/hub", may=Action.READ_OWN)
    async def hub(self, caller: Identity) -> answers.HubDetails:
        """Return which hub and journal this is, and the caller's role."""
        return self.status.hub(caller.role)

    @Operation("GET", "/api/v1/flow", may=Action.READ_OWN)
    async def flow(self, caller: Identity, query: FlowQuery) -> answers.FlowDetails:
        """Return the accounting: where every batch and reading is. A gateway token sees its own devices."""
        return await self.status.flow(caller, limit=query.limit)

    @Operation("GET", "/api/v1/events", may=Action.READ)
    async def hub_events(self, query: EventsQuery) -> answers.EventsPage:
        """Return recent events of the hub itself, newest first: its starts and stops, and ends without a stop."""
        before = None if query.cursor is None else paging.decode_cursor(query.cursor, "events", int)
        return events_page(await self.read_events(limit=query.limit + 1, before=before), query.limit)

    @Operation("GET", "/api/v1/mqtt", may=Action.READ)
    async def mqtt(self) -> answers.BridgesAnswer:
        """Return how each bridge to an MQTT broker is connected, and its traffic since the hub started."""
        return answers.BridgesAnswer(self.status.devices.clock(), self.status.bridges())
