"""Retirement on a real registry and the devices of a real journal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import apsw
import pytest

from hub.ingest.device import Device, Devices
from hub.journal.journal import Journal
from hub.model.batch import Entry, EntryKind
from hub.registry.registry import Registry
from hub.registry.retirement import Retirement
from wire.model import Metric


class Hub:
    """A registry, the devices of a journal, and the changes that the retirement reported."""

    def __init__(self, registry: Registry, journal: Journal) -> None:
        self.registry = registry
        self.journal = journal
        self.devices = Devices(journal, clock=lambda: 9, on_committed=lambda _: None, latest_time_ns=lambda _: -1)
        self.changed: list[tuple[str, bool]] = []
        self.retirement = Retirement(registry, self.devices, on_change=self._record)
        self.devices.watch(self.retirement.device_changed)

    def _record(self, device: Device) -> None:
        self.changed.append((device.id, device.retired))

    async def declare(self, *ids: str) -> None:
        for id in ids:
            await self.registry.declare(id, [Metric("flow")])
            self.devices.device(id).begin_epoch("e")

    async def send(self, id: str) -> None:
        """Make one entry of the device durable."""
        device = self.devices.device(id)
        device.received += 1
        self.journal.submit(device, Entry(EntryKind.GAP, id, device.epoch, device.received, 1, "json", b"{}"))
        await self.journal.drain()

    def retired_ns(self, id: str) -> int | None:
        return self.registry.devices[id].retired_ns

    async def kinds(self, id: str) -> list[str]:
        return [event.kind for event in await self.registry.events(id)]


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Hub]:
    async with (
        Registry(path / "registry.db", clock=lambda: 9) as registry,
        Journal(path / "journal.db", keep_bytes=1 << 28, keep_seconds=60, max_bytes=1 << 30) as journal,
    ):
        yield Hub(registry, journal)


async def test_a_selection_has_the_known_devices_in_service(tmp_path: Path) -> None:
    """In order, with patterns, and without devices that were never declared, are retired, or were seen lately."""
    async with opened(tmp_path) as hub:
        await hub.declare("b", "a-2", "a-1", "a-3")
        hub.devices.device("a-undeclared")
        hub.devices.device("a-3").retired = True
        hub.devices.device("a-2").seen_ns = 100
        assert hub.retirement.choose(["a-*"], None) == (["a-1", "a-2"], 0)
        assert hub.retirement.choose(["*"], 100) == (["a-1", "b"], 0)
        assert hub.retirement.choose(["nothing"], None) == ([], 0)


async def test_a_retired_device_is_recorded_and_returns_when_it_sends(tmp_path: Path) -> None:
    """Both are events, and both are reported once."""
    async with opened(tmp_path) as hub:
        await hub.declare("pump", "fan")
        await hub.retirement.retire(["pump"])
        assert hub.retired_ns("pump") == 9
        assert hub.changed == [("pump", True)]
        await hub.send("fan")
        assert hub.changed == [("pump", True)]
        await hub.send("pump")
        await hub.send("pump")
        assert hub.retired_ns("pump") is None
        assert hub.changed == [("pump", True), ("pump", False)]
        assert await hub.kinds("pump") == ["back in service", "retired"]
        assert await hub.kinds("fan") == []


async def test_a_device_that_sends_during_its_retirement_stays_in_service(tmp_path: Path) -> None:
    """Its reading is durable before the retirement is; the registry returns it to service."""
    async with opened(tmp_path) as hub:
        await hub.declare("pump")
        with closing(apsw.Connection(str(tmp_path / "registry.db"))) as other:
            other.execute("BEGIN IMMEDIATE")
            retiring = asyncio.create_task(hub.retirement.retire(["pump"]))
            await asyncio.sleep(0)
            assert [device.retired for device in hub.devices] == [True]
            await hub.send("pump")
            other.execute("ROLLBACK")
        await retiring
        assert not hub.devices.device("pump").retired
        assert hub.retired_ns("pump") is None
        assert await hub.kinds("pump") == []


async def test_a_failed_retirement_changes_nothing(tmp_path: Path) -> None:
    """All selected devices stay in service."""
    async with opened(tmp_path) as hub:
        await hub.declare("pump")
        with pytest.raises(KeyError):
            await hub.retirement.retire(["pump", "never declared"])
        assert not hub.devices.device("pump").retired
        assert hub.retired_ns("pump") is None
        assert hub.changed == []
        assert await hub.kinds("pump") == []
