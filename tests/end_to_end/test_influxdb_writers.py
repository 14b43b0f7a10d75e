"""InfluxDB's real writers and a real hub: they work unchanged, and nothing that was answered with 204 is lost."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import warnings
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write.point import Point
from influxdb_client.client.write_api import ASYNCHRONOUS, SYNCHRONOUS

from tests.conditions import until
from tests.end_to_end.hub import Hub, running_hub
from tests.end_to_end.influx_writers import (
    START_NS,
    BatchingWriter,
    JavaScriptWriter,
    PythonWriter,
    running_telegraf,
    write_lines,
)
from tests.hub.storage.small_disk import SmallDisk
from tests.services.clients import INFLUXDB_CLIENT_JS, ClientProgram

DISK_BYTES = 256 << 20
LEFT_BYTES = 1 << 16
TELEGRAF_POINTS = 1_000
SOCKET_POINTS = 300
GO_POINTS = 4_000
GO_BATCH = 10
BATCHED_POINTS = 1_000
PHASE_POINTS = 200
"""Points that the synchronous writer writes between two failures."""
POLL_S = 0.3


async def stored(hub: Hub, device: str, metric: str) -> list[Any]:
    """Return the values of a series in the store, in the order of their times."""
    answer = await hub.get("/api/v1/history", device=device, metric=metric, points=0, **{"from": "0"})
    return [value for series in answer["series"] for value in series["values"]]


def fill(disk: SmallDisk) -> ExitStack:
    """Fill a disk on which the hub writes meanwhile; the block ends it."""
    while True:
        with suppress(OSError), ExitStack() as stack:
            stack.enter_context(disk.filled(leaving_bytes=LEFT_BYTES))
            return stack.pop_all()


class DiskHub(NamedTuple):
    """A hub whose disk can be filled, and a gateway token."""

    hub: Hub
    disk: SmallDisk
    token: str


@pytest.fixture(scope="module")
async def disk_hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DiskHub]:
    """Run a hub on a small disk."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    folder = tmp_path_factory.mktemp("influxdb-writers")
    mount = folder / "disk"
    mount.mkdir()
    disk = SmallDisk(mount, DISK_BYTES)
    try:
        async with running_hub(mount / "data", log=folder / "hub.log") as hub:
            await hub.admin()
            yield DiskHub(hub, disk, await hub.token("gateway", "--devices", "*"))
    finally:
        disk.unmount()


@pytest.mark.deadline(240)
async def test_nothing_that_was_answered_is_lost(
    telegraf_program: Path,
    go_writer_program: Path,
    js_writer_program: ClientProgram,
    tmp_path: Path,
    disk_hub: DiskHub,
) -> None:
    """Telegraf, and influxdb-client for Python (synchronous and batching), Go and JavaScript write through a kill of
    the hub and a full disk. The store has every point that was answered, and those that writers repeat, once."""
    hub, disk, token = disk_hub
    write_lines(tmp_path, "http", TELEGRAF_POINTS)
    write_lines(tmp_path, "v1", TELEGRAF_POINTS)
    synchronous = PythonWriter(hub.url, token, "sync")
    batching = BatchingWriter(hub.url, token, "batching")
    javascript = JavaScriptWriter()
    go = await asyncio.create_subprocess_exec(
        go_writer_program, hub.url, token, "go", str(GO_POINTS), str(GO_BATCH), stdout=asyncio.subprocess.PIPE
    )
    async with running_telegraf(telegraf_program, tmp_path, hub.url, token):
        with synchronous.running():
            async with javascript.running(js_writer_program, hub.url, token, "javascript"):
                await asyncio.to_thread(batching.write, range(BATCHED_POINTS))
                await _further_points(synchronous, javascript)
                await _until_accepted(hub, "go", 2 * GO_BATCH)
                await hub.kill()
                await until(lambda: 0 in synchronous.statuses & javascript.statuses)
                await hub.start()
                with fill(disk):
                    await until(lambda: 503 in synchronous.statuses & javascript.statuses)
                await _further_points(synchronous, javascript)
        await asyncio.to_thread(batching.close)
        out, _ = await go.communicate()
        assert go.returncode == 0
        # It was still writing when the hub was killed.
        points, repeated = map(int, re.findall(r"\d+", out.decode()))
        assert points == GO_POINTS
        assert repeated > 0

        # A WebSocket output does not wait for answers, so it writes between the failures only.
        write_lines(tmp_path, "socket", SOCKET_POINTS)
        for output, points in (("http", TELEGRAF_POINTS), ("v1", TELEGRAF_POINTS), ("socket", SOCKET_POINTS)):
            await _until_accepted(hub, f"telegraf-{output}", 2 * points)
    await hub.settled()
    assert synchronous.statuses == javascript.statuses == {0, 204, 503}
    assert batching.failures == []
    for device, metric, points in (
        ("sync", "sync", synchronous.answered),
        ("batching", "batching", BATCHED_POINTS),
        ("go", "m", GO_POINTS),
        ("javascript", "js", javascript.answered),
        ("telegraf-http", "http", TELEGRAF_POINTS),
        ("telegraf-v1", "v1", TELEGRAF_POINTS),
        ("telegraf-socket", "socket", SOCKET_POINTS),
    ):
        # Requests that were repeated because their answer was lost are stored once, too.
        assert (await stored(hub, device, f"{metric}.number"))[:points] == [*range(points)], device
        assert (await stored(hub, device, f"{metric}.half"))[:points] == [n / 2 for n in range(points)], device


def test_the_documented_javascript_is_what_the_writer_runs() -> None:
    """The page shows the options and the function with which the writer loses nothing."""
    page = (Path(__file__).parents[2] / "docs" / "influxdb-writers.md").read_text(encoding="utf-8")
    source = (INFLUXDB_CLIENT_JS.source / "writer.mjs").read_text(encoding="utf-8")
    (example,) = re.findall(r"```js\n(.+?)```", page, re.DOTALL)
    for beginning, end in (("const options", "\nconst pause"), ("async function write", "\n}\n")):
        shown = example[example.index(beginning) : example.index(end, example.index(beginning))]
        assert shown in source


async def _until_accepted(hub: Hub, device: str, readings: int) -> None:
    """Wait until a device has so many readings."""
    while True:
        flow = await hub.get("/api/v1/flow")
        if any(one["device"] == device and one["accepted"] >= readings for one in flow["devices"]):
            return
        await asyncio.sleep(POLL_S)


async def _further_points(*writers: PythonWriter | JavaScriptWriter) -> None:
    """Wait until each writer has answers for further points."""
    for writer, answered in [(writer, writer.answered) for writer in writers]:
        await until(partial(_has_answered, writer, answered + PHASE_POINTS))


def _has_answered(writer: PythonWriter | JavaScriptWriter, points: int) -> bool:
    return writer.answered >= points


HOME_ASSISTANT = {
    "measurement": "°C",
    "tags": {"domain": "sensor", "entity_id": "kitchen temperature"},
    "time": START_NS,
    "fields": {"value": 21.5, "device_class_str": "temperature", "friendly_name_str": "Kitchen, left"},
}
"""A point as Home Assistant passes it to its client."""

PROXMOX = "".join(
    f"{text} {START_NS}\n"
    for text in (
        'system,object=nodes,host=pve1 uptime=12345,name="pve1",kversion="Linux 6.8 (x)"',
        "cpustat,object=nodes,host=pve1 avg1=0.15,cpu=0.0123,cpus=8,wait=0",
        "blockstat,object=qemu,vmid=100,nodename=pve1,host=web\\ server,instance=scsi0 rd_bytes=12,wr_bytes=4567890123",
        'system,object=storages,nodename=pve1,host=local,type=dir active=1,avail=123456789012,type="dir"',
    )
)
"""Lines as Proxmox VE sends them."""


async def test_other_writers_work_unchanged(disk_hub: DiskHub) -> None:
    """Requests as Home Assistant, with both versions of its client, Proxmox, curl and a Python program send them."""
    hub, _, token = disk_hub
    await asyncio.to_thread(_home_assistant_2, hub.url, token)
    async with httpx.AsyncClient(base_url=hub.url, timeout=30) as client:
        # The client of version 1: an empty write is its test of the connection.
        basic = base64.b64encode(f"homeassistant:{token}".encode()).decode()
        headers = {
            "Accept": "application/x-msgpack",
            "Authorization": f"Basic {basic}",
            "Content-Type": "application/octet-stream",
        }
        point = f"°C,domain=sensor,entity_id=hall value=19.0 {START_NS // 10**9}\n"
        for body, query in (("\n", {"db": "ha1"}), (point, {"db": "ha1", "precision": "s"})):
            answer = await client.post("/write", params=query, content=body.encode(), headers=headers)
            assert (answer.status_code, answer.content) == (204, b"")
        databases = await client.get("/query", params={"q": "SHOW DATABASES"}, headers=headers)
        assert ["ha1"] in databases.json()["results"][0]["series"][0]["values"]
        # Proxmox tests the connection with the token, and sends no precision and no type of its content.
        headers = {"Authorization": f"Token {token}", "User-Agent": "libwww-perl/6.68"}
        assert (await client.get("/health", headers=headers)).is_success
        answer = await client.post("/api/v2/write?org=proxmox&bucket=proxmox", content=PROXMOX, headers=headers)
        assert answer.is_success, answer.text
    await hub.settled()
    assert await stored(hub, "home", "°C.sensor.kitchen temperature.value") == [21.5]
    assert await stored(hub, "home", "°C.sensor.kitchen temperature.friendly_name_str") == ["Kitchen, left"]
    assert await stored(hub, "ha1", "°C.sensor.hall.value") == [19.0]
    assert await stored(hub, "boiler-1", "water.temperature") == [71.5]
    assert await stored(hub, "pve1", "cpustat.nodes.cpu") == [0.0123]
    assert await stored(hub, "pve1", "system.nodes.kversion") == ["Linux 6.8 (x)"]
    assert await stored(hub, "local", "system.pve1.storages.dir.avail") == [123456789012.0]
    devices = [device["device"] for device in (await hub.get("/api/v1/devices"))["devices"]]
    (web,) = [device for device in devices if device.startswith("web_server-")]
    assert await stored(hub, web, "blockstat.scsi0.pve1.qemu.100.wr_bytes") == [4567890123.0]


def _home_assistant_2(url: str, token: str) -> None:
    """Write as Home Assistant does with the client of version 2, and as a program that looks its bucket up."""
    client: Any
    with InfluxDBClient(url, token, org="any", timeout=10_000) as client:
        assert client.ping()
        assert client.version().startswith("v2.")
        client.write_api(write_options=SYNCHRONOUS).write(bucket="home", record=b"")
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            api = client.write_api(write_options=ASYNCHRONOUS)
        api.write(bucket="home", record=[HOME_ASSISTANT]).get()
        bucket = client.buckets_api().find_bucket_by_name("plant")
        assert bucket.name == "plant"
        new_point: Any = Point
        point = new_point("water").tag("device", "boiler-1").field("temperature", 71.5).time(START_NS)
        client.write_api(write_options=SYNCHRONOUS).write(bucket=bucket.name, record=point)
