"""How a command ends: its exit codes, and the sentence that goes with a failure."""

from __future__ import annotations

from typing import NoReturn

import typer

FAILED = 1

MISUSE = 2
"""What was asked for cannot be meant; asking again in the same way will not help."""


def fail(command: str, message: str, status: int = FAILED) -> NoReturn:
    """Ends a command with a sentence on stderr. `command` is its name as it was typed ("hub flow")."""
    typer.echo(f"{command}: {message}", err=True)
    raise typer.Exit(status)
