"""A damaged registry: no device receives the readings of another, and a lost row is lost alone."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from device_agent import Agent, Metric
from tests.end_to_end.hub import Hub, running_hub

READINGS = {"boiler": [1.0, 2.0, 3.0], "fridge": [10.0, 20.0], "pump": [100.0]}


async def send(hub: Hub, device: str, values: list[float], first: int = 1) -> None:
    token = await hub.token("device", "--device", device)
    async with Agent(hub.url, device=device, token=token, metrics=[Metric(f"of {device}")]) as agent:
        await agent.send_columns(list(range(first, first + len(values))), {f"of {device}": values})
        await agent.drain(30)
    await hub.settled()


async def stored(hub: Hub) -> dict[str, Any]:
    history = await hub.get("/api/v1/history", device="*", points=0, **{"from": "0"})
    return {series["device"]: series["values"] for series in history["series"] if series["values"]}


def change(path: Path, statement: str) -> None:
    """Change the file as damage does: without its triggers, which would write a new checksum."""
    with closing(sqlite3.connect(path)) as database:
        triggers = database.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            database.execute(f"DROP TRIGGER {name}")
        database.execute(statement)
        for _, sql in triggers:
            database.execute(sql)
        database.commit()


async def test_a_series_that_a_damaged_byte_moves_to_another_device(tmp_path: Path) -> None:
    """The hub corrects the row, says so, and every reading has its own device; then a whole row is lost."""
    data = tmp_path / "data"
    async with running_hub(data) as hub:
        for device, values in READINGS.items():
            await send(hub, device, values)
    # The pump is device 3, and the boiler, device 1, differs in one bit.
    change(data / "registry.db", "UPDATE series SET device = 1 WHERE id = 3")
    async with running_hub(data) as hub:
        assert await stored(hub) == READINGS
        (event,) = [event for event in (await hub.get("/api/v1/events"))["events"] if "repaired" in event["kind"]]
        assert "1 row with one wrong bit corrected; nothing is lost" in event["detail"]
        assert await hub.problems() == {}
    assert list(data.glob("registry.db.damaged-*"))
    change(data / "registry.db", "UPDATE series SET metric = 'something else', unit = 'K' WHERE id = 2")
    async with running_hub(data) as hub:
        assert await stored(hub) == {device: values for device, values in READINGS.items() if device != "fridge"}
        assert "lost rows: 1 of series" in (await hub.get("/ready"))["warnings"]["registry"]
        await send(hub, "oven", [7.0])
        await send(hub, "fridge", [30.0], first=3)
        assert await stored(hub) == READINGS | {"oven": [7.0], "fridge": [30.0]}
