"""A real agent with a sensor on a pseudo-terminal, for tests that play lines to it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from device_agent import Agent
from device_agent.source_delivery import deliver_readings
from device_agent.sources.ports import PortSettings
from device_agent.sources.serial import SerialSource
from tests.conditions import until
from tests.device_agent.foreign import foreign_input
from tests.device_agent.pty_port import PtyPort
from tests.end_to_end.hub import Hub
from tests.tasks import running_task

LOGGER = logging.getLogger("device_agent.sources.serial")


class SerialAgent:
    """An agent with a sensor on a port."""

    def __init__(self, hub: Hub, agent: Agent, source: SerialSource, port: PtyPort) -> None:
        self.counts = source.input.counts
        self._hub = hub
        self._agent = agent
        self._port = port

    async def play(self, data: bytes) -> None:
        """Write lines; return when the agent has read them and the hub has acknowledged their readings."""
        lines = self.counts.lines + data.count(b"\n")
        await self.write(data)
        await until(lambda: self.counts.lines >= lines and self._agent.counts.sent.readings == self.counts.readings)
        await self._agent.drain(60)

    async def write(self, data: bytes) -> None:
        """Write lines."""
        await self._port.write(data)

    async def series(self) -> dict[str, dict[Any, int]]:
        """Return the stored values by metric, each with its time."""
        await self._hub.settled()
        answer = await self._hub.get(
            "/api/v1/history", device=self._agent.device, points=0, **{"from": "0", "to": str(2**62)}
        )
        return {
            series["metric"]: dict(zip(series["values"], series["time_ns"], strict=True)) for series in answer["series"]
        }

    async def values(self) -> dict[str, list[Any]]:
        """Return the stored values by metric, in order."""
        return {metric: sorted(times) for metric, times in (await self.series()).items()}


@contextlib.asynccontextmanager
async def serial_agent(hub: Hub, directory: Path, device: str, **rules: object) -> AsyncIterator[SerialAgent]:
    """Run an agent on a new port until the block ends."""
    port = PtyPort(directory / f"port-{device}")
    port.plug_in()
    source = SerialSource(PortSettings(port=str(port.path)), foreign_input(device, **rules), head_seconds=0.5)
    token = await hub.token("device", "--device", device)
    opened = Opened()
    level = LOGGER.level
    LOGGER.setLevel(logging.INFO)
    LOGGER.addFilter(opened)
    try:
        async with (
            Agent(hub.url, device=device, token=token, spool=directory / device) as agent,
            running_task(deliver(source, agent)),
        ):
            # Opening a port discards what was written to it before.
            await opened.event.wait()
            yield SerialAgent(hub, agent, source, port)
    finally:
        LOGGER.removeFilter(opened)
        LOGGER.setLevel(level)
        port.pull()


async def deliver(source: SerialSource, agent: Agent) -> None:
    await deliver_readings(source, agent, agent.collect, restart=True)


class Opened:
    """A filter of log records that waits for the one of an open port."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    def filter(self, record: logging.LogRecord) -> bool:
        if "reading from" in record.getMessage():
            self.event.set()
        return True
