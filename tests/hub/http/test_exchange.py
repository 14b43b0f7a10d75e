"""Tests of the time that a request takes, and of an answer in bytes. test_http1 tests exchanges on a real server."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from time import thread_time

import pytest

from hub.http.exchange import CLOSE, MeteredAwaitable, serialize
from hub.http.problem import problem_response

WORK_S = 0.02


def work() -> None:
    """Use the processor for WORK_S."""
    end_s = thread_time() + WORK_S
    while thread_time() < end_s:
        pass


async def test_only_the_own_time_of_a_coroutine_is_measured() -> None:
    """The work of others while it waits does not count."""
    released = asyncio.Event()

    async def waiting() -> None:
        work()
        await released.wait()
        work()

    async def other() -> None:
        for _ in range(10):
            work()
        released.set()

    metered = MeteredAwaitable(waiting())

    async def run() -> None:
        await metered

    await asyncio.gather(run(), other())
    assert 2 * WORK_S <= metered.spent_s < 6 * WORK_S


async def test_a_failure_and_a_cancellation_reach_the_coroutine() -> None:
    """As if it were awaited directly; its time is measured also then."""
    ended: list[str] = []

    async def failing() -> None:
        work()
        raise ValueError("deliberate")

    failed = MeteredAwaitable(failing())
    with pytest.raises(ValueError, match="deliberate"):
        await failed
    assert failed.spent_s >= WORK_S

    async def waiting() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def run() -> None:
        await MeteredAwaitable(waiting())

    task = asyncio.create_task(run())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert (task.cancelled(), ended) == (True, ["cancelled"])


def test_an_answer_in_bytes_closes_the_connection() -> None:
    """It has the headers of the response and the further ones."""
    response = problem_response(HTTPStatus.BAD_REQUEST, "wrong")
    head, _, body = serialize(response, [(b"date", b"today")]).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 400 Bad Request"
    assert {b"date: today", b": ".join(CLOSE), b"content-length: %d" % len(body)} <= set(lines)
    assert body == response.body
