"""Commands and options of `device-agent` for serial ports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from device_agent.sources.ports import DEFAULT_BAUD, PortSettings, PortUser
from device_agent.sources.ports.selection import PortInfo, selector_kind
from wire.text import escaped

MISUSE = 2

PORT_HELP = (
    "Path, such as one under /dev/serial/by-id; pattern ('/dev/ttyUSB*'); USB device as VID:PID or VID:PID:SERIAL;"
    " socket://HOST:PORT or rfc2217://HOST:PORT. `device-agent ports` lists the ports."
)


@dataclass(frozen=True)
class PortOptions:
    """Options of the commands that open a port."""

    baud: Annotated[int, typer.Option(min=1, help="Bits per second.")] = DEFAULT_BAUD
    frame: Annotated[str, typer.Option(help="Data bits, parity and stop bits, such as 8N1 or 7E1.")] = "8N1"
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


def is_port_name(text: str) -> bool:
    """Return whether an argument names a port, and not a file."""
    kind = selector_kind(text)
    if kind == "usb":
        return not Path(text).exists()
    if kind == "pattern" and not Path(text).exists():
        return text.startswith("/dev/")
    return kind == "url" or Path(text).is_char_device()
