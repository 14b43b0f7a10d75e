"""`hub store`: compact DuckDB's file, rebuild a damaged one, copy the history to another store, prepare InfluxDB."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from typer import Option

from hub.cli.command import (
    MISUSE,
    AsJson,
    Config,
    Data,
    bytes_text,
    cells,
    fail,
    plain_table,
    printable,
    progress_bar,
    settings_or_exit,
)
from hub.config.sections import MAX_DAYS, StoreSettings
from hub.config.settings import Settings
from hub.model.journal import JournalError
from hub.model.store import StoreError
from hub.registry.database import RegistryError
from wire.text import plural

if TYPE_CHECKING:
    from hub.app.copy import CopyReport
    from hub.app.rebuild import RebuildReport

MAX_SHOWN = 50
"""Rows in the table of series that differ; further ones are counted. JSON contains all."""

app = typer.Typer(
    no_args_is_help=True,
    help="Maintain the store, which holds the history.",
    epilog="Example:  hub store copy --from duckdb --to influxdb",
)


@app.command("compact", epilog="Example:  hub store compact --data /var/lib/hub")
def compact_store(config: Config = None, data: Data = None) -> None:
    """Rewrite DuckDB's file without unused space, and sorted, which makes queries for old days faster.

    Stop the hub first. The new file is written beside the old one, so the disk needs as much free space again. It
    replaces the old file when it is complete and contains every reading; an interruption changes nothing.
    """
    # Imported here: the other commands do not need DuckDB.
    from hub.storage.duckdb.compaction import compact
    from hub.storage.duckdb.database import FILE_NAME

    settings = settings_or_exit(config, data=data)
    columns = (TextColumn("compacting"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    try:
        with progress_bar(*columns) as progress:
            task = progress.add_task("", total=1.0)
            compacted = compact(
                settings.data / FILE_NAME,
                memory_limit=settings.store.memory_limit,
                threads=settings.store.threads,
                report_progress=lambda share: progress.update(task, completed=share),
            )
    except StoreError as error:
        fail("hub store compact", str(error))
    freed_bytes = max(0, compacted.before_bytes - compacted.after_bytes)
    typer.echo(
        f"{bytes_text(compacted.before_bytes)} before, {bytes_text(compacted.after_bytes)} now: "
        f"{bytes_text(freed_bytes)} freed"
    )


@app.command(
    "copy",
    epilog=(
        "Examples:\n\n  hub store copy --from duckdb --to influxdb\n\n"
        "  hub store copy --from duckdb --to /new/history.duckdb"
    ),
)
def copy_store(
    source: Annotated[str, Option("--from", metavar="STORE", help="duckdb, influxdb, or the path of a DuckDB file.")],
    target: Annotated[
        str, Option("--to", metavar="STORE", help="Likewise; it must not contain the history of another hub.")
    ],
    as_json: AsJson = False,
    config: Config = None,
    data: Data = None,
) -> None:
    """Copy every reading into another store, and compare the two stores series by series.

    Stop the hub first. duckdb is the file in the data directory, influxdb the bucket in the settings. The same command
    continues an interrupted copy. Afterwards the hub can run with the new store and continues where it stopped. If the
    stores differ, the command prints a table and exits with 1. Readings are copied; rollups of expired readings are
    not.
    """
    report = _copy(settings_or_exit(config, data=data), source, target)
    if as_json:
        typer.echo(json.dumps(_copy_facts(report), ensure_ascii=False))
    else:
        _print_copy(report)
    if report.differences:
        fail(
            "hub store copy",
            f"{plural(len(report.differences), 'series differs', 'series differ')} in number or content. The source is "
            "unchanged; repeat the copy",
        )


def _copy(settings: Settings, source: str, target: str) -> CopyReport:
    """Copy and compare with a progress bar. An error ends the command."""
    # Imported here: the other commands need none of the libraries of the stores.
    from hub.app import HubError
    from hub.app.copy import copy_history

    columns = (
        TextColumn("copying and comparing"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} readings"),
        TimeRemainingColumn(),
    )
    try:
        with progress_bar(*columns) as progress:
            task = progress.add_task("", total=0)
            return asyncio.run(
                copy_history(
                    settings,
                    source=source,
                    target=target,
                    on_total=lambda readings: progress.update(task, total=readings),
                    on_progress=lambda readings: progress.update(task, completed=readings),
                )
            )
    except KeyboardInterrupt:
        fail("hub store copy", "stopped; the same command continues the copy")
    except RegistryError as error:
        fail("hub store copy", error.message)
    except (HubError, JournalError, StoreError) as error:
        fail("hub store copy", str(error))


def _copy_facts(report: CopyReport) -> dict[str, object]:
    copied = report.copied
    return {
        "copied": copied.written,
        "before": copied.before,
        "refused": copied.refused,
        "series": report.series,
        "differences": [
            {
                "device": difference.series.device,
                "metric": difference.series.metric,
                "source": difference.source,
                "target": difference.target,
            }
            for difference in report.differences
        ],
    }


def _print_copy(report: CopyReport) -> None:
    copied, differences = report.copied, report.differences
    typer.echo(
        f"{plural(copied.written, 'reading')} copied, {plural(copied.before, 'was', 'were')} there before, "
        f"{copied.refused:,} refused; {report.series - len(differences):,} of {report.series:,} series are the same in "
        "both stores"
    )
    if differences:
        table = plain_table("device", "metric", "source", "target", numbers=("source", "target"))
        for difference in differences[:MAX_SHOWN]:
            series = difference.series
            table.add_row(*cells(series.device, series.metric, difference.source, difference.target))
        Console(stderr=True).print(table)


@app.command(
    "rebuild",
    epilog="Examples:\n\n  hub store rebuild\n\n  hub store rebuild --from /backup/history.duckdb",
)
def rebuild_store(
    copy: Annotated[
        Path | None, Option("--from", metavar="COPY", help="A copy of history.duckdb, for example of a backup.")
    ] = None,
    as_json: AsJson = False,
    config: Config = None,
    data: Data = None,
) -> None:
    """Rebuild a damaged DuckDB history from what is intact in it, a copy, and the journal.

    Stop the hub first. The hub sets a damaged file aside, as history.duckdb.damaged-TIME, and continues in a new one.
    This command writes a file with the readings of both, of the copy, and of the entries that the journal still has,
    each of them once, and then replaces history.duckdb. An interruption changes nothing; the same command can be
    repeated. If accepted readings are in none of these places, it prints them for each device and exits with 1.
    """
    report = _rebuild(settings_or_exit(config, data=data), copy)
    result = report.result
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "readings": result.readings,
                    "unreadable": result.unreadable,
                    "sources": list(report.sources),
                    "rejected": list(result.rejected.values()),
                    "missing": report.missing,
                },
                ensure_ascii=False,
            )
        )
    else:
        for reason in result.rejected.values():
            typer.echo(f"left out: {printable(reason)}", err=True)
        typer.echo(f"{plural(result.readings, 'reading')} from {', '.join(report.sources)} and the journal")
        if result.unreadable:
            typer.echo(f"{plural(result.unreadable, 'row')} could not be read")
        if report.missing:
            table = plain_table("device", "missing", numbers=("missing",))
            for device, count in sorted(report.missing.items())[:MAX_SHOWN]:
                table.add_row(*cells(device, count))
            Console(stderr=True).print(table)
    if report.missing:
        fail(
            "hub store rebuild",
            f"{plural(sum(report.missing.values()), 'accepted reading')} of {plural(len(report.missing), 'device')} "
            "are in no source. `hub flow` shows them as a difference. If a backup has them, repeat with --from",
        )


def _rebuild(settings: Settings, copy: Path | None) -> RebuildReport:
    """Rebuild with a progress bar. An error ends the command."""
    # Imported here: the other commands do not need DuckDB.
    from hub.app import HubError
    from hub.app.rebuild import rebuild_history

    columns = (
        TextColumn("rebuilding"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} rows"),
        TimeRemainingColumn(),
    )
    try:
        with progress_bar(*columns) as progress:
            task = progress.add_task("", total=0)
            return asyncio.run(
                rebuild_history(
                    settings,
                    copy=copy,
                    on_total=lambda rows: progress.update(task, total=rows),
                    on_progress=lambda rows: progress.advance(task, rows),
                )
            )
    except KeyboardInterrupt:
        fail("hub store rebuild", "stopped; the history is unchanged, and the same command starts again")
    except RegistryError as error:
        fail("hub store rebuild", error.message)
    except (HubError, JournalError, StoreError) as error:
        fail("hub store rebuild", str(error))


@app.command("setup", epilog="Examples:\n\n  hub store setup\n\n  hub store setup --keep 365")
def setup_store(
    keep: Annotated[
        float | None, Option(min=0, max=MAX_DAYS, metavar="DAYS", help="Retention; 0 is unlimited. Default: no change.")
    ] = None,
    config: Config = None,
) -> None:
    """Create the bucket in InfluxDB (InfluxDB 1: the database and its retention policy), and set its retention.

    For an existing bucket only the given retention changes, so the command can be repeated. Then it checks that the hub
    can write and read there, and reports missing rights. The hub itself only writes and reads this bucket; use a token
    with more rights for this command alone: INFLUXDB_TOKEN=… hub store setup.
    """
    settings = settings_or_exit(config).store
    if settings.url is None:
        fail("hub store setup", "the store is DuckDB, which needs no setup: set store.url for InfluxDB", MISUSE)
    try:
        typer.echo(asyncio.run(_set_up(settings, keep)))
    except StoreError as error:
        fail("hub store setup", str(error))


async def _set_up(settings: StoreSettings, keep: float | None) -> str:
    # Imported here: the import of the client takes a second.
    from hub.app.store import influxdb_connection
    from hub.storage.influxdb.client import InfluxdbClient
    from hub.storage.influxdb.setup import set_up

    async with InfluxdbClient(*influxdb_connection(settings)) as client:
        version = await client.version()
        setup = await set_up(client, keep_days=keep)
        where = f"{client.target.bucket} at {client.target.url} (InfluxDB {version.text})"
    result = "created" if setup.created else "changed" if setup.changed else "unchanged"
    kept = f"for {setup.keep_s / 86_400:g} days" if setup.keep_s else "without limit"
    return f"{where}: {result}; readings are kept {kept}; the hub can write and read there"
