"""Files that are removed or cut under a running hub: nothing more is acknowledged into them, and people learn of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from device_agent import Agent, Metric
from tests.conditions import result_of, until
from tests.end_to_end.hub import Hub, running_hub

DEVICE = "pump"


def remove(data: Path) -> None:
    for path in data.glob("journal.db*"):
        path.unlink()


def cut(data: Path) -> None:
    os.truncate(data / "journal.db", 0)


@pytest.mark.deadline(120)
@pytest.mark.parametrize(
    ("damage", "what"), [(remove, "journal.db was removed"), (cut, "journal.db was cut to 0 bytes")]
)
async def test_a_hub_without_its_journal_stops(tmp_path: Path, damage: Callable[[Path], None], what: str) -> None:
    """It ends with exit code 1 and names the file. The next start reports the loss, and the agent sends again."""
    hub = Hub(tmp_path / "data")
    await hub.start()
    try:
        token = await hub.token("device", "--device", DEVICE)
        async with Agent(hub.url, device=DEVICE, token=token, metrics=[Metric("n")]) as agent:
            await agent.send_columns([1], {"n": [1.0]})
            await agent.drain(30)
            await hub.settled()
            damage(hub.data)
            await until(lambda: not hub.is_running)
            assert await hub.stop() == 1
            assert f"{what} while the hub ran. What the hub acknowledges would not be on the disk" in hub.log()
            await agent.send_columns([2], {"n": [2.0]})
            await hub.start()
            await agent.drain(60)
            await hub.settled()
        answer = await hub.get("/api/v1/history", device=DEVICE, points=0, **{"from": "0"})
        assert answer["series"][0]["values"] == [1.0, 2.0]
        # The log still has what a cut file has lost.
        assert damage is cut or (await hub.get("/ready"))["warnings"]["journal"]
    finally:
        await hub.kill()


@pytest.mark.deadline(120)
async def test_a_lost_registry_and_a_lost_history_are_problems(tmp_path: Path) -> None:
    """/ready and an event name each of them. What was not stored waits in the journal, for a new history."""
    data = tmp_path / "data"
    async with running_hub(data) as hub:
        token = await hub.token("device", "--device", DEVICE)
        await hub.admin()
        async with Agent(hub.url, device=DEVICE, token=token, metrics=[Metric("n")]) as agent:
            await agent.send_columns([1], {"n": [1.0]})
            await agent.drain(30)
            await hub.settled()
            for name in ("registry.db", "history.duckdb"):
                (data / name).rename(tmp_path / name)
            await agent.send_columns([2], {"n": [2.0]})
            await agent.drain(30)

        async def found() -> dict[str, str] | None:
            problems = await hub.problems()
            return problems if {"registry", "history"} <= problems.keys() else None

        problems = await result_of(found)
        assert "registry.db was removed while the hub ran" in problems["registry"]
        assert "history.duckdb was removed while the hub ran" in problems["history"]

        async def recorded() -> bool | None:
            kinds = {event["kind"] for event in (await hub.get("/api/v1/events"))["events"]}
            return {"registry file lost", "history lost"} <= kinds or None

        await result_of(recorded)
    (tmp_path / "registry.db").replace(data / "registry.db")
    async with running_hub(data) as hub:
        await hub.settled()
        answer = await hub.get("/api/v1/history", device=DEVICE, points=0, **{"from": "0"})
        assert answer["series"][0]["values"] == [1.0, 2.0]
