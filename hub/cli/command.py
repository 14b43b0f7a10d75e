"""The parts that every command shares: options, settings, exit codes, and output on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import Progress, ProgressColumn
from rich.table import Table
from rich.text import Text
from typer import Option

from agent_client.tls import CA_HELP, CA_VARIABLE, CERTIFICATE_HELP, CERTIFICATE_VARIABLE, KEY_HELP, KEY_VARIABLE
from hub.config.settings import Settings, SettingsError, load_settings
from wire.text import escaped

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
        Option(
            "--url",
            envvar="HUB_URL",
            metavar="URL",
            help="URL of the hub. Default: the address of the hub that runs on --data, else that in the settings.",
        ),
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
    ca: Annotated[Path | None, Option("--ca", envvar=CA_VARIABLE, metavar="FILE", help=CA_HELP)] = None
    client_certificate: Annotated[
        Path | None,
        Option("--client-certificate", envvar=CERTIFICATE_VARIABLE, metavar="FILE", help=CERTIFICATE_HELP),
    ] = None
    client_key: Annotated[Path | None, Option("--client-key", envvar=KEY_VARIABLE, metavar="FILE", help=KEY_HELP)] = (
        None
    )
    config: Config = None
    data: Data = None


def settings_or_exit(config: Path | None, **overrides: Any) -> Settings:
    """Return the settings, or end the command with 2. An override of None is an option that was not given."""
    try:
        return load_settings(config, {name: value for name, value in overrides.items() if value is not None})
    except SettingsError as error:
        fail("hub", str(error), MISUSE)


def fail(command: str, message: str, status: int = FAILED) -> NoReturn:
    """End the command with a sentence on stderr. `command` is its full name, for example "hub flow"."""
    typer.echo(f"{command}: {printable(message)}", err=True)
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
    """Return the values as cells of a table, each on one line. Brackets are not markup, numbers get separators."""
    return [Text(f"{value:,}" if isinstance(value, int) else escaped(str(value))) for value in values]


def printable(text: str) -> str:
    """Return the text with every invisible character spelled out, so that it cannot control the terminal."""
    return "\n".join(map(escaped, text.split("\n")))


def time_text(time_ns: int, form: str = SECONDS) -> str:
    """Return a time in UTC, by default to the second."""
    return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).strftime(form)


def bytes_text(size_bytes: int) -> str:
    """Return a size in bytes, kB or MB."""
    if size_bytes < 1_000:
        return f"{size_bytes} B"
    return f"{size_bytes / 1e3:.1f} kB" if size_bytes < 1_000_000 else f"{size_bytes / 1e6:.1f} MB"
