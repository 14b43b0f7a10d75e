from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from device_sim.commands import app
from device_sim.report import Amounts, encode_report
from tests.device_sim.reports import GOOD, a_report


def call(*arguments: str) -> Result:
    """The command, as a terminal 200 columns wide would see it."""
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, arguments)


def test_a_report_is_shown(tmp_path: Path) -> None:
    """`report` shows what `run --json` wrote, and several side by side under their files' names."""
    (tmp_path / "monday.json").write_bytes(encode_report(GOOD))
    (tmp_path / "tuesday.json").write_bytes(encode_report(a_report(elapsed_s=77.7)))
    result = call("report", str(tmp_path / "monday.json"), str(tmp_path / "tuesday.json"))
    assert result.exit_code == 0
    assert "monday" in result.output
    assert "tuesday" in result.output
    assert "77.7 s" in result.output


def test_a_report_of_a_bad_run_fails(tmp_path: Path) -> None:
    """Scripts see by the exit code that one of the runs was not ok."""
    (tmp_path / "good.json").write_bytes(encode_report(GOOD))
    (tmp_path / "bad.json").write_bytes(encode_report(a_report(readings=Amounts(10, 9, 0, 1))))
    assert call("report", str(tmp_path / "good.json"), str(tmp_path / "bad.json")).exit_code == 1


def test_a_file_that_is_no_report_is_named(tmp_path: Path) -> None:
    """A wrong file is misuse, and the message says which."""
    (tmp_path / "other.json").write_text("{}")
    for file, says in (("other.json", "is not a report"), ("none.json", "cannot be read")):
        result = call("report", str(tmp_path / file))
        assert result.exit_code == 2
        assert f"{file} {says}" in result.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--hub", "ftp://x"], "not the URL of a hub"),
        (["--ca", "gone.pem"], "--ca gone.pem: No such file"),
        (["--client-certificate", "a.pem"], "--client-key is missing"),
        (["--assert", "lots==0"], "there is no 'lots'"),
        (["--profile", "boiler"], "there is no profile 'boiler'"),
        (["--json", "/nowhere/report.json"], "/nowhere/report.json cannot be written: No such file or directory"),
        (["--json", "/"], "/ cannot be written: Is a directory"),
        (["--prefix", "a b"], "'a b-weather-001' is no device id"),
        (["--prefix", "p" * 60], "is no device id: 1 to 64 letters"),
        (["--past", "24"], "'24' is not the length of a past; use for example 24h"),
        (["--devices", "0"], "Invalid value for '--devices'"),
    ],
)
def test_misuse_is_reported_before_anything_runs(arguments: list[str], says: str) -> None:
    """Wrong arguments exit with 2 and one sentence."""
    result = call("run", "--hub", "http://127.0.0.1:1", "--token", "t", *arguments)
    assert result.exit_code == 2
    assert says in result.output


def test_the_hub_and_the_token_are_needed() -> None:
    """Without --hub and HUB_URL there is nothing to do."""
    assert call("run", "--token", "t").exit_code == 2
    assert call("run", "--hub", "http://127.0.0.1:1").exit_code == 2
