"""`hub store compact`, `hub store rebuild` and `hub store resend`."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hub.cli.application import app
from hub.model.store import StoreCursor
from hub.storage.duckdb.store import DuckdbStore
from tests.hub.cli.hub_command import batch as message
from tests.hub.cli.hub_command import commanded_hub
from tests.hub.http.opened_hub import opened_hub
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


async def test_a_resend_reports_what_it_compared(tmp_path: Path) -> None:
    """With a range in words or as JSON. A journal without a batch is reported with exit code 1, a wrong time with 2."""
    async with commanded_hub(tmp_path / "data") as hub:
        result = await hub.run("store", "resend")
        assert result.exit_code == 1
        assert "nothing was compared" in result.stderr
        await hub.send("pump", *(message(seq, float(seq)) for seq in range(1, 6)))
        result = await hub.run("store", "resend", "--since", "-30m")
        assert result.exit_code == 0, result.output
        assert "nothing is missing: the store has 5 readings in 5 batches, from " in result.stdout
        assert "the journal begins at" in result.stderr
        result = await hub.run("store", "resend", "--json")
        counts = json.loads(result.stdout)
        assert counts.pop("received_ns") > 0
        assert counts == {"batches": 5, "readings": 5, "resent": 0, "refused": 0, "undecodable": 0}
        result = await hub.run("store", "resend", "--since", "yesterday")
        assert (result.exit_code, "is not a time" in result.stderr) == (2, True)
        events = [event.kind for event in await hub.services.registry.events(of_hub=True)]
        assert events.count("store_resend") == 2


@pytest.mark.parametrize("metric", ["flow", "level"])
async def test_the_quarantine_is_not_missing_in_the_store(tmp_path: Path, metric: str) -> None:
    """A batch that was never accepted is no entry that the store has acknowledged."""
    async with commanded_hub(tmp_path / "data") as hub:
        await hub.send("pump", message(1, 1.0, metric=metric))
        result = await hub.run("store", "resend", "--json")
        assert json.loads(result.stdout)["batches"] == (1 if metric == "flow" else 0)


async def test_a_rebuild_from_a_file_that_is_no_copy_fails(tmp_path: Path) -> None:
    """The rest is rebuilt, and the command lists what it used. DuckDB knows an extension for such a file."""
    data, copy = tmp_path / "data", tmp_path / "photos.db"
    async with opened_hub(data):
        pass
    with sqlite3.connect(copy) as connection:
        connection.execute("CREATE TABLE photo (name TEXT)")
    connection.close()
    arguments = ["store", "rebuild", "--data", str(data), "--from", str(copy)]
    result = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    assert result.exit_code == 1
    assert "0 readings from history.duckdb and the journal" in result.stdout
    assert "photos.db was left out: name another copy" in result.stderr
    assert "photos.db cannot be read" in result.stderr


def test_a_resend_since_a_time_in_the_future_is_refused(tmp_path: Path) -> None:
    """Nothing would be compared, and the answer would look as if nothing were missing."""
    arguments = ["store", "resend", "--data", str(tmp_path), "--since", "2199-01-01T00:00:00Z"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "is in the future" in result.output
