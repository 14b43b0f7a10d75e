"""Commands that call a hub in the test's own process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from typer.testing import CliRunner, Result

from hub.app.services import HubServices
from hub.cli.application import app
from hub.model.identity import Role
from tests.hub.http.opened_hub import listening, new_token, opened_hub, send_batches
from tests.tasks import running_task
from wire import device as messages
from wire.model import Metric

METRICS = [Metric("flow", unit="m³/h"), Metric("state", "string")]


class CommandedHub(NamedTuple):
    """A hub that listens, and the credentials for it."""

    services: HubServices
    url: str
    admin: str
    gateway: str

    async def run(self, *arguments: str) -> Result:
        """Run a command against the hub, in a thread."""
        options = ["--url", self.url.replace("ws://", "http://"), "--token", self.admin]
        return await asyncio.to_thread(CliRunner().invoke, app, [*arguments, *options])

    async def send(self, device: str, *batches: messages.Data) -> None:
        """Send batches of a device, and return when they are stored."""
        hello = messages.Hello(device, "0" * 16, len(batches) + 1, True, 0, metrics=METRICS, agent="test/1")
        await send_batches(self.url, self.gateway, hello, *batches)
        await self.services.store_consumer.reached(self.services.journal.last_offset)


@asynccontextmanager
async def commanded_hub(data: Path) -> AsyncIterator[CommandedHub]:
    """Run a hub that stores what it receives."""
    async with (
        opened_hub(data) as services,
        listening(services) as url,
        running_task(services.store_consumer.run()),
    ):
        admin, gateway = await new_token(services, Role.ADMIN), await new_token(services, Role.GATEWAY)
        yield CommandedHub(services, url, admin, gateway)


def batch(seq: int, flow: float, *, metric: str = "flow") -> messages.Data:
    """Return a batch of one reading."""
    return messages.Data(seq, [seq * 1_000_000_000], {metric: [flow]})
