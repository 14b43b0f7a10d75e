"""The `device-sim` command."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer
from rich.console import Console

from agent_client.endpoint import device_url
from device_sim.assertion import Assertion, parse_assertion
from device_sim.display import report_table
from device_sim.fleet import MAX_RATE_HZ, make_fleet
from device_sim.past import parse_length
from device_sim.profiles import PROFILES
from device_sim.report import Report, RunSettings, decode_report, encode_report
from device_sim.running_device import SimulatorError
from wire import limits
from wire.option_group import with_option_groups

FAILED = 1
MISUSE = 2
MAX_DEVICES = 20_000
"""With more agents in one process each gets too little processor time; start several processes."""

app = typer.Typer(
    name="device-sim",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Simulated fleets for a telemetry hub: realistic devices, load, and a report of what the hub stored.",
)


@dataclass(frozen=True)
class FleetOptions:
    """Options that describe the fleet and the run."""

    hub: Annotated[str, typer.Option(envvar="HUB_URL", help="Hub, for example http://127.0.0.1:8600.")]
    token: Annotated[str, typer.Option(envvar="HUB_TOKEN", help="Token of a gateway. Prefer HUB_TOKEN.")]
    devices: Annotated[int, typer.Option(min=1, max=MAX_DEVICES, help="Number of devices.")] = 20
    rate: Annotated[float, typer.Option(min=0.001, max=MAX_RATE_HZ, help="Readings of each metric per second.")] = 1.0
    duration: Annotated[float, typer.Option(min=0, help="Seconds to run; 0: until stopped.")] = 0.0
    seed: Annotated[int, typer.Option(help="Seed; the same seed gives the same values.")] = 1
    batch: Annotated[int, typer.Option(min=1, max=limits.MAX_TIMES // 8, help="Rows in one batch.")] = 1
    profile: Annotated[
        list[str] | None, typer.Option(help=f"Kinds of devices: {', '.join(PROFILES)}. Default: all.")
    ] = None
    ramp_up: Annotated[float, typer.Option(min=0, help="Seconds over which the devices connect.")] = 0.0
    prefix: Annotated[str, typer.Option(help="Prefix of every device id, to distinguish runs.")] = ""
    past: Annotated[
        str | None,
        typer.Option(metavar="LENGTH", help="Also write this much history, such as 24h, for devices new to the hub."),
    ] = None

    def settings(self) -> RunSettings:
        """Return the settings of the run. Raises ValueError."""
        return RunSettings(
            hub=self.hub,
            devices=self.devices,
            rate_hz=self.rate,
            duration_s=self.duration or None,
            ramp_up_s=self.ramp_up,
            batch_rows=self.batch,
            seed=self.seed,
            profiles=list(dict.fromkeys(self.profile or PROFILES)),
            prefix=self.prefix,
            past_s=0.0 if self.past is None else parse_length(self.past),
        )


@app.command()
@with_option_groups
def run(
    options: FleetOptions,
    json: Annotated[Path | None, typer.Option(help="File for the report as JSON; - for standard output.")] = None,
    expect: Annotated[
        list[str] | None,
        typer.Option("--assert", help="Fail unless this holds: lost==0, ack.p99<100ms (repeatable)."),
    ] = None,
) -> None:
    """Run a fleet until the duration is over or a signal stops it, then report.

    Exit code 1 if an assertion does not hold, a device never connected, or a reading was lost.
    """
    from device_sim.simulation import simulate

    # With the report on standard output, everything else goes to standard error.
    console = Console(stderr=json == Path("-"))
    try:
        assertions = [parse_assertion(expression) for expression in expect or []]
        device_url(options.hub)
        settings = options.settings()
        fleet = make_fleet(settings.devices, seed=settings.seed, profiles=settings.profiles, prefix=settings.prefix)
    except ValueError as error:
        _misuse(str(error))
    if json is not None:
        _open(json)
    try:
        report = asyncio.run(simulate(settings, options.token, fleet, console))
    except SimulatorError as error:
        _misuse(str(error))
    report = _with_results(report, assertions)
    console.print(report_table([("", report)]))
    if json is not None:
        _write(encode_report(report), json)
    raise typer.Exit(0 if report.ok else FAILED)


@app.command("report")
def compare(files: Annotated[list[Path], typer.Argument(help="Reports written by `run --json`.")]) -> None:
    """Show a report, or several side by side. Exit code 1 if one of the runs was not ok."""
    reports = []
    for file in files:
        try:
            reports.append((file.stem, decode_report(file.read_bytes())))
        except OSError as error:
            _misuse(f"{file} cannot be read: {error.strerror}")
        except msgspec.DecodeError as error:
            _misuse(f"{file} is not a report: {error}")
    Console().print(report_table(reports))
    raise typer.Exit(0 if all(report.ok for _, report in reports) else FAILED)


def _with_results(report: Report, assertions: list[Assertion]) -> Report:
    return msgspec.structs.replace(report, assertions=[assertion.evaluate(report) for assertion in assertions])


def _open(to: Path) -> None:
    """Check before the run that the report can be written to this file, without changing the file."""
    if to == Path("-"):
        return
    try:
        to.open("ab").close()
    except OSError as error:
        _misuse(f"{to} cannot be written: {error.strerror}")


def _write(text: bytes, to: Path) -> None:
    if to == Path("-"):
        sys.stdout.buffer.write(text)
        sys.stdout.flush()
        return
    try:
        to.write_bytes(text)
    except OSError as error:
        typer.echo(f"device-sim: {to} cannot be written: {error.strerror}", err=True)
        raise typer.Exit(FAILED) from None


def _misuse(message: str) -> NoReturn:
    typer.echo(f"device-sim: {message}", err=True)
    raise typer.Exit(MISUSE)


def main() -> None:
    """The `device-sim` command."""
    app()
