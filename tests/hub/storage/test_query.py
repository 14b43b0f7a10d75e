"""Limits on the memory of one answer of any store."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.model.store import HistoryQuery, StoreCursor, StoreError
from tests.hub.storage.implementations import Implementation, plain
from tests.hub.storage.readings import SERIES, batch, entries

EVER = (0, 2**62)


async def test_all_readings_of_too_much_text_are_refused(
    implementation: Implementation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the alternatives. Smaller answers and points are returned."""
    monkeypatch.setattr("hub.storage.query.MAX_TEXT_BYTES", 100)
    text = SERIES["string"]
    async with implementation.open(tmp_path) as store:
        await store.open()
        await store.write(entries([batch([1, 2, 3], {text: ["€" * 20, "€" * 13, "€"]})]), StoreCursor("journal", 1))
        assert len(plain(await store.query(HistoryQuery([text], 0, 3, None)))[text.id]) == 2
        with pytest.raises(StoreError, match="hub export"):
            await store.query(HistoryQuery([text], *EVER, None))
        assert len(plain(await store.query(HistoryQuery([text], *EVER, 10)))[text.id]) == 3
