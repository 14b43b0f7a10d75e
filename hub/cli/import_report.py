"""The output of `hub import`: progress, the preview of a dry run, rejected lines, and the report."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from formats.rules import rules_text
from hub.cli.command import MISUSE, fail, plain_table, printable, progress_bar, stdout_console, time_text
from importer.batching import FileBatch
from importer.records import RejectedLines
from importer.rejects import LineNumbers, copy_lines
from importer.survey import FileSurvey
from wire import device as messages
from wire.text import plural

MAX_REFUSALS = 1000
"""Rejections of a file that JSON lists; further ones are counted. The --rejects file contains all lines."""

MAX_SHOWN = 10
"""Rejections of a file that the terminal shows."""

MAX_DEVICES_SHOWN = 20


class ImportProgress:
    """Progress bar on a terminal; no output elsewhere. `set_completed` is thread-safe."""

    def __init__(self, console: Console, label: str, total: int, *, in_bytes: bool = False) -> None:
        amount: tuple[ProgressColumn, ...] = (DownloadColumn(),) if in_bytes else (_Readings(),)
        self._bar = progress_bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            *amount,
            TimeRemainingColumn(),
            TextColumn("{task.fields[trouble]}", style="yellow", markup=False),
        )
        self._console = console
        self._trouble = ""
        self._task: TaskID = self._bar.add_task(label, total=total, trouble="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def set_completed(self, amount: int) -> None:
        """Set the amount that is completed."""
        self._bar.update(self._task, completed=amount)

    def show_trouble(self, sentence: str) -> None:
        """Show why the import waits; "" when it continues. Without a terminal, print it once until it continues."""
        if sentence and not self._trouble and not self._console.is_terminal:
            _print_line(self._console, f"hub import: {sentence}; waiting")
        self._trouble = sentence
        self._bar.update(self._task, trouble=sentence)


class _Readings(ProgressColumn):
    """Readings completed, readings in all, and readings per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.completed:,.0f}/{task.total or 0:,.0f} readings  {task.speed or 0:,.0f}/s")


class RejectsFile:
    """File of rejected lines, which exists only if there are some. Without a path nothing is written."""

    def __init__(self, path: Path | None, source: Path) -> None:
        self._path = path
        if path is not None and path.exists() and source.exists() and path.samefile(source):
            fail("hub import", f"--rejects would overwrite {source}: name another file", MISUSE)

    def write(self, survey: FileSurvey, rejected: LineNumbers) -> None:
        """Copy the rejected lines, below the header of the file. Raises FileError and OSError."""
        if self._path is not None and rejected:
            copy_lines(
                survey.file,
                self._path,
                rejected,
                header=survey.header_lines,
                annotated=survey.is_annotated,
                encoding=survey.rules.encoding,
            )


@dataclass(slots=True, eq=False)
class FileResult:
    """Counters and rejections of one file."""

    survey: FileSurvey
    stored: int = 0
    before: int = 0
    quarantined: int = 0
    complete: bool = False
    refusals: list[tuple[int, int, str, str]] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    rejected: LineNumbers = field(default_factory=LineNumbers)

    @property
    def acknowledged(self) -> int:
        """Number of readings on the disk of the hub, including those in quarantine."""
        return self.stored + self.before

    def refuse(self, refusal: RejectedLines) -> None:
        """Record a line, or a value in it, that cannot be imported."""
        self.rejected.add(refusal.line, refusal.lines)
        self._add(refusal.line, refusal.line, refusal.why, refusal.message, 1)

    def reject(self, batch: FileBatch, reject: messages.Reject) -> None:
        """Record a batch, or the values of one, that the hub put in quarantine."""
        self.quarantined += reject.readings if reject.partial else batch.readings
        refused = {row for column in reject.columns for first, last in column.rows for row in range(first, last + 1)}
        rejected = batch.lines(refused)
        lines = [first for first, _ in rejected]
        for first, count in rejected:
            self.rejected.add(first, count)
        message = f"{batch.device}: {reject.message} ({reject.code}); in the quarantine of the hub"
        self._add(min(lines), max(lines), "hub", message, len(lines))

    def store(self, readings: int, *, before: bool) -> None:
        """Count acknowledged readings. `before`: an earlier run stored them."""
        if before:
            self.before += readings
        else:
            self.stored += readings

    def _add(self, first: int, last: int, why: str, message: str, records: int) -> None:
        self.refused[why] += records
        if len(self.refusals) < MAX_REFUSALS:
            self.refusals.append((first, last, why, message))

    @property
    def facts(self) -> dict[str, Any]:
        """Everything, for programs."""
        survey = self.survey
        return {
            "file": str(survey.file.path),
            "format": survey.settings.format,
            "mapping": msgspec.to_builtins(survey.settings),
            "epoch": survey.epoch,
            "lines": survey.lines,
            "devices": len(survey.numbering.batches),
            "batches": sum(survey.numbering.batches.values()),
            "readings": survey.readings,
            "from": _time(survey.earliest_ns),
            "to": _time(survey.latest_ns),
            "stored": self.stored - self.quarantined,
            "stored_before": self.before,
            "quarantined": self.quarantined,
            "no_values": survey.no_values,
            "odd_times": survey.odd_times,
            "ambiguous_times": survey.ambiguous_times,
            "complete": self.complete,
            "refused": dict(self.refused),
            "refusals": [
                {"line": first, "to": last, "why": why, "message": message}
                for first, last, why, message in self.refusals
            ],
        }


@dataclass(slots=True, eq=False)
class ImportReport:
    """Results of all files, printed at the end."""

    as_json: bool
    console: Console
    files: list[FileResult] = field(default_factory=list)
    stopped: bool = False
    trouble: str = ""

    @property
    def ok(self) -> bool:
        """True if every line of every file is stored."""
        return not self.stopped and not self.trouble and not any(result.refused for result in self.files)

    def print(self) -> None:
        """Print the report, and on stderr why it is not complete."""
        if self.as_json:
            facts = {"ok": self.ok, "trouble": self.trouble or None, "files": [result.facts for result in self.files]}
            print(json.dumps(facts, ensure_ascii=False))
        else:
            for result in self.files:
                if result.acknowledged or result.complete:
                    print(_sentence(result))
            self._print_refusals()
        if self.trouble:
            _print_line(self.console, f"hub import: {self.trouble}")
        if self.stopped:
            _print_line(
                self.console, "hub import: stopped; the same command continues the import and stores nothing twice"
            )

    def _print_refusals(self) -> None:
        for result in self.files:
            if not result.refused:
                continue
            name = result.survey.file.path.name
            for first, last, why, message in result.refusals[:MAX_SHOWN]:
                where = f"line {first}" if first == last else f"lines {first} to {last}"
                _print_line(self.console, f"{name}, {where}: {message} [{why}]")
            counts = ", ".join(f"{count:,} {why}" for why, count in result.refused.most_common())
            total = result.refused.total()
            _print_line(
                self.console, f"{name}: {plural(total, 'line or value was', 'lines or values were')} refused: {counts}"
            )


def show_survey(survey: FileSurvey, note: str = "") -> None:
    """Print the preview of an import: the mapping as a file, the first rows, the devices, and what decided.

    `note` says why the types of the hub are not known.
    """
    console = stdout_console()
    print(f"# {survey.file.path}: detected mapping; save it to a file and use it with --mapping FILE")
    print(printable(rules_text(survey.settings)))
    rows = plain_table("line", "time (UTC)", "device", "metric", "value")
    for row in survey.first_rows:
        for metric, value in row.values.items():
            cells = (str(row.line), _time(row.time_ns) or "", row.device, metric, json.dumps(value, ensure_ascii=False))
            rows.add_row(*(Text(printable(cell)) for cell in cells))
    console.print(rows)
    devices = plain_table("device", "batches", "metrics")
    for device in list(survey.numbering.batches)[:MAX_DEVICES_SHOWN]:
        metrics = ", ".join(f"{m.name} ({m.type}{' ' + m.unit if m.unit else ''})" for m in survey.metrics[device])
        batches = f"{survey.numbering.batches[device]:,}"
        devices.add_row(*(Text(printable(cell)) for cell in (device, batches, metrics)))
    console.print()
    console.print(devices)
    if (more := len(survey.numbering.batches) - MAX_DEVICES_SHOWN) > 0:
        print(f"… and {plural(more, 'more device')}")
    print(
        f"\n{plural(survey.readings, 'reading')} of {plural(len(survey.numbering.batches), 'device')} in "
        f"{plural(survey.lines, 'line')}, "
        f"{_time(survey.earliest_ns) or 'no time'} to {_time(survey.latest_ns) or 'no time'}"
    )
    for sentence in filter(None, (*_notes(survey), note)):
        print(printable(sentence))
    if survey.notes:
        print("\ndecided by")
        for decision in survey.notes:
            print(printable(f"  {decision.code:<9} {decision.sentence}"))


def _print_line(console: Console, text: str) -> None:
    """Print one line that may contain any character of a file."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _notes(survey: FileSurvey) -> list[str]:
    notes = []
    if survey.needs_zone:
        notes.append("the times have no time zone and are shown as UTC: set --zone for the import")
    if survey.ambiguous_times:
        ambiguous = plural(survey.ambiguous_times, "local time occurs", "local times occur")
        notes.append(f"{ambiguous} twice, when clocks were put back: resolved by --ambiguous {survey.rules.ambiguous}")
    if survey.odd_times:
        notes.append(f"{plural(survey.odd_times, 'time is', 'times are')} before 1990 or more than a day ahead")
    if survey.last_line_is_open:
        notes.append("the last line has no line break: check that the file is complete")
    return notes


def _sentence(result: FileResult) -> str:
    survey = result.survey
    before = f", {plural(result.before, 'was', 'were')} there before" if result.before else ""
    quarantined = (
        f", {plural(result.quarantined, 'is', 'are')} in the quarantine of the hub" if result.quarantined else ""
    )
    stored = plural(result.stored - result.quarantined, "reading")
    whole = "" if result.complete else f" of {survey.readings:,}"
    notes = "".join(f"; {note}" for note in _notes(survey))
    return (
        f"{survey.file.path.name}: {stored}{whole} of {plural(len(survey.numbering.batches), 'device')} on the disk of "
        f"the hub{before}{quarantined}{notes}"
    )


def _time(time_ns: int | None) -> str | None:
    """Return a time in UTC to the millisecond; None for None."""
    if time_ns is None:
        return None
    return f"{time_text(time_ns, '%Y-%m-%dT%H:%M:%S')}.{time_ns // 1_000_000 % 1000:03}Z"
