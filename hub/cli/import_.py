"""`hub import`: send files of readings to a running hub, as history."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from typer import Argument, Option

from agent_client.option_group import with_option_groups
from agent_client.rule_files import zone_of
from agent_client.rule_options import InputOptions
from formats.rules import RulesError
from hub.cli.client import HubAddress, hub_address
from hub.cli.command import FAILED, MISUSE, AsJson, HubOptions, fail
from hub.cli.hub_types import HubTypes, hub_types
from hub.cli.import_report import FileResult, ImportProgress, ImportReport, RejectsFile, show_survey
from hub.model.identity import Role
from importer.mapping import import_rules
from importer.records import ImportingError, MappingError
from importer.survey import FileSurvey
from importer.upload import Interrupted, Upload, UploadEvents, UploadTarget, check

COMMAND = "hub import"
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class ImportOptions(InputOptions):
    """Options for the rules of the files. Those below are older names of some rules."""

    mapping: Annotated[Path | None, Option(metavar="FILE", help="TOML file with rules, as --dry-run prints it.")] = None
    device_tag: Annotated[str | None, Option(metavar="TAG", help="line: tag with the device id.")] = None
    device_column: Annotated[str | None, Option(metavar="COLUMN", help="csv: column with the device id.")] = None
    precision: Annotated[Literal["ns", "us", "ms", "s"] | None, Option(help="line: unit of the times.")] = None

    def fields(self) -> dict[str, Any]:
        """Return the settings of the file and these options, which win. Raises RulesError."""
        return super(ImportOptions, replace(self, rules=self.rules or self.mapping, mapping=None)).fields()


@with_option_groups
def import_files(
    files: Annotated[
        list[Path], Argument(metavar="FILE…", help="CSV, line protocol, JSON or other text, also compressed with gzip.")
    ],
    dry_run: Annotated[
        bool, Option("--dry-run", help="Show what would be stored and every error; send nothing.")
    ] = False,
    rejects: Annotated[
        Path | None, Option(metavar="FILE", help="Write refused lines to this file, to be corrected.")
    ] = None,
    as_json: AsJson = False,
    *,
    options: ImportOptions,
    hub: HubOptions,
) -> None:
    """Import files of readings as history: charts show them, latest values do not change.

    What the options do not describe is detected in the file. Each reading is acknowledged when it is on the disk of the
    hub. After an interruption of the import or of the hub the same command continues, and stores nothing twice. Refused
    lines and values are reported with their line and the reason, and the exit code is 1.

    Examples:  hub import old.lp.gz --dry-run  ·  hub import log.csv --device boiler-1 --zone Europe/Berlin
    """
    if rejects is not None and len(files) > 1:
        fail(COMMAND, "--rejects works with one file only: the lines of several files would be mixed", MISUSE)
    report = ImportReport(as_json=as_json, console=Console(stderr=True))
    with ExitStack() as stack:
        # Rows are small objects without cycles. With the default threshold, collections take a tenth of the time.
        stack.callback(gc.set_threshold, *gc.get_threshold())
        gc.set_threshold(100_000)
        refused = RejectsFile(rejects, files[0])
        try:
            rules = import_rules(options.fields())
            zone = zone_of(rules.zone)
            types = stack.enter_context(hub_types(COMMAND, hub, dry_run=dry_run))
            surveys = [FileSurvey(file, rules, zone, types.known_type) for file in files]
            for survey in surveys:
                survey.check(zone=not dry_run)
            if dry_run:
                _try(surveys, types, report, refused)
            else:
                _send(surveys, stack.enter_context(hub_address(COMMAND, hub, role=Role.GATEWAY)), report, refused)
        except (MappingError, RulesError) as error:
            fail(COMMAND, str(error), MISUSE)
        except Interrupted as error:
            fail(COMMAND, str(error), FAILED)
        except KeyboardInterrupt:
            report.stopped = True
        except (ImportingError, OSError) as error:
            report.trouble = str(error)
    report.print()
    raise typer.Exit(0 if report.ok else FAILED)


def _try(surveys: Sequence[FileSurvey], types: HubTypes, report: ImportReport, rejects: RejectsFile) -> None:
    """Read the files as an import does, and send nothing. Raises MappingError for the same reasons."""
    for survey in surveys:
        _survey(survey, report)
        rejects.write(survey, report.files[-1].rejected)
        if not report.as_json:
            show_survey(survey, types.note)
    for survey in surveys:
        if survey.needs_zone:
            report.print()
            survey.check_zone()


def _send(surveys: Sequence[FileSurvey], address: HubAddress, report: ImportReport, rejects: RejectsFile) -> None:
    name = f"telemetry-hub-import/{version('telemetry-hub')}"
    target = UploadTarget.at(address.url, address.token, name, address.tls)
    _run_until_signal(check(target))
    for survey in surveys:
        _survey(survey, report)
        survey.check_zone()
        try:
            _run_until_signal(_upload(target, survey, report))
        finally:
            rejects.write(survey, report.files[-1].rejected)


def _survey(survey: FileSurvey, report: ImportReport) -> None:
    """Read a file for the first time: validate and count."""
    result = FileResult(survey)
    report.files.append(result)
    name, size_bytes = survey.file.path.name, survey.file.size_bytes
    with ImportProgress(report.console, f"reading {name}", size_bytes, in_bytes=True) as progress:
        survey.read(result.refuse, progress.set_completed)


async def _upload(target: UploadTarget, survey: FileSurvey, report: ImportReport) -> None:
    """Read a file again and send it. Return when the hub has acknowledged all of it."""
    result = report.files[-1]
    with ImportProgress(report.console, f"sending {survey.file.path.name}", survey.readings) as progress:

        def stored(readings: int, before: bool) -> None:
            result.store(readings, before=before)
            progress.set_completed(result.acknowledged)

        async with Upload(target, survey, UploadEvents(stored, result.reject, progress.show_trouble)) as upload:
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
