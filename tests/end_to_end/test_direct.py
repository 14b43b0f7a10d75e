"""Messages reach their conversation whole and in order, however the network cut them up or put them together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from tests.end_to_end.hub import running_hub
from tests.end_to_end.test_invalid_input import METRICS, agent, data, greeted, hello


async def test_what_comes_in_one_segment_is_taken_in_order(tmp_path: Path) -> None:
    """A hello and a declaration have to wait for the disk; the batches that came along with them come after them."""
    async with running_hub(tmp_path / "data") as hub:
        connection = await agent(hub, await hub.token("device", "--device", "d"))
        ws = connection.ws
        declare = {"type": "declare", "metrics": [*METRICS, {"name": "g", "type": "float"}]}
        for message in (hello(), data(1), declare, data(2, {"g": [2.0]}), data(3)):
            ws.protocol.send_text(json.dumps(message).encode())
        ws.transport.write(b"".join(ws.protocol.data_to_send()))
        assert (await connection.receive())["type"] == "welcome"
        while (answer := await connection.receive()) != {"type": "ack", "seq": 3}:
            assert answer["type"] == "ack", answer
        await ws.close()
        books = (await hub.settled())["devices"][0]
        assert (books["accepted"], books["stored"], books["quarantined_batches"]) == (3, 3, 0)


async def test_a_message_in_fragments_is_one_message(tmp_path: Path) -> None:
    """A batch that comes in three frames is one batch (RFC 6455, 5.4)."""
    async with running_hub(tmp_path / "data") as hub:
        connection, _ = await greeted(hub, await hub.token("device", "--device", "d"))
        text = json.dumps(data(1))
        await connection.ws.send([text[:9], text[9:30], text[30:]])
        assert await connection.receive() == {"type": "ack", "seq": 1}


@pytest.mark.parametrize("inside", [b'"\xff"', b"\xed\xa0\x80"])
async def test_text_that_is_not_unicode_closes_with_1007(tmp_path: Path, inside: bytes) -> None:
    """Text has to be UTF-8 (RFC 6455, 8.1); the batches before it are safe, and the hub goes on."""
    async with running_hub(tmp_path / "data") as hub:
        token = await hub.token("device", "--device", "d")
        connection, _ = await greeted(hub, token)
        await connection.send(data(1))
        assert await connection.receive() == {"type": "ack", "seq": 1}
        await connection.ws.send(b'{"type":"data","seq":2,"time":[1],"values":{"s":[' + inside + b"]}}", text=True)
        assert await connection.closed() == 1007
        _, acked = await greeted(hub, token)
        assert acked == 1


async def test_dashboards_may_be_compressed_and_agents_never(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One setting turns compression on for dashboards; an agent that offers it is answered without."""
    monkeypatch.setenv("HUB_LIVE__COMPRESSION", "true")
    async with running_hub(tmp_path / "data") as hub:
        headers = {"Authorization": f"Bearer {await hub.admin()}"}
        used = {}
        for path in ("/v1/device", "/v1/live"):
            async with connect(f"{hub.ws_url}{path}", additional_headers=headers, proxy=None) as ws:
                used[path] = bool(ws.protocol.extensions)
        assert used == {"/v1/device": False, "/v1/live": True}
