"""`hub export`: every reading of some devices into a file."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from hub.cli.access import hub_client
from hub.cli.client import HubClient, Query, RequestFailed
from hub.cli.exit import FAILED, MISUSE, fail
from hub.cli.export_format import ENDINGS, TEXT_FORMATS, Format
from hub.cli.options import Config, Data, HubOptions, Token, Url

COMMAND = "hub export"
STDOUT = "-"

COUNT_POINTS = 2
"""Intervals in which the hub counts what there is to export: as few as it takes."""


def export(
    devices: Annotated[
        list[str], typer.Argument(metavar="DEVICE", help="Device ids; `*` stands for any run of characters.")
    ],
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="Where to; - is stdout.")],
    metric: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this metric, likewise; may be repeated.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="TIME", help="First time; without it, the first reading there is."),
    ] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="End, not included; without it, now.")] = None,
    format: Annotated[
        Format | None, typer.Option(help="Without it, what FILE's name ends in; csv for stdout.", show_default=False)
    ] = None,
    tz: Annotated[str, typer.Option(metavar="ZONE", help="Time zone of the time column, like Europe/Berlin.")] = "UTC",
    force: Annotated[bool, typer.Option("--force", help="Write over a FILE that exists.")] = False,
    url: Url = None,
    token: Token = None,
    config: Config = None,
    data: Data = None,
) -> None:
    """Write every stored reading of devices to a file, from the running hub.

    TIME is RFC 3339, nanoseconds since 1970, or relative: -6h, now-1d. The file is written beside FILE and takes its
    name when it is complete: what has the name is whole.

    Examples:  hub export 'boiler-*' --from -7d -o week.parquet  ·  hub export pump --metric pressure -o - | head
    """
    # Imported only here: the other subcommands do not need pyarrow.
    from hub.cli.export_file import BadExport, write_export

    chosen = format or _format_of(output)
    if output == STDOUT and chosen not in TEXT_FORMATS and sys.stdout.isatty():
        fail(COMMAND, f"{chosen} is nothing for a terminal: name a file with --output", MISUSE)
    query: Query = {"device": devices, "metric": metric, "from": start or "0", "to": end}
    console = Console(stderr=True)
    with hub_client(COMMAND, HubOptions(url, token, config, data)) as client:
        # Counting is half the work of a short export, and only a bar needs it.
        total = _total(client, query) if console.is_terminal else None
        try:
            with (
                client.stream("/api/v1/export", {**query, "tz": tz, "format": "arrow"}) as answer,
                _file(output, force=force) as file,
                _progress(console, file, total) as told,
            ):
                readings = write_export(answer, file, chosen, told)
                size_bytes = file.tell() if output != STDOUT else None
        except RequestFailed as error:
            if error.status is not None or output == STDOUT:
                raise
            hint = f"{output} was not written. A long stretch may be taken in parts, with --from and --to"
            raise RequestFailed(f"{error}; {hint}") from None
        except BadExport as error:
            fail(COMMAND, str(error))
        except BrokenPipeError:
            # Whoever reads has enough. Python would say so once more when it closes stdout.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(FAILED) from None
        except OSError as error:
            fail(COMMAND, f"{error.filename or output}: {error.strerror}; {output} was not written")
    size = "" if size_bytes is None else f", {size_bytes:,} bytes in {output}"
    nothing = "" if readings else ": GET /api/v1/latest and the page tell which devices and metrics there are"
    typer.echo(f"{readings:,} readings{size}{nothing}", err=True)


def _format_of(output: str) -> Format:
    found = "csv" if output == STDOUT else ENDINGS.get(Path(output).suffix)
    if found is None:
        fail(COMMAND, f"the name {output} does not say what it is to be: give --format", MISUSE)
    return found


@contextlib.contextmanager
def _file(output: str, *, force: bool) -> Iterator[IO[bytes]]:
    """The file to write to, which gets its name when all went well; stdout is what it is."""
    if output == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(output)
    if path.exists() and not force:
        fail(COMMAND, f"{output} exists: name another file, or write over it with --force", MISUSE)
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _total(client: HubClient, query: Query) -> int | None:
    """How many readings there are to come; None where the hub does not count in that many series."""
    count: Query = {"points": COUNT_POINTS, "aggregate": "count", "format": "json"}
    try:
        answer = client.get("/api/v1/history", {**query, **count})
    except RequestFailed:
        return None
    return sum(sum(series["values"]) for series in answer["series"])


@contextlib.contextmanager
def _progress(console: Console, file: IO[bytes], total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; what it gives is told how many more readings are done."""
    columns = (
        BarColumn(),
        TextColumn("{task.completed:,.0f} readings"),
        TextColumn("{task.fields[size_bytes]:,} bytes"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total, size_bytes=0)
        seekable = file.seekable()
        yield lambda readings: progress.update(task, advance=readings, size_bytes=file.tell() if seekable else 0)
