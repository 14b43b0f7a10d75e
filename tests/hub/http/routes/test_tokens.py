"""The operations about tokens and sessions, on a real registry: who may create what, and how a browser signs in."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from starlette.applications import Starlette

from hub.http.access import SESSION_COOKIE, Access
from hub.http.attempts import MAX_SIGN_IN_BURST
from hub.http.authenticator import Authenticator
from hub.http.problem import HANDLERS
from hub.http.routes.tokens import TokenRoutes
from hub.http.routing import routes_of
from hub.model.identity import Identity, Role
from hub.registry.database import FILE_NAME
from hub.registry.registry import Registry
from hub.registry.token import MAX_SESSIONS_OF_TOKEN
from wire.timestamp import NS_PER_S

NOW_NS = 1_800_000_000 * 1_000_000_000
ORIGIN = {"Origin": "http://127.0.0.1:8600"}


class Api(NamedTuple):
    """A registry, and clients of the API over it."""

    registry: Registry
    application: Starlette
    admin: str

    async def call(
        self, method: str, path: str, *, token: str | None = None, cookie: str | None = None, body: Any = None
    ) -> httpx.Response:
        headers = {"Origin": "http://localhost"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if cookie is not None:
            headers["Cookie"] = f"{SESSION_COOKIE}={cookie}"
        transport = httpx.ASGITransport(app=self.application)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
            return await client.request(method, path, json=body)

    async def create(self, **body: Any) -> httpx.Response:
        return await self.call("POST", "/api/v1/tokens", token=self.admin, body=body)

    async def tokens(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.call("GET", "/api/v1/tokens", token=self.admin)).json()["tokens"]
        return found


@asynccontextmanager
async def running(path: Path, clock: Callable[[], int] = lambda: NOW_NS) -> AsyncIterator[Api]:
    async with Registry(path / "registry.db", clock=clock) as registry:
        access = Access(registry.verify, registry.verify_session)
        authenticator = Authenticator(access, registry.refresh)
        routes = routes_of(TokenRoutes(registry, authenticator, now_ns=lambda: NOW_NS), authenticator)
        admin = (await registry.create_token(Role.ADMIN)).text
        yield Api(registry, Starlette(routes=routes, exception_handlers=HANDLERS), admin)


def cookie_of(answer: httpx.Response) -> str:
    """Return the value of the session cookie that an answer sets."""
    match = re.match(
        rf"{SESSION_COOKIE}=([^;]*); Path=/; Max-Age=(\d+); HttpOnly; SameSite=Lax", answer.headers["set-cookie"]
    )
    assert match is not None
    assert (match[1] == "") == (match[2] == "0")
    return match[1]


@pytest.mark.parametrize(
    ("body", "pattern"),
    [
        ({"role": "device", "device": "pump-7"}, "pump-7"),
        ({"role": "gateway", "devices": "pump-*"}, "pump-*"),
        ({"role": "viewer", "label": "the wall"}, ""),
        ({"role": "admin"}, ""),
    ],
)
async def test_a_created_token_works_and_only_the_answer_contains_it(
    tmp_path: Path, body: dict[str, str], pattern: str
) -> None:
    """The list shows everything else of it."""
    async with running(tmp_path) as api:
        answer = await api.create(**body)
        created = answer.json()
        assert answer.status_code == 201
        assert api.registry.verify(created["token"]) == Identity(
            created["id"], Role(body["role"]), pattern, label=body.get("label", "")
        )
        listed = next(token for token in await api.tokens() if token["id"] == created["id"])
        assert (listed["role"], listed["pattern"], listed["label"], listed["expires_ns"]) == (
            body["role"], pattern, body.get("label", ""), None
        )  # fmt: skip
        assert created["token"] not in str(listed)


async def test_a_token_expires_after_its_time(tmp_path: Path) -> None:
    """Counted from now, in whole seconds."""
    async with running(tmp_path) as api:
        await api.create(role="viewer", expires_in_s=60)
        (expires_ns,) = [token["expires_ns"] for token in await api.tokens() if token["role"] == "viewer"]
        assert expires_ns == NOW_NS + 60 * 1_000_000_000


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"role": "viewer", "device": "pump"}, "device: a token of role viewer takes none; device is for role device"),
        ({"role": "device", "devices": "*"}, "devices: a token of role device takes none"),
        ({"role": "gateway", "device": "a"}, "device: a token of role gateway takes none"),
        ({"role": "device"}, "needs a device id"),
        ({"role": "device", "device": "a b"}, "needs a device id"),
        ({"role": "gateway"}, "needs a pattern"),
        ({"role": "king"}, "body.role"),
        ({"role": "viewer", "expires_in_s": 0}, "body.expires_in_s"),
        ({"role": "viewer", "expire": 5}, "body.expire"),
    ],
)
async def test_a_token_that_makes_no_sense_is_not_created(tmp_path: Path, body: dict[str, Any], says: str) -> None:
    """The sentence names what is wrong."""
    async with running(tmp_path) as api:
        answer = await api.create(**body)
        assert (answer.status_code, answer.json()["code"]) == (422, "wrong_request")
        assert says in answer.json()["detail"]
        assert len(await api.tokens()) == 1


async def test_tokens_come_in_pages_in_the_order_of_their_creation(tmp_path: Path) -> None:
    """Each once, although all have the same time."""
    async with running(tmp_path) as api:
        made = [(await api.create(role="viewer")).json()["id"] for _ in range(4)]
        found: list[str] = []
        path = "/api/v1/tokens?limit=2"
        while path:
            answer = (await api.call("GET", path, token=api.admin)).json()
            found += [token["id"] for token in answer["tokens"]]
            path = answer["next"] and f"/api/v1/tokens?limit=2&cursor={answer['next']}"
        assert len(found) == len(set(found)) == 5
        assert set(made) < set(found)


async def test_a_revoked_token_is_gone(tmp_path: Path) -> None:
    """A second time, and for an unknown one, the answer is 404."""
    async with running(tmp_path) as api:
        created = (await api.create(role="viewer")).json()
        path = f"/api/v1/tokens/{created['id']}"
        assert (await api.call("DELETE", path, token=api.admin)).status_code == 204
        assert api.registry.verify(created["token"]) is None
        answer = await api.call("DELETE", path, token=api.admin)
        assert (answer.status_code, answer.json()["detail"]) == (404, f"there is no token {created['id']}")


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
async def test_only_an_admin_manages_tokens(tmp_path: Path, role: Role) -> None:
    """Another role gets 403 and no credential 401, for every operation."""
    async with running(tmp_path) as api:
        token = (await api.registry.create_token(role)).text
        for method, path, body in (
            ("GET", "/api/v1/tokens", None),
            ("POST", "/api/v1/tokens", {"role": "admin"}),
            ("DELETE", "/api/v1/tokens/x", None),
        ):
            assert (await api.call(method, path, token=token, body=body)).status_code == 403
            assert (await api.call(method, path, body=body)).status_code == 401
        assert len(await api.tokens()) == 2


async def test_a_browser_signs_in_with_a_token_and_out_again(tmp_path: Path) -> None:
    """The cookie has the rights of the token, spaces around it do not matter, and signing out ends the session."""
    async with running(tmp_path) as api:
        answer = await api.call("POST", "/api/v1/session", body={"token": f" {api.admin}\n"})
        assert answer.status_code == 204
        cookie = cookie_of(answer)
        assert (await api.call("GET", "/api/v1/tokens", cookie=cookie)).status_code == 200
        answer = await api.call("DELETE", "/api/v1/session", cookie=cookie)
        assert (answer.status_code, cookie_of(answer)) == (204, "")
        assert (await api.call("GET", "/api/v1/tokens", cookie=cookie)).status_code == 401


async def test_signing_out_with_a_token_ends_no_session(tmp_path: Path) -> None:
    """A program may call it; the browser's cookie is deleted in any case."""
    async with running(tmp_path) as api:
        cookie = cookie_of(await api.call("POST", "/api/v1/session", body={"token": api.admin}))
        answer = await api.call("DELETE", "/api/v1/session", token=api.admin, cookie=cookie)
        assert (answer.status_code, cookie_of(answer)) == (204, "")
        assert (await api.call("GET", "/api/v1/tokens", cookie=cookie)).status_code == 200
        assert (await api.call("DELETE", "/api/v1/session")).status_code == 204


@pytest.mark.parametrize(("role", "pattern"), [(Role.DEVICE, "pump"), (Role.GATEWAY, "*")])
async def test_a_token_that_only_writes_opens_no_session(tmp_path: Path, role: Role, pattern: str) -> None:
    """The page would show nothing with it; the sentence says what it needs."""
    async with running(tmp_path) as api:
        token = (await api.registry.create_token(role, pattern=pattern)).text
        answer = await api.call("POST", "/api/v1/session", body={"token": token})
        assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed")
        assert "set-cookie" not in answer.headers


async def test_sign_ins_of_a_token_end_only_its_own_sessions(tmp_path: Path) -> None:
    """They have a rate, and neither other browsers nor one-time URLs are affected."""
    async with running(tmp_path, count(NOW_NS).__next__) as api:
        admin = cookie_of(await api.call("POST", "/api/v1/session", body={"token": api.admin}))
        viewers = [await api.registry.create_token(Role.VIEWER) for _ in range(2)]
        owner = api.registry.verify(api.admin)
        assert owner is not None
        code = await api.registry.create_login_code(owner.token_id)
        for _ in range(MAX_SESSIONS_OF_TOKEN):
            await api.registry.open_session(viewers[0].token.id)
        attempts = [viewer.text for viewer in viewers for _ in range(2 * MAX_SIGN_IN_BURST)]
        answers = await asyncio.gather(
            *(api.call("POST", "/api/v1/session", body={"token": token}) for token in attempts)
        )
        refused = [answer for answer in answers if answer.status_code != 204]
        # The buckets leak while the requests run.
        assert MAX_SIGN_IN_BURST < len(refused) <= 2 * MAX_SIGN_IN_BURST
        assert {(answer.status_code, answer.json()["code"]) for answer in refused} == {(429, "busy")}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        sessions = (await api.call("GET", "/api/v1/sessions?limit=1000", token=api.admin)).json()["sessions"]
        opened = Counter(session["token"] for session in sessions)
        assert opened[viewers[0].token.id] == MAX_SESSIONS_OF_TOKEN
        assert opened[owner.token_id] == 1
        assert (await api.call("GET", "/api/v1/tokens", cookie=admin)).status_code == 200
        assert (await api.call("GET", f"/open/{code}")).status_code == 303


async def test_an_unknown_token_opens_no_session(tmp_path: Path) -> None:
    """The answer is 401."""
    async with running(tmp_path) as api:
        answer = await api.call("POST", "/api/v1/session", body={"token": "thub_unknown"})
        assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)


async def test_a_one_time_url_signs_in_once(tmp_path: Path) -> None:
    """It leads to the page, and a second use says how to get another."""
    async with running(tmp_path) as api:
        admin = (await api.registry.create_token(Role.ADMIN)).token.id
        path = f"/open/{await api.registry.create_login_code(admin)}"
        answer = await api.call("GET", path)
        assert answer.status_code == 303
        assert answer.headers["cache-control"] == "no-store"
        assert (await api.call("GET", "/api/v1/tokens", cookie=cookie_of(answer))).status_code == 200
        answer = await api.call("GET", path)
        assert (answer.status_code, "`hub token url` prints a new one" in answer.text) == (403, True)
        assert "set-cookie" not in answer.headers


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    async with Registry(tmp_path / FILE_NAME, clock=lambda: NOW_NS) as registry:
        yield registry


def client_of(registry: Registry, *, token: str | None = None, cookie: str | None = None) -> httpx.AsyncClient:
    access = Access(registry.verify, registry.verify_session)
    authenticator = Authenticator(access, registry.refresh)
    routes = routes_of(TokenRoutes(registry, authenticator, now_ns=lambda: NOW_NS), authenticator)
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=Starlette(routes=routes, exception_handlers=HANDLERS)),
        base_url="http://127.0.0.1:8600",
        headers={} if token is None else {"Authorization": f"Bearer {token}"},
        cookies={} if cookie is None else {SESSION_COOKIE: cookie},
    )


async def sign_in(registry: Registry, token_id: str) -> str:
    """Return the cookie of a new session."""
    login = await registry.redeem(await registry.create_login_code(token_id))
    assert login is not None
    return login.value


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.ADMIN])
async def test_only_an_admin_sees_and_ends_sessions(registry: Registry, role: Role) -> None:
    """The answer to any other role is 403, and nothing ends."""
    pattern = "boiler" if role is Role.DEVICE else "*" if role is Role.GATEWAY else ""
    admin, other = await registry.ensure_admin(), await registry.create_token(role, pattern=pattern)
    cookie = await sign_in(registry, admin.token_id)
    (session,) = registry.sessions()
    async with client_of(registry, token=other.text) as client:
        assert (await client.get("/api/v1/sessions")).status_code == 403
        assert (await client.delete(f"/api/v1/sessions/{session.id}")).status_code == 403
        assert (await client.get("/api/v1/tokens")).status_code == 403
    assert registry.verify_session(cookie) is not None


async def test_the_list_names_token_and_times_of_each_browser(registry: Registry) -> None:
    """The oldest is first. The browser that asks is marked; one that has made no request since the start has no use."""
    admin = await registry.ensure_admin()
    viewer = await registry.create_token(Role.VIEWER, label="wall")
    (mine, _) = (await sign_in(registry, admin.token_id), await sign_in(registry, viewer.token.id))
    async with client_of(registry, cookie=mine) as client:
        listed = (await client.get("/api/v1/sessions")).json()
    assert listed["next"] is None
    by_token = {session["token"]: session for session in listed["sessions"]}
    assert (by_token[admin.token_id]["current"], by_token[viewer.token.id]["current"]) == (True, False)
    assert (by_token[viewer.token.id]["role"], by_token[viewer.token.id]["label"]) == ("viewer", "wall")
    assert by_token[admin.token_id]["last_used_ns"] == NOW_NS
    assert by_token[viewer.token.id]["created_ns"] == NOW_NS
    assert by_token[viewer.token.id]["expires_ns"] == NOW_NS + 30 * 86_400 * NS_PER_S
    assert mine not in str(listed)


async def test_an_admin_signs_one_browser_out(registry: Registry) -> None:
    """Its cookie is invalid at once, that of another browser with the same token stays valid."""
    admin = await registry.ensure_admin()
    mine = await sign_in(registry, admin.token_id)
    async with client_of(registry, cookie=mine) as client:
        other = await sign_in(registry, admin.token_id)
        listed = (await client.get("/api/v1/sessions")).json()["sessions"]
        (id,) = (session["id"] for session in listed if not session["current"])
        assert (await client.delete(f"/api/v1/sessions/{id}")).status_code == 403  # a request without its origin
        assert (await client.delete(f"/api/v1/sessions/{id}", headers=ORIGIN)).status_code == 204
        assert registry.verify_session(other) is None
        assert registry.verify_session(mine) is not None
        unknown = await client.delete(f"/api/v1/sessions/{id}", headers=ORIGIN)
        assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")


async def test_an_old_url_leads_a_browser_to_a_page_and_gives_a_program_a_problem(registry: Registry) -> None:
    """The first opening signs any client in; afterwards the kind of answer follows the Accept header."""
    admin = await registry.ensure_admin()
    code = await registry.create_login_code(admin.token_id)
    page = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    async with client_of(registry) as client:
        first = await client.get(f"/open/{code}", headers=page)
        assert (first.status_code, first.headers["location"]) == (303, "/")
        assert "set-cookie" in first.headers
        again = await client.get(f"/open/{code}", headers=page)
        assert (again.status_code, again.headers["location"]) == (303, "/sign-in")
        assert "set-cookie" not in again.headers
        for headers in ({}, {"Accept": "application/json"}):
            program = await client.get(f"/open/{code}", headers=headers)
            assert program.status_code == 403
            assert program.headers["content-type"] == "application/problem+json"
            assert "hub token url" in program.json()["detail"]
