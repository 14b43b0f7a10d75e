"""Certificates for tests, made by openssl: an authority, and certificates with any names and dates that it signs."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")

LOOPBACK = ("DNS:localhost", "IP:127.0.0.1")

CONFIGURATION = """
[ca]
default_ca = own
[own]
database = {folder}/index.txt
new_certs_dir = {folder}
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
"""
"""`openssl ca` signs with any dates; `openssl x509` only from now on."""


class Issued(NamedTuple):
    """PEM files of a certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority in a folder of its own; skips the test without openssl."""

    def __init__(self, folder: Path, name: str = "Test authority") -> None:
        found = shutil.which("openssl")
        if found is None:
            pytest.skip("openssl is not installed")
        self._openssl = found
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate, self._key = folder / "authority.pem", folder / "authority-key.pem"
        self.run(
            "req", "-x509", *KEY, "-days", "30", "-subj", f"/CN={name}", "-addext", "keyUsage=critical,keyCertSign",
            "-out", self.certificate, "-keyout", self._key,
        )  # fmt: skip
        (folder / "index.txt").touch()
        (folder / "ca.cnf").write_text(CONFIGURATION.format(folder=folder))

    def issue(
        self,
        name: str,
        *names: str,
        begins: timedelta = timedelta(days=-1),
        ends: timedelta = timedelta(days=30),
        usage: str = "serverAuth,clientAuth",
    ) -> Issued:
        """Return a certificate for names like `DNS:hub.example`, valid between two times from now on."""
        request, certificate, key, extensions = (
            self._folder / f"{name}.{kind}" for kind in ("csr", "pem", "key", "extensions")
        )
        alternatives = f"subjectAltName = {','.join(names)}\n" if names else ""
        extensions.write_text(
            f"{alternatives}extendedKeyUsage = {usage}\nsubjectKeyIdentifier = hash\nauthorityKeyIdentifier = keyid\n"
        )
        now = datetime.now(UTC)
        dates = [f"{now + shift:%Y%m%d%H%M%SZ}" for shift in (begins, ends)]
        self.run("req", *KEY, "-subj", f"/CN={name}", "-out", request, "-keyout", key)
        self.run(
            "ca", "-batch", "-notext", "-config", self._folder / "ca.cnf", "-cert", self.certificate, "-keyfile",
            self._key, "-startdate", dates[0], "-enddate", dates[1], "-extfile", extensions, "-in", request, "-out",
            certificate,
        )  # fmt: skip
        return Issued(certificate, key)

    def run(self, *command: str | Path) -> str:
        """Run a command of openssl, and return its output."""
        return subprocess.run([self._openssl, *command], check=True, capture_output=True, text=True).stdout
