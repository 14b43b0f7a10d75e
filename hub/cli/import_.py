"""`hub import`: files of readings into a running hub, as history."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import typer
from rich.console import Console

from hub.cli.access import hub_address
from hub.cli.exit import FAILED, MISUSE, fail
from hub.cli.import_report import ImportReport, Progress, Rejects, show_survey
from hub.cli.options import AsJson, Config, Data, HubOptions, Token, Url
from hub.model.identity import Role
from importer.batching import Batch
from importer.errors import ImportingError, MappingError
from importer.mapping import Ambiguous, Precision, TableMapping, read_mapping_file
from importer.row import Refusal
from importer.survey import Survey
from importer.upload import Interrupted, Target, Upload, UploadEvents, check
from wire import device as messages
from wire.model import MetricType

COMMAND = "hub import"
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

Result = TypeVar("Result")

FORM = "The form of the file"
MEANING = "What the columns, tags and times mean"


class _Stopped(Exception):
    """A signal stopped the import."""


def import_files(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="InfluxDB line protocol or CSV; gzip is unpacked.")
    ],
    url: Url = None,
    token: Token = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be stored, and all that is wrong; send nothing.")
    ] = False,
    mapping: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What the file means, as TOML; --dry-run prints it.")
    ] = None,
    rejects: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the lines that were refused here, to be mended.")
    ] = None,
    as_json: AsJson = False,
    format: Annotated[Literal["line", "csv"] | None, typer.Option(help="Instead of a guess.")] = None,
    device: Annotated[str | None, typer.Option(metavar="ID", help="The device that all readings are of.")] = None,
    device_tag: Annotated[str | None, typer.Option(metavar="TAG", help="line: the tag that names the device.")] = None,
    metric: Annotated[
        str | None, typer.Option(metavar="TEMPLATE", help="line: a metric's name, for example {measurement}.{field}.")
    ] = None,
    precision: Annotated[Precision | None, typer.Option(help="line: the unit of times.")] = None,
    device_column: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="csv: the column that names the device.")
    ] = None,
    time: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="csv: the column of times; twice: date and time.")
    ] = None,
    time_format: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="csv: iso, s, ms, us, ns, or like %d.%m.%Y %H:%M:%S.")
    ] = None,
    zone: Annotated[
        str | None, typer.Option(metavar="ZONE", help="csv: the zone of times without an offset: Europe/Berlin, UTC.")
    ] = None,
    ambiguous: Annotated[
        Ambiguous | None,
        typer.Option(
            help="csv: what a local time means that came twice; order: as the file goes on.", show_default="order"
        ),
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN=METRIC", help="csv: a column of values (repeatable).")
    ] = None,
    metric_column: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="csv with a reading per line: the column of metrics.")
    ] = None,
    value_column: Annotated[str | None, typer.Option(metavar="COLUMN", help="… and the column of values.")] = None,
    delimiter: Annotated[str | None, typer.Option(metavar="CHARACTER", help="csv: between cells.")] = None,
    decimal: Annotated[Literal[".", ","] | None, typer.Option(help="csv: the decimal point.")] = None,
    encoding: Annotated[str | None, typer.Option(metavar="NAME", help="csv: for example utf-8 or cp1252.")] = None,
    no_header: Annotated[
        bool, typer.Option("--no-header", help="csv: the first line holds readings; columns are called 1, 2, …")
    ] = False,
    no_value: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="csv: a cell that says “no value” (repeatable).")
    ] = None,
    type: Annotated[
        list[str] | None, typer.Option(metavar="METRIC=TYPE", help="float, integer, boolean or string (repeatable).")
    ] = None,
    unit: Annotated[list[str] | None, typer.Option(metavar="METRIC=UNIT", help="As shown: °C (repeatable).")] = None,
    config: Config = None,
    data: Data = None,
) -> None:
    """Import files of readings as history: stored and shown in charts, never as the latest value, never as an alarm.

    What is not told is guessed from the file's beginning. Each reading is acknowledged when it is on the hub's disk. An
    import that was stopped, or killed, or whose hub was, goes on when the same command is given again, and stores
    nothing twice. Lines that cannot be taken are told with their number and the reason, and make the exit code 1.

    Examples:  hub import old.lp.gz --dry-run  ·  hub import log.csv --device boiler-1 --zone Europe/Berlin
    """
    told = {} if mapping is None else _read_mapping(mapping)
    given: dict[str, Any] = {
        "format": format,
        "device": device,
        "device_tag": device_tag,
        "metric": metric,
        "precision": precision,
        "device_column": device_column,
        "time": time,
        "time_format": time_format,
        "zone": zone,
        "ambiguous": ambiguous,
        "columns": _pairs("--column", column),
        "metric_column": metric_column,
        "value_column": value_column,
        "delimiter": "\t" if delimiter in ("\\t", "tab") else delimiter,
        "decimal": decimal,
        "encoding": encoding,
        "header": False if no_header else None,
        "no_value": [*TableMapping().no_value, *no_value] if no_value else None,
    }
    told |= {name: value for name, value in given.items() if value is not None}
    for name, pairs in (("types", _pairs("--type", type)), ("units", _pairs("--unit", unit))):
        if pairs:
            told[name] = {**told.get(name, {}), **pairs}
    if wrong := [kind for kind in told.get("types", {}).values() if kind not in get_args(MetricType)]:
        fail(COMMAND, f"{wrong[0]!r} is no type; there are {', '.join(get_args(MetricType))}", MISUSE)
    if rejects is not None and len(files) > 1:
        fail(COMMAND, "--rejects goes with one file: their lines would be mixed", MISUSE)
    report = ImportReport(as_json=as_json, console=Console(stderr=True))
    with ExitStack() as stack:
        refused = stack.enter_context(Rejects(rejects, files[0]))
        try:
            surveys = [Survey(file, told) for file in files]
            if dry_run:
                for survey in surveys:
                    _survey(survey, report, refused)
                    show_survey(survey, report)
            else:
                for survey in surveys:
                    survey.check()
                options = HubOptions(url, token, config, data)
                hub, secret = stack.enter_context(hub_address(COMMAND, options, role=Role.GATEWAY))
                target = Target.at(hub, secret, f"telemetry-hub-import/{version('telemetry-hub')}")
                _stoppable(check(target))
                for survey in surveys:
                    _survey(survey, report, refused)
                    survey.check_zone()
                    _stoppable(_upload(target, survey, report, refused))
        except (MappingError, Interrupted) as error:
            fail(COMMAND, str(error), MISUSE if isinstance(error, MappingError) else FAILED)
        except (KeyboardInterrupt, _Stopped):
            report.stopped = True
        except (ImportingError, OSError) as error:
            report.trouble = str(error)
    report.tell()
    raise typer.Exit(0 if report.ok else FAILED)


def _survey(survey: Survey, report: ImportReport, rejects: Rejects) -> None:
    """The first reading of a file."""
    rejects.header = survey.header
    part = report.begin(survey)
    name, size_bytes = survey.file.path.name, survey.file.size_bytes
    with Progress(report.console, f"reading {name}", size_bytes, in_bytes=True) as progress:

        def refuse(refusal: Refusal) -> None:
            part.refuse(refusal)
            rejects.write(refusal.raw)

        survey.read(refuse, progress.reach)


async def _upload(target: Target, survey: Survey, report: ImportReport, rejects: Rejects) -> None:
    """The second reading of a file, on its way to the hub. Returns when all of it is acknowledged."""
    part = report.parts[-1]
    with Progress(report.console, f"sending {survey.file.path.name}", survey.readings) as progress:

        def stored(readings: int, before: bool) -> None:
            part.store(readings, before=before)
            progress.reach(part.acknowledged)

        def rejected(batch: Batch, reject: messages.Reject) -> None:
            part.reject(batch, reject)
            for row in batch.rows:
                rejects.write(row.raw)

        async with Upload(target, survey, UploadEvents(stored, rejected, progress.trouble)) as upload:
            await upload.run()
    part.complete = True


def _stoppable(work: Coroutine[Any, Any, Result]) -> Result:
    """Runs it in a new event loop. Raises _Stopped when a signal stopped it."""

    async def main() -> Result:
        task = asyncio.create_task(work)
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, task.cancel)
        try:
            return await task
        except asyncio.CancelledError:
            raise _Stopped from None

    return asyncio.run(main())


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        return read_mapping_file(path)
    except MappingError as error:
        fail(COMMAND, str(error), MISUSE)


def _pairs(option: str, given: list[str] | None) -> dict[str, str] | None:
    """NAME=VALUE as a dictionary; the last = counts, since names may have some."""
    if given is None:
        return None
    pairs = {}
    for text in given:
        name, separator, value = text.rpartition("=")
        if not separator or not name or not value:
            fail(COMMAND, f"{option} {text!r}: it is written NAME=VALUE", MISUSE)
        pairs[name] = value
    return pairs
