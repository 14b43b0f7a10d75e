"""Commands and options of `device-agent` for serial ports."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import msgspec
import typer

from agent_client.trial import InputUnreadable
from device_agent.control import HoldRequest, control_path, held_port
from device_agent.errors import AgentError
from device_agent.sources.ports import DEFAULT_BAUD, DEFAULT_FRAME, PortError, PortSettings, PortUser
from device_agent.sources.ports.baud import RateTrial, best_trial
from device_agent.sources.ports.selection import PortInfo, selector_kind
from wire.text import escaped

if TYPE_CHECKING:
    from device_agent.sources.lines import ForeignInput

FAILED = 1
MISUSE = 2
NOT_FOUND = 127
SIGNALLED = 128
"""Exit codes of a shell for a program that does not exist, and, with the number of the signal, that was killed."""

PORT_HELP = (
    "Path, such as one under /dev/serial/by-id; pattern ('/dev/ttyUSB*'); USB device as VID:PID or VID:PID:SERIAL;"
    " socket://HOST:PORT or rfc2217://HOST:PORT. `device-agent ports` lists the ports."
)


@dataclass(frozen=True)
class PortOptions:
    """Options of the commands that open a port."""

    baud: Annotated[int, typer.Option(min=1, help="Bits per second.")] = DEFAULT_BAUD
    frame: Annotated[str, typer.Option(help="Data bits, parity and stop bits, such as 8N1 or 7E1.")] = DEFAULT_FRAME
    dtr: Annotated[
        bool, typer.Option("--dtr/--no-dtr", help="--no-dtr lowers DTR and RTS; some devices send nothing then.")
    ] = True
    reset: Annotated[bool, typer.Option("--reset", help="Reset the board when the port is opened.")] = False

    def settings(self, port: str) -> PortSettings:
        """Return the settings of a port; exit with 2 when they are invalid."""
        try:
            return PortSettings(port=port, baud=self.baud, frame=self.frame, dtr=self.dtr, reset=self.reset)
        except ValueError as error:
            typer.echo(f"device-agent: {error}", err=True)
            raise typer.Exit(MISUSE) from None


def list_ports(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List the serial ports of this computer: device, VID:PID, serial number, permanent name, and what uses them.

    The second line of a port is the name to use: it stays when the device is plugged in elsewhere.

    Example: device-agent ports
    """
    # pyserial takes a tenth of the start time.
    from device_agent.sources.ports.opening import port_users, present_ports

    found = [(port, port_users(port.path)) for port in present_ports()]
    if as_json:
        typer.echo(
            json.dumps(
                [{**msgspec.structs.asdict(port), "users": [user._asdict() for user in users]} for port, users in found]
            )
        )
        return
    if not found:
        typer.echo("no serial port; plug the device in, with a cable that carries data", err=True)
    for port, users in found:
        typer.echo(port_text(port, users))


def port_text(port: PortInfo, users: Sequence[PortUser]) -> str:
    """Return the lines that describe a port."""
    device = " ".join(filter(None, (port.manufacturer, port.product))) or port.driver or "no description"
    permanent = port.by_id or (port.usb_id if port.serial_number else "")
    details = {
        "use": permanent or port.usb_id or port.path,
        "USB device": port.usb_id,
        "plugged in": port.location and f"at {port.location}",
        "used by": ", ".join(map(str, users)),
    }
    described = [f"  {name:<11} {escaped(text)}" for name, text in details.items() if text]
    return "\n".join([f"{port.path}  {escaped(device)}", *described])


def hold(
    port: Annotated[str, typer.Argument(help="Port, by any of its names, as an agent reads it.")],
    command: Annotated[
        list[str] | None, typer.Argument(help="Program to run meanwhile, behind --; {port} is the path of the port.")
    ] = None,
    device: Annotated[str, typer.Option(help="Device of the agent. Default: all agents of this user.")] = "",
    spool: Annotated[Path | None, typer.Option(help="Spool of the agent.")] = None,
    config: Annotated[Path | None, typer.Option(help="File of `device-agent run --config`: ask its agents.")] = None,
) -> None:
    """Take a port from a running agent, for example to flash the board; the agent reads it again afterwards.

    Until Ctrl-C, or while a command runs. The agent continues to send what it has. Exit code: that of the command.

    Example: device-agent hold /dev/ttyUSB0 -- arduino-cli upload -p {port} sketch
    """
    from device_agent.program import run_until_stopped
    from device_agent.settings import AgentSettingsError, default_spool, load_settings

    try:
        if config is not None:
            settings = load_settings(config)
            channels = [control_path(settings.spool_of(name)) for name in settings.devices if device in ("", name)]
        elif spool is not None or device:
            channels = [control_path(spool or default_spool(device))]
        else:
            channels = sorted(default_spool("any").parent.glob("*.control"))
        code = run_until_stopped(hold_port(channels, port, command or []))
    except (AgentError, AgentSettingsError) as error:
        typer.echo(f"device-agent: {escaped(str(error))}", err=True)
        raise typer.Exit(FAILED) from None
    raise typer.Exit(code or 0)


async def hold_port(channels: Sequence[Path], port: str, command: Sequence[str]) -> int:
    """Hold a port while a command runs, or until the agent ends; return the exit code. Raises AgentError.

    `{port}` in the command is the path of the port.
    """
    from device_agent.sources.ports.opening import PortFinder

    names = [port]
    with suppress(PortError):  # an agent may know it by the same name
        names.append(PortFinder(port).find())
    request = HoldRequest(names, Path(command[0]).name if command else "", os.getpid())
    async with held_port(channels, request) as held:
        if not command:
            typer.echo(f"{held.path} is free; Ctrl-C gives it back to the agent", err=True)
            await held.wait_agent_end()
            typer.echo("the agent has ended", err=True)
            return 0
        return await _run([word.replace("{port}", held.path) for word in command])


async def _run(command: Sequence[str]) -> int:
    """Run a command to its end; end it if this program is stopped. Return its exit code as a shell does."""
    try:
        process = await asyncio.create_subprocess_exec(*command)
    except OSError as error:
        typer.echo(f"device-agent: {escaped(command[0])} cannot be run: {error.strerror}", err=True)
        return NOT_FOUND
    try:
        code = await process.wait()
    except asyncio.CancelledError:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        raise
    return code if code >= 0 else SIGNALLED - code


def print_rates(
    line: PortOptions, port: str, new_input: Callable[[], ForeignInput], *, seconds: float, as_json: bool
) -> NoReturn:
    """Try the likely rates of a port, print what was found, and exit: with 0 if a rate reads, else with 1."""
    from device_agent.program import run_until_stopped
    from device_agent.trial import find_baud

    def report(trial: RateTrial) -> None:
        typer.echo(rate_text(trial), err=as_json)

    typer.echo(f"trying {port}, at most {seconds:g} s for each rate; Ctrl-C ends it", err=True)
    typer.echo("     baud    bytes   text  framing errors  lines", err=as_json)
    try:
        trials = run_until_stopped(find_baud(line.settings(port), new_input, seconds=seconds, report=report))
    except InputUnreadable as error:
        typer.echo(f"device-agent: {escaped(str(error))}", err=True)
        raise typer.Exit(FAILED) from None
    best = best_trial(trials or [])
    command = "" if best is None else f"device-agent try {shlex.quote(port)} --baud {best.baud}"
    if best is not None and best.evidence.frame:
        command += f" --frame {best.evidence.frame}"
    if as_json:
        rates = [{**trial._asdict(), "evidence": trial.evidence._asdict()} for trial in trials or []]
        found = {"baud": best and best.baud, "frame": best and (best.evidence.frame or line.frame)}
        typer.echo(json.dumps({"target": port, **found, "command": command, "rates": rates}))
    elif best is not None:
        typer.echo(f"\n{best.baud:,} baud reads. See the readings:\n{escaped(command)}")
    elif any(trial.evidence.total for trial in trials or []):
        typer.echo("\nno rate reads: the device may send no text, or another program may read a part of its bytes")
    else:
        typer.echo("\nnothing arrives: check the power, that TX and RX are crossed, and if the device has to be asked")
    raise typer.Exit(0 if best is not None else FAILED)


def rate_text(trial: RateTrial) -> str:
    """Return the line that shows what was found at one rate."""
    found = trial.evidence
    if trial.problem:
        return f"{trial.baud:>9,}  {escaped(trial.problem)}"
    share = f"{found.text_share:.0%}" if found.total else ""
    form = trial.format or "lines of text"
    verdict = f"  reads: {form}{f', {found.frame}' if found.frame else ''}" if trial.reads else ""
    return f"{trial.baud:>9,} {found.total:>8,} {share:>6} {found.framing_errors:>15,} {trial.lines:>6,}{verdict}"


def is_port_name(text: str) -> bool:
    """Return whether an argument names a port, and not a file."""
    kind = selector_kind(text)
    if kind == "usb":
        return not Path(text).exists()
    if kind == "pattern" and not Path(text).exists():
        return text.startswith("/dev/")
    return kind == "url" or Path(text).is_char_device()
