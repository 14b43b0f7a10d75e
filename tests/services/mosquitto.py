"""A real Mosquitto for tests: on a free port, with what it must keep on disk, with TLS where it is asked for."""

from __future__ import annotations

import collections
import contextlib
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import pytest

START_TIMEOUT_S = 30
"""Until it listens, which takes some milliseconds."""

STOP_TIMEOUT_S = 30
"""Until a broker that was asked to end has written what it keeps; then it is killed."""

TOLD_LINES = 200
"""Of what it says of itself."""

TRIES = 3
"""To start on a port that was free; another process may take it first."""

MAX_QUEUED = 1_000_000
"""Messages that it keeps for a client that is away, so that a test may be slow."""


class Certificates(NamedTuple):
    """PEM files: an authority, and the broker's and a client's certificate and key that it signed."""

    authority: Path
    certificate: Path
    key: Path
    client_certificate: Path
    client_key: Path


class Mosquitto:
    """A broker with its data in `folder`; a context manager. It keeps port and data when it is stopped and started.

    `settings` are further lines of its configuration; with `certificates` it speaks TLS and asks clients for theirs.
    """

    def __init__(
        self, program: Path, folder: Path, *, settings: Sequence[str] = (), certificates: Certificates | None = None
    ) -> None:
        self._program = program
        self._folder = folder
        self._settings = settings
        self._certificates = certificates
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._told: collections.deque[str] = collections.deque(maxlen=TOLD_LINES)
        self.port = 0

    @property
    def url(self) -> str:
        return f"mqtt{'s' if self._certificates else ''}://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        for tries in range(1, TRIES + 1):
            self.port = _free_port()
            try:
                self.start()
            except RuntimeError:
                if tries == TRIES:
                    raise
            else:
                break
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts the broker on its port; returns when it listens. Raises RuntimeError with what it said."""
        if self._process is not None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / "mosquitto.conf"
        file.write_text("\n".join([*self._lines(), *self._settings, ""]))
        process = subprocess.Popen(
            [self._program, "-c", file],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        running = threading.Event()
        known = threading.Event()

        def read() -> None:
            assert process.stderr is not None
            with process.stderr as lines:
                for line in lines:
                    self._told.append(line)
                    if line.rstrip().endswith(" running"):
                        running.set()
                        known.set()
            known.set()

        self._process = process
        self._reader = threading.Thread(target=read, name="mosquitto-output")
        self._reader.start()
        known.wait(START_TIMEOUT_S)
        if not running.is_set():
            self.kill()
            raise RuntimeError(f"mosquitto did not start:\n{self.log()}")

    def stop(self) -> None:
        """Ends it as an operator does (SIGTERM): it writes down what it keeps."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it as a crash does (SIGKILL)."""
        self._end(signal.SIGKILL)

    @contextlib.contextmanager
    def down(self, *, kill: bool = False) -> Iterator[None]:
        """It is down inside the block, and listens again at its end."""
        self.kill() if kill else self.stop()
        try:
            yield
        finally:
            self.start()

    def log(self) -> str:
        """What it said of itself last."""
        return "".join(self._told)

    def _lines(self) -> Iterator[str]:
        yield f"listener {self.port} 127.0.0.1"
        yield "allow_anonymous true"
        yield "persistence true"
        yield f"persistence_location {self._folder}/"
        yield f"max_queued_messages {MAX_QUEUED}"
        yield "log_dest stderr"
        # It gives up root by itself, to a user of its own that cannot read here.
        yield "user root"
        if self._certificates is not None:
            yield f"cafile {self._certificates.authority}"
            yield f"certfile {self._certificates.certificate}"
            yield f"keyfile {self._certificates.key}"
            yield "require_certificate true"

    def _end(self, how: signal.Signals) -> None:
        process, reader, self._process, self._reader = self._process, self._reader, None, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert reader is not None
        reader.join()


def make_certificates(folder: Path) -> Certificates:
    """An authority of this test, a certificate for 127.0.0.1 and one for a client; skips where there is no openssl."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    key_options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    authority, authority_key = folder / "authority.pem", folder / "authority-key.pem"
    _run(openssl, "req", "-x509", *key_options, "-days", "2", "-subj", "/CN=Test authority", "-out", authority,
         "-keyout", authority_key)  # fmt: skip
    made = []
    for name, address in (("broker", "IP:127.0.0.1"), ("client", "DNS:client")):
        request, certificate, key = (folder / f"{name}.{kind}" for kind in ("csr", "pem", "key"))
        (folder / f"{name}.ext").write_text(f"subjectAltName={address}\n")
        _run(openssl, "req", *key_options, "-subj", f"/CN={name}", "-out", request, "-keyout", key)
        _run(openssl, "x509", "-req", "-in", request, "-CA", authority, "-CAkey", authority_key, "-CAcreateserial",
             "-days", "2", "-extfile", folder / f"{name}.ext", "-out", certificate)  # fmt: skip
        made += [certificate, key]
    return Certificates(authority, *made)


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
