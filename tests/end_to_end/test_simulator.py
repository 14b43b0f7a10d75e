"""A simulated fleet against a real hub."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from device_sim.report import Report, decode_report
from tests.end_to_end.hub import Hub, running_hub


async def simulate(hub: Hub, *arguments: str) -> tuple[int, Report]:
    """Run `device-sim run` with these arguments against the hub; return its exit code and its report."""
    process = await start(hub, *arguments)
    out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, decode_report(out)


async def start(hub: Hub, *arguments: str) -> asyncio.subprocess.Process:
    """Start `device-sim run` with these arguments."""
    token = await hub.token("gateway", "--devices", "*")
    return await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-m", "device_sim", "run", "--json", "-", *arguments,
        env={**os.environ, "HUB_URL": hub.url, "HUB_TOKEN": token},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip


async def answered(hub: Hub, path: str, holds: Callable[[Any], bool]) -> None:
    """Wait until the hub gives such an answer."""
    while True:
        if holds(await hub.get(path)):
            return
        await asyncio.sleep(0.05)


async def test_twenty_devices_deliver_every_reading_once(tmp_path: Path) -> None:
    """Sent, acknowledged and stored readings agree between the agents and the hub, and the API shows the fleet."""
    async with running_hub(tmp_path / "data") as hub:
        code, report = await simulate(
            hub, "--devices", "20", "--rate", "10", "--duration", "3", "--assert", "lost==0", "--assert", "stored==sent"
        )  # fmt: skip
        flow = await hub.settled()
    assert code == 0
    assert report.ok
    assert report.devices.connected == 20
    assert report.batches.sent == 20 * 10 * 3
    assert report.readings.sent == report.readings.acked
    assert report.hub is not None
    assert report.hub.stored == report.hub.accepted == report.readings.sent
    assert report.hub.duplicated == report.hub.quarantined_batches == report.rejected_batches == 0
    assert flow["totals"]["stored"] == report.readings.sent
    assert {device["device"] for device in flow["devices"]} >= {"pump-001", "machine-004"}


async def test_a_second_run_counts_only_its_own_readings(tmp_path: Path) -> None:
    """The hub counts since its first start; a report is about its own run only, also with the same devices in larger
    batches."""
    async with running_hub(tmp_path / "data") as hub:
        arguments = ("--devices", "4", "--rate", "20", "--duration", "1", "--batch", "5")
        first_code, first = await simulate(hub, *arguments)
        second_code, second = await simulate(hub, *arguments)
    assert (first_code, second_code) == (0, 0)
    assert first.batches.sent == second.batches.sent == 4 * 4
    assert second.hub is not None
    assert second.hub.accepted == second.readings.sent == first.readings.sent


async def test_a_fleet_survives_a_killed_hub(tmp_path: Path) -> None:
    """The hub is killed in the middle of a run: the agents reconnect, and nothing is lost or stored twice.

    The run ends when every agent is back, however long the hub takes to start and the agents wait between attempts.
    """
    async with running_hub(tmp_path / "data") as hub:
        process = await start(hub, "--devices", "10", "--rate", "20")
        await answered(hub, "/api/v1/flow", lambda flow: flow["totals"]["accepted"] >= 1000)
        await hub.kill()
        await hub.start()
        await answered(hub, "/api/v1/devices", lambda page: sum(d["connected"] for d in page["devices"]) == 10)
        process.send_signal(signal.SIGINT)
        out, _ = await process.communicate()
        report = decode_report(out)
    assert process.returncode == 0, report
    assert report.ok
    assert report.devices.reconnects >= 10
    assert report.hub is not None
    assert report.hub.stored == report.readings.sent
    assert report.hub.duplicated == 0


async def test_an_assertion_that_fails_is_the_exit_code(tmp_path: Path) -> None:
    """An assertion that fails sets the exit code, and the report names it."""
    async with running_hub(tmp_path / "data") as hub:
        code, report = await simulate(hub, "--devices", "2", "--duration", "1", "--assert", "sent>1000000")
    assert code == 1
    assert report.complete
    assert [verdict.holds for verdict in report.assertions] == [False]
