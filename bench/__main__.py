"""Command line `python -m bench`: measures the rows, prints a table and writes build/bench.json."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.figure import Figure, Outcome, Plan
from bench.hub_process import HubError, NoCompiler
from bench.measure import Failure
from bench.rows import CONNECTIONS, LONG_ROWS, ROWS, Row, allow_files

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "build" / "bench.json"
SOME = ROOT / "build" / "bench-rows.json"
"""Output of a run with `--row`. The file of a complete run stays unchanged."""
KEYS = [row.key for row in (*ROWS, *LONG_ROWS)]


def bench(
    row: Annotated[list[str] | None, typer.Option(help=f"Only this row (repeatable): {', '.join(KEYS)}.")] = None,
    repeats: Annotated[int, typer.Option(min=1, max=20, help="Runs of each row; the median counts.")] = 3,
    scale: Annotated[float, typer.Option(min=0.01, max=20, help="Size of every load; 1 is a few seconds.")] = 1.0,
    profile: Annotated[bool, typer.Option("--profile", help="Also print where the hub spends its time.")] = False,
    out: Annotated[
        Path | None, typer.Option(help=f"File for the figures: build/{OUT.name}, or build/{SOME.name} with --row.")
    ] = None,
) -> None:
    """Measure a real hub on one core under a load from the other. Exit code 1 when a required bound does not hold."""
    console = Console()
    if unknown := set(row or []) - set(KEYS):
        console.print(f"Unknown rows: {', '.join(sorted(unknown))}. The rows are {', '.join(KEYS)}.")
        raise typer.Exit(2)
    cores = sorted(os.sched_getaffinity(0))
    hub_core, load_core = cores[0], cores[-1]
    if hub_core == load_core:
        console.print("This machine has one core: hub and load share it, and the figures are too low.")
    os.sched_setaffinity(0, {load_core})
    allow_files(CONNECTIONS)
    out = out or (SOME if row else OUT)
    plan = Plan(out.parent / "bench", hub_core, load_core, repeats, scale)
    figures: list[Figure] = []
    failed = False
    for chosen in [known for known in (*ROWS, *LONG_ROWS) if known.key in row] if row else ROWS:
        if profile:
            report = plan.directory / f"{chosen.key}.profile.txt"
            plan.launcher = (sys.executable, "-m", "bench.profiler", str(report))
        try:
            outcome = _measured(chosen, plan, console)
        except (Failure, HubError, NoCompiler) as error:
            console.print(f"[red]{chosen.name}: {error}[/red]", highlight=False)
            failed = True
            continue
        figures += outcome.figures
        for note in outcome.notes:
            console.print(f"  {note}", style="dim", highlight=False)
        if profile:
            console.print(report.read_text(), highlight=False, markup=False)
    console.print(_table(figures))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(msgspec.json.format(msgspec.json.encode(figures)) + b"\n")
    console.print(
        f"written to {os.path.relpath(out)}; Python {platform.python_version()} of {os.path.realpath(sys.executable)}; "
        f"load average {os.getloadavg()[0]:.1f}",
        highlight=False,
    )
    raise typer.Exit(1 if failed or not all(figure.ok for figure in figures) else 0)


def _measured(row: Row, plan: Plan, console: Console) -> Outcome:
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console, transient=True
    ) as progress:
        task = progress.add_task(row.name, total=1.0)
        return row.run(plan, lambda step, share: progress.update(task, description=step, completed=share))


def _table(figures: list[Figure]) -> Table:
    table = Table("what", "value", "unit", "must", "", title="The hub on one core, the load on the other")
    for column in (1, 3):
        table.columns[column].justify = "right"
    for figure in figures:
        value = f"{figure.value:,.0f}" if figure.value >= 1000 else f"{figure.value:,.2f}"
        verdict = "" if figure.must is None else "[green]holds[/green]" if figure.ok else "[red]does not hold[/red]"
        table.add_row(figure.name, value, figure.unit, "" if figure.must is None else f"{figure.must:,g}", verdict)
    return table


if __name__ == "__main__":
    typer.run(bench)
