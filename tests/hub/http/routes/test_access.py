"""The operations about access requests, on a real registry: what a stranger, an agent and an operator may do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from starlette.applications import Starlette

from hub.http.access import Access
from hub.http.access_requests import INTERVAL_S, LIFETIME_S, MAX_WAITING_OF_CLIENT, AccessRequests
from hub.http.attempts import CLOSE_FROM
from hub.http.authenticator import Authenticator
from hub.http.problem import HANDLERS
from hub.http.routes.access import AccessRoutes
from hub.http.routing import routes_of
from hub.model.identity import Role
from hub.registry.registry import Registry

NOW_NS = 1_800_000_000 * 1_000_000_000
PATH = "/api/v1/access-requests"


@dataclass
class Clock:
    """A monotonic clock that the test sets."""

    now_s: float = 1_000.0


class Api(NamedTuple):
    """A registry, the requests for access, and a client."""

    registry: Registry
    requests: AccessRequests
    clock: Clock
    client: httpx.AsyncClient
    operator: str

    async def ask(self, device: str = "boiler") -> dict[str, Any]:
        answer = await self.client.post(PATH, json={"device": device, "program": "agent/1"})
        assert answer.status_code == 201, answer.text
        asked: dict[str, Any] = answer.json()
        return asked

    async def poll(self, secret: str) -> dict[str, Any]:
        """Poll when the interval is over."""
        self.clock.now_s += INTERVAL_S
        decision: dict[str, Any] = (await self.client.post(f"{PATH}/poll", json={"secret": secret})).json()
        return decision

    async def decide(self, code: str, decision: str = "approve", token: str | None = None) -> int:
        headers = {"Authorization": f"Bearer {token or self.operator}"}
        return (await self.client.post(f"{PATH}/{code}/{decision}", headers=headers)).status_code

    async def waiting(self) -> list[dict[str, Any]]:
        answer = await self.client.get(PATH, headers={"Authorization": f"Bearer {self.operator}"})
        waiting: list[dict[str, Any]] = answer.json()["requests"]
        return waiting


@asynccontextmanager
async def running(path: Path, public_url: str | None = None) -> AsyncIterator[Api]:
    async with Registry(path / "registry.db", clock=lambda: NOW_NS) as registry:
        authenticator = Authenticator(Access(registry.verify, registry.verify_session), registry.refresh)
        requests, clock = AccessRequests(), Clock()
        resource = AccessRoutes(
            registry,
            authenticator,
            now_ns=lambda: NOW_NS,
            public_url=public_url,
            requests=requests,
            now_s=lambda: clock.now_s,
        )
        application = Starlette(routes=routes_of(resource, authenticator), exception_handlers=HANDLERS)
        operator = (await registry.create_token(Role.OPERATOR)).text
        transport = httpx.ASGITransport(app=application)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8600") as client:
            yield Api(registry, requests, clock, client, operator)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running(tmp_path) as opened:
        yield opened


async def test_an_approved_request_receives_a_token_of_its_device(api: Api) -> None:
    """The operator sees the request and not the secret. The token writes as this device only. Events name the operator,
    the device and the code, and nothing more than the digest of the token is kept."""
    asked = await api.ask()
    assert asked["page"] == "http://localhost:8600/access"
    (shown,) = await api.waiting()
    assert (shown["code"], shown["device"], shown["program"]) == (asked["code"], "boiler", "agent/1")
    assert (shown["is_known"], shown["tokens"]) == (False, 0)
    assert asked["secret"] not in str(shown)
    assert await api.poll(asked["secret"]) == {"state": "waiting", "interval_s": asked["interval_s"], "token": None}
    assert await api.decide(asked["code"]) == 204
    assert await api.waiting() == []
    token = (await api.poll(asked["secret"]))["token"]
    identity = api.registry.verify(token)
    assert identity is not None
    assert (identity.may_write("boiler"), identity.may_write("other")) == (True, False)
    events = {event.kind: event.detail for event in reversed(await api.registry.events(of_hub=True))}
    operator = api.registry.verify(api.operator)
    assert operator is not None
    assert (
        events["access_approved"] == f"boiler (agent/1) {asked['code']} from 127.0.0.1 by operator {operator.token_id}"
    )
    assert events["token_created"].startswith(f"device boiler {identity.token_id} access request")


async def test_a_token_that_is_collected_twice_is_revoked(api: Api) -> None:
    """Its answer was lost, or somebody else has the secret: the agent has to ask again."""
    asked = await api.ask()
    await api.decide(asked["code"])
    token = (await api.poll(asked["secret"]))["token"]
    assert (await api.poll(asked["secret"]))["state"] == "expired"
    assert api.registry.verify(token) is None
    assert "access_revoked" in {event.kind for event in await api.registry.events(of_hub=True)}


async def test_a_token_that_cannot_be_created_is_collected_later(api: Api) -> None:
    """The request stays approved until the registry can write again."""
    asked = await api.ask()
    await api.decide(asked["code"])
    await api.registry._thread.write(lambda connection: connection.pragma("query_only", True))
    refused = await api.poll(asked["secret"])
    assert (refused["code"], refused["detail"].startswith("no token was created: ")) == ("unavailable", True)
    await api.registry._thread.read(lambda connection: connection.pragma("query_only", False))
    assert api.registry.verify((await api.poll(asked["secret"]))["token"]) is not None


async def test_a_refused_request_ends(api: Api) -> None:
    """The agent learns it once; the decision cannot be changed."""
    asked = await api.ask()
    assert await api.decide(asked["code"].replace("-", "").lower(), "refuse") == 204
    assert await api.decide(asked["code"]) == 404
    assert (await api.poll(asked["secret"]))["state"] == "refused"
    assert (await api.poll(asked["secret"]))["state"] == "expired"


async def test_only_operators_and_admins_decide(api: Api) -> None:
    """The code grants nothing: neither without a token, nor to a viewer, a gateway or a device."""
    asked = await api.ask()
    for role, pattern in ((Role.VIEWER, ""), (Role.GATEWAY, "*"), (Role.DEVICE, "boiler")):
        token = (await api.registry.create_token(role, pattern=pattern)).text
        assert await api.decide(asked["code"], token=token) == 403
        assert (await api.client.get(PATH, headers={"Authorization": f"Bearer {token}"})).status_code == 403
    assert (await api.client.post(f"{PATH}/{asked['code']}/approve")).status_code == 401
    assert (await api.client.get(PATH)).status_code == 401
    assert (await api.poll(asked["code"]))["state"] == "expired"
    await api.registry.create_token(Role.DEVICE, pattern="boiler", expires_ns=NOW_NS)  # it has expired
    api.clock.now_s += 7
    (shown,) = await api.waiting()
    assert (shown["tokens"], shown["age_s"], shown["expires_in_s"]) == (1, 10.0, LIFETIME_S - 10)
    admin = (await api.registry.create_token(Role.ADMIN)).text
    assert await api.decide(asked["code"], token=admin) == 204


async def test_a_stranger_is_bounded(api: Api) -> None:
    """Above the bound of an address the answer is 429 with the time to wait. Nothing was written to the registry."""
    before = await api.registry.events(of_hub=True)
    for number in range(MAX_WAITING_OF_CLIENT):
        await api.ask(f"d{number}")
    answer = await api.client.post(PATH, json={"device": "one-more"})
    assert (answer.status_code, answer.json()["code"]) == (429, "busy")
    assert 0 < int(answer.headers["Retry-After"]) <= 600
    assert len(await api.waiting()) == MAX_WAITING_OF_CLIENT
    assert await api.registry.events(of_hub=True) == before


@pytest.mark.parametrize(
    "body",
    [{}, {"device": ".."}, {"device": "a b"}, {"device": "a", "program": "\x1b[31m"}, {"device": "a", "role": "x"}],
)
async def test_an_invalid_question_is_refused(api: Api, body: dict[str, str]) -> None:
    """A name that no device can have, or a program that could control a terminal."""
    assert (await api.client.post(PATH, json=body)).status_code == 422
    assert len(api.requests) == 0


async def test_guesses_are_slowed_down(api: Api) -> None:
    """Unknown secrets count as failures to authenticate: after 20 of them the address only gets 429."""
    body = {"secret": "x" * 43}
    guesses = {asyncio.create_task(api.client.post(f"{PATH}/poll", json=body)) for _ in range(CLOSE_FROM + 2)}
    statuses = set()
    try:
        for answer in asyncio.as_completed(guesses):
            statuses.add((await answer).status_code)
            if statuses == {200, 429}:
                break
    finally:
        for guess in guesses:
            guess.cancel()
        await asyncio.gather(*guesses, return_exceptions=True)
    assert statuses == {200, 429}


async def test_the_page_has_the_public_address(tmp_path: Path) -> None:
    """With `public_url`, whatever address the agent uses."""
    async with running(tmp_path, "https://hub.example/telemetry/") as api:
        assert (await api.ask())["page"] == "https://hub.example/telemetry/access"
