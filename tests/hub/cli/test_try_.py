"""`hub try` reads a file or standard input and stores nothing."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hub.cli.application import app

CASES = Path(__file__).parents[2] / "formats" / "cases"


def try_(*arguments: str | Path, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["try", *map(str, arguments)], input=stdin)


def test_the_output_has_format_readings_rules_and_settings() -> None:
    """Everything is on one screen, and the exit code is 0."""
    result = try_(CASES / "hour-24.csv")
    assert result.exit_code == 0
    assert "format    csv: " in result.stdout
    assert "2019-12-31T00:00:00Z" in result.stdout
    assert "kW" in result.stdout
    assert "nothing refused" in result.stdout
    assert 'time = ["Datum", "Uhrzeit"]' in result.stdout
    assert 'zone = "UTC"' not in result.stdout


def test_refused_values_are_listed_with_the_setting() -> None:
    """The exit code is 1, and the setting helps."""
    result = try_(CASES / "thousands-semicolon.csv")
    assert result.exit_code == 1
    assert "line 2, power: '1,234' can be" in result.stdout
    assert 'decimal = ","' in result.stdout
    assert try_(CASES / "thousands-semicolon.csv", "--thousands", ",").exit_code == 0


def test_the_printed_settings_are_a_rules_file(tmp_path: Path) -> None:
    """Options win over it."""
    settings = json.loads(try_(CASES / "sep-line.csv", "--json").stdout)["settings"]
    (tmp_path / "rules.toml").write_text(settings)
    again = json.loads(try_(CASES / "sep-line.csv", "--json", "--rules", tmp_path / "rules.toml").stdout)
    assert again["readings"] == 6
    named = try_(CASES / "sep-line.csv", "--json", "--rules", tmp_path / "rules.toml", "--device", "d-1")
    assert {row["device"] for row in json.loads(named.stdout)["first_rows"]} == {"d-1"}


def test_standard_input_and_compressed_files_are_read(tmp_path: Path) -> None:
    """The container is named."""
    assert json.loads(try_("-", "--json", stdin=b'{"t":21.5}\n').stdout)["first_rows"][0]["values"] == {"t": 21.5}
    (tmp_path / "log.gz").write_bytes(gzip.compress(b"21.5\n"))
    assert "value in gzip" in try_(tmp_path / "log.gz").stdout


def test_a_function_reads_frames(tmp_path: Path) -> None:
    """The file defines decode(frame)."""
    (tmp_path / "decode.py").write_text("def decode(frame):\n    return {'length': len(frame)}\n")
    result = try_("-", "--json", "--function", tmp_path / "decode.py", stdin=b"abc\n")
    assert json.loads(result.stdout)["first_rows"][0]["values"] == {"length": 3.0}
    (tmp_path / "decode.py").write_text("x = 1\n")
    assert "does not define decode(frame)" in try_("-", "--function", tmp_path / "decode.py", stdin=b"a").stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--zone", "Nowhere/City"], "time zone"),
        (["--format", "xml"], "xml"),
        (["--type", "temp"], "NAME=VALUE"),
        (["--rules", "none.toml"], "cannot be read"),
        (["--format", "function"], "--function"),
    ],
)
def test_wrong_options_end_the_command(arguments: list[str], sentence: str) -> None:
    """The exit code is 2."""
    result = try_("-", *arguments, stdin=b"21.5\n")
    assert result.exit_code == 2
    assert sentence in result.stderr


def test_a_file_that_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    """The exit code is 1."""
    assert "cannot be read" in try_(tmp_path / "none.csv").stderr
    empty = try_("-", stdin=b"")
    assert (empty.exit_code, "format    unknown: the input is empty" in empty.stdout) == (1, True)
    (tmp_path / "bad.gz").write_bytes(gzip.compress(b"x" * 1000)[:15])
    result = try_(tmp_path / "bad.gz")
    assert (result.exit_code, "incomplete" in result.stderr) == (1, True)


def test_control_characters_of_a_file_do_not_reach_the_terminal() -> None:
    """They are printed as escapes."""
    assert "\x1b" not in try_("-", stdin=b'{"a":"\\u001b[31m","\\u001b]0;x":1}\n\x1b[2J\n').stdout
