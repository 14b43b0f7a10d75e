"""`hub backup` and `hub restore`: what they print, and the hold on the store of a running hub."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hub.app.errors import HubError
from hub.cli.application import app
from hub.cli.backup import store_hold
from hub.cli.client import HubClient
from hub.config.address import RunningHub, published_address
from tests.hub.cli.hub_command import batch, commanded_hub
from tests.hub.http.opened_hub import opened_hub


def run(*arguments: str | Path) -> Result:
    """Run a command."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


async def test_a_backup_of_a_running_hub_is_restored(tmp_path: Path) -> None:
    """The commands find the hub by its data directory, and need no token. Restored files need an empty directory."""
    data, folder, new = tmp_path / "data", tmp_path / "backup", tmp_path / "new"
    async with commanded_hub(data) as hub:
        await hub.send("pump", batch(1, 1.0), batch(2, 2.0))
        with published_address(data, RunningHub(hub.url.replace("ws://", "http://"))):
            verified = await asyncio.to_thread(run, "verify", "--data", data, "--json")
            result = await asyncio.to_thread(run, "backup", folder, "--data", data)
    assert verified.exit_code == 0, verified.output
    assert result.exit_code == 0, result.output
    assert "3 files" in result.stdout
    assert "the journal up to offset 2" in result.stdout
    again = run("backup", folder, "--data", data)
    assert again.exit_code == 1
    assert "exists already" in again.stderr
    restored = run("restore", folder, "--data", new)
    assert restored.exit_code == 0, restored.output
    assert "Next steps:" in restored.stdout
    refused = run("restore", folder, "--data", new)
    assert refused.exit_code == 1
    assert "--replace" in refused.stderr
    replaced = json.loads(run("restore", folder, "--data", new, "--replace", "--json").stdout)
    assert Path(replaced["replaced"]).is_dir()
    assert replaced["last_offset"] == 2


async def test_a_backup_of_a_damaged_hub_is_made_and_fails(tmp_path: Path) -> None:
    """A copy of damaged files is better than none, and no script takes it for a good one."""
    data, folder = tmp_path / "data", tmp_path / "backup"
    async with opened_hub(data):
        pass
    (data / "history.duckdb").write_bytes(b"no database" * 1000)
    result = run("backup", folder, "--data", data)
    assert result.exit_code == 1
    assert "history.duckdb" in result.stdout
    assert "not intact" in result.stderr
    restored = run("restore", folder, "--data", tmp_path / "new")
    assert "damaged when the backup was made: history.duckdb" in restored.stdout


async def test_a_hold_that_ended_early_is_an_error(tmp_path: Path) -> None:
    """The files may have changed: the copy must not count as consistent."""
    async with commanded_hub(tmp_path / "data") as hub:
        loop = asyncio.get_running_loop()

        def copy() -> None:
            with HubClient(hub.url.replace("ws://", "http://"), hub.admin) as client, store_hold(client) as renew:
                renew()
                asyncio.run_coroutine_threadsafe(hub.services.holds.close(), loop).result()

        with pytest.raises(HubError, match="not consistent"):
            await asyncio.to_thread(copy)


async def test_a_backup_is_no_part_of_a_data_directory(tmp_path: Path) -> None:
    """A restore would move it away while it reads it. A directory without a hub stays empty."""
    data, folder, empty = tmp_path / "data", tmp_path / "backup", tmp_path / "empty"
    empty.mkdir()
    async with opened_hub(data):
        pass
    assert run("backup", folder, "--data", data).exit_code == 0
    for arguments, what in [
        (("backup", data / "backup", "--data", data), "is in the data directory"),
        (("restore", folder, "--data", folder, "--replace"), "contain each other"),
        (("restore", folder, "--data", tmp_path, "--replace"), "contain each other"),
        (("backup", tmp_path / "other", "--data", empty), "there is no hub"),
        (("store", "rebuild", "--data", empty), "there is no hub"),
    ]:
        result = await asyncio.to_thread(run, *arguments)
        assert result.exit_code == 1
        assert what in result.stderr
    assert list(empty.iterdir()) == []
    assert not (data / "backup").exists()
