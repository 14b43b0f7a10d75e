"""`hub import` as a person uses it: output, rejected input, exit codes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from hub.cli.application import app
from tests.end_to_end.hub import COMMAND, running_hub

TABLE = "time;temp [°C]\n01.02.2024 10:00;1,5\n15.02.2024 10:00;oops\n16.02.2024 10:00;2,5\n"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["import", *arguments])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "log.csv"
    path.write_text(TABLE)
    return path


def test_a_dry_run_shows_readings_and_errors(table: Path) -> None:
    """It prints the mapping, the first rows, devices, metrics and the bad line. It exits as the import would: with 2
    without a zone, with 1 for a bad line."""
    result = run(str(table), "--dry-run", "--device", "boiler-1")
    assert result.exit_code == 2
    for shown in (
        'decimal = ","',
        "2024-02-01T10:00:00.000Z",
        "temp (float °C)",
        "2 readings of 1 device in ",
        "set --zone",
    ):
        assert shown in result.stdout, shown
    assert "log.csv, line 3: temp: oops is not a number" in result.stderr
    assert "hub import: the times in log.csv have no time zone: set --zone" in result.stderr
    assert run(str(table), "--dry-run", "--device", "boiler-1", "--zone", "UTC").exit_code == 1
    good = run(str(table), "--dry-run", "--device", "boiler-1", "--no-value", "oops", "--zone", "Europe/Berlin")
    assert good.exit_code == 0
    assert "2024-02-01T09:00:00.000Z" in good.stdout


def test_a_dry_run_prints_a_mapping_file(table: Path, tmp_path: Path) -> None:
    """The file can be saved, edited and used."""
    shown = run(str(table), "--dry-run", "--device", "boiler-1").stdout
    (tmp_path / "mapping.toml").write_text(shown.partition("\n\nline ")[0])
    result = run(str(table), "--dry-run", "--mapping", str(tmp_path / "mapping.toml"), "--zone", "UTC", "--json")
    (part,) = json.loads(result.stdout)["files"]
    assert (part["readings"], part["refused"]) == (2, {"type": 1})


def test_rejected_lines_are_written_to_a_file(table: Path, tmp_path: Path) -> None:
    """The file has the header, so the corrected file is imported with the same options."""
    rejects = tmp_path / "rejects.csv"
    options = ("--device", "a", "--zone", "UTC", "--rejects", str(rejects))
    assert run(str(table), "--dry-run", *options).exit_code == 1
    assert rejects.read_text() == "time;temp [°C]\n15.02.2024 10:00;oops\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "--device"),
        (("--device", "a b"), "no device id"),
        (("--device", "a", "--time", "none"), "no column 'none'"),
        (("--device", "a", "--zone", "Mars/Base"), "time zone 'Mars/Base' is unknown"),
        (("--device", "a", "--type", "temp=number"), "is not a type"),
        (("--device", "a", "--unit", "temp"), "NAME=VALUE"),
        (("--device", "a", "--column", "temperature"), "no column 'temperature'"),
        (("--device", "a", "--delimiter", ",,"), "delimiter"),
        (("--device", "a", "--mapping", "none.toml"), "cannot be read"),
    ],
)
def test_misuse_is_reported(table: Path, options: tuple[str, ...], said: str) -> None:
    """The exit code is 2, and the sentence says what to do, before any request to a hub."""
    result = run(str(table), "--url", "http://127.0.0.1:9", "--token", "t", *options)
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr


def test_an_unreachable_hub_is_reported(table: Path) -> None:
    """The error appears before the file is read."""
    result = run(str(table), "--url", "http://127.0.0.1:9", "--token", "t", "--device", "a", "--zone", "UTC")
    assert result.exit_code == 1
    assert "does not answer" in result.stderr


async def test_on_the_hubs_own_machine_no_token_is_needed(table: Path, tmp_path: Path) -> None:
    """Temporary tokens are used. Values of another type than in the hub are rejected before they are sent, and a dry
    run says the same. Batches that the hub rejects are reported with their lines and are in quarantine."""
    other = tmp_path / "other.csv"
    other.write_text("time,temp\n2024-03-01T00:00:00Z,on\n2024-03-01T00:00:01Z,off\n")
    async with running_hub(tmp_path / "data") as hub:
        data = ("--url", hub.url, "--data", str(hub.data))
        first = await hub_import(str(table), "--device", "a", "--zone", "UTC", *data)
        assert first["files"][0]["stored"] == 2
        reports = [await hub_import(str(other), "--device", "a", *data, *dry) for dry in ((), ("--dry-run",))]
        for (part,) in (report["files"] for report in reports):
            assert (part["stored"], part["quarantined"], part["refused"]) == (0, 0, {"type": 2})
            assert part["refusals"][0]["message"].startswith("temp: on is not a number")
        # A gateway may not read what metrics the hub has.
        gateway = ("--url", hub.url, "--token", await hub.token("gateway", "--devices", "*"))
        report = await hub_import(str(other), "--device", "a", "--type", "temp=string", *gateway)
        (part,) = report["files"]
        assert (part["stored"], part["quarantined"], part["refused"]) == (0, 2, {"hub": 2})
        assert "temp is declared as string" in part["refusals"][0]["message"]
        flow = await hub.settled()
        assert (flow["totals"]["stored"], flow["totals"]["quarantined_batches"]) == (2, 1)


async def hub_import(*arguments: str) -> Any:
    """Run an import in its own process and return its report."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "import", *arguments, "--json", stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return json.loads(out)
