"""Options that several subcommands share, and how wrong settings are told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hub.settings import Settings, SettingsError, load_settings

MISUSE = 2

Config = Annotated[Path | None, typer.Option("--config", help="TOML file with settings.", envvar="HUB_CONFIG")]
Data = Annotated[Path | None, typer.Option("--data", help="Directory that holds everything the hub keeps.")]


def settings_or_exit(config: Path | None, **overrides: Any) -> Settings:
    """The settings; where they cannot be used, says why and exits with 2. Options that were not given are None."""
    try:
        return load_settings(config, {name: value for name, value in overrides.items() if value is not None})
    except SettingsError as error:
        typer.echo(f"hub: {error}", err=True)
        raise typer.Exit(MISUSE) from None
