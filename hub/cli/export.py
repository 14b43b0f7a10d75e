"""`hub export`: write every reading of some devices to a file."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Literal, TypeAlias

import typer
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from typer import Argument, Option

from agent_client.option_group import with_option_groups
from hub.cli.client import HubClient, Query, RequestFailed, hub_client
from hub.cli.command import FAILED, MISUSE, HubOptions, fail, progress_bar
from wire.text import plural

COMMAND = "hub export"
STDOUT = "-"

COUNT_POINTS = 2
"""Intervals in the request that counts the readings: the minimum."""

Format: TypeAlias = Literal["parquet", "csv", "line", "arrow"]

FORMAT_OF_SUFFIX: dict[str, Format] = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".line": "line",
    ".lp": "line",
    ".arrow": "arrow",
    ".arrows": "arrow",
}

TEXT_FORMATS = frozenset({"csv", "line"})

PROGRESS_COLUMNS = (
    BarColumn(),
    TextColumn("{task.completed:,.0f} readings"),
    TextColumn("{task.fields[size_bytes]:,} bytes"),
    TimeRemainingColumn(),
)


@dataclass(frozen=True)
class ExportSelection:
    """Options that select readings."""

    metric: Annotated[
        list[str] | None, Option(metavar="NAME", help="Only this metric; `*` works here too; repeatable.")
    ] = None
    start: Annotated[str | None, Option("--from", metavar="TIME", help="First time. Default: the first reading.")] = (
        None
    )
    end: Annotated[
        str | None, Option("--to", metavar="TIME", help="End, not included. Default: the newest reading.")
    ] = None


@with_option_groups
def export(
    devices: Annotated[list[str], Argument(metavar="DEVICE", help="Device ids; `*` matches any characters.")],
    output: Annotated[str, Option("--output", "-o", metavar="FILE", help="File to write; - is stdout.")],
    selection: ExportSelection,
    format: Annotated[
        Format | None, Option(help="Default: the suffix of FILE; csv for stdout.", show_default=False)
    ] = None,
    tz: Annotated[str, Option(metavar="ZONE", help="Time zone of the time column, like Europe/Berlin.")] = "UTC",
    raw: Annotated[
        bool, Option("--raw", help="CSV: no apostrophe before texts that spreadsheets take for formulas.")
    ] = False,
    force: Annotated[bool, Option("--force", help="Overwrite an existing FILE.")] = False,
    *,
    hub: HubOptions,
) -> None:
    """Write every stored reading of devices to a file, from the running hub.

    TIME is RFC 3339, nanoseconds since 1970, or relative: -6h, now-1d. The file is written beside FILE and renamed when
    it is complete, so FILE is never a partial export.

    Examples:  hub export 'boiler-*' --from -7d -o week.parquet  ·  hub export pump --metric pressure -o - | head
    """
    chosen = format or _format_of(output)
    if output == STDOUT and chosen not in TEXT_FORMATS and sys.stdout.isatty():
        fail(COMMAND, f"{chosen} is a binary format and stdout is a terminal: name a file with --output", MISUSE)
    query: Query = {
        "device": devices, "metric": selection.metric, "from": selection.start or "0", "to": selection.end
    }  # fmt: skip
    with hub_client(COMMAND, hub) as client:
        readings, size_bytes = _download(client, query, tz, output, chosen, raw=raw, force=force)
    size = "" if size_bytes is None else f", {plural(size_bytes, 'byte')} in {output}"
    hint = "" if readings else ": the page and GET /api/v1/latest show which devices and metrics exist"
    typer.echo(f"{plural(readings, 'reading')}{size}{hint}", err=True)


def _download(
    client: HubClient, query: Query, tz: str, output: str, format: Format, *, raw: bool, force: bool
) -> tuple[int, int | None]:
    """Write the readings to `output`. Return their number, and the size of the file (None for stdout)."""
    # Imported here: the other commands do not need pyarrow.
    from hub.cli.export_file import InvalidExport, write_export

    # Counting is half the work of a short export, and only the progress bar needs it.
    total = _total(client, query) if Console(stderr=True).is_terminal else None
    try:
        with (
            client.stream("/api/v1/export", {**query, "tz": tz, "format": "arrow"}) as answer,
            _file(output, force=force) as file,
            progress_bar(*PROGRESS_COLUMNS) as progress,
        ):
            task = progress.add_task("", total=total, size_bytes=0)

            def on_readings(readings: int) -> None:
                progress.update(task, advance=readings, size_bytes=file.tell() if file.seekable() else 0)

            return write_export(answer, file, format, on_readings, raw=raw), file.tell() if output != STDOUT else None
    except RequestFailed as error:
        if error.status is not None or output == STDOUT:
            raise
        hint = f"{output} was not written. Export a long range in parts, with --from and --to"
        raise RequestFailed(f"{error}; {hint}") from None
    except InvalidExport as error:
        fail(COMMAND, str(error))
    except BrokenPipeError:
        # The reader of the pipe has ended. Without this, Python reports it again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(FAILED) from None
    except OSError as error:
        fail(COMMAND, f"{error.filename or output}: {error.strerror}; {output} was not written")


def _format_of(output: str) -> Format:
    found = "csv" if output == STDOUT else FORMAT_OF_SUFFIX.get(Path(output).suffix)
    if found is None:
        fail(COMMAND, f"the suffix of {output} is not a known format: set --format", MISUSE)
    return found


@contextlib.contextmanager
def _file(output: str, *, force: bool) -> Iterator[IO[bytes]]:
    """Open the file to write. It gets its name on success. stdout is used as it is."""
    if output == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(output)
    if path.exists() and not force:
        fail(COMMAND, f"{output} exists: name another file, or overwrite it with --force", MISUSE)
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
    """Return the number of readings, or None if there are too many series to count."""
    count: Query = {"points": COUNT_POINTS, "aggregate": "count", "format": "json"}
    try:
        answer = client.get("/api/v1/history", {**query, **count})
    except RequestFailed:
        return None
    return sum(sum(series["values"]) for series in answer["series"])
