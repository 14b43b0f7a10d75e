"""The processes of the demo: started with a token in the environment, stopped in order, never left behind."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from hub.app import demo as module
from hub.app.demo import demo_fleet

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""


def children() -> set[int]:
    """Return the ids of this process's children."""
    return {int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


@pytest.mark.skipif(sys.platform != "linux", reason="children are listed in /proc on Linux")
async def test_the_fleet_runs_in_two_processes_and_is_stopped(tmp_path: Path) -> None:
    """The command line, which every user of the machine can see, has no token; each process has a log file."""
    before = children()
    with capture_logs() as logs:
        async with demo_fleet("http://127.0.0.1:9", "very secret", tmp_path):
            started = children() - before
            assert len(started) == 2
            commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in started]
            assert not any(b"very secret" in command for command in commands)
            environments = [Path(f"/proc/{pid}/environ").read_bytes() for pid in started]
            assert all(b"HUB_TOKEN=very secret" in environment for environment in environments)
            assert {path.name for path in (tmp_path / "demo").glob("*.log")} == {"device_agent.log", "device_sim.log"}
    assert not started & children()
    assert logs == []


async def test_the_fleet_trusts_the_certificate_of_the_hub(tmp_path: Path) -> None:
    """Its authority is in no file that the agents know."""
    before = children()
    async with demo_fleet("https://127.0.0.1:9", "t", tmp_path, certificate=tmp_path / "hub.pem"):
        environments = [Path(f"/proc/{pid}/environ").read_bytes() for pid in children() - before]
        assert len(environments) == 2
        assert all(f"HUB_CA={tmp_path}/hub.pem".encode() in environment for environment in environments)


async def test_a_process_that_ends_by_itself_is_reported(tmp_path: Path) -> None:
    """The hub runs on; its log has the exit code, and the process's own log the reason."""
    process = await module._start(("device_agent", "no-such-command"), os.environ, tmp_path / "a.log")
    await process.wait()
    with capture_logs() as logs:
        await module._stop(process)
    assert [(line["event"], line["exit_code"]) for line in logs] == [("a demo process stopped by itself", 2)]
    assert "no-such-command" in (tmp_path / "a.log").read_text()


async def test_a_process_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """After STOP_S; its readings stay in its spool."""
    monkeypatch.setattr(module, "STOP_S", 0.2)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", STUBBORN, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    await process.stdout.readline()
    with capture_logs() as logs:
        await module._stop(process)
    assert process.returncode == -9
    assert [line["event"] for line in logs] == ["a demo process did not stop in time"]
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
