"""`hub store copy`: takes a hub's history from one store to another."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from hub.cli.exit import fail
from hub.cli.options import AsJson, Config, Data, settings_or_exit
from hub.cli.terminal import plain_table, progress_bar
from hub.model.journal import JournalError
from hub.model.store import StoreError
from hub.registry import RegistryError

COMMAND = "hub store copy"

MAX_SHOWN = 50
"""Series that differ, in the table; more are counted. JSON has all."""


def copy(
    source: Annotated[
        str, typer.Option("--from", metavar="STORE", help="duckdb, influxdb, or the path of a DuckDB file.")
    ],
    target: Annotated[str, typer.Option("--to", metavar="STORE", help="The same; it must hold nothing else.")],
    as_json: AsJson = False,
    config: Config = None,
    data: Data = None,
) -> None:
    """Copy every reading into another store and compare the two, series by series. The hub must not run meanwhile.

    duckdb is the file in the data directory, influxdb the bucket of the settings. A copy that was cut off goes on when
    the same command is given again. In the end the hub can run with the new store: it goes on where it stopped. The
    comparison reads both stores; exit code 1 and a table where they differ. Readings are copied; what only rollups know
    of, because its readings are expired, is not.

    Examples:  hub store copy --from duckdb --to influxdb  ·  hub store copy --from duckdb --to /new/history.duckdb
    """
    # Imported only here: the other subcommands need none of the stores' libraries.
    from hub.app import HubError
    from hub.app.copy import copy_history

    settings = settings_or_exit(config, data=data)
    columns = (
        TextColumn("copying and comparing"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} readings"),
        TimeRemainingColumn(),
    )
    try:
        with progress_bar(*columns) as progress:
            task = progress.add_task("", total=0)
            report = asyncio.run(
                copy_history(
                    settings,
                    source=source,
                    target=target,
                    total=lambda readings: progress.update(task, total=readings),
                    tell=lambda readings: progress.update(task, completed=readings),
                )
            )
    except KeyboardInterrupt:
        fail(COMMAND, "stopped; the same command goes on where it was")
    except (HubError, JournalError, StoreError) as error:
        fail(COMMAND, str(error))
    except RegistryError as error:
        fail(COMMAND, error.message)
    copied, different = report.copied, report.differences
    if as_json:
        facts = {
            "copied": copied.written,
            "before": copied.before,
            "refused": copied.refused,
            "series": report.series,
            "differences": [
                {"device": one.series.device, "metric": one.series.metric, "source": one.source, "target": one.target}
                for one in different
            ],
        }
        typer.echo(json.dumps(facts, ensure_ascii=False))
    else:
        typer.echo(
            f"{copied.written:,} readings copied, {copied.before:,} were there before, {copied.refused:,} refused; "
            f"{report.series - len(different):,} of {report.series:,} series are the same in both stores"
        )
    if different:
        if not as_json:
            table = plain_table("device", "metric", "source", "target", numbers=("source", "target"))
            for one in different[:MAX_SHOWN]:
                cells = (one.series.device, one.series.metric, f"{one.source:,}", f"{one.target:,}")
                table.add_row(*map(Text, cells))
            Console(stderr=True).print(table)
        fail(COMMAND, f"{len(different):,} series differ, in number or in content; the source is as it was")
