"""Program deploy/health.py, the health check of the image."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.compose import ROOT
from tests.end_to_end.hub import running_hub


def check(listen: str) -> subprocess.CompletedProcess[str]:
    """Run the check as the image runs it, with a proxy in the environment as Docker can set one."""
    return subprocess.run(
        [sys.executable, "-S", str(ROOT / "deploy" / "health.py")],
        env={
            **os.environ,
            "HUB_LISTEN": listen,
            "http_proxy": "http://127.0.0.1:9",
            "https_proxy": "http://127.0.0.1:9",
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Return a certificate for another name than the check uses, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    made = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    subprocess.run(
        [*command, "-subj", "/CN=hub.example", "-out", made[0], "-keyout", made[1]], check=True, capture_output=True
    )
    return made


async def test_a_hub_that_answers_is_healthy(tmp_path: Path) -> None:
    """A hub in clear text gives exit code 0."""
    async with running_hub(tmp_path / "data") as hub:
        found = check(f"0.0.0.0:{hub.url.rpartition(':')[2]}")
    assert (found.returncode, found.stderr) == (0, "")


async def test_a_hub_with_tls_is_healthy_under_any_name(
    tmp_path: Path, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub whose certificate is for its public name gives exit code 0."""
    monkeypatch.setenv("HUB_TLS__CERTIFICATE", str(certificate[0]))
    monkeypatch.setenv("HUB_TLS__KEY", str(certificate[1]))
    async with running_hub(tmp_path / "data") as hub:
        assert hub.url.startswith("https:")
        found = check(f"0.0.0.0:{hub.url.rpartition(':')[2]}")
    assert (found.returncode, found.stderr) == (0, "")


def test_a_hub_that_does_not_answer_is_not_healthy() -> None:
    """A port without a listener or with a useless answer gives exit code 1 and the reason."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    found = check(f"0.0.0.0:{port}")
    assert found.returncode == 1
    assert "refused" in found.stderr
