"""A lost or restored file of the data directory: no device receives the readings of another."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import httpx

from device_agent import Agent, Metric
from tests.end_to_end.hub import Hub, running_hub
from tests.hub.storage.duckdb.locked_file import locked_by_another_process

BOILER = {"temperature": [101.0, 102.0, 103.0]}
FRIDGE = {"humidity": [41.0, 42.0]}


async def send(hub: Hub, device: str, readings: dict[str, list[float]]) -> None:
    """Send the device's readings and wait for their acknowledgement. Their times are 1, 2, 3, …"""
    token = await hub.token("device", "--device", device)
    async with Agent(hub.url, device=device, token=token, metrics=[Metric(name) for name in readings]) as agent:
        times = list(range(1, 1 + len(next(iter(readings.values())))))
        await agent.send_columns(times, readings)
        await agent.drain(30)


async def history(hub: Hub) -> httpx.Response:
    """Return the hub's answer for everything that is stored."""
    # The token of an earlier registry would be rejected.
    headers = {"Authorization": f"Bearer {await hub.token('admin')}"}
    async with httpx.AsyncClient(base_url=hub.url, headers=headers, timeout=30) as client:
        return await client.get("/api/v1/history", params={"device": "*", "from": "0", "points": "0"})


async def stored(hub: Hub) -> dict[tuple[str, str], Any]:
    """Return the values of every series that has any."""
    answer = await history(hub)
    assert answer.status_code == 200, answer.text
    return {
        (series["device"], series["metric"]): series["values"] for series in answer.json()["series"] if series["values"]
    }


def copy_registry(source: Path, target: Path) -> None:
    """Copy the registry as a backup does, with the content of the write-ahead log."""
    with sqlite3.connect(source) as database:
        database.execute("VACUUM INTO ?", [str(target)])
    database.close()


def remove_registry(data: Path) -> None:
    for file in data.glob("registry.db*"):
        file.unlink()


async def test_a_lost_registry_shows_no_device_the_readings_of_another(tmp_path: Path) -> None:
    """The store stays closed, and /ready says why and what to do. With the registry restored everything is there, and
    batches of devices that it does not know are in quarantine."""
    data, copy = tmp_path / "data", tmp_path / "registry.copy"
    async with running_hub(data) as hub:
        await send(hub, "boiler", BOILER)
        await hub.settled()
    copy_registry(data / "registry.db", copy)
    remove_registry(data)
    hub = Hub(data)
    await hub.start()
    try:
        await send(hub, "fridge", FRIDGE)
        problem = (await hub.in_trouble())["store"]
        assert "another registry.db" in problem
        assert "restore the registry.db of the same time" in problem
        answer = await history(hub)
        assert answer.status_code == 503
        assert "another registry.db" in answer.text
    finally:
        await hub.kill()
    remove_registry(data)
    copy.replace(data / "registry.db")
    async with running_hub(data) as hub:
        await hub.settled()
        assert await hub.problems() == {}
        assert await stored(hub) == {("boiler", "temperature"): BOILER["temperature"]}
        (kept,) = (await hub.get("/api/v1/quarantine"))["quarantine"]
        assert (kept["device"], kept["code"]) == ("fridge", "unknown_metric")


async def test_a_lost_registry_and_a_new_history(tmp_path: Path) -> None:
    """The documented remedy works: with the store moved away the hub continues, and entries of devices that the
    registry does not know are in quarantine."""
    data = tmp_path / "data"
    async with running_hub(data) as hub:
        await send(hub, "boiler", BOILER)
        await hub.settled()
    remove_registry(data)
    for file in data.glob("history.duckdb*"):
        file.rename(tmp_path / file.name)
    async with running_hub(data) as hub:
        await send(hub, "fridge", FRIDGE)
        await hub.settled()
        assert await hub.problems() == {}
        assert await stored(hub) == {("fridge", "humidity"): FRIDGE["humidity"]}
        (kept,) = (await hub.get("/api/v1/quarantine"))["quarantine"]
        assert (kept["device"], kept["code"]) == ("boiler", "unknown_metric")
        assert "cannot be stored" in kept["message"]


async def test_a_registry_restored_from_an_older_copy_assigns_no_id_twice(tmp_path: Path) -> None:
    """A device that the copy does not know gets an id that no reading has; the history of the others is unchanged."""
    data, copy = tmp_path / "data", tmp_path / "registry.copy"
    async with running_hub(data) as hub:
        await send(hub, "pump", {"flow": [1.0]})
        await hub.settled()
        copy_registry(data / "registry.db", copy)
        await send(hub, "boiler", BOILER)
        await hub.settled()
    remove_registry(data)
    copy.replace(data / "registry.db")
    async with running_hub(data) as hub:
        await send(hub, "fridge", FRIDGE)
        await hub.settled()
        assert await hub.problems() == {}
        assert await stored(hub) == {("pump", "flow"): [1.0], ("fridge", "humidity"): FRIDGE["humidity"]}
        assert "registry.db does not know" in hub.log()


async def test_the_journal_knows_the_assigned_ids_while_the_store_is_closed(tmp_path: Path) -> None:
    """The same holds when the store cannot be read while the older copy is restored."""
    data, copy = tmp_path / "data", tmp_path / "registry.copy"
    async with running_hub(data) as hub:
        await hub.admin()
        copy_registry(data / "registry.db", copy)
        await send(hub, "boiler", BOILER)
        await hub.settled()
    remove_registry(data)
    copy.replace(data / "registry.db")
    with locked_by_another_process(data / "history.duckdb"):
        hub = Hub(data)
        await hub.start()
        await send(hub, "fridge", FRIDGE)
        await hub.kill()
    async with running_hub(data) as hub:
        await hub.settled()
        assert await stored(hub) == {("fridge", "humidity"): FRIDGE["humidity"]}


async def test_entries_that_can_no_longer_be_decoded_block_no_later_entry(tmp_path: Path) -> None:
    """Journal entries whose metric the registry does not know: the hub starts, puts them in quarantine, reports them,
    and stores the entries behind them."""
    data, copy = tmp_path / "data", tmp_path / "registry.copy"
    async with running_hub(data) as hub:
        await hub.admin()
        copy_registry(data / "registry.db", copy)
    with locked_by_another_process(data / "history.duckdb"):
        hub = Hub(data)
        await hub.start()
        await send(hub, "boiler", BOILER)
        await hub.kill()
    remove_registry(data)
    copy.replace(data / "registry.db")
    async with running_hub(data) as hub:
        await send(hub, "fridge", FRIDGE)
        await hub.settled()
        assert await hub.problems() == {}
        assert await stored(hub) == {("fridge", "humidity"): FRIDGE["humidity"]}
        (kept,) = (await hub.get("/api/v1/quarantine", device="boiler"))["quarantine"]
        assert kept["code"] == "unknown_metric"
        assert "temperature was not declared" in kept["message"]
        assert "accepted batches cannot be decoded" in hub.log()
