"""Terminal servers of tests: a real tty over TCP, raw or with RFC 2217 as pyserial's server side speaks it."""

from __future__ import annotations

import asyncio
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import serial
from serial.rfc2217 import SERVER_NOTIFY_LINESTATE, PortManager


class RecordedSerial(serial.Serial):  # type: ignore[misc]
    """A port that records its control lines, which a pty has not."""

    cts = dsr = ri = cd = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.lines: list[tuple[str, bool]] = []
        super().__init__(*arguments, **options)

    def _reconfigure_port(self, force_update: bool = False) -> None:
        with suppress(termios.error):  # a pty has eight bits and no parity
            super()._reconfigure_port(force_update)

    def _update_dtr_state(self) -> None:
        self.lines.append(("dtr", self._dtr_state))

    def _update_rts_state(self) -> None:
        self.lines.append(("rts", self._rts_state))


class TerminalServer:
    """A server of one port. `line` is the port as the newest client has set it."""

    def __init__(self, path: Path, *, rfc2217: bool) -> None:
        self._path = path
        self._rfc2217 = rfc2217
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.line: RecordedSerial | None = None
        self.manager: PortManager | None = None
        self.url = ""

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[None]:
        """Serve meanwhile, on a port that stays the same after a restart."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.url = f"{'rfc2217' if self._rfc2217 else 'socket'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield
        finally:
            server.close()
            self.drop()
            await asyncio.gather(*self._tasks)

    def drop(self) -> None:
        """End all connections."""
        for writer in self._writers:
            writer.transport.abort()

    def notify_framing_error(self) -> None:
        """Report a framing error to the client."""
        assert self.manager is not None
        self.manager.rfc2217_send_subnegotiation(SERVER_NOTIFY_LINESTATE, b"\x08")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        line = self.line = RecordedSerial(str(self._path), timeout=0)
        manager = self.manager = PortManager(line, writer) if self._rfc2217 else None
        loop = asyncio.get_running_loop()

        def forward() -> None:
            data = line.read(4096)
            writer.write(b"".join(manager.escape(data)) if manager else data)

        loop.add_reader(line.fileno(), forward)
        try:
            while data := await reader.read(4096):
                line.write(b"".join(manager.filter(data)) if manager else data)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            loop.remove_reader(line.fileno())
            line.close()
            self._writers.discard(writer)
            with suppress(OSError):
                writer.close()
