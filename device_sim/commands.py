"""The `device-sim` command."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer
from rich.console import Console

from agent_client.endpoint import device_url
from agent_client.tls import (
    CA_HELP,
    CA_VARIABLE,
    CERTIFICATE_HELP,
    CERTIFICATE_VARIABLE,
    KEY_HELP,
    KEY_VARIABLE,
    ClientTls,
    client_tls,
)
from device_sim.assertion import Assertion, parse_assertion
from device_sim.display import report_table
from device_sim.fleet import MAX_RATE_HZ, SimulatedDevice, make_fleet
from device_sim.past import parse_length
from device_sim.profiles import PROFILES
from device_sim.report import RunSettings, decode_report, encode_report
from device_sim.running_device import SimulatorError
from wire import limits

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


@app.command()
def run(
    *,
    hub: Annotated[str, typer.Option(envvar="HUB_URL", help="Hub, for example http://127.0.0.1:8600.")],
    token: Annotated[str, typer.Option(envvar="HUB_TOKEN", help="Token of a gateway. Prefer HUB_TOKEN.")],
    devices: Annotated[int, typer.Option(min=1, max=MAX_DEVICES, help="Number of devices.")] = 20,
    rate: Annotated[float, typer.Option(min=0.001, max=MAX_RATE_HZ, help="Readings of each metric per second.")] = 1.0,
    duration: Annotated[float, typer.Option(min=0, help="Seconds to run; 0: until stopped.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed; the same seed gives the same values.")] = 1,
    batch: Annotated[int, typer.Option(min=1, max=limits.MAX_TIMES // 8, help="Rows in one batch.")] = 1,
    profile: Annotated[
        list[str] | None, typer.Option(help=f"Kinds of devices: {', '.join(PROFILES)}. Default: all.")
    ] = None,
    ramp_up: Annotated[float, typer.Option(min=0, help="Seconds over which the devices connect.")] = 0.0,
    prefix: Annotated[str, typer.Option(help="Prefix of every device id, to distinguish runs.")] = "",
    past: Annotated[
        str | None,
        typer.Option(metavar="LENGTH", help="Also write this much history, such as 24h, for devices new to the hub."),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="File for the report as JSON; - for standard output.")] = None,
    expect: Annotated[
        list[str] | None,
        typer.Option("--assert", help="Fail unless this holds: lost==0, ack.p99<100ms (repeatable)."),
    ] = None,
    ca: Annotated[Path | None, typer.Option(envvar=CA_VARIABLE, help=CA_HELP)] = None,
    client_certificate: Annotated[Path | None, typer.Option(envvar=CERTIFICATE_VARIABLE, help=CERTIFICATE_HELP)] = None,
    client_key: Annotated[Path | None, typer.Option(envvar=KEY_VARIABLE, help=KEY_HELP)] = None,
) -> None:
    """Run a fleet until the duration is over or a signal stops it, then report.

    Exit code 1 if an assertion does not hold, a device never connected, or a reading was lost.
    """
    try:
        assertions = [parse_assertion(expression) for expression in expect or []]
        device_url(hub)
        settings = RunSettings(
            hub=hub,
            devices=devices,
            rate_hz=rate,
            duration_s=duration or None,
            ramp_up_s=ramp_up,
            batch_rows=batch,
            seed=seed,
            profiles=list(dict.fromkeys(profile or PROFILES)),
            prefix=prefix,
            past_s=0.0 if past is None else parse_length(past),
        )
        tls = client_tls(ca, client_certificate, client_key)
        fleet = make_fleet(devices, seed=seed, profiles=settings.profiles, prefix=prefix)
    except ValueError as error:
        _fail(str(error), MISUSE)
    _simulate(settings, token, fleet, assertions, json, tls)


@app.command("report")
def compare(files: Annotated[list[Path], typer.Argument(help="Reports written by `run --json`.")]) -> None:
    """Show a report, or several side by side. Exit code 1 if one of the runs was not ok."""
    reports = []
    for file in files:
        try:
            reports.append((file.stem, decode_report(file.read_bytes())))
        except OSError as error:
            _fail(f"{file} cannot be read: {error.strerror}", MISUSE)
        except msgspec.DecodeError as error:
            _fail(f"{file} is not a report: {error}", MISUSE)
    Console().print(report_table(reports))
    raise typer.Exit(0 if all(report.ok for _, report in reports) else FAILED)


def _simulate(
    settings: RunSettings,
    token: str,
    fleet: Sequence[SimulatedDevice],
    assertions: Sequence[Assertion],
    report_file: Path | None,
    tls: ClientTls | None,
) -> NoReturn:
    """Run the fleet, show the report and write it to a file; "-" is standard output."""
    from device_sim.simulation import simulate

    to_stdout = report_file == Path("-")
    # With the report on standard output, everything else goes to standard error.
    console = Console(stderr=to_stdout)
    if report_file is not None and not to_stdout:
        try:
            report_file.open("ab").close()  # a file that cannot be written is reported before the run
        except OSError as error:
            _fail(f"{report_file} cannot be written: {error.strerror}", MISUSE)
    try:
        report = asyncio.run(simulate(settings, token, fleet, console, tls=tls))
    except SimulatorError as error:
        _fail(str(error), MISUSE)
    report = msgspec.structs.replace(report, assertions=[assertion.evaluate(report) for assertion in assertions])
    console.print(report_table([("", report)]))
    if to_stdout:
        sys.stdout.buffer.write(encode_report(report))
        sys.stdout.flush()
    elif report_file is not None:
        try:
            report_file.write_bytes(encode_report(report))
        except OSError as error:
            _fail(f"{report_file} cannot be written: {error.strerror}")
    raise typer.Exit(0 if report.ok else FAILED)


def _fail(message: str, status: int = FAILED) -> NoReturn:
    typer.echo(f"device-sim: {message}", err=True)
    raise typer.Exit(status)


def main() -> None:
    """The `device-sim` command."""
    app()
