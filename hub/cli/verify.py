"""`hub verify`: which files of a data directory or a backup are intact, which are damaged, and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from hub.cli.client import HubClient, RequestFailed, hub_client
from hub.cli.command import (
    MISUSE,
    AsJson,
    Config,
    Data,
    HubOptions,
    cells,
    fail,
    plain_table,
    progress_bar,
    settings_or_exit,
    stdout_console,
)
from hub.config.address import find_running_hub
from hub.model.identity import Role
from integrity.finding import Finding, exit_code

if TYPE_CHECKING:
    from hub.app.verify import Observer, ReportShare

COMMAND = "hub verify"

HISTORY = "history.duckdb"

STATES = {True: Text("intact"), False: Text("damaged", style="bold red"), None: Text("not checked", style="yellow")}


def verify(as_json: AsJson = False, config: Config = None, data: Data = None) -> None:
    """Check every file of the data directory, or of a backup; report what is damaged and what that means.

    The hub may run meanwhile: its databases are read in snapshots, and it reads DuckDB's file itself, which no other
    process can open. Exits with 0 if all files are intact, with 1 if one is damaged, and with 2 if none is damaged and
    one could not be checked.

    Examples:  hub verify  ·  hub verify --data /backup/2026-11-28 --json
    """
    # Imported here: the other commands need none of the libraries of the stores.
    from hub.app import HubError
    from hub.app.verify import verify_directory

    settings = settings_or_exit(config, data=data)
    is_running = find_running_hub(settings.data) is not None
    findings: list[Finding] = []
    try:
        with observed("verifying", findings.append) as observer:
            verify_directory(settings.data, observer, _history_verifier(config, settings.data) if is_running else None)
    except HubError as error:
        fail(COMMAND, str(error), MISUSE)
    if as_json:
        typer.echo(json.dumps([finding._asdict() for finding in findings], ensure_ascii=False))
    else:
        print_findings(findings)
    raise typer.Exit(exit_code(findings))


@contextmanager
def observed(work: str, found: Callable[[Finding], None]) -> Iterator[Observer]:
    """Yield an observer that shows its progress on a terminal. `work` is a word such as "verifying"."""
    from hub.app.verify import Observer

    columns = (TextColumn(work + " {task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with progress_bar(*columns) as progress:
        task = progress.add_task("", total=None)

        def begin(name: str, size_bytes: int) -> None:
            progress.reset(task, description=name, total=size_bytes)

        yield Observer(begin, lambda size_bytes: progress.advance(task, size_bytes), found)


def print_findings(findings: Sequence[Finding]) -> None:
    """Print a table of the files, then what the damages mean and what to do, each meaning once."""
    console = stdout_console()
    table = plain_table("file", "state", "found")
    for finding in findings:
        file, what = cells(finding.file, finding.what)
        table.add_row(file, STATES[finding.intact], what)
    console.print(table)
    files: dict[tuple[str, str], dict[str, None]] = {}
    for finding in findings:
        if finding.consequence:
            files.setdefault((finding.consequence, finding.next_step), {})[finding.file] = None
    for (consequence, next_step), names in files.items():
        console.print(*cells(f"{', '.join(names)}: {consequence}. Next step: {next_step}."))


def _history_verifier(config: Path | None, data: Path) -> Callable[[ReportShare], list[Finding]]:
    """Return the function that lets the hub verify its history."""

    def verify_history(report: ReportShare) -> list[Finding]:
        try:
            with hub_client(COMMAND, HubOptions(config=config, data=data), role=Role.ADMIN) as client:
                return _verify_parts(client, report)
        except typer.Exit:
            return [Finding(HISTORY, None, "the running hub could not be asked; a line above states the reason")]

    return verify_history


def _verify_parts(client: HubClient, report: ReportShare) -> list[Finding]:
    from hub.storage.duckdb.verify import damage, intact

    findings: list[Finding] = []
    position: int | None = 0
    rows = 0
    while position is not None:
        try:
            part = client.get("/api/v1/store/verification", {"position": position})
        except RequestFailed as failure:
            return [*findings, Finding(HISTORY, None, str(failure))]
        position, rows = part["next"], part["total"]
        if part["problem"] is not None:
            findings.append(damage(HISTORY, part["problem"]))
        report(part["verified"] / max(1, rows))
    return findings or [intact(HISTORY, rows)]
