"""Real reverse proxies for tests: nginx, Caddy and HAProxy with the files of deploy/proxies.

Ports, the paths of the certificates, and on request the time-outs are replaced, and nothing else. What a program needs
to run beside others of its kind is set around the file.
"""

from __future__ import annotations

import abc
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

from tests.services.server import Server

FILES = Path(__file__).parents[2] / "deploy" / "proxies"

HOST = "hub.example"
"""Host name in the files."""

HUB = "127.0.0.1:8600"
"""The hub's address in the files."""

TIMEOUT = "75s"
"""The time-out of a silent connection in the files."""


class Certificates(NamedTuple):
    """PEM files: an authority, and the certificate and key of the proxy that it signed."""

    authority: Path
    certificate: Path
    key: Path


class Proxy(Server):
    """A proxy with one of the files, in front of a hub on `hub_port`. `timeout` replaces the file's time-outs."""

    shipped: ClassVar[Mapping[str, str]]
    """The file for each path of the public URL."""

    address: str
    """The text of the file that contains its port, 443."""

    def __init__(
        self,
        program: Path,
        folder: Path,
        certificates: Certificates,
        *,
        hub_port: int,
        base_path: str = "/",
        timeout: str = TIMEOUT,
    ) -> None:
        super().__init__(folder)
        self.base_path = base_path
        self._program = program
        self._certificates = certificates
        self._hub_port = hub_port
        self._timeout = timeout

    @property
    def url(self) -> str:
        """The public URL, without the slash at its end."""
        return f"https://{HOST}:{self.port}{self.base_path.rstrip('/')}"

    @property
    def ws_url(self) -> str:
        return self.url.replace("https", "wss", 1)

    @abc.abstractmethod
    def arguments(self, file: Path) -> Sequence[str | Path]:
        """Return the arguments that run the program with this file."""

    def surrounded(self, text: str) -> str:
        """Return the file with what the program needs to run beside others."""
        return text

    def command(self) -> Sequence[str | Path]:
        file = self.folder / f"{self.name}.conf"
        file.write_text(self.surrounded(self.rendered()))
        return [self._program, *self.arguments(file)]

    def rendered(self) -> str:
        """Return the shipped file with this test's ports, paths and time-outs."""
        text = (FILES / self.shipped[self.base_path]).read_text()
        both = self.folder / "both.pem"
        certificate, key = self._certificates.certificate, self._certificates.key
        both.write_text(certificate.read_text() + key.read_text())
        for old, path in (
            ("/etc/ssl/hub.example.pem", certificate),
            ("/etc/ssl/hub.example.key", key),
            ("/etc/ssl/hub.example.both.pem", both),
        ):
            text = text.replace(old, str(path))
        assert str(both) in text or str(key) in text, "the file names no certificate"
        for old, new in (
            (self.address, self.address.replace("443", str(self.port))),
            (HUB, f"127.0.0.1:{self._hub_port}"),
            (TIMEOUT, self._timeout),
        ):
            assert old in text, f"the file does not contain {old!r}"
            text = text.replace(old, new)
        return text


class Nginx(Proxy):
    """nginx, with a main file that includes the shipped one. It passes the path of the public URL on."""

    name = "nginx"
    shipped: ClassVar = {"/": "nginx.conf", "/telemetry/": "nginx-subpath.conf"}
    address = "listen 443 ssl"

    def arguments(self, file: Path) -> Sequence[str | Path]:
        main = self.folder / "main.conf"
        temporary = [
            f"{name}_temp_path {self.folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        ]
        main.write_text(
            "\n".join(
                [
                    "daemon off;",
                    # As root, its workers change to a user that cannot read here.
                    *(["user root;"] if os.geteuid() == 0 else []),
                    f"pid {self.folder}/pid;",
                    "error_log stderr notice;",
                    "events {}",
                    "http {",
                    "access_log off;",
                    *temporary,
                    f"include {file};",
                    "}",
                ]
            )
        )
        return ["-p", self.folder, "-e", "stderr", "-c", main]

    def is_listening(self, line: str) -> bool:
        return "start worker process " in line


class Caddy(Proxy):
    """Caddy, without its administration port and without port 80. It strips the path of the public URL."""

    name = "caddy"
    shipped: ClassVar = {"/": "Caddyfile", "/telemetry/": "Caddyfile-subpath"}
    address = "https://hub.example:443"

    def arguments(self, file: Path) -> Sequence[str | Path]:
        return ["run", "--adapter", "caddyfile", "--config", file]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "HOME": str(self.folder), "XDG_DATA_HOME": str(self.folder)}

    def surrounded(self, text: str) -> str:
        return f"{{\n\tadmin off\n\tauto_https disable_redirects\n\tdefault_bind 127.0.0.1\n}}\n{text}"

    def is_listening(self, line: str) -> bool:
        return "serving initial configuration" in line


class Haproxy(Proxy):
    """HAProxy. It passes the path of the public URL on."""

    name = "haproxy"
    shipped: ClassVar = {"/": "haproxy.cfg", "/telemetry/": "haproxy-subpath.cfg"}
    address = "bind :443"

    def arguments(self, file: Path) -> Sequence[str | Path]:
        return ["-W", "-f", file]

    def is_listening(self, line: str) -> bool:
        return "Loading success" in line
