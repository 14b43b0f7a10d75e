"""Groups of options, and text that is safe for a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from hub.cli.command import bytes_text, printable, time_text, with_option_groups


@given(st.text())
def test_text_cannot_control_the_terminal(text: str) -> None:
    """Only visible characters and line ends are printed, and visible text is unchanged."""
    shown = printable(text)
    assert all(character.isprintable() or character == "\n" for character in shown)
    if all(character.isprintable() for character in text):
        assert shown == text


def test_an_escape_sequence_is_spelled_out() -> None:
    """It is readable and has no effect."""
    assert printable("a\x1b[2Jb\n") == "a\\x1b[2Jb\n"


def test_times_are_utc_to_the_second() -> None:
    """The format equals that of the log."""
    assert time_text(1_700_000_000_999_999_999) == "2023-11-14 22:13:20"


@pytest.mark.parametrize(("size", "says"), [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (2_500_000, "2.5 MB")])
def test_sizes_are_short(size: int, says: str) -> None:
    """A size has at most three digits before the point, and a unit."""
    assert bytes_text(size) == says


@dataclass(frozen=True)
class Place:
    """A group of options for a test."""

    host: Annotated[str, typer.Option(help="Name of the machine.")]
    port: Annotated[int, typer.Option("--port")] = 8600


def grouped_app() -> typer.Typer:
    app = typer.Typer()

    @app.command()
    @with_option_groups
    def connect(names: list[str], place: Place, *, quiet: bool = False) -> None:
        """Connect to a place."""
        typer.echo(f"{names} {place} {quiet}")

    return app


def test_a_group_becomes_one_option_for_each_field() -> None:
    """Arguments, defaults, types and help are those of the fields; the command receives one value."""
    result = CliRunner().invoke(grouped_app(), ["a", "b", "--host", "h", "--quiet"])
    assert result.stdout == "['a', 'b'] Place(host='h', port=8600) True\n"
    result = CliRunner().invoke(grouped_app(), ["a", "--host", "h", "--port", "1"])
    assert result.stdout == "['a'] Place(host='h', port=1) False\n"
    text = CliRunner().invoke(grouped_app(), ["--help"]).stdout
    assert "Connect to a place." in text
    assert "Name of the machine." in text


@pytest.mark.parametrize(
    "arguments", [["a"], ["a", "--host", "h", "--port", "x"], ["a", "--host", "h", "--place", "p"]]
)
def test_a_field_without_default_is_required_and_checked(arguments: list[str]) -> None:
    """The name of the group itself is not an option."""
    assert CliRunner().invoke(grouped_app(), arguments).exit_code == 2
