"""`hub store setup`: makes the bucket in InfluxDB that the settings name."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from hub.cli.exit import MISUSE, fail
from hub.cli.options import Config, settings_or_exit
from hub.config import MAX_DAYS, StoreSettings
from hub.model.store import StoreError

COMMAND = "hub store setup"


def setup_store(
    keep: Annotated[
        float | None,
        typer.Option(
            min=0, max=MAX_DAYS, metavar="DAYS", help="Retention; 0 is for ever. Without it, it is left as it is."
        ),
    ] = None,
    config: Config = None,
) -> None:
    """Make the bucket that the hub writes to (InfluxDB 1: the database and its retention policy), with its retention.

    Where it is there already nothing changes but the retention asked for, so the command can be given again. Then it is
    tried whether the hub may write and read there. What the credentials may not do is said; the hub itself needs to
    write and read the one bucket only, so another token can be used just for this command: INFLUXDB_TOKEN=… hub store
    setup.

    Examples:  hub store setup  ·  hub store setup --keep 365
    """
    settings = settings_or_exit(config).store
    if settings.url is None:
        fail(COMMAND, "the store is DuckDB, which needs none: set store.url for InfluxDB", MISUSE)
    try:
        typer.echo(asyncio.run(_set_up(settings, keep)))
    except StoreError as error:
        fail(COMMAND, str(error))


async def _set_up(settings: StoreSettings, keep: float | None) -> str:
    # Imported only here: the client takes a second to import.
    from hub.app.store import influxdb_connection
    from hub.storage.influxdb.client import InfluxdbClient
    from hub.storage.influxdb.setup import set_up

    async with InfluxdbClient(*influxdb_connection(settings)) as server:
        version = await server.version()
        setup = await set_up(server, keep_days=keep)
        where = f"{server.target.bucket} at {server.target.url} (InfluxDB {version.text})"
    done = "made" if setup.created else "changed" if setup.changed else "there already"
    kept = f"for {setup.keep_s / 86_400:g} days" if setup.keep_s else "for ever"
    return f"{where}: {done}; readings are kept {kept}; the hub may write and read there"
