"""A journal that was damaged, removed, cut or replaced: nothing is wrong, nothing vanishes silently, nothing is stored
twice, and agents repair what they still have."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from device_agent import Agent, Metric
from hub.model.journal import LostRange
from tests.end_to_end.hub import Hub, running_hub
from tests.hub.storage.duckdb.locked_file import locked_by_another_process

DEVICE = "boiler"
BATCHES = 60


async def send(hub: Hub, spool: Path, first: int, count: int) -> None:
    """Send a reading for each number from `first` on, and wait until all are acknowledged."""
    token = await hub.token("device", "--device", DEVICE)
    async with Agent(hub.url, device=DEVICE, token=token, metrics=[Metric("n")], spool=spool) as agent:
        for number in range(first, first + count):
            await agent.send({"n": float(number)}, time_ns=number)
            if number % 10 == 0:
                await agent.drain(30)
        await agent.drain(30)


async def stored(hub: Hub) -> list[float]:
    """Return all stored values in the order of their times."""
    answer = await hub.get("/api/v1/history", device=DEVICE, points=0, **{"from": "0"})
    return [value for series in answer["series"] for value in series["values"]]


async def balanced(hub: Hub) -> dict[str, Any]:
    """Return the totals of the accounting as soon as it balances."""
    while True:
        totals: dict[str, Any] = (await hub.settled())["totals"]
        if totals["difference"] == 0:
            return totals


def journal_files(data: Path) -> list[Path]:
    return [path for path in data.glob("journal.db*") if path.name != "journal.db.lock"]


def remove(data: Path, copy: Path) -> None:
    for path in journal_files(data):
        path.unlink()


def empty(data: Path, copy: Path) -> None:
    for path in journal_files(data):
        path.write_bytes(b"")


def cut(data: Path, copy: Path) -> None:
    path = data / "journal.db"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def restore(data: Path, copy: Path) -> None:
    remove(data, copy)
    for path in journal_files(copy):
        shutil.copy(path, data / path.name)


@pytest.mark.deadline(120)
@pytest.mark.parametrize("damage", [remove, empty, cut, restore])
async def test_a_lost_journal_is_repaired_by_its_agents(tmp_path: Path, damage: Callable[[Path, Path], None]) -> None:
    """The store had everything: history is complete and contains nothing twice, the accounting balances, and the loss
    is reported. Batches from before are counted as repaired."""
    data, copy, spool = tmp_path / "data", tmp_path / "copy", tmp_path / "a.spool"
    async with running_hub(data) as hub:
        await send(hub, spool, 1, BATCHES)
        await hub.settled()
    shutil.copytree(data, copy)
    async with running_hub(data) as hub:
        await send(hub, spool, BATCHES + 1, BATCHES)
        await hub.settled()
    damage(data, copy)
    async with running_hub(data) as hub:
        await send(hub, spool, 2 * BATCHES + 1, 10)
        totals = await balanced(hub)
        assert await stored(hub) == [float(number) for number in range(1, 2 * BATCHES + 11)]
        assert totals["repaired_batches"] > 0
        assert totals["lost_batches"] == 0
        assert (totals["accepted"], totals["damaged"]) == (2 * BATCHES + 10, 0)
        assert await hub.problems() == {}
        hub_details = await hub.get("/api/v1/hub")
        assert hub_details["damage"]
        assert (await hub.get("/ready"))["warnings"]["journal"]
        events = (await hub.get("/api/v1/events"))["events"]
        assert "journal damaged" in [event["kind"] for event in events]
        assert "journal damaged" in hub.log()


@pytest.mark.deadline(120)
async def test_a_damaged_block_is_declared_and_its_neighbours_are_stored(tmp_path: Path) -> None:
    """The store had not got it yet: its readings are counted as damaged, once, and everything else is stored."""
    data, spool = tmp_path / "data", tmp_path / "a.spool"
    async with running_hub(data):
        pass
    hub = Hub(data)
    with locked_by_another_process(data / "history.duckdb"):
        await hub.start()
        await send(hub, spool, 1, BATCHES)
        await hub.kill()
    connection = apsw.Connection(str(data / "journal.db"))
    first, count = connection.execute(
        "SELECT first_offset, count FROM block WHERE first_offset > 20 ORDER BY first_offset LIMIT 1"
    ).get
    connection.execute("UPDATE block SET entries = CAST(entries || 'x' AS BLOB) WHERE first_offset = ?", (first,))
    connection.close()
    for _ in range(2):
        async with running_hub(data) as hub:
            totals = await balanced(hub)
            lost = range(first, first + count)
            assert await stored(hub) == [float(number) for number in range(1, BATCHES + 1) if number not in lost]
            assert (totals["accepted"], totals["damaged"]) == (BATCHES, count)
            events = (await hub.get("/api/v1/events"))["events"]
            (event,) = (event for event in events if event["kind"] == "journal damaged")
            assert str(LostRange(first, first + count - 1, 0, "")) in event["detail"]
            assert DEVICE in event["detail"]
            assert "hub flow counts the readings that the store lacks as damaged" in event["detail"]
            assert "damaged" in await hub.run("flow", "--once", "--url", hub.url, "--token", await hub.admin())


@pytest.mark.deadline(120)
@pytest.mark.parametrize("log", ["removed", "emptied"])
async def test_a_lost_write_ahead_log_is_repaired_by_its_agents(tmp_path: Path, log: str) -> None:
    """Acknowledged commits were in the log of a killed hub: the agents send them again, and nothing is stored twice."""
    data, spool = tmp_path / "data", tmp_path / "a.spool"
    hub = Hub(data)
    await hub.start()
    try:
        await send(hub, spool, 1, BATCHES)
        await hub.settled()
    finally:
        await hub.kill()
    path = data / "journal.db-wal"
    path.write_bytes(b"") if log == "emptied" else path.unlink()
    async with running_hub(data) as hub:
        await send(hub, spool, BATCHES + 1, 10)
        totals = await balanced(hub)
        assert await stored(hub) == [float(number) for number in range(1, BATCHES + 11)]
        assert totals["repaired_batches"] == BATCHES
        assert (await hub.get("/api/v1/hub"))["damage"]
