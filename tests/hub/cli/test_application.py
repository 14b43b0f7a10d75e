"""The help of the `hub` command and of each of its subcommands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from hub.cli.application import app


def all_commands() -> Iterator[tuple[str, ...]]:
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        yield (name,)
        for inner in getattr(command, "commands", ()):
            yield (name, inner)


@pytest.mark.parametrize("command", [*all_commands()], ids=" ".join)
def test_every_command_shows_an_example(command: tuple[str, ...]) -> None:
    """The example begins with the name of the command or of its group."""
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert f"hub {command[0]}" in result.stdout.partition("Example")[2]


def test_the_help_names_the_first_steps() -> None:
    """A person who knows nothing can start the demo and add a device."""
    text = CliRunner().invoke(app, ["--help"]).stdout
    assert "hub run --demo" in text
    assert "hub token create" in text
