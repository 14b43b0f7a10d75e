"""The parts that every command shares: options and their groups, settings, exit codes, and output on a terminal."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Collection
from dataclasses import MISSING, dataclass, fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_type_hints

import typer
from rich.console import Console
from rich.progress import Progress, ProgressColumn
from rich.table import Table
from rich.text import Text
from typer import Option

from hub.config import Settings, SettingsError, load_settings

FAILED = 1

MISUSE = 2
"""Exit code for options that cannot work; the same command fails again."""

WIDE = 400
"""Columns of output into a file or a pipe, where folding lines would only break them."""

MINUTES = "%Y-%m-%d %H:%M"
SECONDS = "%Y-%m-%d %H:%M:%S"

Config = Annotated[Path | None, Option("--config", help="TOML file with settings.", envvar="HUB_CONFIG")]
Data = Annotated[Path | None, Option("--data", help="Directory of all data that the hub keeps.")]
AsJson = Annotated[bool, Option("--json", help="Print JSON, for programs.")]
Yes = Annotated[bool, Option("--yes", help="Do not ask for confirmation.")]


@dataclass(frozen=True)
class HubOptions:
    """Options of a command that calls a running hub; None for an option that was not given."""

    url: Annotated[
        str | None,
        Option("--url", envvar="HUB_URL", metavar="URL", help="URL of the hub. Default: the address in the settings."),
    ] = None
    token: Annotated[
        str | None,
        Option(
            "--token",
            envvar="HUB_TOKEN",
            metavar="TOKEN",
            help="Access token; better set HUB_TOKEN. Not needed on the machine of the hub, which reads --data.",
        ),
    ] = None
    config: Config = None
    data: Data = None


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with each dataclass parameter replaced by one option for each field of the dataclass.

    Typer reads options from a flat signature. With this decorator a command declares a group of options once and
    receives it as one value.
    """
    signature = inspect.signature(command, eval_str=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, Any] = {}
    for name, parameter in signature.parameters.items():
        group = parameter.annotation
        if not is_dataclass(group):
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        groups[name] = group
        hints = get_type_hints(group, include_extras=True)
        parameters += [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if field.default is MISSING else field.default,
                annotation=hints[field.name],
            )
            for field in fields(group)
        ]

    @functools.wraps(command)
    def flat(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        command(**values)

    del flat.__wrapped__  # otherwise inspect reports the original signature
    flat.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    flat.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return flat


def settings_or_exit(config: Path | None, **overrides: Any) -> Settings:
    """Return the settings, or end the command with 2. An override of None is an option that was not given."""
    try:
        return load_settings(config, {name: value for name, value in overrides.items() if value is not None})
    except SettingsError as error:
        fail("hub", str(error), MISUSE)


def fail(command: str, message: str, status: int = FAILED) -> NoReturn:
    """End the command with a sentence on stderr. `command` is its full name, for example "hub flow"."""
    typer.echo(f"{command}: {message}", err=True)
    raise typer.Exit(status)


def stdout_console() -> Console:
    """Return a console for stdout, as wide as the terminal or WIDE without one."""
    return Console(width=None if sys.stdout.isatty() else WIDE)


def progress_bar(*columns: str | ProgressColumn, visible: bool = True) -> Progress:
    """Return a transient progress bar on stderr. It is shown on a terminal only, and only if `visible`."""
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not (visible and console.is_terminal))


def plain_table(*names: str, numbers: Collection[str] = ()) -> Table:
    """Return a table without lines. The columns in `numbers` are aligned right and never folded."""
    table = Table(box=None, pad_edge=False)
    for name in names:
        if name in numbers:
            table.add_column(name, justify="right", no_wrap=True)
        else:
            table.add_column(name, overflow="fold")
    return table


def cells(*values: object) -> list[Text]:
    """Return the values as cells of a table. Brackets in a message are not markup, numbers get separators."""
    return [Text(f"{value:,}" if isinstance(value, int) else printable(str(value))) for value in values]


def printable(text: str) -> str:
    """Return the text with every invisible character spelled out, so that it cannot control the terminal."""
    return "".join(
        character if character.isprintable() or character == "\n" else character.encode("unicode_escape").decode()
        for character in text
    )


def time_text(time_ns: int, form: str = SECONDS) -> str:
    """Return a time in UTC, by default to the second."""
    return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).strftime(form)


def bytes_text(size_bytes: int) -> str:
    """Return a size in bytes, kB or MB."""
    if size_bytes < 1_000:
        return f"{size_bytes} B"
    return f"{size_bytes / 1e3:.1f} kB" if size_bytes < 1_000_000 else f"{size_bytes / 1e6:.1f} MB"
