"""Messages reach their session complete and in order, however the network splits or joins them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from pathlib import Path

import psutil
import pytest
from websockets.asyncio.client import connect
from websockets.frames import Frame, Opcode

from bench.connection import Peer, open_websocket
from tests.end_to_end.hub import running_hub
from tests.end_to_end.raw_agent import METRICS, connect_agent, data, greeted_agent, hello


async def test_messages_of_one_segment_are_handled_in_order(tmp_path: Path) -> None:
    """A hello and a declaration wait for the disk; batches of the same segment are handled after them."""
    async with running_hub(tmp_path / "data") as hub:
        connection = await connect_agent(hub, await hub.token("device", "--device", "d"))
        ws = connection.ws
        declare = {"type": "declare", "metrics": [*METRICS, {"name": "g", "type": "float"}]}
        for message in (hello(), data(1), declare, data(2, {"g": [2.0]}), data(3)):
            ws.protocol.send_text(json.dumps(message).encode())
        ws.transport.write(b"".join(ws.protocol.data_to_send()))
        assert (await connection.receive())["type"] == "welcome"
        while (answer := await connection.receive()) != {"type": "ack", "seq": 3}:
            assert answer["type"] == "ack", answer
        await ws.close()
        counts = (await hub.settled())["devices"][0]
        assert (counts["accepted"], counts["stored"], counts["quarantined_batches"]) == (3, 3, 0)


async def test_a_message_in_fragments_is_one_message(tmp_path: Path) -> None:
    """A batch in three frames is one batch (RFC 6455, 5.4)."""
    async with running_hub(tmp_path / "data") as hub:
        connection, _ = await greeted_agent(hub, await hub.token("device", "--device", "d"))
        text = json.dumps(data(1))
        await connection.ws.send([text[:9], text[9:30], text[30:]])
        assert await connection.receive() == {"type": "ack", "seq": 1}


async def test_agents_that_reconnect_often_do_not_harm_the_hub(tmp_path: Path) -> None:
    """Agents close or cut their connections with acknowledgements in flight; the hub continues and stops in order."""
    rounds, batches = 25, 4
    async with running_hub(tmp_path / "data") as hub:
        token = await hub.token("gateway", "--devices", "*")

        async def come_and_go(device: str) -> None:
            for turn in range(rounds):
                connection = await connect_agent(hub, token)
                await connection.send(hello(device))
                acked = int((await connection.receive())["acked"])
                for seq in range(acked + 1, acked + 1 + batches):
                    await connection.send(data(seq))
                if turn % 5 == 4:
                    connection.ws.transport.abort()
                await connection.ws.close()

        await asyncio.gather(*(come_and_go(f"d{number}") for number in range(6)))
        last, _ = await greeted_agent(hub, token)
        await last.send(data(1))
        assert await last.receive() == {"type": "ack", "seq": 1}
        assert len((await hub.settled())["devices"]) == 7
        assert await hub.stop() == 0
    assert "Traceback" not in hub.log()


async def test_a_client_that_pings_and_does_not_read_is_disconnected(tmp_path: Path) -> None:
    """Unread pongs do not accumulate in the hub's memory, and a client without a hello is disconnected."""
    async with running_hub(tmp_path / "data") as hub:
        peer = Peer("127.0.0.1", int(hub.url.rpartition(":")[2]), await hub.token("gateway", "--devices", "*"))
        before = psutil.Process(hub.pid).memory_info().rss
        sent = await asyncio.to_thread(ping_without_reading, open_websocket(peer, "telemetry.v1.json"))
        grown = psutil.Process(hub.pid).memory_info().rss - before
        assert 2 * grown < sent, (grown, sent)
        last, _ = await greeted_agent(hub, await hub.token("device", "--device", "d"))
        await last.ws.close()


def ping_without_reading(connection: socket.socket) -> int:
    """Send pings until the hub disconnects or enough is sent; return the bytes sent."""
    pings = Frame(Opcode.PING, bytes(125)).serialize(mask=True) * 1000
    sent = 0
    with connection, contextlib.suppress(OSError):
        while sent < 60_000_000:
            connection.sendall(pings)
            sent += len(pings)
    return sent


@pytest.mark.parametrize("inside", [b'"\xff"', b"\xed\xa0\x80"])
async def test_text_that_is_not_unicode_closes_with_1007(tmp_path: Path, inside: bytes) -> None:
    """Text must be UTF-8 (RFC 6455, 8.1). Earlier batches stay acknowledged, and the hub continues."""
    async with running_hub(tmp_path / "data") as hub:
        token = await hub.token("device", "--device", "d")
        connection, _ = await greeted_agent(hub, token)
        await connection.send(data(1))
        assert await connection.receive() == {"type": "ack", "seq": 1}
        await connection.ws.send(b'{"type":"data","seq":2,"time":[1],"values":{"s":[' + inside + b"]}}", text=True)
        assert await connection.closed() == 1007
        _, acked = await greeted_agent(hub, token)
        assert acked == 1


async def test_dashboards_can_be_compressed_and_agents_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One setting enables compression for dashboards; the offer of an agent is declined."""
    monkeypatch.setenv("HUB_LIVE__COMPRESSION", "true")
    async with running_hub(tmp_path / "data") as hub:
        headers = {"Authorization": f"Bearer {await hub.admin()}"}
        used = {}
        for path in ("/v1/device", "/v1/live"):
            async with connect(f"{hub.ws_url}{path}", additional_headers=headers, proxy=None) as ws:
                used[path] = bool(ws.protocol.extensions)
        assert used == {"/v1/device": False, "/v1/live": True}
