"""`hub store compact`."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from hub.cli.application import app
from hub.model.store import StoreCursor
from hub.storage.duckdb.store import DuckdbStore
from tests.hub.storage.duckdb.deletion import delete_before
from tests.hub.storage.readings import REGISTRY, SERIES, batch, entry


async def test_compact_reports_the_freed_bytes(tmp_path: Path) -> None:
    """stdout shows the sizes before and after, and the file keeps its name and readings."""
    path = tmp_path / "history.duckdb"
    async with DuckdbStore(path, registry=REGISTRY) as store:
        await store.open()
        times = list(range(300_000))
        await store.write([entry(1, batch(times, {SERIES["integer"]: times}))], StoreCursor("journal", 1))
        await delete_before(store, 200_000)
    result = CliRunner().invoke(app, ["store", "compact", "--data", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "freed" in result.stdout
    async with DuckdbStore(path, registry=REGISTRY) as store:
        await store.open()
        assert sum(counts.stored for counts in (await store.counts()).values()) == 100_000


def test_compact_fails_without_a_history(tmp_path: Path) -> None:
    """The command prints a sentence."""
    result = CliRunner().invoke(app, ["store", "compact", "--data", str(tmp_path)])
    assert result.exit_code == 1
    assert "nothing to compact" in result.output
