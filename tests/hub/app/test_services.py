"""Opening a hub: everything in order, from what earlier runs left, once at a time."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hub.model.identity import Role
from hub.model.journal import JournalError
from hub.registry.database import RegistryError
from tests.hub.http.opened_hub import http_client, listening, new_token, opened_hub, send_batches
from tests.tasks import running_task
from wire import device as messages
from wire.model import Metric


def hello(device: str, next_seq: int, **other: object) -> messages.Hello:
    metrics = [Metric("flow")]
    return messages.Hello(device, "0" * 16, next_seq, True, 0, metrics=metrics, **other)  # type: ignore[arg-type]


async def test_a_second_hub_on_the_same_data_does_not_open(tmp_path: Path) -> None:
    """It would give two batches one offset. The first one is not disturbed."""
    async with opened_hub(tmp_path) as services:
        with pytest.raises((JournalError, RegistryError)):
            async with opened_hub(tmp_path):
                pass
        assert len(services.devices) == 0
    async with opened_hub(tmp_path):
        pass


async def test_a_hub_knows_its_devices_and_latest_values_again(tmp_path: Path) -> None:
    """Tags, agent, last contact and retirement come from the registry, values from store and journal."""
    async with opened_hub(tmp_path) as services, listening(services) as url, http_client(services) as client:
        token = await new_token(services, Role.GATEWAY)
        batch = messages.Data(1, [5], {"flow": [2.5]})
        await send_batches(url, token, hello("pump", 2, tags={"site": "north"}, agent="a/1"), batch)
        await send_batches(url, token, hello("old", 2), batch)
        await client.post("/api/v1/devices/retire", json={"devices": ["old"]})
        before = (await client.get("/api/v1/devices/pump")).json()
        series = dict(services.registry.series)
    async with opened_hub(tmp_path) as services, http_client(services) as client:
        after = (await client.get("/api/v1/devices/pump")).json()
        for name in ("tags", "agent", "acked", "epoch", "metrics"):
            assert after[name] == before[name], name
        assert after["seen"] == pytest.approx(before["seen"], abs=60e9)
        assert [device["device"] for device in (await client.get("/api/v1/devices")).json()["devices"]] == ["pump"]
        assert (await client.get("/api/v1/devices/old")).json()["retired"] is True
        assert {id: known.metric for id, known in services.registry.series.items()} == {
            id: known.metric for id, known in series.items()
        }


async def test_what_was_not_stored_is_stored_by_the_next_run(tmp_path: Path) -> None:
    """The journal keeps it for the store's consumer, and the accounting balances."""
    async with opened_hub(tmp_path) as services, listening(services) as url:
        token = await new_token(services, Role.GATEWAY)
        await send_batches(url, token, hello("pump", 3), *(messages.Data(n, [n], {"flow": [1.0]}) for n in (1, 2)))
    async with opened_hub(tmp_path) as services, http_client(services) as client:
        async with running_task(services.store_consumer.run()):
            await services.store_consumer.reached(2)
            totals = (await client.get("/api/v1/flow")).json()["totals"]
        assert (totals["accepted"], totals["stored"], totals["difference"]) == (2, 2, 0)


async def test_a_device_that_returns_after_its_retirement_is_announced(tmp_path: Path) -> None:
    """Its first durable batch puts it back into service, in the registry too."""
    async with opened_hub(tmp_path) as services, listening(services) as url, http_client(services) as client:
        token = await new_token(services, Role.GATEWAY)
        await send_batches(url, token, hello("pump", 2), messages.Data(1, [1], {"flow": [1.0]}))
        await client.post("/api/v1/devices/retire", json={"devices": ["pump"]})
        is_retired = [services.registry.devices["pump"].retired_ns is not None]
        await send_batches(url, token, hello("pump", 3), messages.Data(2, [2], {"flow": [1.0]}))
        is_retired.append(services.registry.devices["pump"].retired_ns is not None)
        assert is_retired == [True, False]
        kinds = [event.kind for event in await services.registry.events("pump")]
        assert {"retired", "back in service"} <= set(kinds)


async def test_an_acknowledged_event_is_known_after_a_kill(tmp_path: Path) -> None:
    """The registry had no time to store it. The next run reads it in the journal, once, also after a second kill."""
    events = [messages.DeviceEvent(seq, 77, "restarted", "port", f"reset {seq}") for seq in (1, 2)]
    async with opened_hub(tmp_path / "first") as services, listening(services) as url:
        token = await new_token(services, Role.GATEWAY)
        await send_batches(url, token, hello("pump", 3), *events)
        # What the disk holds now is what a kill leaves.
        shutil.copytree(tmp_path / "first", tmp_path / "second")
    async with opened_hub(tmp_path / "second"):
        shutil.copytree(tmp_path / "second", tmp_path / "third")
    async with opened_hub(tmp_path / "third") as services:
        found = await services.registry.events("pump")
        assert [(event.time_ns, event.detail) for event in found if event.kind == "restarted"] == [
            (77, "port: reset 2"),
            (77, "port: reset 1"),
        ]
