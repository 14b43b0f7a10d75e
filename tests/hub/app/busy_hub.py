"""A hub that receives readings without end, for tests of its backups."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from hub.app.verify import Observer
from hub.cli.client import HubClient
from hub.model.identity import Role
from tests.conditions import until
from tests.hub.cli.hub_command import METRICS, batch
from tests.hub.http.opened_hub import listening, new_token, opened_hub, send_batches
from tests.tasks import running_task
from wire import device as messages

STORED = {"registry.db", "journal.db", "history.duckdb"}
"""Files of the hub in its backup."""

IGNORE = Observer(lambda name, size_bytes: None, lambda size_bytes: None, lambda finding: None)
"""Shows nothing."""


@asynccontextmanager
async def busy_hub(data: Path) -> AsyncIterator[HubClient]:
    """Run a hub to which a new device after the other sends; it keeps nothing in the journal that is stored."""
    async with (
        opened_hub(data, journal={"keep_bytes": 0, "keep_seconds": 0, "resend_seconds": 0}) as services,
        listening(services) as url,
        running_task(services.store_consumer.run()),
    ):
        admin, gateway = await new_token(services, Role.ADMIN), await new_token(services, Role.GATEWAY)

        async def send() -> None:
            number = 0
            while True:
                number += 1
                hello = messages.Hello(f"device-{number}", "0" * 16, 4, True, 0, metrics=METRICS, agent="test/1")
                await send_batches(url, gateway, hello, *(batch(seq, float(seq)) for seq in (1, 2, 3)))

        async with running_task(send()):
            await until(lambda: services.journal.first_offset > 1)
            with HubClient(url.replace("ws://", "http://"), admin) as client:
                yield client
