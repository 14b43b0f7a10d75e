"""The address of a running hub in its data directory: it is there exactly as long as the hub runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hub.config.address import FILE_NAME, RunningHub, find_running_hub, published_address

HUB = RunningHub("http://127.0.0.1:9000", "https://hub.example/telemetry")

PUBLISHER = """
import sys
from pathlib import Path
from hub.config.address import RunningHub, published_address
with published_address(Path(sys.argv[1]), RunningHub("http://127.0.0.1:9000")):
    print("published", flush=True)
    sys.stdin.read()
"""


def test_the_address_is_found_while_the_hub_runs(tmp_path: Path) -> None:
    """Any number of commands find it. Afterwards the file is gone."""
    assert find_running_hub(tmp_path) is None
    with published_address(tmp_path, HUB):
        assert [find_running_hub(tmp_path) for _ in range(2)] == [HUB, HUB]
    assert list(tmp_path.iterdir()) == []


def test_an_address_of_a_killed_hub_is_not_found(tmp_path: Path) -> None:
    """The file stays, but the lock ended with the process. The next hub replaces the file."""
    with subprocess.Popen(
        [sys.executable, "-c", PUBLISHER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "published\n"
        assert find_running_hub(tmp_path) == RunningHub("http://127.0.0.1:9000")
        process.kill()
    assert (tmp_path / FILE_NAME).exists()
    assert find_running_hub(tmp_path) is None
    with published_address(tmp_path, HUB):
        assert find_running_hub(tmp_path) == HUB


def test_only_the_owner_reads_the_file(tmp_path: Path) -> None:
    """It has the permissions of the other files of the data directory."""
    with published_address(tmp_path, HUB):
        assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b"{", b'{"url": 1}', b"[" * 10_000])
def test_a_file_that_is_no_address_is_ignored(tmp_path: Path, content: bytes) -> None:
    """A command then uses the settings."""
    with published_address(tmp_path, HUB), (tmp_path / FILE_NAME).open("r+b") as file:
        file.truncate()
        file.write(content)
        file.flush()
        assert find_running_hub(tmp_path) is None


def test_a_browser_uses_the_public_address() -> None:
    """Without one it uses the address on which the hub listens."""
    assert HUB.browser_url == "https://hub.example/telemetry"
    assert RunningHub("http://[::1]:1").browser_url == "http://[::1]:1"
