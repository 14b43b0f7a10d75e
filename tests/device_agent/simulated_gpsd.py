"""A small gpsd that speaks its documented protocol: requests that begin with ?, and reports with a class."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

VERSION = {"class": "VERSION", "release": "3.25", "rev": "3.25", "proto_major": 3, "proto_minor": 15}
MAX_REQUEST = 80
"""Characters of a request line that every version accepts."""


class SimulatedGpsd:
    """A gpsd with receivers. `report` sends a report of a receiver to the clients that watch it."""

    def __init__(self, *receivers: str) -> None:
        self.receivers = list(receivers)
        self.requests: list[str] = []
        self.port = 0
        self._watching: dict[asyncio.StreamWriter, str | None] = {}

    @property
    def clients(self) -> int:
        """The number of clients that watch."""
        return len(self._watching)

    def report(self, **report: Any) -> None:
        """Send a report to the clients that watch its receiver, or all receivers."""
        for writer, receiver in self._watching.items():
            if receiver in (None, report.get("device")):
                _send(writer, report)

    def plug_in(self, receiver: str) -> None:
        """Add a receiver."""
        self.receivers.append(receiver)
        self.report(
            **{"class": "DEVICE", "path": receiver, "activated": "2026-11-28T15:05:40.000Z", "driver": "u-blox"}
        )

    def unplug(self, receiver: str) -> None:
        """Remove a receiver."""
        self.receivers.remove(receiver)
        self.report(**{"class": "DEVICE", "path": receiver, "activated": 0})

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one client."""
        _send(writer, VERSION)
        with suppress(OSError):
            while line := (await reader.readline()).decode().strip():
                assert len(line) <= MAX_REQUEST
                self.requests.append(line)
                for request in filter(None, line.split(";")):
                    self._answer(writer, request)
        self._watching.pop(writer, None)
        writer.close()

    def _answer(self, writer: asyncio.StreamWriter, request: str) -> None:
        command, _, argument = request.partition("=")
        match command:
            case "?VERSION":
                _send(writer, VERSION)
            case "?DEVICES":
                _send(writer, self._devices())
            case "?WATCH":
                policy = json.loads(argument) if argument else {}
                if policy.get("enable", True) and policy.get("json"):
                    self._watching[writer] = policy.get("device")
                else:
                    self._watching.pop(writer, None)
                _send(writer, self._devices())
                _send(writer, {"class": "WATCH", "enable": True, "json": False, "nmea": False, "raw": 0, **policy})
            case _:
                _send(writer, {"class": "ERROR", "message": f"Unrecognized request '{request}'"})

    def _devices(self) -> dict[str, Any]:
        devices = [
            {"class": "DEVICE", "path": path, "activated": "2026-11-28T15:05:40.000Z"} for path in self.receivers
        ]
        return {"class": "DEVICES", "devices": devices}


def _send(writer: asyncio.StreamWriter, report: dict[str, Any]) -> None:
    writer.write(json.dumps(report, separators=(",", ":")).encode() + b"\r\n")


@asynccontextmanager
async def running_gpsd(*receivers: str, port: int = 0) -> AsyncIterator[SimulatedGpsd]:
    """Run a gpsd with these receivers during the block."""
    gpsd = SimulatedGpsd(*receivers)
    server = await asyncio.start_server(gpsd.serve, "127.0.0.1", port)
    gpsd.port = server.sockets[0].getsockname()[1]
    try:
        yield gpsd
    finally:
        server.close()
        for writer in list(gpsd._watching):
            writer.transport.abort()
        await asyncio.sleep(0)
