"""Rules that the queries of every store share."""

from __future__ import annotations

import numpy as np
import pytest

from hub.model.store import HistoryQuery, StoreCursor, StoreError
from hub.storage.query import Ends, Points, interleave
from tests.hub.storage.contract import new_store
from tests.hub.storage.implementations import Implementation, plain
from tests.hub.storage.readings import SERIES, batch, entries

EVER = (0, 2**62)


async def test_all_readings_of_too_much_text_are_refused(
    implementation: Implementation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the alternatives. Smaller answers and points are returned."""
    monkeypatch.setattr("hub.storage.query.MAX_TEXT_BYTES", 100)
    text = SERIES["string"]
    async with new_store(implementation) as store:
        await store.write(entries([batch([1, 2, 3], {text: ["€" * 20, "€" * 13, "€"]})]), StoreCursor("journal", 1))
        assert len(plain(await store.query(HistoryQuery([text], 0, 3, None)))[text.id]) == 2
        with pytest.raises(StoreError, match="hub export"):
            await store.query(HistoryQuery([text], *EVER, None))
        assert len(plain(await store.query(HistoryQuery([text], *EVER, 10)))[text.id]) == 3


def test_one_reading_is_one_point() -> None:
    """It may be an interval's minimum, its maximum and an end of the range."""
    low = Points(np.array([1, 8]), np.array([1, 2]))
    high = Points(np.array([3, 8]), np.array([7, 2]))
    ends = Ends(Points(np.array([1]), np.array([1])), Points(np.array([9]), np.array([5])))
    times_ns, values = interleave(high, low, ends)
    assert list(zip(times_ns.tolist(), values.tolist(), strict=True)) == [(1, 1), (3, 7), (8, 2), (9, 5)]
