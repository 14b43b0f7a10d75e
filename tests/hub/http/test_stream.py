"""Tests of streamed answers: they follow the speed of the client, and end if it stops reading."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import numpy as np
import pytest

from hub.http.stream import CHUNK_BYTES, ROWS, StreamedFile, history_json
from hub.model.batch import Series
from hub.model.store import History, SeriesHistory, StoreCursor, StoreUnavailable

PART = bytes(3 * CHUNK_BYTES + 1)
SCOPE = {"type": "http", "asgi": {"spec_version": "2.3"}}


class Source:
    """A counter of produced parts of a file. With `fails`, the store fails after the last one."""

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
    """A client that accepts a number of messages, and may disconnect."""

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


async def begun(source: Source, *, patience_s: float = 60) -> StreamedFile:
    parts = source.parts()
    return StreamedFile(await anext(parts), parts, media_type="text/csv", patience_s=patience_s)


async def test_everything_is_sent_in_chunks() -> None:
    """The last message marks the end."""
    source, reader = Source(3), Reader(1_000)
    await (await begun(source))(SCOPE, reader.receive, reader.send)
    assert reader.body() == PART * 3
    assert max(len(message["body"]) for message in reader.messages[1:]) == CHUNK_BYTES
    assert [message["more_body"] for message in reader.messages[1:]] == [True] * 12 + [False]
    assert source.closed.is_set()


async def test_parts_are_produced_on_demand_until_the_client_disconnects() -> None:
    """If the client reads only the first part, only the second one is produced."""
    source, reader = Source(1_000), Reader(6)
    sending = asyncio.create_task((await begun(source))(SCOPE, reader.receive, reader.send))
    await reader.full.wait()
    assert source.given == 2
    reader.gone.set()
    await sending
    assert source.closed.is_set()
    assert source.given == 2


async def test_a_client_that_reads_nothing_is_disconnected() -> None:
    """After the time limit, without the end of the answer."""
    source, reader = Source(1_000), Reader(6)
    await (await begun(source, patience_s=0.01))(SCOPE, reader.receive, reader.send)
    assert source.closed.is_set()
    assert all(message["more_body"] for message in reader.messages[1:])


@pytest.mark.parametrize("parts", [1, 3])
async def test_an_answer_that_the_store_cannot_finish_is_visibly_incomplete(parts: int) -> None:
    """The earlier parts are sent, the end is not: the server then breaks the connection."""
    source, reader = Source(parts, fails=True), Reader(1_000)
    await (await begun(source))(SCOPE, reader.receive, reader.send)
    assert reader.body() == PART * parts
    assert all(message["more_body"] for message in reader.messages[1:])
    assert source.closed.is_set()


@pytest.mark.parametrize("readings", [0, 1, ROWS, ROWS + 1, 10 * ROWS + 3])
def test_the_parts_of_a_history_are_one_document(readings: int) -> None:
    """Every number is exact, and the parts are neither many nor large."""
    times_ns = 2**62 + np.arange(readings)
    columns: list[tuple[Series, Any, list[Any]]] = [
        (Series(1, "a", "x", "float", "°C"), np.arange(readings) / 8, [number / 8 for number in range(readings)]),
        (Series(2, "a", "y", "boolean"), np.arange(readings) % 2 == 0, [not number % 2 for number in range(readings)]),
        (Series(3, "b", 'z"', "string"), texts := [f"é{number}," for number in range(readings)], texts),
        (Series(4, "b", "n", "integer"), times_ns, times_ns.tolist()),
    ]
    series = [SeriesHistory(known, times_ns, values, "raw") for known, values, _ in columns]
    parts = list(history_json(History(StoreCursor("journal", 7), series), "minmax"))
    assert all(CHUNK_BYTES <= len(part) < 4 * CHUNK_BYTES for part in parts[:-1])
    answer = json.loads(b"".join(parts))
    assert (list(answer), answer["offset"]) == (["offset", "series"], 7)
    assert answer["series"] == [
        {
            "device": known.device,
            "metric": known.metric,
            "type": known.type,
            "unit": known.unit,
            "resolution": "raw",
            "time_ns": times_ns.tolist(),
            "values": values,
        }
        for known, _, values in columns
    ]


def test_a_history_without_series_is_a_document() -> None:
    """It has an empty list."""
    assert b"".join(history_json(History(StoreCursor("journal", 0), []), "avg")) == b'{"offset":0,"series":[]}'
