"""Checks of the installed packages: a light agent from the base, the whole hub with its page from the extra."""

from __future__ import annotations

import hashlib
import io
import os
import re
import signal
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import httpx
import pytest

from tests.packaging.installation import Distributions, Installation, build_distributions, install

PAGE = "hub/http/static/index.html"
SERVER_LIBRARIES = ("duckdb", "numpy", "pyarrow", "starlette", "uvicorn")
PAGE_URL = re.compile(r"http://127\.0\.0\.1:\d+/\S*\w\S*")
"""The one-time URL: it has a path or a query, unlike the hub's plain address."""


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    return build_distributions(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def agent_installation(distributions: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return install(distributions.wheel, tmp_path_factory.mktemp("agent"))


@pytest.fixture(scope="module")
def hub_installation(distributions: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return install(distributions.wheel, tmp_path_factory.mktemp("hub"), extra="hub")


def run(installation: Installation, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [installation.command(command), *arguments],
        cwd=installation.folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def environment() -> dict[str, str]:
    """Return this machine's environment without variables that would lead to the checkout or to a setting."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "HUB_"))}


def test_the_wheel_holds_the_built_page_and_the_types(distributions: Distributions) -> None:
    """The wheel has the page with its script, a py.typed in each package and the licence, and nothing of the rest."""
    with zipfile.ZipFile(distributions.wheel) as archive:
        names = set(archive.namelist())
        page = archive.read(PAGE).decode()
    scripts = re.findall(r'<script[^>]* src="(?:\./)?([^"]+\.js)"', page)
    assert scripts
    assert {f"hub/http/static/{script}" for script in scripts} <= names
    assert {f"{package}/py.typed" for package in ("wire", "hub", "device_agent", "device_sim")} <= names
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    tops = {PurePosixPath(name).parts[0] for name in names if ".dist-info/" not in name}
    assert tops == {"wire", "formats", "integrity", "hub", "agent_client", "importer", "device_agent", "device_sim"}


def test_the_source_distribution_holds_the_built_page(distributions: Distributions) -> None:
    """The source distribution contains the page beside its sources, so that building from it needs no Node."""
    with tarfile.open(distributions.source) as archive:
        names = {PurePosixPath(*PurePosixPath(name).parts[1:]) for name in archive.getnames()}
    assert PurePosixPath(PAGE) in names
    assert PurePosixPath("dashboards/web/package-lock.json") in names
    assert not any("node_modules" in name.parts or ".venv" in name.parts for name in names)


def test_the_base_installation_is_a_light_agent(agent_installation: Installation) -> None:
    """Without an extra there is no database and no web server, and the agent works."""
    installed = {path.name for path in agent_installation.folder.glob("lib/python*/site-packages/*")}
    assert installed.isdisjoint(SERVER_LIBRARIES)
    helped = run(agent_installation, "device-agent", "--help")
    assert helped.returncode == 0, helped.stderr
    assert "run" in helped.stdout


@pytest.mark.parametrize("arguments", [(), ("--help",), ("run",)], ids=" ".join)
def test_the_hub_without_its_extra_says_what_to_install(
    agent_installation: Installation, arguments: tuple[str, ...]
) -> None:
    """The command `hub` in a base installation ends with one clear sentence, exit code 2 and no traceback."""
    ended = run(agent_installation, "hub", *arguments)
    assert ended.returncode == 2
    assert "pip install '.[hub]'" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.fixture
def running_hub(hub_installation: Installation, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [
            hub_installation.command("hub"),
            *("run", "--listen", "127.0.0.1:0", "--data", str(tmp_path / "data")),
        ],
        cwd=tmp_path,
        env={**environment(), "NO_COLOR": "1", "COLUMNS": "500"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as hub:
        yield hub
        if hub.poll() is None:
            hub.kill()


def files_of(wheel: Path | io.BytesIO) -> dict[str, bytes]:
    """Return the files of a wheel, and the rows of its record in any order."""
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    (record,) = (name for name in files if name.endswith(".dist-info/RECORD"))
    return files | {record: b"\n".join(sorted(files[record].split()))}


def printed_page_url(hub: subprocess.Popen[str]) -> str:
    """Return the one-time URL that the hub prints; stop when the hub ends."""
    assert hub.stdout is not None
    lines = []
    for line in hub.stdout:
        lines.append(line)
        if found := PAGE_URL.search(line):
            return found[0]
    pytest.fail(f"the hub ended and printed no URL of the page:\n{''.join(lines)}")


def test_the_hub_starts_from_the_wheel_and_serves_its_page(
    running_hub: subprocess.Popen[str], distributions: Distributions
) -> None:
    """The installed hub prints a URL that opens the page of the wheel, and serves a wheel with the same files;
    interrupted, it ends with 0."""
    url = printed_page_url(running_hub)
    with httpx.Client(follow_redirects=True, trust_env=False, timeout=30) as browser:
        page = browser.get(url)
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        with zipfile.ZipFile(distributions.wheel) as archive:
            # The hub makes the page's relative addresses absolute.
            assert page.text == archive.read(PAGE).decode().replace('="./', '="/')
        for script in re.findall(r'<script[^>]* src="([^"]+\.js)"', page.text):
            assert browser.get(str(page.url.join(script))).status_code == 200
        download = browser.get(str(page.url.join("/api/v1/download"))).json()
        served = browser.get(str(page.url.join(download["path"]))).content
    assert download["file"] == distributions.wheel.name
    assert hashlib.sha256(served).hexdigest() == download["sha256"]
    assert files_of(io.BytesIO(served)) == files_of(distributions.wheel)
    running_hub.send_signal(signal.SIGINT)
    rest, _ = running_hub.communicate(timeout=30)
    assert running_hub.returncode == 0, rest
