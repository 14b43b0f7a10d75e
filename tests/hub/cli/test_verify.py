"""`hub verify` on data directories of real hubs: what it prints, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hub.cli.application import app
from hub.cli.verify import print_findings
from integrity.finding import Finding
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
    assert [line[:2] for line in lines[:4]] == [
        ["file", "state"], ["registry.db", "intact"], ["journal.db", "intact"], ["history.duckdb", "intact"],
    ]  # fmt: skip
    # The small files have a line as soon as the hub has written them.
    small = {"journal.db.lock": "intact", "registry.db.state": "intact"}
    assert dict(line[:2] for line in lines[4:]).items() <= small.items()


async def test_a_damaged_file(data: Path) -> None:
    """A person reads the consequence and the next step, a program gets them as JSON; the exit code is 1."""
    (data / "history.duckdb").write_bytes(b"no database" * 1000)
    result = run(data)
    assert result.exit_code == 1
    assert ["history.duckdb", "damaged"] in [line.split()[:2] for line in result.stdout.splitlines()]
    assert "Next step: " in result.stdout
    findings = json.loads(run(data, "--json").stdout)
    assert [finding["intact"] for finding in findings[:3]] == [True, True, False]
    assert findings[2].keys() == {"file", "intact", "what", "consequence", "next_step"}


def test_a_meaning_that_several_findings_share_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Its line names each file once; another meaning has its own line."""
    shared = ("readings may be lost", "start the hub")
    print_findings(
        [Finding("journal.db", False, f"problem {number}", *shared) for number in range(15)]
        + [Finding("registry.db", False, "broken", *shared), Finding("a", False, "b", "c", "d")]
    )
    printed = capsys.readouterr().out
    assert printed.count("Next step: start the hub.") == 1
    assert "journal.db, registry.db: readings may be lost." in printed
    assert "a: c. Next step: d." in printed
    assert printed.count("problem ") == 15


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
