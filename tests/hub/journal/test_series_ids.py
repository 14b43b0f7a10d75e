"""The record of the series ids that are assigned."""

from __future__ import annotations

import asyncio

import pytest

from hub.model.journal import JournalError
from tests.hub.journal.conftest import OpenJournal


async def test_the_highest_series_is_remembered(open_journal: OpenJournal) -> None:
    """It is kept in every later run, also when concurrent calls record lower ones."""
    async with open_journal() as journal:
        assert journal.series_ids.highest == 0
        await asyncio.gather(*(journal.series_ids.record(id) for id in (3, 9, 4)))
        assert journal.series_ids.highest == 9
    async with open_journal() as journal:
        assert journal.series_ids.highest == 9
        await journal.series_ids.record(2)
        assert journal.series_ids.highest == 9


async def test_a_closed_journal_records_no_series(open_journal: OpenJournal) -> None:
    """An id that cannot be recorded is not taken for recorded."""
    async with open_journal() as journal:
        await journal.series_ids.record(3)
    with pytest.raises(JournalError, match="closed"):
        await journal.series_ids.record(4)
    assert journal.series_ids.highest == 3
