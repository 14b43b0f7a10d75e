"""A WebSocket client that sends exactly the bytes of a test, and reads frames without validating them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
RSV1 = 0x40
MASK = b"\x37\xfa\x21\x3d"
READ_S = 20.0


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = MASK,
    length_bytes: int | None = None,
    length: int | None = None,
) -> bytes:
    """Return a frame. `length_bytes` (0, 2 or 8) and `length` replace what belongs to the payload."""
    size = len(payload) if length is None else length
    if length_bytes is None:
        length_bytes = 0 if size < 126 else 2 if size < 65_536 else 8
    short = {0: size, 2: 126, 8: 127}[length_bytes]
    head = bytes([fin << 7 | rsv << 4 | opcode, (mask is not None) << 7 | short])
    head += size.to_bytes(length_bytes, "big") if length_bytes else b""
    if mask is None:
        return head + payload
    repeated = mask * (len(payload) // 4 + 1)
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(repeated[: len(payload)], "big")
    return head + mask + masked.to_bytes(len(payload), "big")


def close_frame(code: int, reason: bytes = b"") -> bytes:
    """Return a close frame with a code and a reason."""
    return frame(CLOSE, struct.pack("!H", code) + reason)


class End(NamedTuple):
    """The end of a connection: the close code (None without one), the code of the error before it, and the pongs."""

    close: int | None
    error: str | None
    pongs: tuple[bytes, ...] = ()


@dataclass
class RawWebSocket:
    """An open connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    response: str

    async def read_frame(self) -> tuple[int, bytes]:
        """Return opcode and payload of the next frame; decompress the payload if its first reserved bit is set."""
        first, second = await self.reader.readexactly(2)
        size = second & 0x7F
        if size >= 126:
            size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
        payload = await self.reader.readexactly(size)
        if first & RSV1:
            payload = zlib.decompressobj(wbits=-15).decompress(payload + b"\x00\x00\xff\xff")
        return first & 0x0F, payload

    async def read_to_end(self) -> End:
        """Read until the hub closes the connection, and answer its close frame."""
        close: int | None = None
        error: str | None = None
        pongs: list[bytes] = []
        try:
            async with asyncio.timeout(READ_S):
                while True:
                    opcode, payload = await self.read_frame()
                    if opcode == PONG:
                        pongs.append(payload)
                    elif opcode == TEXT:
                        message = json.loads(payload)
                        error = message.get("code", message.get("error", error))
                    elif opcode == CLOSE:
                        close = int.from_bytes(payload[:2], "big") if payload else 1005
                        with contextlib.suppress(OSError):
                            self.writer.write(frame(CLOSE, payload[:2]))
                            await self.writer.drain()
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return End(close, error, tuple(pongs))


def handshake(host: str, path: str, *, token: str | None = None, extensions: str | None = None) -> bytes:
    """Return the request that opens a WebSocket."""
    head = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *([f"Authorization: Bearer {token}"] if token else []),
        *([f"Sec-WebSocket-Extensions: {extensions}"] if extensions else []),
    ]
    return "\r\n".join([*head, "", ""]).encode()


@contextlib.asynccontextmanager
async def raw_websocket(
    url: str, path: str, *, token: str | None = None, extensions: str | None = None
) -> AsyncIterator[RawWebSocket]:
    """Open a WebSocket at a hub."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        writer.write(handshake(address.netloc, path, token=token, extensions=extensions))
        response = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert response.startswith("HTTP/1.1 101 "), response
        yield RawWebSocket(reader, writer, response)
    finally:
        writer.transport.abort()
