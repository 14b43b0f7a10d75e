"""`hub config`: check and show the settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from hub.cli.command import MISUSE, AsJson, Config, fail, settings_or_exit

app = typer.Typer(
    no_args_is_help=True,
    help="Check and show the settings of the hub.",
    epilog="Example:  hub config check --config hub.toml",
)


@app.command(epilog="Example:  hub config check --config hub.toml")
def check(config: Config = None) -> None:
    """Check the settings, and exit with 2 and the name of each wrong key.

    Warns of a certificate that clients refuse now or within 14 days.
    """
    # Imported here: it needs the libraries of the server, and `show` does not.
    from hub.app import HubError, check_settings

    settings = settings_or_exit(config)
    try:
        warnings = check_settings(settings)
    except HubError as error:
        fail("hub", str(error), MISUSE)
    for warning in warnings:
        typer.echo(f"hub: warning: {warning}", err=True)
    if config is None and Path("hub.toml").exists():
        typer.echo("hub: warning: no file was read: hub.toml needs --config hub.toml", err=True)
    typer.echo("the settings are valid")


@app.command(epilog="Example:  hub config show --config hub.toml")
def show(config: Config = None, as_json: AsJson = False) -> None:
    """Show the effective settings: command line, then environment (HUB_…), then file, then default."""
    values = settings_or_exit(config).model_dump(mode="json")
    if as_json:
        typer.echo(json.dumps(values))
        return
    for name, value in values.items():
        if not isinstance(value, dict) and name != "mqtt":
            typer.echo(f"{name} = {json.dumps(value)}")
    for name, value in values.items():
        if isinstance(value, dict):
            _show_table(f"[{name}]", value)
    for broker in values["mqtt"]:
        _show_table("[[mqtt]]", broker, "mqtt.")


def _show_table(title: str, values: dict[str, Any], prefix: str = "") -> None:
    """Print a table in TOML: first its values, then the tables inside it."""
    inner = {key: value for key, value in values.items() if _is_table(value)}
    typer.echo(f"\n{title}")
    for key, value in values.items():
        if key not in inner:
            typer.echo(f"{'# ' if value is None else ''}{key} = {json.dumps(value)}")
    for key, value in inner.items():
        if isinstance(value, dict):
            _show_table(f"[{prefix}{key}]", value)
        else:
            for element in value:
                _show_table(f"[[{prefix}{key}]]", element)


def _is_table(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))
