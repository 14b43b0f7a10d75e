"""The operations about devices, on a real hub: the fleet in pages, latest values, events, the audit and retirement."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from hub.app.services import HubServices
from hub.model.identity import Role
from tests.hub.http.opened_hub import http_client, listening, new_token, opened_hub, send_batches
from tests.tasks import running_task
from wire import device as messages
from wire.model import Metric

METRICS = [Metric("flow", unit="m³/h"), Metric("state", "string", description="running or stopped")]


def hello(device: str, next_seq: int) -> messages.Hello:
    return messages.Hello(device, "0" * 16, next_seq, True, 0, metrics=METRICS, agent="test/1", tags={"site": "north"})


class Api(NamedTuple):
    """A hub, and a client of its API."""

    services: HubServices
    client: httpx.AsyncClient
    url: str
    gateway: str

    async def get(self, path: str, status: int = 200, **query: Any) -> Any:
        answer = await self.client.get(f"/api/v1{path}", params=query)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def post(self, path: str, body: Any, status: int = 200) -> Any:
        answer = await self.client.post(f"/api/v1{path}", json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def pages(self, path: str, name: str, limit: int, **query: Any) -> list[Any]:
        """Return the elements of every page; each has as many as the limit except the last."""
        found: list[Any] = []
        cursor: dict[str, Any] = {}
        while True:
            answer = await self.get(path, limit=limit, **query, **cursor)
            found += answer[name]
            if answer["next"] is None:
                return found
            assert len(answer[name]) == limit
            cursor = {"cursor": answer["next"]}

    async def send(self, device: str, seq: int = 1) -> None:
        """Send two readings of `flow` and one of `state`, and disconnect."""
        batch = messages.Data(seq, [seq * 10, seq * 10 + 1], {"flow": [1.5, seq + 0.5], "state": [None, "running"]})
        await send_batches(self.url, self.gateway, hello(device, seq + 1), batch)


@asynccontextmanager
async def running(path: Path, *devices: str, role: Role = Role.OPERATOR) -> AsyncIterator[Api]:
    """Run a hub with a batch of each device in its store."""
    async with opened_hub(path) as services, http_client(services, role) as client, listening(services) as url:
        api = Api(services, client, url, await new_token(services, Role.GATEWAY))
        async with running_task(services.store_consumer.run()):
            for device in devices:
                await api.send(device)
            await services.store_consumer.reached(services.journal.last_offset)
            yield api


async def test_the_fleet_comes_in_order_of_ids_and_in_pages(tmp_path: Path) -> None:
    """Each device with its state, its description and its metrics with their latest values."""
    async with running(tmp_path, "pump-2", "boiler", "pump-1") as api:
        for limit in (1, 2, 3, 4):
            fleet = await api.pages("/devices", "devices", limit)
            assert [device["device"] for device in fleet] == ["boiler", "pump-1", "pump-2"]
        boiler = fleet[0]
        assert boiler == await api.get("/devices/boiler")
        assert (boiler["connected"], boiler["acked"], boiler["tags"], boiler["agent"]) == (
            False, 1, {"site": "north"}, "test/1"
        )  # fmt: skip
        learning = {"reporting": "learning", "interval_ns": None, "stale_after_ns": None, "stale": False}
        assert boiler["metrics"] == [
            {
                "metric": "flow", "type": "float", "unit": "m³/h", "description": "",
                "latest": {"time_ns": 11, "value": 1.5}, "freshness": learning,
            },
            {
                "metric": "state", "type": "string", "unit": "", "description": "running or stopped",
                "latest": {"time_ns": 11, "value": "running"}, "freshness": learning,
            },
        ]  # fmt: skip


async def test_an_unknown_device_is_not_found(tmp_path: Path) -> None:
    """In every operation about one device; the answer names it."""
    async with running(tmp_path) as api:
        for path in ("", "/metrics", "/events", "/audit"):
            answer = await api.get(f"/devices/gone{path}", 404)
            assert (answer["code"], answer["detail"]) == ("not_found", "there is no device gone")


async def test_metrics_of_a_device_come_in_pages(tmp_path: Path) -> None:
    """In order of names."""
    async with running(tmp_path, "pump") as api:
        metrics = await api.pages("/devices/pump/metrics", "metrics", 1)
        assert [metric["metric"] for metric in metrics] == ["flow", "state"]


async def test_events_come_newest_first_in_pages(tmp_path: Path) -> None:
    """Each once, whatever the size of a page; a cursor of another list is refused."""
    async with running(tmp_path, "pump", "boiler") as api:
        await api.send("pump", 2)
        kinds = ["disconnected", "connected", "disconnected", "connected"]
        for limit in (1, 3, 4, 5):
            events = await api.pages("/devices/pump/events", "events", limit)
            assert [event["kind"] for event in events] == kinds
            assert [event["id"] for event in events] == sorted({event["id"] for event in events}, reverse=True)
        cursor = (await api.get("/devices", limit=1))["next"]
        assert (await api.get("/devices/pump/events", 422, cursor=cursor))["code"] == "wrong_cursor"


async def test_latest_values_of_the_selected_series(tmp_path: Path) -> None:
    """In order of devices and metrics, of devices in service only."""
    async with running(tmp_path, "pump-2", "pump-1", "boiler") as api:

        async def names(**query: Any) -> list[tuple[str, str]]:
            latest = await api.pages("/latest", "latest", 2, **query)
            return [(series["device"], series["metric"]) for series in latest]

        assert await names() == [(d, m) for d in ("boiler", "pump-1", "pump-2") for m in ("flow", "state")]
        assert await names(device=["pump-*", "boiler"], metric="f*") == [
            ("boiler", "flow"), ("pump-1", "flow"), ("pump-2", "flow")
        ]  # fmt: skip
        await api.post("/devices/retire", {"devices": ["pump-1"]})
        assert await names(device="pump-*") == [("pump-2", "flow"), ("pump-2", "state")]
        assert await names(device="none") == []


async def test_the_audit_counts_what_the_store_has(tmp_path: Path) -> None:
    """For each metric the accounting's number and the counted one; the difference of a healthy hub is 0."""
    async with running(tmp_path, "pump", "boiler") as api:
        await api.send("pump", 2)
        await api.services.store_consumer.reached(api.services.journal.last_offset)
        audit = await api.get("/devices/pump/audit")
        assert (audit["device"], audit["accepted"], audit["stored"], audit["difference"]) == ("pump", 6, 6, 0)
        assert [
            (row["metric"], row["stored_least"], row["stored_most"], row["counted"], row["expired"], row["refused"])
            for row in audit["metrics"]
        ] == [("flow", 4, 4, 4, 0, 0), ("state", 2, 2, 2, 0, 0)]


async def test_retired_devices_leave_the_fleet_until_they_send_again(tmp_path: Path) -> None:
    """A dry run changes nothing. The device itself, its events and its accounting stay."""
    async with running(tmp_path, "pump-1", "pump-2", "boiler") as api:
        result = {"count": 2, "devices": ["pump-1", "pump-2"], "connected": 0}
        body = {"devices": ["pump-*"]}
        assert await api.post("/devices/retire", {**body, "dry_run": True}) == result
        assert len((await api.get("/devices"))["devices"]) == 3
        assert await api.post("/devices/retire", body) == result
        assert [device["device"] for device in (await api.get("/devices"))["devices"]] == ["boiler"]
        assert (await api.get("/devices/pump-1"))["retired"] is True
        assert (await api.get("/devices/pump-1/audit"))["accepted"] == 3
        assert await api.post("/devices/retire", body) == {"count": 0, "devices": [], "connected": 0}
        await api.send("pump-2", 2)
        assert [device["device"] for device in (await api.get("/devices"))["devices"]] == ["boiler", "pump-2"]


async def test_devices_can_be_retired_by_their_last_contact(tmp_path: Path) -> None:
    """Devices that sent something since then stay."""
    async with running(tmp_path, "old", "new") as api:
        seen = {d["device"]: d["seen"] for d in (await api.get("/devices"))["devices"]}
        assert seen["old"] < seen["new"]
        body = {"devices": ["*"], "unseen_since_ns": seen["new"]}
        assert (await api.post("/devices/retire", body))["devices"] == ["old"]


async def test_reading_needs_a_right_and_retiring_another(tmp_path: Path) -> None:
    """A viewer may read, a device's token neither."""
    async with running(tmp_path, "pump", role=Role.VIEWER) as api:
        await api.get("/devices")
        assert (await api.post("/devices/retire", {"devices": ["*"]}, 403))["code"] == "not_allowed"
    async with opened_hub(tmp_path) as services, http_client(services, Role.GATEWAY) as client:
        for path in ("/devices", "/devices/pump", "/latest", "/devices/pump/audit"):
            assert (await client.get(f"/api/v1{path}")).status_code == 403


@pytest.mark.parametrize("body", [{}, {"devices": []}, {"devices": ["*"], "unseen": 1}, {"devices": [""]}])
async def test_a_request_to_retire_that_is_not_valid_retires_nothing(tmp_path: Path, body: dict[str, Any]) -> None:
    """A misspelt condition must not select every device."""
    async with running(tmp_path, "pump") as api:
        assert (await api.post("/devices/retire", body, 422))["code"] == "wrong_request"
        assert (await api.get("/devices/pump"))["retired"] is False
