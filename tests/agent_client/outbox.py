"""An outbox in memory: the batches that a test gives it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from agent_client.reconnect import Ending
from agent_client.session import Frame
from wire import device
from wire.codec import AGENT_MESSAGES, Format
from wire.device_session import AgentDeviceSession
from wire.model import Metric

EPOCH = "0123456789abcdef"


class ListOutbox:
    """Implements agent_client.session.DeviceOutbox. `entries` can grow and fail; the counters show what happened."""

    def __init__(self, *, format: Format = "msgpack", metrics: Sequence[Metric] = (Metric("level"),)) -> None:
        self.metrics: Mapping[str, Metric] = {metric.name: metric for metric in metrics}
        self.revision = 0
        self.entries: list[Frame | device.Gap] = []
        self.failure: Exception | None = None
        self.welcomes: list[int] = []
        self.session: AgentDeviceSession | None = None
        self.transmissions: list[int] = []
        self.acked = 0
        self.rejects: list[device.Reject] = []
        self.endings: list[Ending] = []
        self.sources: list[device.SourceState] = []
        self.status_changed = asyncio.Event()
        self.commands = None
        self._format: Format = format
        self._changed = asyncio.Condition()

    async def add(self, *numbers: int) -> None:
        """Add a batch with the reading `number` for each number."""
        for number in numbers:
            message = device.Data(number, [number], {"level": [float(number)]})
            self.entries.append(Frame(number, AGENT_MESSAGES[self._format].encode(message), 1))
        await self.notify()

    async def notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until_acked(self, seq: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.acked >= seq)

    def hello(self) -> device.Hello:
        return device.Hello("tank", EPOCH, len(self.entries) + 1, durable=True, time=0)

    def status(self) -> device.Status:
        return device.Status(1, len(self.entries) + 1, self.sources)

    async def connected(self, session: AgentDeviceSession) -> None:
        self.welcomes.append(session.acked)
        self.session = session

    async def read(self, session: AgentDeviceSession) -> Sequence[Frame | device.Gap]:
        def after() -> list[Frame | device.Gap]:
            if self.failure is not None:
                raise self.failure
            return [one for one in self.entries if _last(one) > session.sent][: session.room]

        async with self._changed:
            return await self._changed.wait_for(after)

    def transmitted(self, frame: Frame) -> None:
        self.transmissions.append(frame.seq)

    def acknowledged(self, acked: int) -> None:
        self.acked = acked
        self._acknowledging = asyncio.ensure_future(self.notify())

    def rejected(self, reject: device.Reject) -> None:
        self.rejects.append(reject)

    async def disconnected(self, ending: Ending) -> Ending:
        self.endings.append(ending)
        return ending


def _last(entry: Frame | device.Gap) -> int:
    return entry.to if isinstance(entry, device.Gap) else entry.seq
