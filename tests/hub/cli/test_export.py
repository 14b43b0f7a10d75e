"""`hub export` with a running hub: every format, the selection, and what happens to the file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from hub.cli.application import app
from tests.hub.cli.hub_command import CommandedHub, batch, commanded_hub
from wire import device as messages


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[CommandedHub]:
    """Run a hub with three readings of `pump` and one of `boiler`."""
    async with commanded_hub(tmp_path_factory.mktemp("hub")) as running:
        await running.send("pump", batch(1, 1.5), batch(2, 2.5), batch(3, 3.5))
        await running.send("boiler", batch(1, 9.0))
        yield running


@pytest.mark.parametrize("suffix", [".csv", ".line", ".lp", ".parquet", ".arrow", ".arrows"])
async def test_the_suffix_decides_the_format(hub: CommandedHub, tmp_path: Path, suffix: str) -> None:
    """The report counts readings and bytes, and no partial file stays."""
    path = tmp_path / f"out{suffix}"
    done = await hub.run("export", "pump", "-o", str(path))
    assert done.exit_code == 0, done.output
    assert done.stderr == f"3 readings, {path.stat().st_size:,} bytes in {path}\n"
    assert list(tmp_path.iterdir()) == [path]
    match suffix:
        case ".csv":
            assert len(path.read_text().splitlines()) == 4
        case ".line" | ".lp":
            assert [line.rpartition(" ")[2] for line in path.read_text().splitlines()] == [
                "1000000000", "2000000000", "3000000000"
            ]  # fmt: skip
        case ".parquet":
            assert pq.read_table(path).num_rows == 3
        case _:
            assert pa.ipc.open_stream(path.read_bytes()).read_all().num_rows == 3


async def test_stdout_gets_csv(hub: CommandedHub) -> None:
    """With the selected devices, metrics and times; the end is not included."""
    everything = await hub.run("export", "*", "-o", "-")
    assert len(everything.stdout.splitlines()) == 5
    some = await hub.run("export", "*", "-o", "-", "--metric", "fl*", "--from", "2000000000", "--to", "3000000000")
    _, row = some.stdout.splitlines()
    assert "2.5" in row
    assert some.stderr == "1 reading\n"
    zoned = await hub.run("export", "boiler", "-o", "-", "--tz", "Asia/Tokyo")
    assert "09:00:01" in zoned.stdout


async def test_readings_of_the_future_belong_to_everything(tmp_path: Path) -> None:
    """A clock was ahead. With a relative start, too, which counts from now; an end excludes them."""
    async with commanded_hub(tmp_path) as running:
        await running.send("clock", batch(1, 1.5), messages.Data(2, [4_000_000_000 * 10**9], {"flow": [2.5]}))
        for options, rows in (([], 2), (["--from", "now"], 1), (["--to", "now"], 1)):
            done = await running.run("export", "clock", "-o", "-", *options)
            assert len(done.stdout.splitlines()) == rows + 1, done.output


async def test_nothing_selected_is_reported(hub: CommandedHub, tmp_path: Path) -> None:
    """With where to look; the file exists and is empty but for its header."""
    none = await hub.run("export", "none", "-o", str(tmp_path / "a.csv"))
    assert none.exit_code == 0
    assert "0 readings" in none.stderr
    assert "which devices and metrics exist" in none.stderr


async def test_an_existing_file_is_kept(hub: CommandedHub, tmp_path: Path) -> None:
    """Unless --force is given; a failed export leaves the old file too."""
    path = tmp_path / "a.csv"
    path.write_text("mine")
    refused = await hub.run("export", "pump", "-o", str(path))
    assert (refused.exit_code, "overwrite it with --force" in refused.stderr, path.read_text()) == (2, True, "mine")
    failed = await hub.run("export", "pump", "-o", str(path), "--force", "--tz", "Mars/Base")
    assert (failed.exit_code, path.read_text(), list(tmp_path.iterdir())) == (2, "mine", [path])
    done = await hub.run("export", "pump", "-o", str(path), "--force")
    assert (done.exit_code, len(path.read_text().splitlines())) == (0, 4)


async def test_a_folder_that_does_not_exist_is_reported(hub: CommandedHub, tmp_path: Path) -> None:
    """The sentence names the file and the reason."""
    done = await hub.run("export", "pump", "-o", str(tmp_path / "gone" / "a.csv"))
    assert done.exit_code == 1
    assert "No such file or directory" in done.stderr


def test_an_unknown_suffix_needs_a_format(tmp_path: Path) -> None:
    """Before any request to a hub."""
    options = ["--url", "http://127.0.0.1:9", "--token", "t"]
    result = CliRunner().invoke(app, ["export", "pump", "-o", str(tmp_path / "a.xls"), *options])
    assert (result.exit_code, "set --format" in result.stderr) == (2, True)
