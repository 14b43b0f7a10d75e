"""Tests of the bridges to MQTT brokers, and of the hub's own events, as the API returns them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import httpx
import msgspec
import pytest
from starlette.applications import Starlette

from hub.http.access import Access
from hub.http.authenticator import Authenticator
from hub.http.problem import HANDLERS
from hub.http.routes.hub import HubRoutes
from hub.http.routing import routes_of
from hub.model.bridge import BridgeState
from hub.model.event import Event
from hub.model.identity import Identity, Role
from tests.hub.http.routes.bridge_states import BOTH, INBOUND, ONLY_IN, OUTBOUND, WAITING

STOPS = [Event(id, None, 100 * id, "hub stopped", "") for id in (3, 2, 1)]


async def read_events(device: str | None = None, *, limit: int = 100, before: int | None = None) -> list[Event]:
    return [event for event in STOPS if before is None or event.id < before][:limit]


async def request(path: str, bridges: list[BridgeState], role: Role = Role.VIEWER) -> httpx.Response:
    async def refresh() -> None: ...

    access = Access(lambda _: Identity("t", role, ""), lambda _: None)
    status: Any = SimpleNamespace(devices=SimpleNamespace(clock=lambda: 99), bridges=lambda: bridges)
    routes = routes_of(HubRoutes(status, read_events), Authenticator(access, refresh))
    api = Starlette(routes=routes, exception_handlers=HANDLERS)
    transport = httpx.ASGITransport(app=api)
    headers = {"Authorization": "Bearer t"}
    async with httpx.AsyncClient(transport=transport, base_url="http://hub", headers=headers) as client:
        return await client.get(path)


async def request_bridges(bridges: list[BridgeState], role: Role = Role.VIEWER) -> httpx.Response:
    return await request("/api/v1/mqtt", bridges, role)


async def test_the_hub_s_events_come_in_pages_newest_first() -> None:
    """Each page continues with the event after the last one."""
    first = (await request("/api/v1/events?limit=2", [])).json()
    assert [(event["id"], event["kind"]) for event in first["events"]] == [(3, "hub stopped"), (2, "hub stopped")]
    second = (await request(f"/api/v1/events?limit=2&cursor={first['next']}", [])).json()
    assert ([event["id"] for event in second["events"]], second["next"]) == ([1], None)


async def test_the_answer_contains_every_count() -> None:
    """The bridges are in the order of the settings. A direction that a bridge does not have is null."""
    answer = (await request_bridges([BOTH, WAITING, ONLY_IN])).json()
    assert answer["time_ns"] == 99
    assert [
        (b["name"], b["phase"], b["last_error"], b["inward"] is None, b["outward"] is None) for b in answer["bridges"]
    ] == [
        ("plant", "connected", None, False, False),
        ("cabin", "waiting", "it refuses connections", True, False),
        ("field", "connecting", None, False, True),
    ]
    plant = answer["bridges"][0]
    assert (plant["inward"], plant["outward"]) == (msgspec.to_builtins(INBOUND), msgspec.to_builtins(OUTBOUND))
    assert (plant["sparkplug"], answer["bridges"][1]["sparkplug"]) == ({"gap": 3}, None)


async def test_a_hub_without_a_bridge_answers_with_an_empty_list() -> None:
    """A page can ask any hub."""
    assert (await request_bridges([])).json() == {"time_ns": 99, "bridges": []}


@pytest.mark.parametrize("role", [Role.DEVICE, Role.GATEWAY])
async def test_a_token_that_only_writes_may_not_read_the_bridges(role: Role) -> None:
    """The answer is 403."""
    assert (await request_bridges([BOTH], role)).status_code == 403
