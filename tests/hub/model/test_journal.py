"""The outcome of a commit for those who wait for it."""

from __future__ import annotations

import asyncio

import pytest

from hub.model.journal import JournalError, JournalFull, JournalTrimmed, settle


async def test_a_future_is_settled_once() -> None:
    """With its result or its error. A later outcome, and one after a cancellation, changes nothing."""
    loop = asyncio.get_running_loop()
    durable: asyncio.Future[int] = loop.create_future()
    settle(durable, 7)
    settle(durable, JournalFull("no room"))
    assert await durable == 7
    refused: asyncio.Future[int] = loop.create_future()
    settle(refused, JournalFull("no room"))
    with pytest.raises(JournalFull, match="no room"):
        await refused
    cancelled: asyncio.Future[int] = loop.create_future()
    cancelled.cancel()
    settle(cancelled, 7)
    assert cancelled.cancelled()


def test_deleted_entries_name_the_oldest_that_exists() -> None:
    """A reader continues from there."""
    error = JournalTrimmed(42)
    assert isinstance(error, JournalError)
    assert (error.first, str(error)) == (42, "the journal begins at offset 42")
