"""The stores that the contract's tests run against."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from hub.contract.store import History, Store
from hub.stores.duckdb.store import DuckdbStore
from tests.hub.stores.readings import REGISTRY, Reading, order

OpenStore = Callable[[Path], AbstractAsyncContextManager[Store]]

IMPLEMENTATIONS: dict[str, OpenStore] = {
    "duckdb": lambda directory: DuckdbStore(directory / "history.duckdb", registry=REGISTRY)
}
"""Each opens the store of a directory: a new one, or the one that was there before."""


def plain(history: History) -> dict[int, list[Reading]]:
    """A history's readings by series id, as Python values; checks that they are in order of time."""
    found = {}
    for part in history.series:
        times = part.times_ns.tolist()
        values = part.values if isinstance(part.values, list) else part.values.tolist()
        assert times == sorted(times)
        assert len(times) == len(values)
        if times:
            found[part.series.id] = sorted(zip(times, values, strict=True), key=order)
    return found
