"""The client that connects again: on real sockets, with delays of a few milliseconds."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from agent_client.client import Client, ClientStopped, ConnectFailed, ConnectionState, Surroundings, connect
from agent_client.endpoint import Endpoint, TokenFile, device_url
from agent_client.reconnect import Ending
from agent_client.session import OutboxUnavailable
from tests.agent_client.outbox import ListOutbox
from tests.device_agent.peer import Peer
from tests.tasks import running_task
from wire import device
from wire.codec import HUB_MESSAGES
from wire.errors import CLOSE_FOR_CODE, Code
from wire.limits import MAX_CONTROL_BURST

QUICK = Surroundings(max_delay_ms=5)


class Recorder:
    """A client of the peer with its states, and the delays that it announced."""

    def __init__(self, peer: Peer, outbox: ListOutbox, **options: Any) -> None:
        self.states: list[ConnectionState] = []
        self.waits: list[tuple[Ending, float, int]] = []
        self._changed = asyncio.Condition()
        self.client = Client(
            Endpoint(device_url(peer.url), "token"),
            outbox,
            "test/1",
            on_change=self._record_state,
            on_wait=lambda *wait: self.waits.append(wait),
            **{"surroundings": QUICK, **options},
        )

    def _record_state(self) -> None:
        self.states.append(self.client.state)
        self._notifying = asyncio.ensure_future(self._notify())

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, state: ConnectionState, times: int = 1) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.states.count(state) >= times)

    async def run(self) -> None:
        await self.client.run()


async def test_a_lost_connection_is_replaced_and_nothing_is_sent_twice() -> None:
    """The states follow each other, and the batches that were durable are not sent again."""
    async with Peer() as peer:
        outbox = ListOutbox()
        await outbox.add(1, 2)
        recorder = Recorder(peer, outbox)
        async with running_task(recorder.run()):
            await outbox.until_acked(2)
            await peer.drop()
            await recorder.until(ConnectionState.ONLINE, 2)
            await outbox.add(3)
            await outbox.until_acked(3)
        assert recorder.states == [
            ConnectionState.CONNECTING,
            ConnectionState.ONLINE,
            ConnectionState.WAITING,
            ConnectionState.CONNECTING,
            ConnectionState.ONLINE,
            ConnectionState.STOPPED,
        ]
        assert outbox.transmissions == [1, 2, 3]
        peer.check_order()


async def test_batches_that_were_not_durable_are_sent_again() -> None:
    """A hub that loses what it received says so in the next welcome."""
    async with Peer() as peer:
        outbox = ListOutbox()
        await outbox.add(1, 2)
        recorder = Recorder(peer, outbox)
        peer.hold()
        async with running_task(recorder.run()):
            await peer.until(lambda: peer.received == 2)
            await peer.crash()
            await peer.release()
            await outbox.until_acked(2)
        assert outbox.transmissions == [1, 2, 1, 2]
        assert peer.values("level") == [1.0, 2.0]


async def test_attempts_count_up_until_a_connection_makes_progress() -> None:
    """A refused upgrade is an attempt that failed; an acknowledgement ends the row."""
    async with Peer() as peer:
        outbox = ListOutbox()
        recorder = Recorder(peer, outbox)
        peer.refusal = HTTPStatus.SERVICE_UNAVAILABLE, {}
        async with running_task(recorder.run()):
            await recorder.until(ConnectionState.WAITING, 3)
            peer.refusal = None
            await outbox.add(1)
            await outbox.until_acked(1)
            refused = len(recorder.waits)
            await peer.drop()
            await recorder.until(ConnectionState.WAITING, refused + 1)
        attempts = [attempt for _, _, attempt in recorder.waits]
        assert attempts[: refused + 1] == [*range(refused), 0]
        ending, delay_s, _ = recorder.waits[0]
        assert (ending.status, "busy" in ending.reason) == (503, True)
        assert 0 <= delay_s <= 0.005


async def test_the_delay_that_the_hub_asks_for_is_announced() -> None:
    """Retry-After is in seconds; the client waits at least that long."""
    async with Peer() as peer:
        peer.refusal = HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "30"}
        recorder = Recorder(peer, ListOutbox(), surroundings=Surroundings(random=lambda: 0.0))
        async with running_task(recorder.run()):
            await recorder.until(ConnectionState.WAITING)
        ((ending, delay_s, _),) = recorder.waits
        assert (ending.retry_ms, delay_s) == (30_000, 30.0)


async def test_a_corrected_token_ends_the_wait(tmp_path: Path) -> None:
    """A refused client looks at the files of its credentials while it waits, here for an hour."""
    file = tmp_path / "token"
    file.write_text("wrong")
    async with Peer() as peer:
        peer.refusal = HTTPStatus.UNAUTHORIZED, {}
        recorder = Recorder(peer, ListOutbox(), surroundings=Surroundings(max_delay_ms=3_600_000))
        recorder.client.endpoint = recorder.client.endpoint._replace(token=TokenFile(file))
        async with running_task(recorder.run()):
            await recorder.until(ConnectionState.WAITING)
            peer.refusal = None
            file.write_text("right")
            await recorder.until(ConnectionState.ONLINE)
    assert [headers["Authorization"] for headers in peer.headers] == ["Bearer wrong", "Bearer right"]


@pytest.mark.parametrize("compression", [False, True])
async def test_compression_is_offered_if_it_is_wanted(compression: bool) -> None:
    """A hub that does not compress ignores the offer."""
    async with Peer() as peer:
        endpoint = Endpoint(device_url(peer.url), compression=compression)
        connection = await connect(endpoint, name="test/1")
        assert connection.protocol.extensions == []
        await connection.close()
    assert ("Sec-WebSocket-Extensions" in peer.headers[0]) == compression


async def test_a_superseded_client_stops() -> None:
    """Another connection has taken the device over: to reconnect would take it back."""
    async with Peer() as peer:
        peer.greeting = device.Error(Code.SUPERSEDED, "a newer connection")
        outbox = ListOutbox()
        recorder = Recorder(peer, outbox)
        with pytest.raises(ClientStopped) as stopped:
            await recorder.client.run()
        assert stopped.value.ending.error is Code.SUPERSEDED
        assert recorder.states == [ConnectionState.CONNECTING, ConnectionState.STOPPED]
        assert outbox.endings == [stopped.value.ending]


async def test_an_unavailable_outbox_is_tried_again() -> None:
    """A full disk of the agent ends the connection, and not the client."""
    async with Peer() as peer:
        outbox = ListOutbox()
        outbox.failure = OutboxUnavailable("the disk is full")
        recorder = Recorder(peer, outbox)
        async with running_task(recorder.run()):
            await recorder.until(ConnectionState.WAITING)
            outbox.failure = None
            await outbox.add(1)
            await outbox.until_acked(1)
        assert recorder.waits[0][0].reason == "the disk is full"


async def test_any_other_error_of_the_outbox_ends_the_client() -> None:
    """A defect must not look like a lost connection."""
    async with Peer() as peer:
        outbox = ListOutbox()
        outbox.failure = ValueError("a defect")
        recorder = Recorder(peer, outbox)
        with pytest.raises(ValueError, match="a defect"):
            await recorder.client.run()
        assert recorder.states[-1] is ConnectionState.STOPPED


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (HTTPStatus.UNAUTHORIZED, "does not know this token"),
        (HTTPStatus.FORBIDDEN, "may not write"),
        (HTTPStatus.NOT_FOUND, "no hub at this address"),
        (HTTPStatus.IM_A_TEAPOT, "refused the connection"),
        (HTTPStatus.UPGRADE_REQUIRED, "does not pass WebSocket upgrades"),
        (HTTPStatus.BAD_GATEWAY, "proxy does not reach the hub"),
    ],
)
async def test_a_refused_upgrade_says_why(status: HTTPStatus, reason: str) -> None:
    """The status is part of the reason, and decides when to try again."""
    async with Peer() as peer:
        peer.refusal = status, {"Retry-After": "soon"}
        with pytest.raises(ConnectFailed, match=reason) as failed:
            await connect(Endpoint(device_url(peer.url), "token"), name="test/1")
        assert (failed.value.ending.status, failed.value.ending.retry_ms) == (status, None)
        assert peer.headers[0]["User-Agent"] == "test/1"
        assert peer.headers[0]["Authorization"] == "Bearer token"


async def test_a_closed_port_says_why() -> None:
    """The text is the operating system's, without Python's words."""
    async with Peer() as peer:
        url = device_url(peer.url)
    with pytest.raises(ConnectFailed, match=r"does not answer: Connection refused$"):
        await connect(Endpoint(url, "token"), name="")


async def test_a_redirect_is_not_followed() -> None:
    """It would lose the token. The reason contains the address to use, also one that is no WebSocket's."""
    async with Peer() as peer:
        peer.refusal = HTTPStatus.MOVED_PERMANENTLY, {"Location": "https://hub.example/telemetry/v1/device"}
        with pytest.raises(ConnectFailed, match=r"use the URL wss://hub\.example/telemetry/v1/device") as failed:
            await connect(Endpoint(device_url(peer.url), "token"), name="")
        assert failed.value.ending.status == HTTPStatus.MOVED_PERMANENTLY


async def test_a_server_that_does_not_speak_http_says_so() -> None:
    """A port with TLS ends a connection in clear text without an answer."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x15\x03\x01\x00\x02\x02\x46")
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        url = device_url(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(ConnectFailed, match=rf"if it needs TLS, use {url.replace('ws', 'wss', 1)}$"):
            await connect(Endpoint(url, "token"), name="")


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        (
            b"HTTP/1.1 500 Oops\r\nServer: x\r\nContent-Length: 5000000\r\n\r\n",
            500,
            r"failed.+log.+\(HTTP 500 from x\)$",
        ),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 5000000\r\nRetry-After: 7\r\n\r\n", 503, r"busy or starts.+HTTP 503"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1_100_000), 200, r"not a hub.+\(HTTP 200\)$"),
        (b"HTTP/1.1 404 None\r\nContent-Length: 10\r\n\r\nshort", 404, r"no hub at this address.+HTTP 404"),
        (b"HTTP/1.1 502 Bad\r\nno header\r\n\r\n", 502, r"proxy does not reach the hub.+HTTP 502"),
        (b"HTTP/1.1 500 Oops\r\n" + b"A: b\r\n" * 200 + b"\r\n", 500, r"failed at the handshake.+HTTP 500"),
        (b"HTTP/1.0 404 None\r\nServer: y\r\n\r\n", 404, r"no hub at this address.+\(HTTP 404 from y\)$"),
    ],
)
async def test_an_unreadable_answer_is_explained_by_its_status(answer: bytes, status: int, reason: str) -> None:
    """An answer of HTTP/1.0, or one that is too large or broken, is no reason to suspect TLS."""

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(respond, "127.0.0.1", 0) as server:
        url = device_url(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(ConnectFailed, match=reason) as failed:
            await connect(Endpoint(url, "token"), name="")
    assert failed.value.ending.status == status
    assert failed.value.ending.retry_ms == (7_000 if b"Retry-After" in answer else None)
    assert "TLS" not in failed.value.ending.reason


PROBE = HUB_MESSAGES["msgpack"].encode(device.TimeProbe(1))
ACK = HUB_MESSAGES["msgpack"].encode(device.Ack(1))


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (b"\x89\x00", "more pings and pongs than a hub does"),
        (b"\x8a\x00", "more pings and pongs than a hub does"),
        (bytes([0x82, len(ACK)]) + ACK, "more messages than a hub does"),
        (bytes([0x82, len(PROBE)]) + PROBE, "more time probes than a hub does"),
    ],
    ids=["pings", "pongs", "messages", "probes"],
)
async def test_a_flood_ends_the_connection_and_nothing_else(frame: bytes, says: str) -> None:
    """The close code is 1008. The client connects again, and the batches continue. Few probes are answered."""
    async with Peer() as peer:
        outbox = ListOutbox()
        await outbox.add(1)
        recorder = Recorder(peer, outbox)
        async with running_task(recorder.run()):
            await outbox.until_acked(1)
            connection = peer.links["tank"].connection
            # Enough for several reads of the socket; for the probes, fewer than the messages of one read may be.
            connection.transport.write(frame * (200_000 if PROBE not in frame else 1_000))
            await recorder.until(ConnectionState.ONLINE, 2)
            assert connection.close_code == CLOSE_FOR_CODE[Code.TOO_MANY_FRAMES]
            await outbox.add(2)
            await outbox.until_acked(2)
        assert says in recorder.waits[0][0].reason
        assert len(peer.time_replies) <= MAX_CONTROL_BURST
        peer.check_order()


async def test_usual_pings_and_probes_are_answered() -> None:
    """A burst within the bounds leaves the connection open."""
    async with Peer() as peer:
        outbox = ListOutbox()
        recorder = Recorder(peer, outbox)
        async with running_task(recorder.run()):
            await peer.until(lambda: "tank" in peer.links)
            peer.links["tank"].connection.transport.write(b"\x89\x00" * (MAX_CONTROL_BURST // 2))
            for _ in range(MAX_CONTROL_BURST // 2):
                await peer.send("tank", device.TimeProbe(1))
            await peer.until(lambda: len(peer.time_replies) == MAX_CONTROL_BURST // 2)
            await outbox.add(1)
            await outbox.until_acked(1)
        assert recorder.waits == []
