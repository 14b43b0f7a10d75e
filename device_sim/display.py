"""Output for people: the progress of a run, and reports side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from device_sim.report import Distribution, Report
from wire.text import plural

TABLE_SECONDS = 0.5
LINE_SECONDS = 5.0


class Snapshot(NamedTuple):
    """The state of a run. Amounts are readings; rates are for the time since the last snapshot.

    `problem` is why a device has no connection; empty if all have one, or have not tried yet.
    """

    elapsed_s: float
    duration_s: float | None
    devices: int
    connected: int
    sent: int
    acked: int
    waiting: int
    lost: int
    sent_per_s: float
    acked_per_s: float
    p50_ms: float
    p99_ms: float
    lag_p99_ms: float
    problem: str = ""


def snapshot_line(now: Snapshot) -> str:
    """Return the state as a line for a log."""
    return (
        f"{now.elapsed_s:6.0f} s  {now.connected}/{now.devices} connected  sent {now.sent:,} ({now.sent_per_s:,.0f}/s) "
        f" acknowledged {now.acked:,} ({now.acked_per_s:,.0f}/s)  waiting {now.waiting:,}  lost {now.lost:,}  "
        f"ack p50 {now.p50_ms:.1f} ms  p99 {now.p99_ms:.1f} ms" + (f"  {now.problem}" if now.problem else "")
    )


def snapshot_table(now: Snapshot) -> Table:
    """Return the state as a table for a terminal."""
    of = f" of {now.duration_s:.0f} s" if now.duration_s is not None else " (until stopped)"
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_column()
    table.add_row("time", f"{now.elapsed_s:.0f} s", of.strip())
    table.add_row("connected", f"{now.connected:,}", f"of {plural(now.devices, 'device')}")
    table.add_row("sent", f"{now.sent:,}", f"{now.sent_per_s:,.0f} readings/s")
    table.add_row("acknowledged", f"{now.acked:,}", f"{now.acked_per_s:,.0f} readings/s")
    table.add_row("waiting", f"{now.waiting:,}", f"[red]{now.lost:,} lost[/red]" if now.lost else "")
    table.add_row("ack p50", f"{now.p50_ms:.1f} ms", f"p99 {now.p99_ms:.1f} ms")
    table.add_row("own lag p99", f"{now.lag_p99_ms:.1f} ms", "")
    if now.problem:
        table.add_row("not connected", "", Text(now.problem, style="yellow"))
    return table


async def show_progress(console: Console, take_snapshot: Callable[[], Snapshot]) -> NoReturn:
    """Show snapshots until it is cancelled; then the table disappears, because the report follows."""
    if not console.is_terminal:
        while True:
            await asyncio.sleep(LINE_SECONDS)
            console.print(snapshot_line(take_snapshot()), highlight=False, soft_wrap=True)
    with Live(snapshot_table(take_snapshot()), console=console, auto_refresh=False, transient=True) as live:
        while True:
            await asyncio.sleep(TABLE_SECONDS)
            live.update(snapshot_table(take_snapshot()), refresh=True)


def report_table(reports: Sequence[tuple[str, Report]]) -> Table:
    """Return a table with a column for each report."""
    table = Table()
    table.add_column("", style="dim")
    for name, _ in reports:
        table.add_column(name, justify="right")
    for label, value_of in _ROWS:
        table.add_row(label, *(value_of(report) for _, report in reports))
    for expression in dict.fromkeys(v.expression for _, report in reports for v in report.assertions):
        table.add_row(expression, *(_assertion_result(report, expression) for _, report in reports))
    table.add_row("problems", *("; ".join(report.problems) or "none" for _, report in reports))
    table.add_row("verdict", *("[green]ok[/green]" if report.ok else "[red]not ok[/red]" for _, report in reports))
    return table


def _distribution(values: Distribution) -> str:
    return f"{values.p50:.2f} / {values.p90:.2f} / {values.p99:.2f} / {values.p999:.2f} / {values.max:.2f}"


def _assertion_result(report: Report, expression: str) -> str:
    for result in report.assertions:
        if result.expression == expression:
            return f"[green]holds[/green] ({result.found})" if result.holds else f"[red]fails[/red] ({result.found})"
    return ""


def _hub_count(count_of: Callable[[Report], int | None]) -> Callable[[Report], str]:
    return lambda report: "unknown" if (value := count_of(report)) is None else f"{value:,}"


_ROWS: tuple[tuple[str, Callable[[Report], str]], ...] = (
    ("devices", lambda r: f"{r.settings.devices:,} ({', '.join(r.settings.profiles)})"),
    ("each", lambda r: f"{r.settings.rate_hz:g} Hz, {r.settings.batch_rows} a batch, seed {r.settings.seed}"),
    ("time", lambda r: f"{r.elapsed_s:.1f} s"),
    ("connected", lambda r: f"{r.devices.connected:,}"),
    ("never connected", lambda r: f"{r.devices.failed:,}"),
    ("reconnects", lambda r: f"{r.devices.reconnects:,}"),
    ("batches sent", lambda r: f"{r.batches.sent:,}"),
    ("batches acknowledged", lambda r: f"{r.batches.acked:,}"),
    ("batches rejected", lambda r: f"{r.rejected_batches:,}"),
    ("readings rejected", lambda r: f"{r.rejected_readings:,}"),
    ("batches repeated", _hub_count(lambda r: None if r.hub is None else r.hub.repeated_batches)),
    ("readings sent", lambda r: f"{r.readings.sent:,}"),
    ("readings acknowledged", lambda r: f"{r.readings.acked:,}"),
    ("readings stored", _hub_count(lambda r: None if r.hub is None else r.hub.stored)),
    ("readings waiting", lambda r: f"{r.readings.waiting:,}"),
    ("readings lost", lambda r: f"{r.readings.lost:,}"),
    ("readings duplicated", _hub_count(lambda r: None if r.hub is None else r.hub.duplicated)),
    ("acknowledged a second", lambda r: f"{r.acked_per_s:,.0f}"),
    ("ack ms: p50 / p90 / p99 / p99.9 / max", lambda r: _distribution(r.ack_ms)),
    ("own lag ms", lambda r: _distribution(r.lag_ms)),
    ("own processor, memory", lambda r: f"{r.generator.cpu:.0%}, {r.generator.rss_bytes / 1e6:,.0f} MB"),
)
