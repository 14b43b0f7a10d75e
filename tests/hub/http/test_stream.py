"""Streams go as fast as they are read, and end when nobody reads them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from hub.http.stream import CHUNK_BYTES, Stream
from hub.model.store import StoreUnavailable

PART = bytes(3 * CHUNK_BYTES + 1)
SCOPE = {"type": "http", "asgi": {"spec_version": "2.3"}}


class Source:
    """Parts of a file, counted. With `fails`, the store fails after so many."""

    def __init__(self, parts: int, *, fails: bool = False) -> None:
        self.given = 0
        self.closed = asyncio.Event()
        self._parts = parts
        self._fails = fails

    async def parts(self) -> AsyncGenerator[bytes, None]:
        try:
            while self.given < self._parts:
                self.given += 1
                yield PART
            if self._fails:
                raise StoreUnavailable("the disk is gone")
        finally:
            self.closed.set()


class Reader:
    """Whoever asked: takes so many messages and then no more, and may leave."""

    def __init__(self, takes: int) -> None:
        self.messages: list[Any] = []
        self.full = asyncio.Event()
        self.gone = asyncio.Event()
        self._takes = takes

    async def send(self, message: Any) -> None:
        if len(self.messages) == self._takes:
            self.full.set()
            await asyncio.Event().wait()
        self.messages.append(message)

    async def receive(self) -> Any:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.messages[1:])


async def begun(source: Source, *, patience_s: float = 60) -> Stream:
    parts = source.parts()
    return Stream(await anext(parts), parts, media_type="text/csv", patience_s=patience_s)


async def test_everything_is_sent_in_chunks() -> None:
    """And the last message says that it is all."""
    source, reader = Source(3), Reader(1_000)
    await (await begun(source))(SCOPE, reader.receive, reader.send)
    assert reader.body() == PART * 3
    assert max(len(message["body"]) for message in reader.messages[1:]) == CHUNK_BYTES
    assert [message["more_body"] for message in reader.messages[1:]] == [True] * 12 + [False]
    assert source.closed.is_set()


async def test_nothing_is_made_that_is_not_read_and_who_leaves_ends_it() -> None:
    """A reader that takes the first part and rests gets the second made, and no more."""
    source, reader = Source(1_000), Reader(6)
    sending = asyncio.create_task((await begun(source))(SCOPE, reader.receive, reader.send))
    await reader.full.wait()
    assert source.given == 2
    reader.gone.set()
    await sending
    assert source.closed.is_set()
    assert source.given == 2


async def test_who_takes_nothing_is_left() -> None:
    """After a time, and without the end."""
    source, reader = Source(1_000), Reader(6)
    await (await begun(source, patience_s=0.01))(SCOPE, reader.receive, reader.send)
    assert source.closed.is_set()
    assert all(message["more_body"] for message in reader.messages[1:])


@pytest.mark.parametrize("parts", [1, 3])
async def test_an_answer_that_the_store_cannot_end_does_not_look_whole(parts: int) -> None:
    """What came before is sent, the end is not: the server then breaks the connection off."""
    source, reader = Source(parts, fails=True), Reader(1_000)
    await (await begun(source))(SCOPE, reader.receive, reader.send)
    assert reader.body() == PART * parts
    assert all(message["more_body"] for message in reader.messages[1:])
    assert source.closed.is_set()
