"""Batches that a hub rejects, sent as a device's own program would send them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from websockets import Subprotocol
from websockets.asyncio.client import connect

from tests.end_to_end.hub import Hub

ENCODE: dict[str, Callable[[Any], str | bytes]] = {"json": json.dumps, "msgpack": msgspec.msgpack.encode}
LEVEL = {"name": "level", "type": "float"}


async def send_batches(
    hub: Hub,
    device: str,
    batches: Sequence[dict[str, Any]],
    *,
    format: str = "json",
    metrics: Sequence[dict[str, str]] = (LEVEL,),
) -> None:
    """Send batches ({"time": …, "values": …}) of a new spool; return when they are acknowledged."""
    token = await hub.token("device", "--device", device)
    encode = ENCODE[format]
    hello = {
        "type": "hello", "device": device, "epoch": secrets.token_hex(8), "next_seq": 1, "durable": True, "time": 1,
        "metrics": list(metrics),
    }  # fmt: skip
    async with connect(
        f"{hub.ws_url}/v1/device",
        additional_headers={"Authorization": f"Bearer {token}"},
        subprotocols=[Subprotocol(f"telemetry.v1.{format}")],
        proxy=None,
    ) as socket:
        await socket.send(encode(hello))
        window = 0
        acked = sent = 0
        while acked < len(batches) or not window:
            frame = await socket.recv()
            answer = msgspec.msgpack.decode(frame) if isinstance(frame, bytes) else msgspec.json.decode(frame)
            if answer["type"] == "welcome":
                window = answer["window"]
            elif answer["type"] == "ack":
                acked = answer["seq"]
            while sent < min(len(batches), acked + window):
                sent += 1
                await socket.send(encode({"type": "data", "seq": sent, **batches[sent - 1]}))
