"""The small agent of docs/protocol.md keeps the promises of that page against a real hub."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tests.end_to_end.hub import running_hub
from tests.wire import document

BATCHES = 300


async def test_the_small_agent_delivers_everything_once_over_a_restart(tmp_path: Path) -> None:
    """The agent runs exactly as printed on the page, over a kill of the hub, and delivers every reading once."""
    (block,) = document.blocks("python")
    namespace: dict[str, Any] = {"__name__": "agent"}
    exec(compile(block.content, "docs/protocol.md", "exec"), namespace)
    async with running_hub(tmp_path / "data") as hub:
        token = await hub.token("device", "--device", "pump-7")
        metrics = [{"name": "temperature", "unit": "°C"}]
        agent = namespace["Agent"](f"{hub.ws_url}/v1/device", token, "pump-7", metrics)
        running = asyncio.create_task(agent.run())
        for number in range(BATCHES // 2):
            agent.put(temperature=20 + number)
        await acknowledged(agent)
        await hub.kill()
        for number in range(BATCHES // 2):
            agent.put(temperature=20.5 + number)
        await hub.start()
        await acknowledged(agent)
        running.cancel()
        flow = await hub.settled()
        counts = flow["devices"][0]
        assert (counts["device"], counts["epoch"], counts["acked"]) == ("pump-7", agent.epoch, BATCHES)
        assert (counts["accepted"], counts["stored"], counts["quarantined_batches"]) == (
            BATCHES,
            BATCHES,
            0,
        )


async def acknowledged(agent: Any) -> None:
    """Return when the hub has everything on disk."""
    while agent.spool:
        agent.changed.clear()
        await agent.changed.wait()
