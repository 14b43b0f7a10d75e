"""`hub verify` on data directories of real hubs: what it prints, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hub.cli.application import app
from tests.hub.http.opened_hub import opened_hub


@pytest.fixture
async def data(tmp_path: Path) -> Path:
    """Return the data directory of a hub that was stopped."""
    async with opened_hub(tmp_path / "data"):
        pass
    return tmp_path / "data"


def run(data: Path, *options: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(app, ["verify", "--data", str(data), *options])


async def test_an_intact_directory(data: Path) -> None:
    """Each file has a line, and the exit code is 0."""
    result = run(data)
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert [line[:2] for line in lines] == [
        ["file", "state"], ["registry.db", "intact"], ["journal.db", "intact"], ["history.duckdb", "intact"],
    ]  # fmt: skip


async def test_a_damaged_file(data: Path) -> None:
    """A person reads the consequence and the next step, a program gets them as JSON; the exit code is 1."""
    (data / "history.duckdb").write_bytes(b"no database" * 1000)
    result = run(data)
    assert result.exit_code == 1
    assert "history.duckdb  damaged" in result.stdout
    assert "Next step: " in result.stdout
    findings = json.loads(run(data, "--json").stdout)
    assert [finding["intact"] for finding in findings] == [True, True, False]
    assert findings[2].keys() == {"file", "intact", "what", "consequence", "next_step"}


async def test_a_file_that_cannot_be_checked(data: Path) -> None:
    """The exit code is 2: none is known to be damaged."""
    (data / "journal.db").unlink()
    (data / "journal.db").mkdir()
    result = run(data)
    assert result.exit_code == 2
    assert "not checked" in result.stdout


def test_a_directory_without_a_hub(tmp_path: Path) -> None:
    """The exit code is 2, and the sentence names the option."""
    result = run(tmp_path)
    assert result.exit_code == 2
    assert "--data" in result.stderr
