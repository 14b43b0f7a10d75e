"""Pages of other origins on a real hub: what the API, the WebSockets and the check of a connection answer to them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from tests.end_to_end.hub import Hub, running_hub
from tests.end_to_end.raw_agent import hello
from wire.live import SUBPROTOCOL

PAGE = "http://localhost:5173"
FOREIGN = "http://localhost:5174"


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hub]:
    """Run a hub that allows one other origin."""
    folder = tmp_path_factory.mktemp("origins")
    settings = folder / "hub.toml"
    settings.write_text(f'[access]\nallowed_origins = ["{PAGE}"]\ntrusted_proxies = ["127.0.0.1"]\n')
    async with running_hub(folder / "data", options=("--config", str(settings))) as hub:
        yield hub


async def signed_in(hub: Hub, token: str) -> str:
    """Return the cookie of a browser that has signed in."""
    async with httpx.AsyncClient(base_url=hub.url) as client:
        answer = await client.post("/api/v1/session", json={"token": token})
        assert answer.status_code == 204
        return "; ".join(f"{name}={value}" for name, value in answer.cookies.items())


async def first_message(hub: Hub, *, path: str = "/v1/live", say: Any = None, **how: Any) -> tuple[dict[str, Any], int]:
    """Open a WebSocket, send a message, and return the first answer and the close code, 0 while it is open."""
    subprotocols = how.pop("subprotocols", [SUBPROTOCOL])
    headers = {name: value for name, value in how.items() if value}
    async with connect(
        hub.ws_url + path, subprotocols=subprotocols, additional_headers=headers, proxy=None, compression=None
    ) as socket:
        assert socket.subprotocol is None or not socket.subprotocol.startswith("token.")
        if say is not None:
            await socket.send(json.dumps(say))
        answer: dict[str, Any] = json.loads(await socket.recv())
        if answer["type"] != "error":
            return answer, 0
        try:
            await socket.recv()
        except ConnectionClosed as closed:
            return answer, closed.rcvd.code if closed.rcvd else 1006
        raise AssertionError("open after an error")


async def test_a_page_of_another_origin_reads_the_api_with_a_token(hub: Hub) -> None:
    """The preflight and the answer name its origin; errors do as well, and a page of no allowed origin sees nothing."""
    viewer = await hub.token("viewer")
    token = {"Authorization": f"Bearer {viewer}"}
    async with httpx.AsyncClient(base_url=hub.url) as client:
        preflight = await client.options(
            "/api/v1/hub",
            headers={
                "Origin": PAGE,
                "Access-Control-Request-Method": "GET",
                "Access-Control-Request-Headers": "authorization",
            },
        )
        assert preflight.status_code == 204
        for path, headers, status in (
            ("/api/v1/hub", token, 200),
            ("/api/v1/hub", {}, 401),
            ("/api/v1/tokens", token, 403),
            ("/api/v1/nothing", token, 404),
            ("/api/v1/history?device=x&from=never", token, 422),
            ("/health", {}, 200),
        ):
            answer = await client.get(path, headers={"Origin": PAGE, **headers})
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, PAGE), path
            foreign = await client.get(path, headers={"Origin": FOREIGN, **headers})
            assert (foreign.status_code, "access-control-allow-origin" in foreign.headers) == (status, False), path


@pytest.mark.parametrize("origin", [PAGE, FOREIGN])
async def test_a_token_overrides_the_cookie_on_the_live_endpoint(hub: Hub, origin: str) -> None:
    """A browser that is signed in sends its cookie with the handshake of any page on the host. A token in the first
    message or among the subprotocols counts, from any origin."""
    viewer = await hub.token("viewer")
    cookie = await signed_in(hub, await hub.admin())
    message, _ = await first_message(hub, Cookie=cookie, Origin=origin, subprotocols=[SUBPROTOCOL, f"token.{viewer}"])
    assert (message["type"], message["role"]) == ("welcome", "viewer")
    message, _ = await first_message(hub, Cookie=cookie, Origin=origin, say={"type": "authenticate", "token": viewer})
    # A cookie that counts is welcomed before the token arrives.
    assert (message["type"], message["role"]) == ("welcome", "admin" if origin == PAGE else "viewer")


async def test_the_token_of_the_first_message_replaces_the_cookie_s_identity(hub: Hub) -> None:
    """The connection ends with the token, and a wrong token ends it although the cookie is valid."""
    cookie = await signed_in(hub, await hub.admin())
    viewer = await hub.token("viewer")
    headers = {"Cookie": cookie, "Origin": hub.url}
    async with connect(
        f"{hub.ws_url}/v1/live", subprotocols=[Subprotocol(SUBPROTOCOL)], additional_headers=headers, proxy=None
    ) as socket:
        await socket.send(json.dumps({"type": "authenticate", "token": viewer}))
        await socket.send(json.dumps({"type": "ping", "time_ms": 1}))
        assert [json.loads(await socket.recv())["type"] for _ in range(2)] == ["welcome", "pong"]
        await hub.run("token", "revoke", "--data", str(hub.data), viewer.split("_")[2])
        assert json.loads(await socket.recv())["code"] == "revoked"
    async with connect(
        f"{hub.ws_url}/v1/live", subprotocols=[Subprotocol(SUBPROTOCOL)], additional_headers=headers, proxy=None
    ) as socket:
        await socket.send(json.dumps({"type": "authenticate", "token": "wrong"}))
        assert json.loads(await socket.recv())["type"] == "welcome"
        assert json.loads(await socket.recv())["code"] == "not_authenticated"


async def test_the_cookie_alone_does_not_count_from_another_origin(hub: Hub) -> None:
    """The hub waits for a token, then closes with 4403. The error names both sides and the setting."""
    cookie = await signed_in(hub, await hub.admin())
    message, close = await first_message(hub, Cookie=cookie, Origin=FOREIGN)
    port = hub.url.rpartition(":")[2]
    assert (message["code"], close) == ("not_allowed", 4403)
    assert f"the page comes from {FOREIGN}, and this hub is 127.0.0.1:{port}" in message["message"]
    assert f'add "{FOREIGN}" to access.allowed_origins' in message["message"]
    message, _ = await first_message(hub, Cookie=cookie, Origin=PAGE)
    assert message["type"] == "welcome"
    assert '"reason": "origin_not_allowed"' in hub.log()


async def test_a_page_may_be_an_agent_while_the_browser_is_signed_in(hub: Hub) -> None:
    """The token of the hello, or among the subprotocols, counts before the cookie on the device endpoint, too."""
    cookie = await signed_in(hub, await hub.admin())
    token = await hub.token("device", "--device", "page")
    for how in (
        {"say": hello("page", token=token), "subprotocols": ["telemetry.v1.json"]},
        {"say": hello("page"), "subprotocols": ["telemetry.v1.json", f"token.{token}"]},
    ):
        message, _ = await first_message(hub, path="/v1/device", Cookie=cookie, Origin=FOREIGN, **how)
        assert message["type"] == "welcome", message


@pytest.mark.parametrize("path", ["/v1/live", "/v1/device"])
async def test_a_token_alone_is_no_subprotocol(hub: Hub, path: str) -> None:
    """A browser requires that the hub answers one of the offered subprotocols, and the hub never repeats a token."""
    with pytest.raises(InvalidStatus) as refused:
        await first_message(hub, path=path, subprotocols=[f"token.{await hub.admin()}"])
    assert refused.value.response.status_code == 400
    assert refused.value.response.body is not None
    assert b"spoken here: telemetry." in refused.value.response.body


async def test_a_wrong_token_among_the_subprotocols_is_refused(hub: Hub) -> None:
    """The client may still send another one in its first message; without one the connection ends."""
    wrong = [SUBPROTOCOL, "token.wrong"]
    cookie = await signed_in(hub, await hub.admin())
    message, close = await first_message(hub, Cookie=cookie, Origin=hub.url, subprotocols=wrong)
    assert (message["code"], close) == ("not_authenticated", 4401)
    say = {"type": "authenticate", "token": await hub.token("viewer")}
    message, _ = await first_message(hub, Cookie=cookie, Origin=hub.url, subprotocols=wrong, say=say)
    assert (message["type"], message["role"]) == ("welcome", "viewer")


async def test_the_check_returns_what_the_endpoint_would_answer(hub: Hub) -> None:
    """With the cookie or the token of the caller, its origin and its host."""
    cookie = await signed_in(hub, await hub.admin())
    viewer = await hub.token("viewer")
    bearer = f"Bearer {viewer}"
    async with httpx.AsyncClient(base_url=hub.url) as client:
        for path, headers, code in (
            ("/v1/live", {"Cookie": cookie, "Origin": hub.url}, "ok"),
            ("/v1/live", {"Cookie": cookie, "Origin": PAGE}, "ok"),
            ("/v1/live", {"Cookie": cookie, "Origin": FOREIGN}, "origin_not_allowed"),
            ("/v1/live", {"Authorization": bearer, "Origin": FOREIGN}, "ok"),
            ("/v1/live", {"Cookie": f"{cookie.partition('=')[0]}=old", "Origin": hub.url}, "not_authenticated"),
            ("/v1/live", {}, "not_authenticated"),
            ("/v1/device", {"Authorization": bearer}, "not_allowed"),
        ):
            answer = await client.post("/api/v1/connection-check", json={"path": path}, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (200, code), headers
            assert bool(answer.json()["remedy"]) == (code != "ok")
        other = await client.post("/api/v1/connection-check", json={"path": "/v1/other"})
        assert (other.status_code, "/v1/live" in other.json()["detail"]) == (422, True)
        host = await client.post("/api/v1/connection-check", json={"path": "/v1/live"}, headers={"Host": "hub.lan"})
        assert (host.status_code, '"hub.lan" to access.allowed_hosts' in host.json()["detail"]) == (403, True)


async def test_a_lost_upgrade_belongs_to_the_client_behind_the_proxy(hub: Hub) -> None:
    """All clients of a proxy have its address. The one that a trusted proxy names is distinguished from the others."""
    viewer = {"Authorization": f"Bearer {await hub.token('viewer')}"}
    handshake = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"}
    async with httpx.AsyncClient(base_url=hub.url) as client:
        lost = await client.get("/v1/live", headers={**handshake, "X-Forwarded-For": "203.0.113.7"})
        assert (lost.status_code, lost.headers["upgrade"]) == (426, "websocket")
        codes = []
        for address in ("203.0.113.7", "203.0.113.8"):
            headers = {**viewer, "X-Forwarded-For": address}
            answer = await client.post("/api/v1/connection-check", json={"path": "/v1/live"}, headers=headers)
            codes.append(answer.json()["code"])
    assert codes == ["upgrade_lost", "ok"]
    assert '"peer": "203.0.113.7", "reason": "upgrade_lost"' in hub.log()


async def test_refusals_are_counted_and_never_logged_as_errors(hub: Hub) -> None:
    """The tests before this one have caused them. Every line is one of the hub's own, at level info."""
    async with httpx.AsyncClient(base_url=hub.url) as client:
        await client.get("/health", headers={"Host": "evil.example"})
        metrics = (await client.get("/metrics")).text
    assert 'hub_refused_requests_total{reason="host_not_allowed"} 0.0' not in metrics
    lines = [json.loads(line) for line in hub.log().splitlines()]
    refused = [line for line in lines if line["event"] == "request refused"]
    assert {line["level"] for line in lines} <= {"info"}
    assert all({"path", "peer", "reason", "remedy"} <= set(line) for line in refused)
    assert "host_not_allowed" in {line["reason"] for line in refused}
