"""Answers without an end in sight: encoded a part at a time, as fast as whoever asked reads them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing

import structlog
from starlette.responses import StreamingResponse

from hub.http.asgi import Send
from hub.http.table import Table
from hub.http.writers import Writer
from hub.model.store import StoreError

ROWS = 8_192
"""Encoded at once: 0.7 MB of CSV, made in 10 ms."""

CHUNK_BYTES = 128 * 1024
"""Given to the connection at once. It takes the next when less than 64 KiB of it are waiting to be sent."""

PATIENCE_S = 60.0
"""A chunk has to be taken within this time, which is 2 kB/s. Who takes none holds one of the store's few scans."""

log = structlog.get_logger(__name__)


async def encode(tables: AsyncIterator[Table], writer: Writer) -> AsyncGenerator[bytes, None]:
    """The file of all tables, in parts that are not empty; none has rows of two tables.

    The first comes when there is a table, or when there is certainly none: until then an error can still be told.
    """
    head = await asyncio.to_thread(writer.begin)
    async for table in tables:
        for start in range(0, table.num_rows, ROWS):
            # In a thread, since it takes milliseconds; pyarrow lets go of the interpreter meanwhile.
            yield head + await asyncio.to_thread(writer.rows, table.slice(start, ROWS))
            head = b""
    tail = head + await asyncio.to_thread(writer.end)
    if tail:
        yield tail


class Stream(StreamingResponse):
    """Sends the parts of a file, the first of which is there already.

    The parts are closed when they have ended, when whoever asked is gone, or takes nothing for `patience_s`. Where the
    store fails before the end, the connection is broken off: what came does then not look whole.
    """

    def __init__(
        self,
        first: bytes,
        parts: AsyncGenerator[bytes, None],
        *,
        media_type: str,
        headers: Mapping[str, str] | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        super().__init__(parts, headers=headers, media_type=media_type)
        self._first = first
        self._parts = parts
        self._patience_s = patience_s

    async def stream_response(self, send: Send) -> None:
        """The whole answer, or as much of it as there can be."""
        async with aclosing(self._parts):
            try:
                await self._send(send, {"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await self._send_part(send, self._first)
                async for part in self._parts:
                    await self._send_part(send, part)
                await self._send(send, {"type": "http.response.body", "body": b"", "more_body": False})
            except StoreError as error:
                log.warning("an answer was broken off: the store failed", error=str(error))
            except TimeoutError:
                log.info("an answer was broken off: nobody reads it", seconds=self._patience_s)

    async def _send_part(self, send: Send, part: bytes) -> None:
        view = memoryview(part)
        for start in range(0, len(part), CHUNK_BYTES):
            chunk = view[start : start + CHUNK_BYTES]
            await self._send(send, {"type": "http.response.body", "body": chunk, "more_body": True})

    async def _send(self, send: Send, message: dict[str, object]) -> None:
        async with asyncio.timeout(self._patience_s):
            await send(message)
