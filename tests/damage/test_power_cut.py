"""Power cuts under a running hub, on a disk that loses what was not flushed."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from device_agent import Agent
from tests.damage.cut_disk import CutDisk, can_cut_power
from tests.damage.reading import HubReader
from tests.end_to_end.hub import COMMAND, Hub
from tests.end_to_end.hub_child import HubChild
from tests.skips import NO_DISK_TO_CUT

CUTS = 10
DEVICE = "pump"
PACE_S = 0.004
TOKENS = {"device": ("--device", DEVICE), "viewer": ()}


@pytest.fixture(autouse=True)
def _possible() -> None:
    """Skip with the reason on a machine that cannot mount such a disk."""
    if not can_cut_power():
        pytest.skip(NO_DISK_TO_CUT)


class _Bench:
    """A disk, a hub on it, and an agent whose spool is on another disk and sends 1, 2, 3, …, each as a batch.

    Without a `launcher` the hub is forked, which is 20 times as fast as its start.
    """

    def __init__(self, folder: Path, launcher: Sequence[str] = ()) -> None:
        self.sent = 0
        self.acked = 0
        self.dropped_sectors = 0
        self._folder = folder
        self._launcher = launcher
        self._tokens: dict[str, str] = {}
        self._runs = 0

    async def set_up(self) -> None:
        """Create the file system, with the tokens in an otherwise new data directory, and unmount it in order."""
        new = Hub(self._folder / "new")
        self._tokens = {role: await new.token(role, *options) for role, options in TOKENS.items()}
        async with self._disk() as disk:
            shutil.copytree(new.data, disk.folder / "data")

    async def run_until_cut(self, dice: random.Random) -> list[float]:
        """Start the hub, send until a random moment, and cut the power; return what the store had at the start."""
        async with self._running(self._launcher) as (disk, url):
            stored = await self._stored(url)
            async with Agent(
                url,
                device=DEVICE,
                token=self._tokens["device"],
                spool=self._folder / "agent.spool",
                on_ack=self._acknowledge,
                drain_seconds=0.0,
            ) as agent:
                before, end_s = self.acked, time.monotonic() + dice.uniform(0.1, 1.0)
                while time.monotonic() < end_s or self.acked == before:
                    self.sent += 1
                    await agent.send({"number": float(self.sent)}, time_ns=self.sent)
                    await asyncio.sleep(PACE_S)
                # What is acknowledged at this moment must survive. Acknowledgements that follow may still come.
                acked = self.acked
                self.dropped_sectors += await disk.cut(dice.randrange(1 << 32))
        self.acked = acked
        return stored

    async def stored(self) -> list[float]:
        """Start the hub once more without the agent; return the numbers in its store."""
        async with self._running() as (_, url):
            return await self._stored(url)

    async def _stored(self, url: str) -> list[float]:
        async with HubReader(url, self._tokens["viewer"]) as reader:
            await reader.settled()
            return [value for _, _, _, values in await reader.history() for value in values]

    def _acknowledge(self, seq: int) -> None:
        self.acked = max(self.acked, seq)

    def _disk(self) -> CutDisk:
        return CutDisk(self._folder / "image", self._folder / "disk")

    @asynccontextmanager
    async def _running(self, launcher: Sequence[str] = ()) -> AsyncIterator[tuple[CutDisk, str]]:
        """Yield the disk and the address of the hub on it, which is killed at the end."""
        self._runs += 1
        streams = self._folder / f"run-{self._runs}"
        streams.mkdir()
        async with self._disk() as disk:
            data = disk.folder / "data"
            hub = Hub(data, launcher=launcher, log=streams / "hub.log") if launcher else HubChild(data, streams)
            try:
                if isinstance(hub, Hub):
                    await hub.start()
                    yield disk, hub.url
                else:
                    url = await hub.address()
                    assert url is not None, hub.log()
                    yield disk, url
            finally:
                await hub.kill()


@pytest.mark.deadline(300)
async def test_ten_power_cuts_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """After each cut the hub itself has every acknowledged number once; at the end nothing that was sent is missing."""
    dice = random.Random(5)
    bench = _Bench(tmp_path)
    await bench.set_up()
    for _ in range(CUTS):
        acked, sent = bench.acked, bench.sent
        _check(await bench.run_until_cut(dice), acked, sent)
    _check(await bench.stored(), bench.acked, bench.sent)
    print(f"{CUTS} cuts, {bench.acked} batches acknowledged, {bench.dropped_sectors} unflushed sectors lost")
    assert bench.dropped_sectors > 0


def _check(stored: list[float], acked: int, sent: int) -> None:
    """Everything acknowledged is stored, nothing twice, and nothing that was not sent."""
    assert len(set(stored)) == len(stored)
    assert set(range(1, acked + 1)) <= set(stored) <= set(range(1, sent + 1))


@pytest.mark.deadline(240)
async def test_without_fsync_a_power_cut_loses_acknowledged_batches(tmp_path: Path) -> None:
    """The disk and the comparison find a loss: with fsync switched off by libeatmydata, numbers are missing."""
    eatmydata = shutil.which("eatmydata")
    if eatmydata is None:
        pytest.skip("no eatmydata on the PATH: install the package eatmydata")
    bench = _Bench(tmp_path, (eatmydata, *COMMAND))
    await bench.set_up()
    await bench.run_until_cut(random.Random(5))
    missing = set(range(1, bench.acked + 1)) - set(await bench.stored())
    assert missing
