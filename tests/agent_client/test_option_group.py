"""Groups of options on the command line."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from agent_client.option_group import option_words, with_option_groups


@dataclass(frozen=True)
class Place:
    """A group of options for a test."""

    host: Annotated[str, typer.Option(help="Name of the machine.")]
    port: Annotated[int, typer.Option("--port")] = 8600


@dataclass(frozen=True)
class Visit:
    """A group with another one inside it."""

    place: Place
    as_guest: Annotated[bool, typer.Option("--guest/--no-guest")] = True
    gift: Annotated[list[str] | None, typer.Option(help="What is given.")] = None
    stay_s: Annotated[float, typer.Option("--stay")] = 1.0


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


def test_a_group_can_contain_a_group() -> None:
    """All options are on one level; the command receives the values as it declared them."""
    app = typer.Typer()

    @app.command()
    @with_option_groups
    def visit(*, visit: Visit) -> None:
        typer.echo(visit)

    result = CliRunner().invoke(app, ["--host", "h", "--gift", "tea", "--gift", "salt", "--no-guest"])
    expected = Visit(Place("h"), as_guest=False, gift=["tea", "salt"])
    assert result.stdout == f"{expected}\n"


def test_options_that_differ_from_their_defaults_become_words_again() -> None:
    """A command that prints another one to copy leaves out the rest, and what is secret."""
    group = replace(Visit(Place("h")), as_guest=False, gift=["tea", "salt"], stay_s=2.5)
    expected = ["--no-guest", "--gift", "tea", "--gift", "salt", "--stay", "2.5"]
    assert option_words(group, without=["place"]) == expected
    assert option_words(Place("h", 1)) == ["--host", "h", "--port", "1"]
    assert option_words(Visit(Place("h")), without=["place"]) == []


@pytest.mark.parametrize(
    "arguments", [["a"], ["a", "--host", "h", "--port", "x"], ["a", "--host", "h", "--place", "p"]]
)
def test_a_field_without_default_is_required_and_checked(arguments: list[str]) -> None:
    """The name of the group itself is not an option."""
    assert CliRunner().invoke(grouped_app(), arguments).exit_code == 2
