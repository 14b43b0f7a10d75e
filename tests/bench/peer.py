"""Hub side of the device protocol for generator tests: it acknowledges what the session allows and keeps no data."""

from __future__ import annotations

import asyncio
import sys

from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from wire import device, limits
from wire.codec import AGENT_MESSAGES, FORMAT_OF_SUBPROTOCOL, HUB_MESSAGES
from wire.device_session import HubDeviceSession

ACKNOWLEDGED_EVERY = 10
PONG_SECONDS = 5.0


async def converse(connection: ServerConnection, window: int) -> None:
    """Serve one connection: acknowledge every tenth batch after a time probe; the first waits for a pong."""
    spoken = FORMAT_OF_SUBPROTOCOL[connection.subprotocol or ""]
    session = HubDeviceSession(window=window)
    hello = AGENT_MESSAGES[spoken].decode(await connection.recv())
    session.receive(hello)
    session.welcome(acked=0, received=0)

    async def send(message: device.HubMessage) -> None:
        await connection.send(HUB_MESSAGES[spoken].encode(message), text=spoken == "json")

    await send(device.Welcome("peer", 0, window, limits.MAX_BATCH_BYTES, 0, 0))
    async for frame in connection:
        message = AGENT_MESSAGES[spoken].decode(frame)
        if not isinstance(message, device.Data):
            session.receive(message)
            continue
        if message.seq == 1:
            async with asyncio.timeout(PONG_SECONDS):
                await (await connection.ping())
        session.receive_batches(message.seq, message.seq)
        if message.seq % ACKNOWLEDGED_EVERY == 0 and (ack := session.commit(message.seq)) is not None:
            await send(device.TimeProbe(message.seq))
            await send(ack)


async def main(window: int) -> None:
    """Listen on a free port, print it, and serve until stopped."""
    async with serve(
        lambda connection: converse(connection, window),
        "127.0.0.1",
        0,
        compression=None,
        subprotocols=[Subprotocol(device.PROTOCOL_JSON), Subprotocol(device.PROTOCOL_MSGPACK)],
    ) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
