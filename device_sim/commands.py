"""The `device-sim` command."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer
from rich.console import Console

from agent_client.endpoint import device_url
from device_agent.errors import AgentError
from device_sim.assertion import Assertion, AssertionSyntaxError, parse_assertion
from device_sim.display import report_table
from device_sim.errors import SimulatorError
from device_sim.fleet import make_fleet
from device_sim.past import parse_length
from device_sim.profiles import PROFILES
from device_sim.report import Report, Settings, decode_report, encode_report
from device_sim.schedule import MAX_RATE_HZ
from wire import limits

FAILED = 1
MISUSE = 2
MAX_DEVICES = 20_000
"""More agents than this in one process starve each other; start several processes."""

app = typer.Typer(
    name="device-sim",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Simulated fleets for a telemetry hub: believable devices, load, and a report that proves what became of it.",
)


@app.command()
def run(
    hub: Annotated[str, typer.Option(envvar="HUB_URL", help="The hub, for example http://127.0.0.1:8600.")],
    token: Annotated[str, typer.Option(envvar="HUB_TOKEN", help="A gateway's token; better given as HUB_TOKEN.")],
    devices: Annotated[int, typer.Option(min=1, max=MAX_DEVICES, help="How many devices.")] = 20,
    rate: Annotated[float, typer.Option(min=0.001, max=MAX_RATE_HZ, help="Readings of each metric a second.")] = 1.0,
    duration: Annotated[float, typer.Option(min=0, help="Seconds to run; 0: until stopped.")] = 0.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same values.")] = 1,
    batch: Annotated[int, typer.Option(min=1, max=limits.MAX_TIMES // 8, help="Rows collected into one batch.")] = 1,
    profile: Annotated[list[str] | None, typer.Option(help=f"Kinds of device: {', '.join(PROFILES)} (all).")] = None,
    ramp_up: Annotated[float, typer.Option(min=0, help="Seconds over which the devices join.")] = 0.0,
    prefix: Annotated[str, typer.Option(help="Put before every device's id, to tell runs apart.")] = "",
    past: Annotated[
        str | None,
        typer.Option(metavar="LENGTH", help="Also write this much history, such as 24h, for devices new to the hub."),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write the report here as JSON; - for standard output.")] = None,
    expect: Annotated[
        list[str] | None, typer.Option("--assert", help="Fail unless it holds: lost==0, ack.p99<100ms (repeatable).")
    ] = None,
) -> None:
    """Run a fleet until the duration is over or a signal stops it, then report.

    Exit code 1 when an assertion does not hold, a device never connected, or a reading was lost.
    """
    from device_sim.simulation import simulate

    try:
        past_s = parse_length(past) if past is not None else 0.0
    except ValueError as error:
        _misuse(str(error))
    settings = Settings(
        hub=hub,
        devices=devices,
        rate_hz=rate,
        duration_s=duration or None,
        ramp_up_s=ramp_up,
        batch_rows=batch,
        seed=seed,
        profiles=list(dict.fromkeys(profile or PROFILES)),
        prefix=prefix,
        past_s=past_s,
    )
    # With the report on standard output everything else goes beside it.
    console = Console(stderr=json == Path("-"))
    try:
        assertions = [parse_assertion(expression) for expression in expect or []]
        device_url(hub)
        fleet = make_fleet(devices, seed=seed, profiles=settings.profiles, prefix=prefix)
    except (AssertionSyntaxError, AgentError, ValueError) as error:
        _misuse(str(error))
    if json is not None:
        _open(json)
    try:
        report = asyncio.run(simulate(settings, token, fleet, console))
    except SimulatorError as error:
        _misuse(str(error))
    report = _judged(report, assertions)
    console.print(report_table([("", report)]))
    if json is not None:
        _write(encode_report(report), json)
    raise typer.Exit(0 if report.ok else FAILED)


@app.command("report")
def compare(files: Annotated[list[Path], typer.Argument(help="Reports that `run --json` wrote.")]) -> None:
    """Show a report, or several side by side. Exit code 1 when one of the runs was not ok."""
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


def _judged(report: Report, assertions: list[Assertion]) -> Report:
    return msgspec.structs.replace(report, assertions=[assertion.judge(report) for assertion in assertions])


def _open(to: Path) -> None:
    """Makes sure that the report can be written there, before a run that would be for nothing; what is there stays."""
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
