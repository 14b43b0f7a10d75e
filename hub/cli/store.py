"""`hub store`: compact, rebuild or copy the history, write readings again that the store lost, prepare InfluxDB."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from typer import Option

from agent_client.option_group import with_option_groups
from hub.cli.client import hub_client
from hub.cli.command import (
    MISUSE,
    AsJson,
    Config,
    Data,
    HubOptions,
    bytes_text,
    cells,
    fail,
    plain_table,
    printable,
    progress_bar,
    settings_or_exit,
    time_text,
)
from hub.config.sections import MAX_DAYS, StoreSettings
from hub.config.settings import Settings
from hub.model.identity import Role
from hub.model.journal import JournalError
from hub.model.store import StoreError
from hub.registry.database import RegistryError
from wire.text import plural
from wire.timestamp import parse_query_time

if TYPE_CHECKING:
    from hub.app.copy import CopyReport
    from hub.app.rebuild import RebuildReport

MAX_SHOWN = 50
"""Rows in the table of series that differ; further ones are counted. JSON contains all."""

RESENT = ("batches", "readings", "resent", "refused", "undecodable")
"""Counts of each part of a resend."""

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
    repeated. If accepted readings are in none of these places, it prints them for each device and exits with 1. It also
    exits with 1 if COPY cannot be used.
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
        typer.echo(f"{plural(result.readings, 'reading')} from {' and '.join([*report.sources, 'the journal'])}")
        if result.unreadable:
            typer.echo(f"{plural(result.unreadable, 'row')} could not be read")
        if report.missing:
            table = plain_table("device", "missing", numbers=("missing",))
            for device, count in sorted(report.missing.items())[:MAX_SHOWN]:
                table.add_row(*cells(device, count))
            Console(stderr=True).print(table)
    if copy in result.rejected:
        fail("hub store rebuild", f"{copy} was left out: name another copy, and repeat the command")
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


@app.command(
    "resend", epilog="Examples:\n\n  hub store resend --since -30m\n\n  hub store resend --since 2026-01-31T12:00:00Z"
)
@with_option_groups
def resend_readings(
    since: Annotated[
        str | None,
        Option(
            metavar="TIME",
            help="Begin of the loss: -30m, -12h, or a time in RFC 3339. Default: all that the journal still has.",
        ),
    ] = None,
    as_json: AsJson = False,
    *,
    hub: HubOptions,
) -> None:
    """Write readings to the store again that it has acknowledged and lost, from the journal of the running hub.

    Use it after the store was restored from a backup, or lost its newest data in a crash. Only missing readings are
    written, so the command can be repeated, or stopped at any moment. TIME counts when the hub received a batch or the
    store acknowledged it, whichever is earlier. The journal has everything that was acknowledged in the last 30 minutes
    (journal.resend_seconds), and usually much more.
    """
    command = "hub store resend"
    request: dict[str, Any] = {"since_ns": None if since is None else _since_ns(since)}
    total: Counter[str] = Counter()
    first: dict[str, Any] = {}
    columns = (TextColumn("comparing and writing"), BarColumn(), TextColumn("{task.fields[resent]:,} readings written"))
    with hub_client(command, hub, role=Role.OPERATOR) as client, progress_bar(*columns) as progress:
        task = progress.add_task("", total=None, resent=0)
        while request:
            part = client.send("POST", "/api/v1/store/resend", body=request)
            first = first or part
            total.update({name: part[name] for name in RESENT})
            last = part["up_to"] if part["next"] is None else part["next"]
            span = {"total": part["up_to"] - first["after"], "completed": last - first["after"]}
            progress.update(task, **span, resent=total["resent"])
            request = {} if part["next"] is None else {"after": part["next"], "up_to": first["up_to"]}
    if as_json:
        typer.echo(json.dumps({**{name: total[name] for name in RESENT}, "received_ns": first["received_ns"]}))
    else:
        _print_resent(total, first)
    if not total["batches"]:
        fail(command, "the journal has no batch of that time that the store has acknowledged: nothing was compared")


def _since_ns(text: str) -> int:
    """Return the time of a duration before now, or of a time. Raises typer.BadParameter."""
    now_ns = time.time_ns()
    try:
        since_ns = parse_query_time(f"-{text}" if text[:1].isdigit() and text[-1:] in "smhdw" else text, now_ns)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if since_ns > now_ns:
        raise typer.BadParameter(f"{text} is in the future: name the time at which the loss began")
    return since_ns


def _print_resent(total: Mapping[str, int], first: Mapping[str, Any]) -> None:
    if not total["batches"]:
        return
    compared = f"{plural(total['readings'], 'reading')} in {plural(total['batches'], 'batch', 'batches')}"
    begin = time_text(first["received_ns"])
    if total["resent"]:
        typer.echo(f"{plural(total['resent'], 'missing reading')} written again; {compared} compared, from {begin} UTC")
    else:
        typer.echo(f"nothing is missing: the store has {compared}, from {begin} UTC")
    if first["is_oldest"]:
        typer.echo(f"the journal begins at {begin} UTC: it has nothing that arrived before", err=True)
    if total["refused"]:
        typer.echo(f"{plural(total['refused'], 'reading')} refused again, as before: see `hub quarantine`", err=True)
    if total["undecodable"]:
        undecodable = plural(total["undecodable"], "batch", "batches")
        typer.echo(f"{undecodable} left out: the hub does not know their metrics any more", err=True)


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
