"""Asks a hub for its books all the time, whatever happens to it, and holds each answer to the sum."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx

from tests.end_to_end.hub import Hub

PAUSE_S = 0.02
"""Between two questions, so that the hub has something else to do as well."""


class FlowWatch:
    """`answers` counts what was answered, `whole` those in which nothing was unknown; `wrong` has what did not
    balance."""

    def __init__(self, hub: Hub, pause_s: float) -> None:
        self.answers = 0
        self.whole = 0
        self.wrong: list[dict[str, Any]] = []
        self.most_waiting = 0
        self._hub = hub
        self._pause_s = pause_s

    async def run(self) -> None:
        """One question after the other, until cancelled; a hub that does not answer is asked again."""
        headers = {"Authorization": f"Bearer {await self._hub.admin()}"}
        async with httpx.AsyncClient(headers=headers, timeout=30) as client:
            while True:
                try:
                    answer = await client.get(f"{self._hub.url}/api/v1/flow")
                except httpx.TransportError:
                    pass  # it was killed
                else:
                    assert answer.status_code == 200, answer.text
                    self._judge(answer.json())
                await asyncio.sleep(self._pause_s)

    def _judge(self, flow: dict[str, Any]) -> None:
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
async def watching_flow(hub: Hub, pause_s: float = PAUSE_S) -> AsyncIterator[FlowWatch]:
    """A watch over the books for as long as this lasts; AssertionError in the end where anything was wrong."""
    watch = FlowWatch(hub, pause_s)
    task = asyncio.create_task(watch.run())
    try:
        yield watch
    finally:
        task.cancel()
        await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    assert watch.wrong == [], (len(watch.wrong), watch.wrong[:2])
