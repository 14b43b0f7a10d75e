"""TLS settings of the hub's port: they follow the files, and report what is wrong with the certificate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import structlog
from starlette.types import Scope

from hub.http.certificate import CertificateError, TlsFiles, certificate_problems, load_tls
from hub.http.refusals import RefusalCause, RequestRefused
from hub.http.websocket import EXTENSION

TRANSPORT = "telemetry.transport"
"""Key in the extensions of a request's scope: the transport of its connection."""

POLL_SECONDS = 2.0
"""Time between two looks at the files. New files are loaded when they did not change between two looks, because
programs write the certificate and the key one after the other: at most 4 seconds after the last one."""

REPEAT_SECONDS = 86_400.0
"""Time after which the log repeats a warning that still holds."""

log = structlog.get_logger(__name__)

_State = tuple[tuple[int, int, int] | None, ...]


class PortTls:
    """TLS of one port. Raises CertificateError if the files cannot be used at the start.

    `context` is that of new handshakes. A new pair of files replaces it after it was checked; open connections keep
    theirs. `hosts` are the names under which clients reach the hub.
    """

    def __init__(
        self,
        files: TlsFiles,
        *,
        hosts: Sequence[str] = (),
        now_s: Callable[[], float] = time.time,
        poll_s: float = POLL_SECONDS,
    ) -> None:
        self._files = files
        self._hosts = hosts
        self._now_s = now_s
        self._poll_s = poll_s
        self._rejected: str | None = None
        self._requested = asyncio.Event()
        self._logged_s: dict[str, float] = {}
        self._tried = _state_of(files)
        self.context, self.certificate = load_tls(files)

    def problems(self) -> list[str]:
        """Return a sentence for each problem that leaves the hub running."""
        found = certificate_problems(self.certificate, self._hosts, self._now_s())
        return found if self._rejected is None else [self._rejected, *found]

    def reload(self) -> None:
        """Load the files now, whether or not they seem to have changed."""
        self._requested.set()

    async def run(self) -> None:
        """Load changed files, and log problems of the certificate, until cancelled."""
        seen = self._tried
        while True:
            self.log_problems(time.monotonic())
            requested = False
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll_s):
                    requested = await self._requested.wait()
            self._requested.clear()
            # In a thread: the files may be on a network.
            before, seen = seen, await asyncio.to_thread(_state_of, self._files)
            if requested or (seen != self._tried and seen == before):
                self._tried = seen
                await self._load()

    def log_problems(self, now_s: float) -> None:
        """Log each problem when it is new, and once a day. The sentence of an end that is near changes by itself."""
        logged_s = self._logged_s
        self._logged_s = {}
        for problem in self.problems():
            self._logged_s[problem] = logged_s.get(problem, now_s)
            if problem not in logged_s or now_s - logged_s[problem] >= REPEAT_SECONDS:
                self._logged_s[problem] = now_s
                log.warning("tls certificate has a problem", problem=problem)

    async def _load(self) -> None:
        try:
            loaded = await asyncio.to_thread(load_tls, self._files)
        except Exception as error:
            # Whatever a program writes into the files, the hub keeps running.
            if not isinstance(error, CertificateError | OSError):
                log.exception("tls certificate not loaded")
            self._rejected = f"the new files are not used, and the certificate before them stays in use: {error}"
            return
        self._rejected = None
        self.context, self.certificate = loaded
        log.info("tls certificate loaded", serial=self.certificate.serial, names=self.certificate.names)


def _state_of(files: TlsFiles) -> _State:
    """Return modification time, size and inode of each file, None for one that cannot be read."""
    return tuple(_status_of(path) for path in files if path is not None)


def _status_of(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def check_client_certificate(scope: Scope) -> None:
    """Raise RequestRefused if the client presented no certificate of the authority in tls.client_ca."""
    extensions = scope["extensions"]
    transport = extensions[EXTENSION].transport if scope["type"] == "websocket" else extensions[TRANSPORT]
    if not transport.get_extra_info("peercert"):
        raise RequestRefused(RefusalCause.NO_CLIENT_CERTIFICATE, "this hub requires a client certificate of devices")
