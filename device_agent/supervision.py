"""The messages of a service to systemd: ready, stopping, its status, and the watchdog. No library is needed.

The protocol is a datagram to the socket in NOTIFY_SOCKET: see sd_notify(3) and sd_watchdog_enabled(3). Without the
variable nothing is sent.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping

STATUS_SECONDS = 10.0
"""Time between two status lines, for `systemctl status`."""

PROBES_PER_TIMEOUT = 2
"""The recommended number of messages within the time of the watchdog."""

MAX_STATUS = 300
"""Characters of a status line; a datagram has room for more, and nobody reads it."""

_log = logging.getLogger(__name__)


class Supervisor:
    """The supervisor of this process, if there is one. `watchdog_s` is its time limit; None: it does not watch."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self.watchdog_s = _watchdog_s(environment) if self._address else None

    def send(self, *lines: str) -> None:
        """Send lines such as READY=1; a supervisor that cannot be reached is logged, and nothing else."""
        if sys.platform == "win32" or self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                # A full socket must not stop the agent.
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode(errors="replace"), self._address)
        except OSError as error:
            _log.debug("no message to the supervisor: %s", error)

    def ready(self) -> None:
        """Report that the service works, after its start or after a reload."""
        self.send("READY=1")

    def reloading(self) -> None:
        """Report that the service reads its settings again."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Report that the service stops in order."""
        self.send("STOPPING=1")

    async def watch(self, status: Callable[[], str]) -> None:
        """Report the status, and that the event loop runs, until cancelled.

        A service whose event loop stands still reports nothing, and systemd starts it again. A disk that does not
        answer is no reason to start again: the loop continues, and so do the readings that are in memory.
        """
        if self._address is None:
            return
        period_s = STATUS_SECONDS
        if self.watchdog_s is not None:
            period_s = min(period_s, self.watchdog_s / PROBES_PER_TIMEOUT)
        reported, reported_s = "", -STATUS_SECONDS
        while True:
            now_s = time.monotonic()
            if self.watchdog_s is not None:
                self.send("WATCHDOG=1")
            if now_s - reported_s >= STATUS_SECONDS and (line := _one_line(status())) != reported:
                self.send(f"STATUS={line}")
                reported, reported_s = line, now_s
            await asyncio.sleep(period_s)


def _one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)[:MAX_STATUS]


def _address(text: str) -> str | None:
    """Return the address of the socket. One that begins with @ is in the abstract namespace of Linux."""
    if text.startswith("/"):
        return text
    return f"\0{text[1:]}" if text.startswith("@") else None


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """Return the time limit of the watchdog; None if it is off, or watches another process."""
    try:
        if int(environment.get("WATCHDOG_PID") or os.getpid()) != os.getpid():
            return None
        limit_us = int(environment.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return None
    return limit_us / 1e6 if limit_us > 0 else None
