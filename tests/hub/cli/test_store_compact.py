from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from hub.cli.application import app
from hub.model.store import StoreCursor
from hub.storage.duckdb.store import DuckdbStore
from tests.hub.storage.duckdb.deletion import delete_before
from tests.hub.storage.readings import REGISTRY, SERIES, batch, entry


async def test_compacting_says_what_was_given_back(tmp_path: Path) -> None:
    """The sizes before and after on stdout, and the file in its place."""
    path = tmp_path / "history.duckdb"
    async with DuckdbStore(path, registry=REGISTRY) as store:
        await store.open()
        times = list(range(300_000))
        await store.write([entry(1, batch(times, {SERIES["integer"]: times}))], StoreCursor("journal", 1))
        await delete_before(store, 200_000)
    done = CliRunner().invoke(app, ["store", "compact", "--data", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "given back" in done.stdout
    async with DuckdbStore(path, registry=REGISTRY) as store:
        await store.open()
        assert sum(counts.stored for counts in (await store.counts()).values()) == 100_000


def test_without_a_history_there_is_nothing_to_compact(tmp_path: Path) -> None:
    """The command fails with a sentence."""
    done = CliRunner().invoke(app, ["store", "compact", "--data", str(tmp_path)])
    assert done.exit_code == 1
    assert "nothing to compact" in done.output
