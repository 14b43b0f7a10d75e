"""Network connection to a hub that breaks after a number of bytes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit


@contextlib.asynccontextmanager
async def cut_connection(url: str, after_bytes: int) -> AsyncIterator[str]:
    """Provide a URL of the hub on which every connection is cut after this number of answered bytes."""
    hub = urlsplit(url)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(hub.hostname, hub.port)
        asking = asyncio.create_task(_copy(reader, up_writer, 2**63))
        try:
            await _copy(up_reader, writer, after_bytes)
        finally:
            asking.cancel()
            await asyncio.wait([asking])
            for end in (writer, up_writer):
                end.transport.abort()

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most: int) -> None:
    while most and (part := await reader.read(min(most, 65_536))):
        writer.write(part)
        await writer.drain()
        most -= len(part)
