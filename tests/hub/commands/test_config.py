"""`hub config check`: it finds what would keep a hub with these settings from running."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hub.commands import config

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate and its key, made for this run."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    directory = tmp_path_factory.mktemp("certificate")
    made = directory / "certificate.pem", directory / "key.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    subprocess.run([*command, "-subj", "/CN=hub.example", "-out", made[0], "-keyout", made[1]], check=True)
    return made[0].read_text(), made[1].read_text()


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificate: tuple[str, str]) -> Path:
    """Where the file is, with a certificate, its key, and what is neither."""
    for name, text in zip(("certificate.pem", "key.pem"), certificate, strict=True):
        (tmp_path / name).write_text(text)
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
