"""`hub config check`: it finds what would keep a hub with these settings from running."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hub.commands import config

ROOT = Path(__file__).parents[3]

# Made for this test alone, for a name that belongs to nobody.
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBhDCCASmgAwIBAgIUGaA9A3qeStfixIEpHUd+miAvr9YwCgYIKoZIzj0EAwIw
FjEUMBIGA1UEAwwLaHViLmV4YW1wbGUwIBcNMjYxMTIzMTYxNTU1WhgPMjEyNjEw
MzAxNjE1NTVaMBYxFDASBgNVBAMMC2h1Yi5leGFtcGxlMFkwEwYHKoZIzj0CAQYI
KoZIzj0DAQcDQgAEsAbIb2aOcahzBtnOzYCfpxYe3UQMv5i/8sLiMf2WBAg6ZVfb
hggJ5DmybF5k7w6Rv4SfmVPV7zshK4nK6d0lN6NTMFEwHQYDVR0OBBYEFBw1/8Ji
KkgqE2sH1dSe8zkeCKmtMB8GA1UdIwQYMBaAFBw1/8JiKkgqE2sH1dSe8zkeCKmt
MA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSQAwRgIhAN9RMkl/rCnVEHla
Hi+8S0ZXlDrkvbFbZycv4Yv8fXTRAiEAnAp6ocgERf+TpB4+pbcnwG0OifWZtKY9
c5uPbyjE3zY=
-----END CERTIFICATE-----
"""
KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgt8LsYp7X/8IdrKMp
W4G+ELHn86w4SlbtA6UjCYppQe+hRANCAASwBshvZo5xqHMG2c7NgJ+nFh7dRAy/
mL/ywuIx/ZYECDplV9uGCAnkObJsXmTvDpG/hJ+ZU9XvOyEricrp3SU3
-----END PRIVATE KEY-----
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the file is, with a certificate, its key, and what is neither."""
    (tmp_path / "certificate.pem").write_text(CERTIFICATE)
    (tmp_path / "key.pem").write_text(KEY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(directory: Path, text: str) -> Result:
    (directory / "hub.toml").write_text(text)
    return CliRunner().invoke(config.app, ["check", "--config", "hub.toml"])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[journal]\nmax_bytes = 1073741824\nkeep_bytes = 536870912",
        "[store]\nmemory_limit = '1.5 GiB'",
        "[access]\nallowed_hosts = ['hub.example']\nallowed_origins = ['https://hub.example:8443']",
        "listen = '0.0.0.0:8600'\n[tls]\ncertificate = 'certificate.pem'\nkey = 'key.pem'",
        "listen = '0.0.0.0:8600'\n[access]\nbehind_proxy = true",
    ],
)
def test_good_settings_are_good(directory: Path, text: str) -> None:
    """They are accepted, and the directory for the data is not made yet."""
    result = check(directory, text)
    assert (result.exit_code, result.stdout) == (0, "the settings are good\n"), result.stderr
    assert not (directory / "data").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[journal]\nmax_bytes = 1073741824", "journal: keep_bytes (1073741824) may be half of max_bytes"),
        ("[journal]\nkeep_seconds = inf", "journal.keep_seconds: input should be a finite number"),
        ("[store]\nmemory_limit = 'much'", "store.memory_limit: "),
        ("[access]\nallowed_origins = ['hub.example']", "access.allowed_origins: 'hub.example' is not an origin"),
        ("[access]\nallowed_hosts = ['https://hub.example']", "access.allowed_hosts: 'https://hub.example' is not"),
        ("listen = '127.0.0.1:²'", "listen: expected HOST:PORT"),
        ("listen = '0.0.0.0:8600'", "refusing to listen on 0.0.0.0 without TLS"),
        ("[tls]\ncertificate = 'certificate.pem'", "tls: certificate and key need each other"),
        ("[tls]\nkey = 'key.pem'", "tls: certificate and key need each other"),
        ("[tls]\ncertificate = 'gone.pem'\nkey = 'key.pem'", "tls.certificate: gone.pem: No such file"),
        ("[tls]\ncertificate = 'certificate.pem'\nkey = 'gone.pem'", "tls.key: gone.pem: No such file"),
        ("[tls]\ncertificate = 'certificate.pem'\nkey = 'certificate.pem'", "are no certificate with its key"),
        ("[tls]\ncertificate = 'hub.toml'\nkey = 'key.pem'", "are no certificate with its key"),
    ],
)
def test_settings_that_no_hub_could_run_with_are_told_in_one_line(directory: Path, text: str, says: str) -> None:
    """The key is named, the exit code is 2, and nothing is a traceback."""
    result = check(directory, text)
    assert (result.exit_code, result.stdout) == (2, ""), result.stderr
    assert says in result.stderr
    assert result.stderr.startswith("hub: ")
    assert result.stderr.count("\n") == 1


def test_the_hub_itself_says_the_same_and_opens_nothing(directory: Path) -> None:
    """`hub run` judges its settings as the check does."""
    (directory / "hub.toml").write_text("[access]\nallowed_origins = ['hub.example']")
    result = subprocess.run(
        [sys.executable, "-m", "hub", "run", "--config", "hub.toml"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "hub: access.allowed_origins: 'hub.example' is not an origin like https://host or https://host:port\n"
    )
    assert not (directory / "data").exists()
