"""Tests that docs/README.md lists the commands that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.main import get_command

import device_agent.commands
import device_sim.commands
from hub.cli import application

INDEX = (Path(__file__).parents[2] / "docs" / "README.md").read_text(encoding="utf-8")


def commands_of(app: typer.Typer, program: str) -> Iterator[str]:
    """Yield the full name of every command of a program."""
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        yield from [f"{program} {name} {sub}" for sub in inner] if inner else [f"{program} {name}"]


def documented_commands(program: str) -> set[str]:
    """Return the commands of a program in the table: "`hub token create`, `list`" names two."""
    names = set()
    for cell in re.findall(rf"^\| (`{program} .+?) \|", INDEX.partition("## Commands")[2], re.MULTILINE):
        first, *others = re.findall(r"`([^`]+)`", cell)
        words = [word for word in first.split() if re.fullmatch(r"[a-z-]+", word) and word != "-o"]
        names |= {" ".join(words), *(" ".join([*words[:-1], other]) for other in others)}
    return names


@pytest.mark.parametrize(
    ("app", "program"),
    [
        (application.app, "hub"),
        (device_agent.commands.app, "device-agent"),
        (device_sim.commands.app, "device-sim"),
    ],
)
def test_the_index_lists_every_command_and_no_other(app: typer.Typer, program: str) -> None:
    """The table of commands agrees with each program."""
    assert documented_commands(program) == set(commands_of(app, program))
