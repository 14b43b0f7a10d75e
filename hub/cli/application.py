"""The `hub` command and its subcommands."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer
from typer import Option

from hub.cli import (
    access,
    audit,
    backup,
    config,
    desired,
    device,
    device_command,
    export,
    flow,
    import_,
    metric,
    mqtt,
    quarantine,
    run,
    store,
    token,
    try_,
    verify,
)

app = typer.Typer(
    name="hub",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Telemetry Hub: receive readings from devices, acknowledge them when they are on disk, store and show them.",
    epilog="First steps: `hub run --demo` starts a demo; `hub token create --role device --device NAME` adds a device.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"telemetry-hub {version('telemetry-hub')}")
        raise typer.Exit


@app.callback()
def options(
    wanted: Annotated[
        bool, Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of all subcommands."""


app.command("run")(run.run)
app.command("flow")(flow.flow)
app.command("audit")(audit.audit)
app.command("verify")(verify.verify)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.command("export")(export.export)
app.command("import")(import_.import_files)
app.command("try")(try_.try_input)
app.add_typer(access.app, name="access")
app.add_typer(config.app, name="config")
app.add_typer(device.app, name="device")
app.add_typer(device_command.app, name="command")
app.add_typer(desired.app, name="desired")
app.add_typer(metric.app, name="metric")
app.add_typer(mqtt.app, name="mqtt")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(store.app, name="store")
app.add_typer(token.app, name="token")
