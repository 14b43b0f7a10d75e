"""An outage of the store for as much data as 1,000 devices send in 10 minutes, with the hub killed meanwhile. Agents
are acknowledged throughout, and afterwards every reading is stored once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NamedTuple

import pytest

from device_agent import Agent
from tests.end_to_end.accounting_watch import watching_accounting
from tests.end_to_end.hub import Hub
from tests.hub.storage.duckdb.locked_file import locked_by_another_process
from tests.hub.storage.small_disk import SmallDisk, filled
from tests.services.influxdb import InfluxdbServer

DEVICES = 1_000
ROWS = 200
"""Rows of one batch."""
BATCHES = 3
READINGS = DEVICES * ROWS * BATCHES
assert READINGS == 1_000 * 600

BEFORE, DURING = 1, 1
"""Batches of each device before the outage, and in each of its two halves."""
assert BEFORE + 2 * DURING == BATCHES

QUERIED_AT_ONCE = 50
"""Devices in one query of the history."""
assert DEVICES % QUERIED_AT_ONCE == 0

DISK_BYTES = 384 << 20
BOOKS_PAUSE_S = 0.2
"""Pause between two requests for the accounting: that of 1,000 devices is 200 kB."""

LEFT_BYTES = 60_000_000
"""Free space while the disk counts as full: too little for the store, which reports it, and enough for the journal."""


class Outage(NamedTuple):
    """An outage. `away(hub)` keeps the store unavailable inside its block, `reason` is in the report of /ready, and
    `options` of the hub select the store."""

    away: Callable[[Hub], AbstractAsyncContextManager[None]]
    reason: str
    options: tuple[str, ...] = ()


@contextlib.asynccontextmanager
async def file_locked(hub: Hub) -> AsyncIterator[None]:
    """Keep the file open in another process, which opens it while the hub is stopped."""
    await hub.kill()
    with locked_by_another_process(hub.data / "history.duckdb"):
        await hub.start()
        yield


@contextlib.asynccontextmanager
async def disk_full(hub: Hub) -> AsyncIterator[None]:
    """Fill the disk except for what the journal needs."""
    with filled(hub.data.parent, leaving_bytes=LEFT_BYTES):
        yield


def server_down(server: InfluxdbServer, settings: Path) -> Outage:
    """Kill the server of the store."""

    @contextlib.asynccontextmanager
    async def away(hub: Hub) -> AsyncIterator[None]:
        with server.down(kill=True):
            yield

    settings.write_text(server.fresh().settings())
    return Outage(away, "does not answer", ("--config", str(settings)))


OUTAGES = {
    "duckdb, file locked": Outage(file_locked, "in use by another process"),
    "duckdb, disk full": Outage(disk_full, "no room on the disk"),
}

SERVERS = ("influxdb2",)


@pytest.fixture
def anyio_backend() -> str:
    """Use asyncio without its debug mode, which spends more time on the tasks of 1,000 agents than they need."""
    return "asyncio"


@pytest.fixture(params=[*OUTAGES, *SERVERS])
def outage(request: pytest.FixtureRequest, tmp_path: Path) -> Outage:
    if request.param in SERVERS:
        return server_down(request.getfixturevalue(request.param), tmp_path / "hub.toml")
    found: Outage = OUTAGES[request.param]
    return found


@pytest.fixture
def data(outage: Outage, tmp_path: Path) -> Iterator[Path]:
    """Provide the hub's data directory; on a disk that can be filled where the outage needs it."""
    if outage.away is not disk_full:
        yield tmp_path / "data"
        return
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    mount = tmp_path / "disk"
    mount.mkdir()
    disk = SmallDisk(mount, DISK_BYTES)
    yield mount / "data"
    disk.unmount()


async def send(agents: list[Agent], first: int, batches: int) -> None:
    """Send batches of each device, of which `first` were sent; return when all are acknowledged."""
    for batch in range(first, first + batches):
        times = list(range(batch * ROWS + 1, (batch + 1) * ROWS + 1))
        values = [float(time) for time in times]
        for agent in agents:
            await agent.send_columns(times, {"number": values})
    for agent in agents:
        await agent.drain(60)


@pytest.mark.deadline(240)
async def test_an_outage_of_the_store_loses_nothing(outage: Outage, data: Path, tmp_path: Path) -> None:
    """Every batch is acknowledged during the outage, also after SIGKILL, and the hub reports the cause. Afterwards each
    reading is stored exactly once. The accounting balances in every answer."""
    hub = Hub(data, options=outage.options, log=tmp_path / "hub.log")
    await hub.start()
    try:
        token = await hub.token("gateway", "--devices", "*")
        async with watching_accounting(hub, BOOKS_PAUSE_S) as watch, contextlib.AsyncExitStack() as stack:
            agents = [
                await stack.enter_async_context(Agent(hub.url, device=f"device-{n}", token=token))
                for n in range(DEVICES)
            ]
            await send(agents, 0, BEFORE)
            await hub.settled()
            async with outage.away(hub):
                await send(agents, BEFORE, DURING)
                assert outage.reason in (await hub.in_trouble())["store"]
                await hub.kill()
                await hub.start()
                await send(agents, BEFORE + DURING, DURING)
                assert outage.reason in (await hub.in_trouble())["store"]
            flow = await hub.settled()
        totals = flow["totals"]
        assert (totals["accepted"], totals["stored"], totals["waiting"]) == (READINGS, READINGS, 0)
        assert (totals["difference"], totals["lost_batches"]) == (0, 0)
        assert watch.whole > 0
        expected = list(range(1, ROWS * BATCHES + 1))
        for first in range(0, DEVICES, QUERIED_AT_ONCE):
            names = [f"device-{n}" for n in range(first, first + QUERIED_AT_ONCE)]
            answer = await hub.get("/api/v1/history", device=names, points=0, **{"from": "0"})
            assert sorted(series["device"] for series in answer["series"]) == sorted(names)
            for series in answer["series"]:
                assert series["time_ns"] == series["values"] == expected
        assert await hub.problems() == {}
        assert await hub.stop() == 0
    finally:
        await hub.kill()
