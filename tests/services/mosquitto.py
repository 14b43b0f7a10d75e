"""A real Mosquitto for tests: on a free port, with persistence on disk, with TLS on request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.certificates import Authority
from tests.services.server import Server

MAX_QUEUED = 1_000_000
"""Messages that it keeps for a disconnected client, so that a test can be slow."""


class Certificates(NamedTuple):
    """PEM files: an authority, and the certificates and keys of the broker and a client that it signed."""

    authority: Path
    certificate: Path
    key: Path
    client_certificate: Path
    client_key: Path


class Mosquitto(Server):
    """A broker. `settings` are further lines of its configuration; with `certificates` it speaks TLS and requires
    client certificates."""

    name = "mosquitto"

    def __init__(
        self, program: Path, folder: Path, *, settings: Sequence[str] = (), certificates: Certificates | None = None
    ) -> None:
        super().__init__(folder)
        self._program = program
        self._settings = settings
        self._certificates = certificates

    @property
    def url(self) -> str:
        return f"mqtt{'s' if self._certificates else ''}://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str | Path]:
        file = self.folder / "mosquitto.conf"
        file.write_text("\n".join([*self._lines(), *self._settings, ""]))
        return [self._program, "-c", file]

    def is_listening(self, line: str) -> bool:
        return line.rstrip().endswith(" running")

    def _lines(self) -> Iterator[str]:
        yield f"listener {self.port} 127.0.0.1"
        yield "allow_anonymous true"
        yield "persistence true"
        yield f"persistence_location {self.folder}/"
        yield f"max_queued_messages {MAX_QUEUED}"
        yield "log_dest stderr"
        # As root, it changes to a user of its own that cannot read here.
        yield "user root"
        if self._certificates is not None:
            yield f"cafile {self._certificates.authority}"
            yield f"certfile {self._certificates.certificate}"
            yield f"keyfile {self._certificates.key}"
            yield "require_certificate true"


def make_certificates(folder: Path) -> Certificates:
    """Return an authority of this test, a certificate for 127.0.0.1 and one for a client; skip without openssl."""
    authority = Authority(folder)
    broker, client = authority.issue("broker", "IP:127.0.0.1"), authority.issue("client", "DNS:client")
    return Certificates(authority.certificate, *broker, *client)
