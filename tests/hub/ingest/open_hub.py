"""Registry, journal and devices of a hub without its edges, for tests of sources inside the hub."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from hub.ingest.agent_session import AgentSession
from hub.ingest.device import Devices
from hub.ingest.local_source import LocalSource, epoch_of
from hub.journal.journal import Journal
from hub.live.hub import LiveHub
from hub.model.batch import Entry
from hub.model.identity import Identity, Role
from hub.registry.directory import ConnectionDirectory, DeviceDirectory
from hub.registry.registry import Registry
from wire import device as messages
from wire.codec import AGENT_MESSAGES
from wire.errors import WireError
from wire.model import Metric

EPOCH = epoch_of("a broker")


class Hub(NamedTuple):
    """Registry, journal and devices, what became durable, and the ids of devices that changed."""

    registry: Registry
    devices: Devices
    directory: DeviceDirectory
    durable: list[Entry]
    changed: list[str]

    def source(self, device: str = "pump", epoch: str = EPOCH) -> LocalSource:
        return LocalSource(self.devices, self.directory, device, epoch=epoch, agent="broker")

    async def events(self) -> list[tuple[str, str]]:
        return [(event.kind, event.detail) for event in reversed(await self.registry.events("pump"))]


@asynccontextmanager
async def running(path: Path) -> AsyncIterator[Hub]:
    durable: list[Entry] = []

    def committed(entries: Sequence[Entry]) -> None:
        durable.extend(entries)

    async with (
        Registry(path / "registry.db", clock=lambda: 5) as registry,
        Journal(path / "journal.db", keep_bytes=1 << 28, keep_seconds=60, max_bytes=1 << 30) as journal,
    ):
        devices = Devices(journal, clock=lambda: 7, on_committed=committed, latest_time_ns=lambda _: -1)
        directory = DeviceDirectory(registry, journal, LiveHub(offset=0), clock=lambda: 7)
        changed: list[str] = []
        devices.watch(lambda device: changed.append(device.id))
        yield Hub(registry, devices, directory, durable, changed)
        await journal.drain()


class Outlet:
    """Outlet of an agent that is not asked for what it received."""

    def send(self, frame: bytes) -> None: ...

    def send_ack(self, frame: bytes) -> None: ...

    def end(self, error: WireError) -> None: ...


async def connect_agent(hub: Hub) -> AgentSession:
    """Connect the own agent of the device."""

    async def identify(_: str | None) -> Identity:
        return Identity("t", Role.GATEWAY, "*")

    shared = (hub.registry, hub.directory.journal, hub.directory.live, hub.directory.clock)
    directory = ConnectionDirectory(*shared, identify, lambda _: None)
    session = AgentSession(hub.devices, directory, Outlet(), format="json", hub="h", window=9)
    hello = messages.Hello("pump", "0" * 16, 1, True, 0, metrics=[Metric("flow")], agent="pump agent")
    step = session.receive(AGENT_MESSAGES["json"].encode(hello))
    assert step is not None
    await step()
    return session
