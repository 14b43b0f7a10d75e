"""The parameters of a command on the command line: read by the types that a device declares, and shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import msgspec
import typer

from hub.cli.command import MISUSE, fail, printable
from hub.cli.values import typed_values
from wire.command import CommandId


def read_parameters(command: str, words: Sequence[str], known: dict[str, Any]) -> dict[str, object]:
    """Return the parameters by the types that a device declares. The hub checks everything else."""
    return typed_values(command, words, {parameter["name"]: parameter["type"] for parameter in known["parameters"]})


def check_id(command: str, id: str) -> None:
    """End the command if this cannot be the id of a command or of a job."""
    try:
        msgspec.convert(id, CommandId)
    except msgspec.ValidationError:
        fail(command, f"{id} is no id: an id has 16 to 32 hexadecimal characters (0 to 9, a to f)", MISUSE)


def confirm(command: str, to: str, known: dict[str, Any]) -> bool:
    """Ask whether to send this command to a device, or to several; end the command if not."""
    if not sys.stdin.isatty():
        fail(command, f"{known['name']} asks for a confirmation: add --yes", MISUSE)
    about = f" ({known['description']})" if known["description"] else ""
    typer.confirm(printable(f"send {known['name']}{about} to {to}?"), abort=True, err=True)
    return True


def command_text(row: dict[str, Any]) -> str:
    """Return the name and the parameters of a command in one line."""
    return " ".join((row["name"], *(f"{name}={value_text(value)}" for name, value in row["parameters"].items())))


def value_text(value: object) -> str:
    """Return a parameter or a result in one line."""
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
