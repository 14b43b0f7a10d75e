"""Starting, running and stopping a hub in a process of its own: its first lines, its failures and its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conditions import until
from tests.end_to_end.hub import COMMAND, Hub, running_hub


async def run(*options: str, command: Sequence[str] = COMMAND) -> tuple[int, str, str]:
    """Run a hub that ends by itself, and return exit code, stdout and stderr."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, "run", *options, stdout=pipe, stderr=pipe)
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@pytest.mark.deadline(120)
async def test_a_new_hub_prints_its_address_and_a_url_that_signs_in(tmp_path: Path) -> None:
    """A later start prints the address alone: an admin token exists. The data belong to the owner only."""
    hub = Hub(tmp_path / "data", launcher=COMMAND)
    await hub.start()
    assert (await hub.line("open ")).startswith(f"open {hub.url}/open/")
    await hub.line("press Ctrl-C to stop")
    assert await hub.stop() == 0
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    async with running_hub(tmp_path / "data", launcher=COMMAND) as again:
        assert (await again.get("/api/v1/hub"))["problems"] == {}
        assert len(again.output) == 1
        events = [event["event"] for event in map(json.loads, again.log().splitlines())]
    assert "stopping" in again.log()
    assert "service failed" not in events


async def test_a_port_in_use_is_reported(tmp_path: Path) -> None:
    """In one line, with exit code 1, before the data directory has any file."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, out, err = await run("--data", str(tmp_path / "data"), "--listen", address)
    assert (code, out, err) == (1, "", f"hub: {address}: Address already in use: choose another port with --listen\n")
    assert list((tmp_path / "data").iterdir()) == []


async def test_an_address_of_another_machine_is_reported(tmp_path: Path) -> None:
    """Also a name that is none."""
    for listen in ("192.0.2.1:0", f"{'a' * 70}.example:0"):
        code, _, err = await run(
            "--data", str(tmp_path / "data"), "--listen", listen, "--config", str(_proxy(tmp_path))
        )
        assert code == 1
        assert err.startswith("hub: ")
        assert err.count("\n") == 1


def _proxy(directory: Path) -> Path:
    """Return settings with which a hub may listen on any address."""
    path = directory / "hub.toml"
    path.write_text("[access]\nbehind_proxy = true\n")
    return path


async def test_a_damaged_file_is_reported(tmp_path: Path) -> None:
    """The sentence names the file and what to do, and no traceback is printed."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "registry.db").write_bytes(b"no database" * 1000)
    code, _, err = await run("--data", str(data), "--listen", "127.0.0.1:0")
    assert code == 1
    assert "the file of the registry is damaged" in err
    assert "Traceback" not in err


async def run_with_defect(data: Path, defect: str) -> tuple[int, str, str]:
    """Run a hub on a free port after this Python code, until it ends by itself."""
    command = (sys.executable, "-c", f"{defect}from hub.cli import main; main()")
    return await run("--data", str(data), "--listen", "127.0.0.1:0", command=command)


async def test_a_service_that_fails_stops_the_hub(tmp_path: Path) -> None:
    """With its name and exit code 1: a hub that accepts data and stores nothing must not look healthy."""
    defect = (
        "from hub.journal.consumer import Consumer\n"
        "async def fail(self): raise RuntimeError('a defect')\n"
        "Consumer.run = fail\n"
    )
    code, _, err = await run_with_defect(tmp_path / "data", defect)
    assert code == 1
    assert "hub: store failed: a defect" in err


async def test_a_thread_that_ends_stops_the_hub(tmp_path: Path) -> None:
    """With its name and exit code 1: whatever waits for that thread would wait forever."""
    defect = (
        "import threading\n"
        "from hub.registry.registry import Registry\n"
        "before = Registry.ensure_admin\n"
        "async def ensure_admin(self):\n"
        "    threading.Thread(target=lambda: {}['a defect'], name='worker').start()\n"
        "    return await before(self)\n"
        "Registry.ensure_admin = ensure_admin\n"
    )
    code, _, err = await run_with_defect(tmp_path / "data", defect)
    assert code == 1
    assert "hub: thread worker failed: 'a defect'" in err


async def test_ctrl_c_stops_the_hub_in_order(tmp_path: Path) -> None:
    """With exit code 0, like the SIGTERM of a service manager."""
    hub = Hub(tmp_path / "data", launcher=COMMAND)
    await hub.start()
    os.kill(hub.pid, signal.SIGINT)
    assert await hub.stop() == 0
    assert "stopping" in hub.log()


@pytest.mark.parametrize(("soft", "hard", "raised"), [(256, 8192, 8192), (1024, 1024, 1024)])
async def test_the_limit_of_open_files_is_raised_to_the_hard_one(
    tmp_path: Path, soft: int, hard: int, raised: int
) -> None:
    """If that is too low for the bounds of connections, one line of the log names it and the remedy."""
    launcher = ("sh", "-c", f'ulimit -S -n {soft} && ulimit -H -n {hard} && exec "$0" "$@"', *COMMAND)
    async with running_hub(tmp_path / "data", launcher=launcher) as hub:
        limits = Path(f"/proc/{hub.pid}/limits").read_text().splitlines()
        found = next(line for line in limits if line.startswith("Max open files"))
        assert found.split()[3] == str(raised)
    warnings = [json.loads(line) for line in hub.log().splitlines() if "file descriptors" in line]
    assert [warning["limit"] for warning in warnings] == ([raised] if raised < 4096 else [])
    assert all("LimitNOFILE" in warning["remedy"] for warning in warnings)


async def test_silent_connections_leave_file_descriptors_for_other_clients(tmp_path: Path) -> None:
    """One address opens more than the process may have: the hub resets some, reports that, and answers another one."""
    launcher = ("sh", "-c", 'ulimit -n 1024 && exec "$0" "$@"', *COMMAND)
    async with running_hub(tmp_path / "data", launcher=launcher) as hub:
        port = int(hub.url.rpartition(":")[2])
        silent = [socket.socket() for _ in range(1300)]
        try:
            for connection in silent:
                connection.setblocking(False)
                connection.bind(("127.0.0.77", 0))
                with contextlib.suppress(BlockingIOError):
                    connection.connect(("127.0.0.1", port))
            await until(lambda: "too_many_connections" in hub.log())
            assert (await hub.get("/api/v1/hub"))["problems"] == {}
            assert len(list(Path(f"/proc/{hub.pid}/fd").iterdir())) < 1000
        finally:
            for connection in silent:
                connection.close()
        assert "connection not accepted" not in hub.log()
