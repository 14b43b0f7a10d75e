"""Options that several subcommands share, and the settings that they mean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from hub.cli.exit import MISUSE, fail
from hub.config import Settings, SettingsError, load_settings

Config = Annotated[Path | None, typer.Option("--config", help="TOML file with settings.", envvar="HUB_CONFIG")]
Data = Annotated[Path | None, typer.Option("--data", help="Directory that holds everything the hub keeps.")]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="HUB_URL",
        metavar="URL",
        help="The hub. Without it, the address the settings say it listens on.",
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar="HUB_TOKEN",
        metavar="TOKEN",
        help="Better given as HUB_TOKEN. On the hub's own machine none is needed: the data directory lets you in.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]


class HubOptions(NamedTuple):
    """What a command was told of the running hub that it asks; None for an option that was not given."""

    url: str | None = None
    token: str | None = None
    config: Path | None = None
    data: Path | None = None


def settings_or_exit(config: Path | None, **overrides: Any) -> Settings:
    """The settings; where they cannot be used, says why and exits with 2. Options that were not given are None."""
    try:
        return load_settings(config, {name: value for name, value in overrides.items() if value is not None})
    except SettingsError as error:
        fail("hub", str(error), MISUSE)
