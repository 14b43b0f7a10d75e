"""The endpoint of agents on real sockets: the upgrade, frames that arrive early, and agents that do not read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from hub.app.services import HubServices
from hub.http import device_endpoint as module
from hub.model.identity import Role
from tests.conditions import until
from tests.hub.http.opened_hub import connected, listening, new_token, opened_hub, read_to_end
from wire import device as messages
from wire import limits
from wire.codec import AGENT_MESSAGES, HUB_MESSAGES, Format
from wire.model import Metric

EPOCH = "0" * 16


def hello(**other: Any) -> messages.Hello:
    given = {"device": "pump", "epoch": EPOCH, "next_seq": 100_000, "durable": True, "time": 0, **other}
    return messages.Hello(metrics=[Metric("flow")], **given)


def data(seq: int, metric: str = "flow") -> messages.Data:
    return messages.Data(seq, [seq], {metric: [float(seq)]})


@asynccontextmanager
async def running(path: Path, **options: Any) -> AsyncIterator[tuple[HubServices, str, str]]:
    """Run a hub; return it with the endpoint's URL and the token of a gateway."""
    async with opened_hub(path) as services, listening(services, **options) as url:
        yield services, f"{url}/v1/device", await new_token(services, Role.GATEWAY)


async def send(connection: ClientConnection, *sent: messages.AgentMessage, format: Format = "json") -> None:
    for message in sent:
        await connection.send(AGENT_MESSAGES[format].encode(message), text=format == "json")


async def receive_until_acked(connection: ClientConnection, seq: int, format: Format = "json") -> list[Any]:
    """Return the messages up to the acknowledgement of `seq`."""
    found: list[Any] = []
    while not (found and isinstance(found[-1], messages.Ack) and found[-1].seq >= seq):
        frame = await connection.recv()
        found.append(HUB_MESSAGES[format].decode(frame.encode() if isinstance(frame, str) else frame))
    return found


def error_of(frames: list[str | bytes]) -> tuple[str, str]:
    """Return code and message of the last frame, an error."""
    error = msgspec.json.decode(frames[-1])
    assert error["type"] == "error"
    return error["code"], error["message"]


@pytest.mark.parametrize(
    ("offered", "chosen", "format"),
    [
        ([], None, "json"),
        (["telemetry.v1.json"], "telemetry.v1.json", "json"),
        (["other", "telemetry.v1.msgpack", "telemetry.v1.json"], "telemetry.v1.msgpack", "msgpack"),
    ],
)
async def test_the_first_known_subprotocol_decides_the_format(
    tmp_path: Path, offered: list[str], chosen: str | None, format: Format
) -> None:
    """Without one the format is JSON. The frames of both directions are of its kind."""
    async with running(tmp_path) as (_, url, token):
        subprotocols = [Subprotocol(name) for name in offered] or None
        async with connected(url, token=token, subprotocols=subprotocols) as connection:
            assert connection.subprotocol == chosen
            await send(connection, hello(), data(1), format=format)
            welcome = (await receive_until_acked(connection, 1, format))[0]
            assert isinstance(welcome, messages.Welcome)


async def test_an_upgrade_with_other_subprotocols_only_is_rejected(tmp_path: Path) -> None:
    """The answer is 400 and names those that there are."""
    async with running(tmp_path) as (services, url, token):
        with pytest.raises(InvalidStatus) as error:
            async with connected(url, token=token, subprotocols=[Subprotocol("telemetry.v9")]):
                pass
        assert error.value.response.status_code == 400
        assert b"telemetry.v1.json, telemetry.v1.msgpack" in error.value.response.body
        assert len(services.connections) == 0


async def test_messages_behind_a_step_that_waits_keep_their_order(tmp_path: Path) -> None:
    """Batches behind the hello, and a declaration among them: all are processed in the order in which they came."""
    async with running(tmp_path) as (services, url, token), connected(url, token=token) as connection:
        declare = messages.Declare([Metric("level")])
        await send(connection, hello(), data(1), data(2), declare, data(3, "level"), declare, data(4))
        received = await receive_until_acked(connection, 4)
        assert [message for message in received if isinstance(message, messages.Reject | messages.Error)] == []
        assert services.devices.device("pump").batches == 4
        await send(connection, data(5), data(6))
        await receive_until_acked(connection, 6)


@pytest.mark.parametrize("early", [False, True])
async def test_a_frame_of_the_wrong_kind_ends_the_session(tmp_path: Path, early: bool) -> None:
    """Before or after the hello; the agent can read why."""
    async with running(tmp_path) as (_, url, token), connected(url, token=token) as connection:
        if not early:
            await send(connection, hello())
        await connection.send(b"\x80")
        frames, close_code = await read_to_end(connection)
        assert (error_of(frames), close_code) == (
            ("wrong_frame", "this session is in text frames only"), 4400
        )  # fmt: skip


async def test_a_text_that_is_not_utf_8_fails_the_connection(tmp_path: Path) -> None:
    """As RFC 6455 requires, with 1007 and without a message."""
    async with running(tmp_path) as (services, url, token), connected(url, token=token) as connection:
        await connection.send(b'{"type":"\xff"}', text=True)
        assert await read_to_end(connection) == ([], 1007)
        await until(lambda: len(services.connections) == 0)


async def test_a_connection_without_a_hello_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After AUTHENTICATION_SECONDS, also if a valid token is in its headers; a connected agent stays."""
    monkeypatch.setattr(limits, "AUTHENTICATION_SECONDS", 0.3)
    async with running(tmp_path) as (services, url, token), connected(url, token=token) as agent:
        await send(agent, hello(), data(1))
        await receive_until_acked(agent, 1)
        async with connected(url, token=token) as silent:
            frames, close_code = await read_to_end(silent)
            assert (error_of(frames)[0], close_code) == ("not_authenticated", 4401)
        await send(agent, data(2))
        await receive_until_acked(agent, 2)
        assert len(services.connections) == 1


async def test_a_revoked_token_ends_its_connections_only(tmp_path: Path) -> None:
    """By the credential with which the hello was accepted."""
    async with running(tmp_path) as (services, url, token):
        other = await services.registry.create_token(Role.GATEWAY, pattern="*")
        async with connected(url, token=token) as stays, connected(url) as revoked:
            await send(stays, hello(), data(1))
            await send(revoked, hello(device="boiler", token=other.text), data(1))
            await receive_until_acked(stays, 1)
            await receive_until_acked(revoked, 1)
            services.connections.revoke({other.token.id})
            frames, close_code = await read_to_end(revoked)
            assert (error_of(frames)[0], close_code) == ("revoked", 4401)
            await send(stays, data(2))
            await receive_until_acked(stays, 2)


async def test_the_event_says_how_a_connection_ended(tmp_path: Path) -> None:
    """Closed by the agent, with its reason, or broken."""
    async with running(tmp_path) as (services, url, token):
        device = services.devices.device("pump")
        for code in (1000, 1001, 3000, None):
            async with connected(url, token=token) as connection:
                await send(connection, hello(next_seq=1))
                await until(lambda: device.session is not None)
                if code is None:
                    connection.transport.abort()
                else:
                    await connection.close(code, "bye")
            await until(lambda: device.session is None)
        events = [e.detail for e in await services.registry.events("pump") if e.kind == "disconnected"]
        assert events == [
            "the connection broke", "closed with 3000: bye", "the agent went away: bye", "closed by the agent: bye"
        ]  # fmt: skip


async def test_an_agent_that_reads_nothing_is_disconnected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When more than WINDOWS_WAITING windows of rejects wait for it. Its batches are in quarantine."""
    monkeypatch.setattr(module, "CLOSING_S", 0.2)
    async with running(tmp_path, send_buffer=4096) as (services, url, token):
        async with connected(url, token=token, receive_buffer=4096) as connection:
            await send(connection, hello())
            await until(lambda: services.devices.device("pump").session is not None)
            connection.transport.pause_reading()
            device = services.devices.device("pump")
            for first in range(1, 50_000, 100):
                await send(connection, *(data(seq, "unknown") for seq in range(first, first + 100)))
                await until(lambda last=first + 99: device.durable.seq >= last or device.session is None)  # type: ignore[misc]
                if device.session is None:
                    break
            assert device.session is None
            await until(lambda: len(services.connections) == 0)
            connection.transport.abort()
        assert device.durable.quarantined > module.WINDOWS_WAITING * 256
        async with connected(url, token=token) as other:
            await send(other, hello(device="boiler"), data(1))
            await receive_until_acked(other, 1)


async def test_a_defect_in_a_step_ends_its_connection_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub logs it, and the next connection of the device is served."""

    async def fail(device: str, metrics: object) -> None:
        raise RuntimeError("a defect")

    async with running(tmp_path) as (services, url, token):
        with monkeypatch.context() as patch, capture_logs() as logs:
            patch.setattr(services.registry, "declare", fail)
            async with connected(url, token=token) as connection:
                await send(connection, hello(), data(1))
                assert await read_to_end(connection) == ([], 1006)
            await until(lambda: len(services.connections) == 0)
        assert [line["event"] for line in logs if line["log_level"] == "error"] == ["session of an agent failed"]
        async with connected(url, token=token) as connection:
            await send(connection, hello(), data(1))
            await receive_until_acked(connection, 1)


async def test_a_connection_that_is_ended_during_a_step_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it waits it is not read, so it is cut after CLOSING_S; its step is cancelled."""
    monkeypatch.setattr(module, "CLOSING_S", 0.2)
    began = asyncio.Event()
    ended = asyncio.Event()

    async def wait(device: str, metrics: object) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with running(tmp_path) as (services, url, token):
        monkeypatch.setattr(services.registry, "declare", wait)
        async with connected(url, token=token) as connection:
            await send(connection, hello(), data(1))
            await began.wait()
            services.connections.close()
            await ended.wait()
        await until(lambda: len(services.connections) == 0)
        assert services.devices.get("pump") is None
