"""Serial ports: their settings, and what the source needs of an open one, wherever it is."""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple, Protocol

import msgspec
from msgspec import Meta

DEFAULT_BAUD = 115_200

DEFAULT_FRAME = "8N1"

MAX_BAUD = 20_000_000
"""Highest rate: more than any adapter has."""

READ_BYTES = 4096
"""Bytes of one read: the buffer of a Linux tty."""

RESET_SECONDS = 0.1
"""Length of the pulse that resets a board: that of esptool."""

_FRAME = re.compile(r"[5-8][NEOMS][12]")


class PortSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a serial port. Raises ValueError for wrong ones.

    `port` is a path, a pattern such as /dev/ttyUSB*, VID:PID or VID:PID:SERIAL of a USB device, `socket://HOST:PORT` or
    `rfc2217://HOST:PORT`. `frame` has the data bits, the parity and the stop bits. `dtr` False lowers the lines DTR and
    RTS while the port is open. `reset` resets the board when the port is opened.
    """

    port: Annotated[str, Meta(min_length=1, max_length=1024)]
    baud: Annotated[int, Meta(ge=1, le=MAX_BAUD)] = DEFAULT_BAUD
    frame: str = DEFAULT_FRAME
    dtr: bool = True
    reset: bool = False

    def __post_init__(self) -> None:
        if not _FRAME.fullmatch(self.frame):
            raise ValueError(
                f"frame {self.frame!r} is unknown: write data bits, parity and stop bits, such as 8N1 or 7E1"
            )

    @property
    def frame_parts(self) -> tuple[int, str, int]:
        """The data bits, the parity as pyserial names it, and the stop bits."""
        return int(self.frame[0]), self.frame[1], int(self.frame[2])


class PortUser(NamedTuple):
    """A program that has a port open."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} (process {self.pid})"


class LineErrors(NamedTuple):
    """Errors that the hardware of a port has counted since it was opened."""

    framing: int = 0
    parity: int = 0
    overrun: int = 0


class Port(Protocol):
    """An open port, which is read by one task."""

    name: str

    async def read(self) -> bytes:
        """Return the next bytes, at least one. Raises OSError when the port is gone or closed."""

    def write(self, data: bytes) -> None:
        """Send bytes, at most as many as fit into the buffer of a tty. Raises OSError when the port is gone."""

    async def set_baud(self, baud: int) -> None:
        """Change the rate, which does not reset the board. Raises OSError and ValueError."""

    def line_errors(self) -> LineErrors | None:
        """Return the errors so far; None if the port does not count them."""

    def close(self) -> None:
        """Release the port at once; a read that waits raises OSError. May be called again."""


class PortError(OSError):
    """A port that cannot be used; the message has the reason and the next step."""
