"""Command `hub import` against a real hub: every reading of the file is stored once, whatever is killed."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from pathlib import Path

import pytest

from device_agent import Agent
from tests.end_to_end.hub import Hub, running_hub
from tests.end_to_end.import_command import import_result, start_import, stored_values

DEVICES = 30
FIELDS = 10
LINES = 120_000
"""An import of 1.2 million readings takes some seconds and a request to the hub some hundredths of a second, so that a
test can interrupt it on any machine."""
START_NS = 1_451_606_400_000_000_000
STEP_NS = 10_000_000_000


def hosts_file(path: Path, *, lines: int, seed: int = 1) -> None:
    """Write a file as collectors of host metrics write it: one line for each host in turn, with all its fields."""
    values = random.Random(seed)
    with path.open("w") as file:
        for number in range(lines):
            turn, host = divmod(number, DEVICES)
            fields = ",".join(f"usage_{field}={values.randrange(1000)}i" for field in range(FIELDS))
            file.write(f"cpu,hostname=host_{host},region=eu-central-1 {fields} {START_NS + turn * STEP_NS}\n")


async def accepted(hub: Hub) -> int:
    """Return the readings that the hub has accepted so far."""
    flow = await hub.get("/api/v1/flow")
    return sum(device["accepted"] for device in flow["devices"])


async def reach(hub: Hub, readings: int) -> int:
    """Return when the hub has accepted this number of readings or more."""
    while True:
        found = await accepted(hub)
        if found >= readings:
            return found
        await asyncio.sleep(0.01)


@pytest.mark.deadline(300)
async def test_a_file_is_stored_once_whichever_process_is_killed(tmp_path: Path) -> None:
    """The import is killed twice and the hub once. The same command continues, and at the end each reading is stored
    once, in its place."""
    file = tmp_path / "hosts.lp"
    hosts_file(file, lines=LINES)
    readings = LINES * FIELDS
    hub = Hub(tmp_path / "data")
    await hub.start()
    try:
        token = await hub.token("gateway", "--devices", "host_*")
        there = 0
        for least in (1, readings // 4):
            running = await start_import(hub, token, str(file))
            there = await reach(hub, max(there + 1, least))
            running.send_signal(signal.SIGKILL)
            await running.communicate()
            assert there < readings
        running = await start_import(hub, token, str(file))
        # More than before: this import has begun to send.
        there = await reach(hub, max(there + 1, readings // 2))
        await hub.kill()
        assert there < readings
        await hub.start()
        status, report, errors = await import_result(running)
        assert status == 0, errors
        flow = await hub.settled()
        counts = {device["device"]: device for device in flow["devices"]}
        assert len(counts) == DEVICES
        expected = readings // DEVICES
        assert {(device["accepted"], device["stored"]) for device in counts.values()} == {(expected, expected)}
        (part_told,) = report["files"]
        assert part_told["stored"] + part_told["stored_before"] == part_told["readings"] == readings
        assert part_told["stored_before"] > 0
        values = random.Random(1)
        written = [[values.randrange(1000) for _ in range(FIELDS)] for _ in range(LINES)]
        for host in (0, DEVICES - 1):
            assert await stored_values(hub, f"host_{host}", "usage_3") == [line[3] for line in written[host::DEVICES]]
        assert await hub.stop() == 0
    finally:
        await hub.kill()


@pytest.mark.deadline(180)
async def test_a_stopped_import_says_how_to_continue_and_stores_nothing_twice(tmp_path: Path) -> None:
    """Ctrl-C ends the import with exit code 1 and an explanation. The same command then sends the rest, and a third run
    has nothing to do."""
    file = tmp_path / "hosts.lp"
    hosts_file(file, lines=LINES)
    async with running_hub(tmp_path / "data") as hub:
        token = await hub.token("gateway", "--devices", "host_*")
        running = await start_import(hub, token, str(file))
        await reach(hub, 1)
        running.send_signal(signal.SIGINT)
        status, report, errors = await import_result(running)
        assert (status, report["ok"]) == (1, False)
        assert "the same command continues" in errors
        for stored in (True, False):
            status, report, errors = await import_result(await start_import(hub, token, str(file)))
            assert (status, report["ok"]) == (0, True), errors
            assert (report["files"][0]["stored"] > 0) is stored
        flow = await hub.settled()
        assert sum(device["stored"] for device in flow["devices"]) == LINES * FIELDS


async def test_an_import_does_not_disconnect_a_connected_device(tmp_path: Path) -> None:
    """The import waits and says why; it continues when the agent disconnects. The device's own declaration and latest
    value stay."""
    file = tmp_path / "past.lp"
    file.write_text(f"m,device=boiler x=1 {START_NS}\n")
    async with running_hub(tmp_path / "data") as hub:
        token = await hub.token("gateway", "--devices", "*")
        async with Agent(hub.url, device="boiler", token=token, tags={"site": "north"}) as agent:
            await agent.send({"x": 2.0})
            await agent.drain(30)
            running = await start_import(hub, token, str(file))
            assert running.stderr is not None
            errors = (await running.stderr.readline()).decode()
            assert "boiler is connected itself; stop its agent" in errors
            await agent.send({"x": 3.0})
            await agent.drain(30)
        status, report, _ = await import_result(running)
        assert (status, report["files"][0]["stored"]) == (0, 1)
        await hub.settled()
        assert await stored_values(hub, "boiler", "x") == [1.0, 2.0, 3.0]
        (device,) = (await hub.get("/api/v1/devices"))["devices"]
        assert device["tags"] == {"site": "north"}
        latest = await hub.get("/api/v1/latest")
        assert "3.0" in json.dumps(latest)
        assert "1.0" not in json.dumps(latest)
