"""`hub import`: send files of readings to a running hub, as history."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer
from rich.console import Console
from typer import Argument, Option

from agent_client.option_group import with_option_groups
from hub.cli.client import HubAddress, hub_address
from hub.cli.command import FAILED, MISUSE, AsJson, HubOptions, fail
from hub.cli.import_report import FileResult, ImportProgress, ImportReport, RejectsFile, show_survey
from hub.model.identity import Role
from importer.batching import FileBatch
from importer.mapping import Ambiguous, Precision, TableMapping, read_mapping_file
from importer.records import ImportingError, MappingError, RejectedRecord
from importer.survey import FileSurvey
from importer.upload import Interrupted, Upload, UploadEvents, UploadTarget, check
from wire import device as messages
from wire.model import MetricType

COMMAND = "hub import"
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class MappingOptions:
    """Options that describe the format and the meaning of the files; None for an option that was not given."""

    format: Annotated[Literal["line", "csv"] | None, Option(help="Default: detected.")] = None
    device: Annotated[str | None, Option(metavar="ID", help="Device of all readings.")] = None
    device_tag: Annotated[str | None, Option(metavar="TAG", help="line: tag with the device id.")] = None
    metric: Annotated[
        str | None, Option(metavar="TEMPLATE", help="line: name of a metric, for example {measurement}.{field}.")
    ] = None
    precision: Annotated[Precision | None, Option(help="line: unit of the times.")] = None
    device_column: Annotated[str | None, Option(metavar="COLUMN", help="csv: column with the device id.")] = None
    time: Annotated[
        list[str] | None, Option(metavar="COLUMN", help="csv: column with the time; give it twice for date and time.")
    ] = None
    time_format: Annotated[
        str | None, Option(metavar="FORMAT", help="csv: iso, s, ms, us, ns, or like %d.%m.%Y %H:%M:%S.")
    ] = None
    zone: Annotated[
        str | None, Option(metavar="ZONE", help="csv: zone of times without an offset: Europe/Berlin, UTC.")
    ] = None
    ambiguous: Annotated[
        Ambiguous | None,
        Option(
            help="csv: meaning of a local time that occurs twice; order: by the order of the file.",
            show_default="order",
        ),
    ] = None
    column: Annotated[
        list[str] | None, Option(metavar="COLUMN=METRIC", help="csv: column with values (repeatable).")
    ] = None
    metric_column: Annotated[
        str | None, Option(metavar="COLUMN", help="csv with one reading per line: column with the metric.")
    ] = None
    value_column: Annotated[str | None, Option(metavar="COLUMN", help="… and column with the value.")] = None
    delimiter: Annotated[str | None, Option(metavar="CHARACTER", help="csv: character between cells.")] = None
    decimal: Annotated[Literal[".", ","] | None, Option(help="csv: decimal point.")] = None
    encoding: Annotated[str | None, Option(metavar="NAME", help="csv: for example utf-8 or cp1252.")] = None
    no_header: Annotated[
        bool, Option("--no-header", help="csv: the first line contains readings; columns are named 1, 2, …")
    ] = False
    no_value: Annotated[
        list[str] | None, Option(metavar="TEXT", help="csv: cell that means “no value” (repeatable).")
    ] = None
    type: Annotated[
        list[str] | None, Option(metavar="METRIC=TYPE", help="float, integer, boolean or string (repeatable).")
    ] = None
    unit: Annotated[list[str] | None, Option(metavar="METRIC=UNIT", help="As shown: °C (repeatable).")] = None

    def apply_to(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of a mapping file with these options, which win. An invalid option ends the command."""
        given = asdict(self)
        pairs = {f"{name}s": _pairs(f"--{name}", given.pop(name)) for name in ("column", "type", "unit")}
        given |= {
            "columns": pairs.pop("columns"),
            "delimiter": "\t" if self.delimiter in ("\\t", "tab") else self.delimiter,
            "header": False if given.pop("no_header") else None,
            "no_value": [*TableMapping().no_value, *self.no_value] if self.no_value else None,
        }
        merged = fields | {name: value for name, value in given.items() if value is not None}
        for name, texts in pairs.items():
            if texts:
                merged[name] = {**merged.get(name, {}), **texts}
        for kind in merged.get("types", {}).values():
            if kind not in get_args(MetricType):
                fail(COMMAND, f"{kind!r} is not a type: use {', '.join(get_args(MetricType))}", MISUSE)
        return merged


@with_option_groups
def import_files(
    files: Annotated[
        list[Path], Argument(metavar="FILE…", help="InfluxDB line protocol or CSV, also compressed with gzip.")
    ],
    dry_run: Annotated[
        bool, Option("--dry-run", help="Show what would be stored and every error; send nothing.")
    ] = False,
    mapping: Annotated[
        Path | None, Option(metavar="FILE", help="TOML file with the mapping, as --dry-run prints it.")
    ] = None,
    rejects: Annotated[
        Path | None, Option(metavar="FILE", help="Write rejected lines to this file, to be corrected.")
    ] = None,
    as_json: AsJson = False,
    *,
    options: MappingOptions,
    hub: HubOptions,
) -> None:
    """Import files of readings as history: charts show them, latest values do not change.

    What the options do not describe is detected from the beginning of the file. Each reading is acknowledged when it is
    on the disk of the hub. After an interruption of the import or of the hub the same command continues, and stores
    nothing twice. Rejected lines are reported with their number and the reason, and the exit code is 1.

    Examples:  hub import old.lp.gz --dry-run  ·  hub import log.csv --device boiler-1 --zone Europe/Berlin
    """
    if rejects is not None and len(files) > 1:
        fail(COMMAND, "--rejects works with one file only: the lines of several files would be mixed", MISUSE)
    report = ImportReport(as_json=as_json, console=Console(stderr=True))
    with ExitStack() as stack:
        refused = stack.enter_context(RejectsFile(rejects, files[0]))
        try:
            fields = options.apply_to({} if mapping is None else read_mapping_file(mapping))
            surveys = [FileSurvey(file, fields) for file in files]
            if dry_run:
                for survey in surveys:
                    _survey(survey, report, refused)
                    if not as_json:
                        show_survey(survey)
            else:
                for survey in surveys:
                    survey.check()
                _send(surveys, stack.enter_context(hub_address(COMMAND, hub, role=Role.GATEWAY)), report, refused)
        except (MappingError, Interrupted) as error:
            fail(COMMAND, str(error), MISUSE if isinstance(error, MappingError) else FAILED)
        except KeyboardInterrupt:
            report.stopped = True
        except (ImportingError, OSError) as error:
            report.trouble = str(error)
    report.print()
    raise typer.Exit(0 if report.ok else FAILED)


def _send(surveys: Sequence[FileSurvey], address: HubAddress, report: ImportReport, rejects: RejectsFile) -> None:
    name = f"telemetry-hub-import/{version('telemetry-hub')}"
    target = UploadTarget.at(address.url, address.token, name, address.tls)
    _run_until_signal(check(target))
    for survey in surveys:
        _survey(survey, report, rejects)
        survey.check_zone()
        _run_until_signal(_upload(target, survey, report, rejects))


def _survey(survey: FileSurvey, report: ImportReport, rejects: RejectsFile) -> None:
    """Read a file for the first time: validate and count."""
    rejects.header = survey.header
    result = FileResult(survey)
    report.files.append(result)
    name, size_bytes = survey.file.path.name, survey.file.size_bytes
    with ImportProgress(report.console, f"reading {name}", size_bytes, in_bytes=True) as progress:

        def refuse(refusal: RejectedRecord) -> None:
            result.refuse(refusal)
            rejects.write(refusal.raw)

        survey.read(refuse, progress.set_completed)


async def _upload(target: UploadTarget, survey: FileSurvey, report: ImportReport, rejects: RejectsFile) -> None:
    """Read a file again and send it. Return when the hub has acknowledged all of it."""
    result = report.files[-1]
    with ImportProgress(report.console, f"sending {survey.file.path.name}", survey.readings) as progress:

        def stored(readings: int, before: bool) -> None:
            result.store(readings, before=before)
            progress.set_completed(result.acknowledged)

        def rejected(batch: FileBatch, reject: messages.Reject) -> None:
            result.reject(batch, reject)
            for row in batch.rows:
                rejects.write(row.raw)

        async with Upload(target, survey, UploadEvents(stored, rejected, progress.show_trouble)) as upload:
            await upload.run()
    result.complete = True


def _run_until_signal(work: Coroutine[Any, Any, None]) -> None:
    """Run the coroutine in a new event loop. Raises KeyboardInterrupt after a signal."""

    async def main() -> bool:
        task = asyncio.create_task(work)
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, task.cancel)
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()
        return task.cancelled()

    if asyncio.run(main()):
        raise KeyboardInterrupt


def _pairs(option: str, given: list[str] | None) -> dict[str, str] | None:
    """Return pairs of NAME=VALUE. The last = separates, because names may contain one."""
    if given is None:
        return None
    pairs = {}
    for text in given:
        name, separator, value = text.rpartition("=")
        if not separator or not name or not value:
            fail(COMMAND, f"{option} {text!r}: write NAME=VALUE", MISUSE)
        pairs[name] = value
    return pairs
