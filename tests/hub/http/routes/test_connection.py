"""The check of a WebSocket connection: what an endpoint would answer, and a handshake that lost its upgrade; and the
list of refused clients."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from hub.http.access import SESSION_COOKIE, Access
from hub.http.authenticator import Authenticator
from hub.http.problem import HANDLERS
from hub.http.refusals import RefusalCause, RequestRefusals
from hub.http.routes.connection import UPGRADE_LOST_S, ConnectionRoutes
from hub.http.routing import routes_of
from hub.model.identity import Action, Identity, Role
from wire.errors import Code, WireError

IDENTITIES = {
    "viewer": Identity("v", Role.VIEWER),
    "operator": Identity("o", Role.OPERATOR),
    "device": Identity("d", Role.DEVICE, "pump"),
}
ENDPOINTS = {"/v1/device": Action.WRITE, "/v1/live": Action.READ}
CLIENT = "192.0.2.1"


class CheckedHub:
    """The operation of a hub at http://hub, with a clock of its own."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.refusals = RequestRefusals(lambda: self.now_s)
        self.closing: WireError | None = None
        authenticator = Authenticator(Access(IDENTITIES.get, IDENTITIES.get), self.refresh, self.refusals)
        routes = ConnectionRoutes(authenticator, ENDPOINTS, closing=lambda: self.closing)
        self.api = Starlette(routes=routes_of(routes, authenticator), exception_handlers=HANDLERS)

    async def refresh(self) -> None:
        """Read nothing: there are no other processes."""

    async def check(
        self, path: str = "/v1/live", *, client: str = CLIENT, device: str = "", **headers: str
    ) -> dict[str, Any]:
        """Return the answer to a client with this address."""
        transport = httpx.ASGITransport(app=self.api, client=(client, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://hub") as caller:
            answer = await caller.post(
                "/api/v1/connection-check", json={"path": path, "device": device}, headers=headers
            )
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def lose_upgrade(self, client: str) -> None:
        """Receive a handshake of this client without its upgrade."""
        self.refusals.report(RefusalCause.UPGRADE_LOST, path="/v1/live", peer=client)


VIEWER = {"Authorization": "Bearer viewer"}


@pytest.mark.parametrize(
    ("path", "headers", "code"),
    [
        ("/v1/live", VIEWER, "ok"),
        ("/v1/device", {"Authorization": "Bearer device"}, "ok"),
        ("/v1/live", {"Authorization": "Bearer device"}, "not_allowed"),
        ("/v1/device", VIEWER, "not_allowed"),
        ("/v1/live", {"Authorization": "Bearer other"}, "not_authenticated"),
        ("/v1/live", {}, "not_authenticated"),
        ("/v1/live", {"Cookie": f"{SESSION_COOKIE}=viewer", "Origin": "http://hub"}, "ok"),
        ("/v1/live", {"Cookie": f"{SESSION_COOKIE}=viewer", "Origin": "http://hub:81"}, "origin_not_allowed"),
        ("/v1/live", {"Cookie": f"{SESSION_COOKIE}=viewer"}, "origin_not_allowed"),
    ],
)
async def test_the_answer_is_that_of_the_endpoint(path: str, headers: dict[str, str], code: str) -> None:
    """The same credential, right and origin count. Each refusal has a reason and a remedy."""
    answer = await CheckedHub().check(path, **headers)
    assert answer["code"] == code
    assert bool(answer["reason"]) == bool(answer["remedy"]) == (code != "ok")


async def test_a_token_of_another_device_is_refused_for_the_named_one() -> None:
    """The answer names the device; a token that may write for it is accepted."""
    hub = CheckedHub()
    answer = await hub.check("/v1/device", device="valve", Authorization="Bearer device")
    assert (answer["code"], "'valve'" in answer["reason"]) == ("not_allowed", True)
    assert (await hub.check("/v1/device", device="pump", Authorization="Bearer device"))["code"] == "ok"


async def test_a_lost_upgrade_is_reported_to_its_client_for_a_while() -> None:
    """Only to a caller that the endpoint would accept, since another cause is to be removed first."""
    hub = CheckedHub()
    hub.lose_upgrade(CLIENT)
    answer = await hub.check(**VIEWER)
    assert (answer["code"], "Upgrade" in answer["reason"], "proxy" in answer["remedy"]) == ("upgrade_lost", True, True)
    assert (await hub.check(client="192.0.2.2", **VIEWER))["code"] == "ok"
    assert (await hub.check())["code"] == "not_authenticated"
    hub.now_s = UPGRADE_LOST_S + 1
    assert (await hub.check(**VIEWER))["code"] == "ok"


async def test_a_hub_that_stops_says_so_to_everyone() -> None:
    """It ends every new connection, whatever its credential."""
    hub = CheckedHub()
    hub.closing = WireError(Code.SHUTTING_DOWN, "the hub is shutting down")
    for headers in ({}, VIEWER):
        answer = await hub.check(**headers)
        assert (answer["code"], answer["reason"]) == ("shutting_down", "the hub is shutting down")


async def test_too_many_failures_are_a_reason_of_their_own() -> None:
    """The check itself does not wait for them to be forgotten."""
    hub = CheckedHub()
    authenticator_failures = [await hub.check(Authorization="Bearer wrong") for _ in range(5)]
    assert {answer["code"] for answer in authenticator_failures} == {"not_authenticated"}
    assert hub.refusals.counts[RefusalCause.NOT_AUTHENTICATED] == 5


async def test_refused_clients_are_listed_for_those_who_can_help() -> None:
    """An operator sees whom the hub refused, why, and what to do. A viewer does not: the list has addresses."""
    hub = CheckedHub()
    hub.refusals.report(RefusalCause.NOT_AUTHENTICATED, path="/v1/device", peer=CLIENT, detail="the token is not valid")
    transport = httpx.ASGITransport(app=hub.api, client=(CLIENT, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://hub") as caller:
        answer = await caller.get("/api/v1/refusals", headers={"Authorization": "Bearer operator"})
        assert answer.status_code == 200, answer.text
        (refused,) = answer.json()["refusals"]
        assert (refused["code"], refused["reason"]) == ("not_authenticated", "the token is not valid")
        assert (refused["path"], refused["peer"], refused["count"]) == ("/v1/device", CLIENT, 1)
        assert refused["remedy"].startswith("create a token")
        assert (await caller.get("/api/v1/refusals", headers=VIEWER)).status_code == 403
