"""Continuous check of a hub's accounting: every answer must balance, whatever happens to the hub."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx

from tests.end_to_end.hub import Hub
from tests.tasks import running_task

PAUSE_S = 0.02
"""Pause between two requests, so that the hub can do other work."""


class AccountingWatch:
    """Checks of the accounting. `answers` counts the answers, `whole` those without unknown numbers; `wrong` has the
    parts that do not balance."""

    def __init__(self, hub: Hub, pause_s: float) -> None:
        self.answers = 0
        self.whole = 0
        self.wrong: list[dict[str, Any]] = []
        self.most_waiting = 0
        self._hub = hub
        self._pause_s = pause_s

    async def run(self) -> None:
        """Request the accounting until cancelled; retry when the hub does not answer."""
        headers = {"Authorization": f"Bearer {await self._hub.admin()}"}
        async with httpx.AsyncClient(headers=headers, timeout=30) as client:
            while True:
                try:
                    answer = await client.get(f"{self._hub.url}/api/v1/flow")
                except httpx.TransportError:
                    pass  # the hub was killed
                else:
                    assert answer.status_code == 200, answer.text
                    self._check(answer.json())
                await asyncio.sleep(self._pause_s)

    def _check(self, flow: dict[str, Any]) -> None:
        self.answers += 1
        self.wrong += [part for part in (*flow["devices"], flow["totals"]) if part["difference"] not in (0, None)]
        for part in (*flow["devices"], flow["totals"]):
            known = [part[name] for name in ("stored", "waiting", "refused", "expired")]
            if None not in known and sum(known) != part["accepted"] - part["difference"]:
                self.wrong.append(part)
        if flow["totals"]["difference"] is not None:
            self.whole += 1
            self.most_waiting = max(self.most_waiting, flow["totals"]["waiting"])


@contextlib.asynccontextmanager
async def watching_accounting(hub: Hub, pause_s: float = PAUSE_S) -> AsyncIterator[AccountingWatch]:
    """Check the accounting inside the block; raise AssertionError at the end when anything did not balance."""
    watch = AccountingWatch(hub, pause_s)
    async with running_task(watch.run()):
        yield watch
    assert watch.wrong == [], (len(watch.wrong), watch.wrong[:2])
