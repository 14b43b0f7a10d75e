"""Receivers of positions behind gpsd: its reports of position, speed, time and satellites over its JSON protocol."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec

from device_agent.sources.connection import Connection, ConnectionSource, PeerReader
from device_agent.sources.line_report import LineReport
from device_agent.sources.lines import MAX_LINE_BYTES, ForeignSettings
from device_agent.sources.network import Address, parse_address
from device_agent.sources.settings import Seconds, SourceContext
from device_agent.sources.tcp import connect_tcp
from formats.framing import LineFraming
from formats.record import TextFrame

PORT = 2947

ADDRESS = f"127.0.0.1:{PORT}"

SILENCE_SECONDS = 60.0
"""Longest time without a report. A receiver reports each second, also without a position."""

MAX_RECEIVER = 256
"""Characters of a receiver's path, which gpsd takes from its command line."""

_log = logging.getLogger(__name__)


class GpsdSettings(ForeignSettings, frozen=True, kw_only=True):
    """Settings of a gpsd. `receiver` is the path of one receiver, such as /dev/ttyACM0; empty: all of them."""

    address: str = ADDRESS
    receiver: str = ""
    silence_s: Seconds | None = SILENCE_SECONDS

    def __post_init__(self) -> None:
        parse_address(self.address, default_port=PORT)
        if self.rules.format not in ("auto", "gpsd"):
            raise ValueError("the format of gpsd is its own: leave format out")
        if len(self.receiver) > MAX_RECEIVER or not self.receiver.isprintable():
            raise ValueError(f"{self.receiver[:40]!r} is not the path of a receiver")

    @property
    def default_name(self) -> str:
        receiver = f" {self.receiver}" if self.receiver else ""
        return f"gpsd {parse_address(self.address, default_port=PORT)}{receiver}"

    def source(self, context: SourceContext) -> ConnectionSource[Connection]:
        rules = msgspec.structs.replace(self.rules, format="gpsd")
        input = msgspec.structs.replace(self, rules=rules).input(context)
        reader = PeerReader(input, is_whole=True, silence_s=self.silence_s)
        address = parse_address(self.address, default_port=PORT)
        report = LineReport(self.name or self.default_name, input, _log)
        return ConnectionSource(report, reader, partial(connect_gpsd, address, self.receiver))


class GpsdConnection:
    """Connection to a gpsd, with the state of its receivers: one that is unplugged is no end of the connection."""

    def __init__(self, connection: Connection, report: LineReport) -> None:
        self._connection = connection
        self._report = report
        self._framing = LineFraming(MAX_LINE_BYTES)

    async def receive(self) -> bytes | None:
        """Return the next bytes; None when gpsd ended. Raises SourceUnavailable."""
        data = await self._connection.receive()
        for frame in self._framing.feed(data or b""):
            if isinstance(frame, TextFrame):
                self._look_at(frame.raw)
        return data

    def _look_at(self, line: bytes) -> None:
        health = self._report.health
        if b'"TPV"' in line or b'"SKY"' in line:
            health.recover("receiver")
        elif b'"DEVICE' in line or b'"ERROR"' in line:
            problem = receiver_problem(line)
            if problem is None:
                health.recover("receiver")
            elif problem:
                health.fail("receiver", problem)


def receiver_problem(line: bytes) -> str | None:
    """Return why gpsd has no receiver by this line; None if it has one, "" if the line is about something else."""
    try:
        content = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    match content:
        case {"class": "DEVICES", "devices": list(devices)}:
            return None if devices else "gpsd has no receiver; is it plugged in, and known to gpsd?"
        case {"class": "DEVICE", "activated": 0, "path": str(path)}:
            return f"the receiver {path[:MAX_RECEIVER]} is gone; is it plugged in?"
        case {"class": "DEVICE"}:
            return None
        case {"class": "ERROR", "message": str(message)}:
            return f"gpsd reports an error: {message[:MAX_RECEIVER]}"
    return ""


def watch_command(receiver: str) -> str:
    """Return the line that asks gpsd for reports in JSON."""
    policy: dict[str, object] = {"enable": True, "json": True}
    if receiver:
        policy["device"] = receiver
    return f"?WATCH={json.dumps(policy, separators=(',', ':'))};"


@asynccontextmanager
async def connect_gpsd(address: Address, receiver: str, report: LineReport) -> AsyncIterator[Connection]:
    """Connect to a gpsd and ask for reports. Raises SourceUnavailable."""
    async with connect_tcp(address, [watch_command(receiver)], report) as connection:
        yield GpsdConnection(connection, report)
