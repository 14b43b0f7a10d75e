"""The messages to systemd."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_agent import supervision
from device_agent.supervision import MAX_STATUS, Supervisor
from tests.tasks import running_task


@pytest.fixture
def notices(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket of a supervisor."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.setblocking(False)
        yield receiver


async def next_notice(notices: socket.socket) -> str:
    return (await asyncio.get_running_loop().sock_recv(notices, 4096)).decode()


async def test_the_supervisor_learns_what_the_service_does(notices: socket.socket) -> None:
    """Messages are in the form of sd_notify; a reload has the time at which it began."""
    supervisor = Supervisor({"NOTIFY_SOCKET": notices.getsockname()})
    supervisor.ready()
    supervisor.reloading()
    supervisor.stopping()
    assert await next_notice(notices) == "READY=1"
    reloading, time_us = (await next_notice(notices)).split("\n")
    assert (reloading, time_us.startswith("MONOTONIC_USEC=")) == ("RELOADING=1", True)
    assert await next_notice(notices) == "STOPPING=1"


@pytest.mark.deadline(20)
async def test_the_watchdog_gets_signs_of_life_and_the_status_a_line(
    notices: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first at once, the next within half of the time limit; the status is one bounded line."""
    monkeypatch.setattr(supervision, "STATUS_SECONDS", 3600.0)
    supervisor = Supervisor({"NOTIFY_SOCKET": notices.getsockname(), "WATCHDOG_USEC": "20000"})
    assert supervisor.watchdog_s == 0.02
    async with running_task(supervisor.watch(lambda: "online\n\x1b" + "x" * 999)):
        assert await next_notice(notices) == "WATCHDOG=1"
        status = await next_notice(notices)
        assert [await next_notice(notices) for _ in range(3)] == ["WATCHDOG=1"] * 3
    assert status.startswith("STATUS=online  x")
    assert len(status) == len("STATUS=") + MAX_STATUS


async def test_an_event_loop_that_stands_still_gives_no_sign(notices: socket.socket) -> None:
    """Only the status is sent without a watchdog."""
    supervisor = Supervisor({"NOTIFY_SOCKET": notices.getsockname()})
    async with running_task(supervisor.watch(lambda: "online")):
        assert await next_notice(notices) == "STATUS=online"
    with pytest.raises(BlockingIOError):
        notices.recv(100)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "20000"},
        {"NOTIFY_SOCKET": "/run/absent/notify"},
        {"NOTIFY_SOCKET": "vsock:2:1"},
        {"NOTIFY_SOCKET": "@absent", "WATCHDOG_USEC": "x"},
        {"NOTIFY_SOCKET": "@absent", "WATCHDOG_USEC": "20000", "WATCHDOG_PID": str(os.getpid() + 1)},
    ],
)
def test_without_a_supervisor_nothing_happens(environment: dict[str, str]) -> None:
    """A socket that does not answer does not stop the agent, and a watchdog of another process is not ours."""
    supervisor = Supervisor(environment)
    supervisor.ready()
    assert supervisor.watchdog_s is None
