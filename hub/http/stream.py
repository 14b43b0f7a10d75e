"""Answers of any length: encoded in parts, at the speed at which the client reads them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from typing import Any

import structlog
from starlette.responses import StreamingResponse
from starlette.types import Message, Send

from hub.http.routing import encode
from hub.http.tables import Table, Writer, type_of
from hub.model.store import Aggregate, History, StoreError

ROWS = 8_192
"""Rows encoded at once: 0.7 MB of CSV, made in 10 ms. In JSON, half a megabyte of objects for a moment."""

CHUNK_BYTES = 128 * 1024
"""Bytes given to the connection at once. It accepts the next chunk when fewer than 64 KiB wait to be sent. A part of a
JSON answer is at least as large, except for the last one: many small series make few parts."""

PATIENCE_S = 60.0
"""The client has to accept a chunk within this time, which is 2 kB/s. One that reads nothing holds one of the store's
few scans."""

log = structlog.get_logger(__name__)


async def encode_tables(tables: AsyncGenerator[Table, None], writer: Writer) -> AsyncGenerator[bytes, None]:
    """Yield the file of all tables in parts that are not empty. No part contains rows of two tables.

    The first part comes when there is a table, or certainly none: until then the answer can still be an error.
    The tables are closed with the parts.
    """
    head = await asyncio.to_thread(writer.begin)
    async with aclosing(tables):
        async for table in tables:
            for start in range(0, table.num_rows, ROWS):
                # In a thread, since it takes milliseconds; pyarrow releases the interpreter meanwhile.
                yield head + await asyncio.to_thread(writer.rows, table.slice(start, ROWS))
                head = b""
    tail = head + await asyncio.to_thread(writer.end)
    if tail:
        yield tail


def history_json(history: History, aggregate: Aggregate) -> Iterator[bytes]:
    """Yield a history as HistoryAnswer in JSON, in parts of about CHUNK_BYTES."""
    part = bytearray()
    for piece in _json_pieces(history, aggregate):
        part += piece
        if len(part) >= CHUNK_BYTES:
            yield bytes(part)
            part.clear()
    yield bytes(part)


def _json_pieces(history: History, aggregate: Aggregate) -> Iterator[bytes]:
    yield b'{"offset":%d,"series":[' % history.cursor.offset
    for number, part in enumerate(history.series):
        series = part.series
        head = {
            "device": series.device,
            "metric": series.metric,
            "type": type_of(series, aggregate),
            "unit": series.unit,
            "resolution": part.resolution,
        }
        yield (b"," if number else b"") + encode(head)[:-1] + b',"time_ns":['
        yield from _json_items(part.times_ns)
        yield b'],"values":['
        yield from _json_items(part.values)
        yield b"]}"
    yield b"]}"


def _json_items(column: Any) -> Iterator[bytes]:
    for start in range(0, len(column), ROWS):
        piece = column[start : start + ROWS]
        array = encode(piece if isinstance(piece, list) else piece.tolist())
        yield (b"," if start else b"") + array[1:-1]


class StreamedFile(StreamingResponse):
    """Sends the parts of a file. The first part exists already.

    The parts are closed at their end, when the client disconnects, or when it accepts nothing for `patience_s`. If the
    store fails before the end, the connection is broken, so that the client does not take the answer for complete.
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
        """Send the whole answer, or as much of it as possible."""
        async with aclosing(self._parts):
            try:
                await self._send(send, {"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await self._send_part(send, self._first)
                async for part in self._parts:
                    await self._send_part(send, part)
                await self._send(send, {"type": "http.response.body", "body": b"", "more_body": False})
            except StoreError as error:
                log.warning("answer ended early: the store failed", error=str(error))
            except TimeoutError:
                log.info("answer ended early: the client reads nothing", seconds=self._patience_s)

    async def _send_part(self, send: Send, part: bytes) -> None:
        view = memoryview(part)
        for start in range(0, len(part), CHUNK_BYTES):
            chunk = view[start : start + CHUNK_BYTES]
            await self._send(send, {"type": "http.response.body", "body": chunk, "more_body": True})

    async def _send(self, send: Send, message: Message) -> None:
        async with asyncio.timeout(self._patience_s):
            await send(message)
