"""What `hub import` shows: progress, what would be stored, and what became of it."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar
from rich.text import Text

from hub.cli.exit import MISUSE, fail
from hub.cli.terminal import plain_table, stdout_console
from importer.batching import Batch
from importer.mapping import TableMapping, mapping_text
from importer.row import Refusal
from importer.survey import Survey
from wire import device as messages

MAX_TOLD = 1000
"""Refusals that are kept to be told one by one in JSON; more are counted. All their lines are in the --rejects file."""

MAX_SHOWN = 10
"""Of those, of each file, shown to a person at the end."""

MAX_DEVICES_SHOWN = 20


class Progress:
    """A progress bar on a terminal; nothing elsewhere. `reach` may be called from any thread."""

    def __init__(self, console: Console, what: str, total: int, *, in_bytes: bool = False) -> None:
        amount: tuple[ProgressColumn, ...] = (DownloadColumn(),) if in_bytes else (_Readings(),)
        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            *amount,
            TimeRemainingColumn(),
            TextColumn("{task.fields[trouble]}", style="yellow", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._console = console
        self._trouble = ""
        self._task: TaskID = self._bar.add_task(what, total=total, trouble="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def reach(self, amount: int) -> None:
        """So much is done."""
        self._bar.update(self._task, completed=amount)

    def trouble(self, sentence: str) -> None:
        """What is waited for, once per episode; "" when it is over."""
        if sentence and not self._trouble and not self._console.is_terminal:
            self._console.print(f"hub import: {sentence}; waiting", markup=False, highlight=False, soft_wrap=True)
        self._trouble = sentence
        self._bar.update(self._task, trouble=sentence)


class _Readings(ProgressColumn):
    """How many readings of how many, and how many a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.completed:,.0f}/{task.total or 0:,.0f} readings  {task.speed or 0:,.0f}/s")


class Rejects:
    """The file that refused lines are written to, made when there is the first; None: nowhere."""

    def __init__(self, path: Path | None, source: Path) -> None:
        self.header = b""
        self._path = path
        self._file: IO[bytes] | None = None
        if path is not None and path.exists() and source.exists() and path.samefile(source):
            fail("hub import", f"--rejects would overwrite {source}", MISUSE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, raw: bytes) -> None:
        """One record, with its line break. Raises OSError."""
        if self._path is None or not raw:
            return
        if self._file is None:
            self._file = self._path.open("wb")
            self._file.write(self.header)
        self._file.write(raw if raw.endswith(b"\n") else raw + b"\n")


class Part:
    """What became of one file."""

    def __init__(self, survey: Survey) -> None:
        self.survey = survey
        self.stored = 0
        self.before = 0
        self.quarantined = 0
        self.complete = False
        self.told: list[tuple[int, int, str, str]] = []
        self.refused: Counter[str] = Counter()

    @property
    def acknowledged(self) -> int:
        """Readings on the hub's disk, those in quarantine included."""
        return self.stored + self.before

    def refuse(self, refusal: Refusal) -> None:
        """A record that cannot be taken."""
        self._tell(refusal.line, refusal.line, refusal.why, refusal.message, 1)

    def reject(self, batch: Batch, reject: messages.Reject) -> None:
        """A batch that the hub put in quarantine."""
        self.quarantined += batch.readings
        lines = [row.line for row in batch.rows]
        message = f"{batch.device}: {reject.message} ({reject.code}); in the hub's quarantine"
        self._tell(min(lines), max(lines), "hub", message, len(lines))

    def store(self, readings: int, *, before: bool) -> None:
        """Readings that are acknowledged; `before` this run."""
        if before:
            self.before += readings
        else:
            self.stored += readings

    def _tell(self, first: int, last: int, why: str, message: str, records: int) -> None:
        self.refused[why] += records
        if len(self.told) < MAX_TOLD:
            self.told.append((first, last, why, message))

    @property
    def facts(self) -> dict[str, Any]:
        """All of it, for programs."""
        survey = self.survey
        return {
            "file": str(survey.file.path),
            "format": "csv" if isinstance(survey.mapping, TableMapping) else "line",
            "mapping": msgspec.to_builtins(survey.mapping),
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
            "ambiguous_times": survey.ambiguous_times,
            "complete": self.complete,
            "refused": dict(self.refused),
            "refusals": [
                {"line": first, "to": last, "why": why, "message": message} for first, last, why, message in self.told
            ],
        }


class ImportReport:
    """What became of all files; told at the end."""

    def __init__(self, *, as_json: bool, console: Console) -> None:
        self.console = console
        self.parts: list[Part] = []
        self.stopped = False
        self.trouble = ""
        self._as_json = as_json

    def begin(self, survey: Survey) -> Part:
        """The next file."""
        self.parts.append(Part(survey))
        return self.parts[-1]

    @property
    def ok(self) -> bool:
        """Whether all of every file is stored."""
        return not self.stopped and not self.trouble and not any(part.refused for part in self.parts)

    @property
    def for_people(self) -> bool:
        """Whether standard output is for a person."""
        return not self._as_json

    def tell(self) -> None:
        """The report, and in words on stderr what kept it from being complete."""
        if self._as_json:
            facts = {"ok": self.ok, "trouble": self.trouble or None, "files": [part.facts for part in self.parts]}
            print(json.dumps(facts, ensure_ascii=False))
        else:
            for part in self.parts:
                if part.acknowledged or part.complete:
                    print(_sentence(part))
        if self.for_people:
            self._tell_refusals()
        if self.trouble:
            self.console.print(f"hub import: {self.trouble}", markup=False, highlight=False, soft_wrap=True)
        if self.stopped:
            self.console.print(
                "hub import: stopped; the same command goes on where it was, and stores nothing twice",
                markup=False,
                soft_wrap=True,
            )

    def _tell_refusals(self) -> None:
        for part in self.parts:
            if not part.refused:
                continue
            name = part.survey.file.path.name
            for first, last, why, message in part.told[:MAX_SHOWN]:
                where = f"line {first}" if first == last else f"lines {first} to {last}"
                self.console.print(f"{name}, {where}: {message} [{why}]", markup=False, highlight=False, soft_wrap=True)
            counts = ", ".join(f"{count:,} {why}" for why, count in part.refused.most_common())
            self.console.print(
                f"{name}: {part.refused.total():,} lines were refused: {counts}", markup=False, highlight=False
            )


def show_survey(survey: Survey, report: ImportReport) -> None:
    """What would be stored: the mapping as a file, the first rows, the devices, and what is not as it should be."""
    if not report.for_people:
        return
    console = stdout_console()
    print(f"# {survey.file.path}: this is what it is taken for; kept in a file, --mapping FILE gives it back")
    print(mapping_text(survey.mapping))
    rows = plain_table("line", "time (UTC)", "device", "metric", "value")
    for row in survey.first_rows:
        for metric, value in row.values.items():
            cells = (str(row.line), _time(row.time_ns) or "", row.device, metric, json.dumps(value, ensure_ascii=False))
            rows.add_row(*map(Text, cells))
    console.print(rows)
    devices = plain_table("device", "batches", "metrics")
    for device in list(survey.numbering.batches)[:MAX_DEVICES_SHOWN]:
        metrics = ", ".join(
            f"{m.name} ({m.type}{' ' + m.unit if m.unit else ''})" for m in survey.catalogue.metrics(device)
        )
        devices.add_row(*map(Text, (device, f"{survey.numbering.batches[device]:,}", metrics)))
    console.print()
    console.print(devices)
    if (more := len(survey.numbering.batches) - MAX_DEVICES_SHOWN) > 0:
        print(f"… and {more:,} more devices")
    print(
        f"\n{survey.readings:,} readings of {len(survey.numbering.batches):,} devices in {survey.lines:,} lines, "
        f"{_time(survey.earliest_ns) or 'no time'} to {_time(survey.latest_ns) or 'no time'}"
    )
    for sentence in _notes(survey):
        print(sentence)


def _notes(survey: Survey) -> list[str]:
    mapping = survey.mapping
    notes = []
    if isinstance(mapping, TableMapping):
        if survey.local_times and not mapping.zone:
            notes.append("the times do not say which zone they are of: here as UTC; to import, say --zone")
        if survey.ambiguous_times:
            notes.append(
                f"{survey.ambiguous_times:,} local times came twice, when clocks were put back; they are taken by "
                f"--ambiguous {mapping.ambiguous}"
            )
    if survey.last_line_is_open:
        notes.append("the last line has no line break: make sure that it is whole")
    return notes


def _sentence(part: Part) -> str:
    survey = part.survey
    before = f", {part.before:,} were there before" if part.before else ""
    quarantined = f", {part.quarantined:,} are in the hub's quarantine" if part.quarantined else ""
    whole = "" if part.complete else f" of {survey.readings:,}"
    notes = "".join(f"; {note}" for note in _notes(survey))
    return (
        f"{survey.file.path.name}: {part.stored - part.quarantined:,} readings{whole} of "
        f"{len(survey.numbering.batches):,} devices are on the hub's disk{before}{quarantined}{notes}"
    )


def _time(time_ns: int | None) -> str | None:
    """A time in UTC to the millisecond; None for none."""
    if time_ns is None:
        return None
    return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + (
        f".{time_ns // 1_000_000 % 1000:03}Z"
    )
