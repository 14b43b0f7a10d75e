"""The endpoint of dashboards on real sockets: who may watch, and how a connection ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from hub.app.services import HubServices
from hub.http.access import COOKIE_ID, SESSION_COOKIE
from hub.live import outbox
from hub.model.identity import Role
from tests.conditions import until
from tests.hub.http.opened_hub import connected, listening, new_token, opened_hub, read_to_end, send_batches
from wire import device, limits
from wire import live as messages
from wire.codec import LIVE_MESSAGES, VIEWER_MESSAGES

Hub = tuple[HubServices, str]


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hub]:
    """Run one hub for all tests here: none of them changes what another one sees."""
    async with opened_hub(tmp_path_factory.mktemp("hub")) as services, listening(services) as url:
        yield services, f"{url}/v1/live"


async def send(connection: ClientConnection, message: messages.ViewerMessage) -> None:
    await connection.send(VIEWER_MESSAGES.encode(message), text=True)


async def receive(connection: ClientConnection) -> messages.LiveMessage:
    frame = await connection.recv()
    assert isinstance(frame, str)
    return LIVE_MESSAGES.decode(frame)


async def end_of(connection: ClientConnection) -> tuple[str, int]:
    """Return the code of the error and of the close."""
    frames, close_code = await read_to_end(connection)
    error = msgspec.json.decode(frames[-1])
    assert error["type"] == "error"
    return error["code"], close_code


async def cookie(services: HubServices, role: Role) -> str:
    """Create a browser session of a new token."""
    made = await services.registry.create_token(role)
    session = await services.registry.redeem(await services.registry.create_login_code(made.token.id))
    assert session is not None
    return f"{SESSION_COOKIE}_{services.registry.id[:COOKIE_ID]}={session.value}"


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR, Role.ADMIN])
async def test_a_token_in_the_headers_or_in_the_first_message_opens_the_session(hub: Hub, role: Role) -> None:
    """The welcome names the hub, the journal and the role."""
    services, url = hub
    token = await new_token(services, role)
    async with connected(url, token=token) as by_header, connected(url) as by_message:
        await send(by_message, messages.Authenticate(token))
        for connection in (by_header, by_message):
            welcome = await receive(connection)
            assert isinstance(welcome, messages.Welcome)
            assert (welcome.hub, welcome.journal, welcome.role) == (
                services.registry.id, services.journal.id, role
            )  # fmt: skip


async def test_a_browser_is_admitted_by_its_cookie_from_the_hubs_own_page_only(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From another site's page the cookie does not count: it needs a token, or is closed."""
    services, url = hub
    origin = url.replace("ws://", "http://").removesuffix("/v1/live")
    headers = {"Cookie": await cookie(services, Role.VIEWER)}
    async with connected(url, origin=origin) as stranger:
        await send(stranger, messages.Ping(1))
        assert await end_of(stranger) == ("unexpected_message", 4400)
    async with connected(url, headers=headers, origin=origin) as own:
        assert isinstance(await receive(own), messages.Welcome)
    async with connected(url, headers=headers, origin="http://evil.example") as foreign:
        await send(foreign, messages.Authenticate(await new_token(services, Role.OPERATOR)))
        welcome = await receive(foreign)
        assert isinstance(welcome, messages.Welcome)
        assert welcome.role == Role.OPERATOR
    monkeypatch.setattr(limits, "AUTHENTICATION_SECONDS", 0.3)
    async with connected(url, headers=headers, origin="http://evil.example") as foreign:
        assert await end_of(foreign) == ("not_allowed", 4403)


@pytest.mark.parametrize("role", [Role.DEVICE, Role.GATEWAY])
async def test_a_token_that_only_writes_may_not_watch(hub: Hub, role: Role) -> None:
    """In the headers or in a message."""
    services, url = hub
    token = await new_token(services, role, "pump")
    async with connected(url, token=token) as by_header, connected(url) as by_message:
        await send(by_message, messages.Authenticate(token))
        assert await end_of(by_header) == ("not_allowed", 4403)
        assert await end_of(by_message) == ("not_allowed", 4403)


async def test_an_unknown_token_closes_the_connection(hub: Hub) -> None:
    """In a message at once. With one in the headers the upgrade succeeds, so that a page can send another."""
    services, url = hub
    async with connected(url) as connection:
        await send(connection, messages.Authenticate("thub_unknown"))
        assert await end_of(connection) == ("not_authenticated", 4401)
    async with connected(url, token="thub_unknown") as connection:
        await send(connection, messages.Authenticate(await new_token(services, Role.VIEWER)))
        assert isinstance(await receive(connection), messages.Welcome)


async def test_a_connection_that_does_not_authenticate_is_closed(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """After AUTHENTICATION_SECONDS; one that did stays open."""
    monkeypatch.setattr(limits, "AUTHENTICATION_SECONDS", 0.3)
    services, url = hub
    async with connected(url, token=await new_token(services, Role.VIEWER)) as viewer, connected(url) as other:
        await send(other, messages.Authenticate(await new_token(services, Role.VIEWER)))
        async with connected(url) as silent:
            assert await end_of(silent) == ("not_authenticated", 4401)
        for connection in (viewer, other):
            assert isinstance(await receive(connection), messages.Welcome)
            await send(connection, messages.Ping(5))
            assert await receive(connection) == messages.Pong(5)


async def test_the_subprotocol_is_confirmed_if_it_is_offered(hub: Hub) -> None:
    """Another one alone is rejected with 400, and the answer names the right one."""
    services, url = hub
    token = await new_token(services, Role.VIEWER)
    async with connected(url, token=token, subprotocols=[Subprotocol(messages.SUBPROTOCOL)]) as connection:
        assert connection.subprotocol == messages.SUBPROTOCOL
    with pytest.raises(InvalidStatus) as error:
        async with connected(url, token=token, subprotocols=[Subprotocol("telemetry.v1.json")]):
            pass
    assert error.value.response.status_code == 400
    assert messages.SUBPROTOCOL.encode() in error.value.response.body


@pytest.mark.parametrize(
    ("frame", "code", "close_code"),
    [
        (b"\x00", "wrong_frame", 4400),
        ("{}", "bad_message", 4400),
        (f'{{"type":"ping","time_ms":1}}{" " * limits.MAX_LIVE_MESSAGE_BYTES}', "too_large", 1009),
        ("é" * (limits.MAX_LIVE_MESSAGE_BYTES // 2 + 1), "too_large", 1009),
    ],
)
async def test_a_frame_that_is_no_message_ends_the_connection(
    hub: Hub, frame: str | bytes, code: str, close_code: int
) -> None:
    """The dashboard can read why. The size counts in bytes."""
    services, url = hub
    async with connected(url, token=await new_token(services, Role.VIEWER)) as connection:
        await connection.send(frame)
        assert await end_of(connection) == (code, close_code)
        await until(lambda: len(services.connections) == 0)


async def test_the_longest_message_is_accepted(hub: Hub) -> None:
    """Exactly MAX_LIVE_MESSAGE_BYTES."""
    services, url = hub
    async with connected(url, token=await new_token(services, Role.VIEWER)) as connection:
        ping = '{"type":"ping","time_ms":7}'
        await connection.send(ping.ljust(limits.MAX_LIVE_MESSAGE_BYTES))
        await receive(connection)
        assert await receive(connection) == messages.Pong(7)


async def test_a_revoked_token_ends_its_connections(hub: Hub) -> None:
    """Also one that authenticated with a message; the others stay."""
    services, url = hub
    revoked = await services.registry.create_token(Role.VIEWER)
    async with connected(url, token=revoked.text) as first, connected(url) as second:
        await send(second, messages.Authenticate(revoked.text))
        async with connected(url, token=await new_token(services, Role.VIEWER)) as stays:
            for connection in (first, second, stays):
                await receive(connection)
            services.connections.revoke({revoked.token.id})
            assert await end_of(first) == ("revoked", 4401)
            assert await end_of(second) == ("revoked", 4401)
            await send(stays, messages.Ping(5))
            assert await receive(stays) == messages.Pong(5)


async def test_a_dashboard_that_does_not_read_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When more control frames wait for it than its outbox holds; its subscriptions and tasks end with it."""
    monkeypatch.setattr(outbox, "MAX_CONTROL_FRAMES", 50)
    async with opened_hub(tmp_path) as services, listening(services, send_buffer=4096) as url:
        token = await new_token(services, Role.VIEWER)
        async with connected(f"{url}/v1/live", token=token, receive_buffer=4096) as connection:
            await receive(connection)
            connection.transport.pause_reading()
            for number in range(100_000):
                if connection.state is not connection.state.OPEN or len(services.connections) == 0:
                    break
                await send(connection, messages.Ping(number))
                await asyncio.sleep(0)  # the hub is in the same event loop
            await until(lambda: len(services.connections) == 0)
            connection.transport.abort()


async def test_messages_of_a_dashboard_that_does_not_read_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their answers, such as the whole fleet, would fill the memory. All are sent when the dashboard reads again."""
    monkeypatch.setattr(outbox, "CONTROL_ROOM_BYTES", 10_000)
    monkeypatch.setattr(outbox, "MAX_CONTROL_FRAMES", 10)
    tags = {f"tag{number}": "x" * limits.MAX_TAG_VALUE for number in range(limits.MAX_TAGS)}
    hello = device.Hello("boiler", "0123456789abcdef", 1, True, 1, [], tags=tags)
    async with opened_hub(tmp_path) as services, listening(services, send_buffer=4096) as url:
        await send_batches(url, await new_token(services, Role.DEVICE, "boiler"), hello)
        token = await new_token(services, Role.VIEWER)
        async with connected(f"{url}/v1/live", token=token, receive_buffer=4096) as connection:
            await receive(connection)
            connection.transport.pause_reading()
            for _ in range(100):
                await send(connection, messages.WatchFleet())
            # Ten answers fill the outbox within a few turns of the event loop. That would end the connection.
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await until(lambda: len(services.connections) == 0)
            connection.transport.resume_reading()
            for _ in range(100):
                answer = await receive(connection)
                assert isinstance(answer, messages.Fleet), answer
