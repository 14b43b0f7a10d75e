from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.storage.duckdb.database import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Provide a new file with little memory."""
    database = Database(tmp_path / "history.duckdb", memory_limit="200MB", threads=1)
    yield database
    database.close()
