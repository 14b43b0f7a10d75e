"""A UART of a test: what a receiver at one rate makes of the bits that were sent at another."""

from __future__ import annotations

import asyncio
import termios
from typing import NamedTuple

from tests.device_agent.pty_port import PtyPort

IDLE_BITS = 20
"""Bits between two lines, so that a receiver finds a start bit again."""

SPEEDS = {getattr(termios, f"B{rate}"): rate for rate in (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400)}


class Received(NamedTuple):
    """Bytes that arrived, and framing errors, whose byte arrives as 0."""

    data: bytes
    framing_errors: int


def bits_of(data: bytes, *, seven_even: bool = False) -> list[int]:
    """Return the bits on the line: a start bit, eight bits, a stop bit, and an idle line behind each line end."""
    bits: list[int] = []
    for byte in data:
        value = byte | (byte.bit_count() % 2) << 7 if seven_even else byte
        bits += [0, *((value >> place) & 1 for place in range(8)), 1]
        if byte == 10:
            bits += [1] * IDLE_BITS
    return bits


def receive(bits: list[int], sent_baud: int, read_baud: int) -> Received:
    """Sample the bits as a receiver at another rate does: in the middle of each bit after a falling edge."""
    ratio, end = sent_baud / read_baud, len(bits)
    line = "".join(map(str, bits)) + "1"
    out, errors, place = bytearray(), 0, line.find("0")

    def level(time: float) -> int:
        return bits[int(time)] if time < end else 1

    while place >= 0:
        byte = sum(level(place + ratio * (1.5 + bit)) << bit for bit in range(8))
        stop = place + ratio * 9.5
        has_error = not level(stop)
        out.append(0 if has_error else byte)
        errors += has_error
        high = line.find("1", int(stop)) if has_error else int(stop)
        place = line.find("0", high) if 0 <= high < end else -1
    return Received(bytes(out), errors)


async def send_forever(port: PtyPort, line: bytes, baud: int, *, seven_even: bool = False) -> None:
    """Send a line again and again as a device at one rate, to the rate that the reader has set."""
    bits = bits_of(line, seven_even=seven_even)
    while True:
        data = receive(bits, baud, SPEEDS.get(port.line()[5], 250_000)).data
        await port.write(data)
        await asyncio.sleep(0.002)
