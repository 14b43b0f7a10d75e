"""A device connection whose frames a test writes itself."""

from __future__ import annotations

import json
import ssl
from typing import Any, NamedTuple

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.end_to_end.hub import Hub

EPOCH = "00000000000000aa"
METRICS = [
    {"name": "f", "type": "float"},
    {"name": "i", "type": "integer"},
    {"name": "b", "type": "boolean"},
    {"name": "s", "type": "string"},
]
SUBPROTOCOL = {"json": "telemetry.v1.json", "msgpack": "telemetry.v1.msgpack"}


def hello(device: str = "d", **other: Any) -> dict[str, Any]:
    """Return a hello message with these changes."""
    return {
        "type": "hello",
        "device": device,
        "epoch": EPOCH,
        "next_seq": 1000,
        "durable": True,
        "time": 1,
        "metrics": METRICS,
        **other,
    }


def data(seq: int, values: dict[str, Any] | None = None, time: Any = None) -> dict[str, Any]:
    """Return a batch of one reading, or of these values and times."""
    return {"type": "data", "seq": seq, "time": [seq] if time is None else time, "values": values or {"f": [1.0]}}


class RawAgent(NamedTuple):
    """A device connection that sends exactly the given messages."""

    ws: ClientConnection
    format: str

    async def send(self, message: Any) -> None:
        """Send a message in the connection's format; text and bytes are sent as they are."""
        if isinstance(message, str | bytes):
            await self.ws.send(message)
        elif self.format == "json":
            await self.ws.send(json.dumps(message))
        else:
            await self.ws.send(msgspec.msgpack.encode(message))

    async def receive(self) -> dict[str, Any]:
        """Return the next message that is not a time probe."""
        while True:
            frame = await self.ws.recv()
            message = json.loads(frame) if isinstance(frame, str) else msgspec.msgpack.decode(frame)
            if message["type"] != "time_probe":
                return dict(message)

    async def closed(self) -> int:
        """Read to the end and return the close code."""
        try:
            while True:
                await self.ws.recv()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006


async def connect_agent(hub: Hub, token: str | None, format: str = "json", subprotocol: str = "") -> RawAgent:
    """Open a connection without a hello, by default with the first version of the format's subprotocol."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    ws = await connect(
        f"{hub.ws_url}/v1/device",
        additional_headers=headers,
        subprotocols=[subprotocol or SUBPROTOCOL[format]],  # type: ignore[list-item]
        ssl=ssl._create_unverified_context() if hub.url.startswith("https") else None,
        proxy=None,
        compression=None,
        max_size=None,
        open_timeout=None,  # after a flood its address waits for its share; the test has a deadline
    )
    return RawAgent(ws, format)


async def greeted_agent(hub: Hub, token: str, format: str = "json") -> tuple[RawAgent, int]:
    """Return a connection that has its welcome, and the acknowledged sequence number."""
    connection = await connect_agent(hub, token, format)
    await connection.send(hello())
    welcome = await connection.receive()
    assert welcome["type"] == "welcome", welcome
    return connection, int(welcome["acked"])
