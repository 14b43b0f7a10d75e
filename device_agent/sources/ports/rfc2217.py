"""Serial ports of a terminal server: what RFC 2217 sends over telnet to set the line, and what comes back. Pure.

pyserial has a client, too. It reads byte by byte in a thread, into a queue without a bound.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from device_agent.sources.ports import LineErrors, PortError, PortSettings

MAX_SUBNEGOTIATION = 1024
"""Bytes of one subnegotiation; the longest that is expected, a signature, is a line of text. The rest is discarded."""

MAX_OPTIONS = 64
"""Options that are answered. No server has more, and one that asks without end gets no further answer."""

IAC, DONT, DO, WONT, WILL, SB, SE = 255, 254, 253, 252, 251, 250, 240
BINARY, SUPPRESS_GO_AHEAD, COM_PORT = 0, 3, 44

SET_BAUDRATE, SET_DATASIZE, SET_PARITY, SET_STOPSIZE, SET_CONTROL = 1, 2, 3, 4, 5
NOTIFY_LINESTATE, SET_LINESTATE_MASK = 6, 10
SERVER = 100
"""A server's answer to a command has its number plus this."""

DTR_ON, DTR_OFF, RTS_ON, RTS_OFF = 8, 9, 11, 12

OVERRUN, PARITY, FRAMING = 2, 4, 8
"""Bits of a line state."""

_PARITIES = {"N": 1, "O": 2, "E": 3, "M": 4, "S": 5}
_NAMES = {SET_BAUDRATE: "baud rate", SET_DATASIZE: "data bits", SET_PARITY: "parity", SET_STOPSIZE: "stop bits"}
_WE, _THEY = (BINARY, SUPPRESS_GO_AHEAD, COM_PORT), (BINARY, SUPPRESS_GO_AHEAD)
"""Options that this side offers, and that it wants from the server."""

_PLAIN = re.compile(rb"[^\xff]+")


class Negotiation(NamedTuple):
    """Offer or answer of a telnet option: WILL, WONT, DO or DONT."""

    verb: int
    option: int


class Subnegotiation(NamedTuple):
    """Value of a telnet option."""

    option: int
    payload: bytes


TelnetEvent = Negotiation | Subnegotiation


class TelnetDecoder:
    """Separator of data and telnet commands. Cutting the stream anywhere changes nothing."""

    def __init__(self) -> None:
        self._state = self._data
        self._out = bytearray()
        self._events: list[TelnetEvent] = []
        self._verb = 0
        self._payload = bytearray()

    def feed(self, data: bytes) -> tuple[bytes, list[TelnetEvent]]:
        """Return the data and the commands in the next bytes."""
        if self._state == self._data and IAC not in data:
            return data, []
        self._out, self._events = bytearray(), []
        place = 0
        while place < len(data):
            if self._state == self._data and (plain := _PLAIN.match(data, place)):
                self._out += plain.group()
                place = plain.end()
                continue
            self._state(data[place])
            place += 1
        return bytes(self._out), self._events

    def _data(self, byte: int) -> None:
        self._state = self._command if byte == IAC else self._data

    def _command(self, byte: int) -> None:
        self._state = self._data
        if byte == IAC:
            self._out.append(IAC)
        elif byte in (WILL, WONT, DO, DONT):
            self._verb, self._state = byte, self._option
        elif byte == SB:
            self._payload, self._state = bytearray(), self._subnegotiation

    def _option(self, byte: int) -> None:
        self._events.append(Negotiation(self._verb, byte))
        self._state = self._data

    def _subnegotiation(self, byte: int) -> None:
        if byte == IAC:
            self._state = self._subnegotiation_command
        elif len(self._payload) < MAX_SUBNEGOTIATION:
            self._payload.append(byte)

    def _subnegotiation_command(self, byte: int) -> None:
        self._state = self._subnegotiation
        if byte == SE:
            if self._payload:
                self._events.append(Subnegotiation(self._payload[0], bytes(self._payload[1:])))
            self._state = self._data
        elif byte == IAC and len(self._payload) < MAX_SUBNEGOTIATION:
            self._payload.append(IAC)


class ComPortSession:
    """Client of one connection: it sets the line, and learns the errors of the line."""

    def __init__(self, settings: PortSettings) -> None:
        bits, parity, stop_bits = settings.frame_parts
        self._wanted = {
            SET_BAUDRATE: struct.pack("!I", settings.baud),
            SET_DATASIZE: bytes([bits]),
            SET_PARITY: bytes([_PARITIES[parity]]),
            SET_STOPSIZE: bytes([stop_bits]),
        }
        self._unconfirmed = set(self._wanted)
        self._dtr = settings.dtr
        self._answered: set[tuple[bool, int]] = {
            *((True, option) for option in _WE),
            *((False, option) for option in _THEY),
        }
        self._errors = [0, 0, 0]

    @property
    def is_settled(self) -> bool:
        """Return whether the server has confirmed all settings of the line."""
        return not self._unconfirmed

    @property
    def errors(self) -> LineErrors:
        """The errors that the server has reported: at least one of its kind each time."""
        return LineErrors(*self._errors)

    def start(self) -> bytes:
        """Return the first bytes: offers and wishes."""
        offers = [bytes((IAC, WILL, option)) for option in _WE]
        return b"".join((*offers, *(bytes((IAC, DO, option)) for option in _THEY)))

    def receive(self, event: TelnetEvent) -> bytes:
        """Return the answer to a command of the server. Raises PortError if the server cannot set the line."""
        if isinstance(event, Negotiation):
            return self._negotiate(*event)
        if event.option != COM_PORT or not event.payload:
            return b""
        command, value = event.payload[0] - SERVER, event.payload[1:]
        if command == NOTIFY_LINESTATE and value:
            for place, bit in enumerate((FRAMING, PARITY, OVERRUN)):
                self._errors[place] += bool(value[0] & bit)
        elif command in self._unconfirmed:
            if value != self._wanted[command]:
                raise PortError(
                    f"the server sets {_NAMES[command]} {int.from_bytes(value, 'big'):,} instead of"
                    f" {int.from_bytes(self._wanted[command], 'big'):,}; its port does not allow this setting"
                )
            self._unconfirmed.discard(command)
        return b""

    def set_baud(self, baud: int) -> bytes:
        """Return the bytes that change the rate."""
        self._wanted[SET_BAUDRATE] = struct.pack("!I", baud)
        self._unconfirmed.add(SET_BAUDRATE)
        return com_port(SET_BAUDRATE, self._wanted[SET_BAUDRATE])

    def _negotiate(self, verb: int, option: int) -> bytes:
        if option == COM_PORT and verb == DO:
            settings = [com_port(command, value) for command, value in self._wanted.items()]
            lines = [] if self._dtr else [control(DTR_OFF), control(RTS_OFF)]
            return b"".join([*settings, com_port(SET_LINESTATE_MASK, bytes([FRAMING | PARITY | OVERRUN])), *lines])
        if option == COM_PORT and verb == DONT:
            raise PortError("the server does not offer RFC 2217; write socket:// for a port that it sets itself")
        asked = (verb in (DO, DONT), option)
        if verb in (WONT, DONT) or asked in self._answered or len(self._answered) >= MAX_OPTIONS:
            return b""
        self._answered.add(asked)
        return bytes((IAC, WONT if verb == DO else DONT, option))


def escape(data: bytes) -> bytes:
    """Return data as it is sent between commands."""
    return data.replace(b"\xff", b"\xff\xff")


def com_port(command: int, value: bytes) -> bytes:
    """Return a command for the port."""
    return bytes((IAC, SB)) + escape(bytes([COM_PORT, command]) + value) + bytes((IAC, SE))


def control(value: int) -> bytes:
    """Return a command for a control line."""
    return com_port(SET_CONTROL, bytes([value]))
