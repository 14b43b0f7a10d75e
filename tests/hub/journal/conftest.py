"""Every implementation of the journal's contract, for the tests of the contract."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import pytest

from hub.journal.journal import Journal


class OpenJournal(Protocol):
    """Opens the test's journal; again after it was closed. `name` is for tests that have more than one."""

    def __call__(
        self, name: str = "journal", *, keep_bytes: int = 0, keep_seconds: float = 3600, max_bytes: int = 1 << 30
    ) -> AbstractAsyncContextManager[Journal]: ...


@pytest.fixture(params=["sqlite"])
def open_journal(request: pytest.FixtureRequest, tmp_path: Path) -> OpenJournal:
    """A way to open a journal of each kind."""

    def open_sqlite(
        name: str = "journal", *, keep_bytes: int = 0, keep_seconds: float = 3600, max_bytes: int = 1 << 30
    ) -> AbstractAsyncContextManager[Journal]:
        return Journal(tmp_path / f"{name}.db", keep_bytes=keep_bytes, keep_seconds=keep_seconds, max_bytes=max_bytes)

    kinds: dict[str, OpenJournal] = {"sqlite": open_sqlite}
    return kinds[request.param]
