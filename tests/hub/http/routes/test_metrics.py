"""The operations about metrics, on a real hub: pages, changes by an admin, and their refusals."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub.model.identity import Role
from tests.hub.http.opened_hub import http_client, listening, new_token, opened_hub, send_batches
from wire import device as messages
from wire.model import Metric

PATH = "/api/v1/devices/pump/metrics"
METRICS = [Metric("flow", unit="m³/h"), Metric("state", "string"), Metric("starts", "integer")]


@asynccontextmanager
async def device_client(data: Path, role: Role = Role.ADMIN) -> AsyncIterator[httpx.AsyncClient]:
    """Run a hub with the device `pump`, and return a client with a token of this role."""
    async with opened_hub(data) as services, listening(services) as url:
        gateway = await new_token(services, Role.GATEWAY)
        hello = messages.Hello("pump", "0" * 16, 1, True, 0, metrics=METRICS)
        await send_batches(url, gateway, hello, messages.Data(1, [5], {"flow": [1.5], "state": ["on"], "starts": [3]}))
        async with http_client(services, role) as client:
            yield client


async def test_metrics_come_in_pages_with_what_they_were_before(tmp_path: Path) -> None:
    """In order of names, with latest values."""
    async with device_client(tmp_path) as client:
        await client.patch(PATH, json={"metric": "flow", "name": "rate", "type": "string"})
        first = (await client.get(PATH, params={"limit": 2})).json()
        rest = (await client.get(PATH, params={"limit": 2, "cursor": first["next"]})).json()
        assert rest["next"] is None
        assert [
            (metric["metric"], metric["type"], metric["earlier_names"], metric["earlier_types"], metric["latest"])
            for metric in first["metrics"] + rest["metrics"]
        ] == [
            ("rate", "string", ["flow"], ["float"], None),
            ("starts", "integer", [], [], {"time_ns": 5, "value": 3}),
            ("state", "string", [], [], {"time_ns": 5, "value": "on"}),
        ]


async def test_a_change_is_answered_with_the_metric_and_recorded(tmp_path: Path) -> None:
    """The event says what was changed and by whom; a change that changes nothing is none."""
    async with device_client(tmp_path) as client:
        body = {"metric": "flow", "name": "rate", "unit": "l/min", "description": ""}
        for _ in range(2):
            answer = await client.patch(PATH, json=body)
            assert answer.status_code == 200, answer.text
            changed = answer.json()
            assert (changed["metric"]["metric"], changed["metric"]["unit"]) == ("rate", "l/min")
            assert changed["retried"] == {
                "selected": 0, "accepted": 0, "readings": 0, "refused": 0, "reasons": {}, "next": None
            }  # fmt: skip
        events = (await client.get("/api/v1/devices/pump/events")).json()["events"]
        (detail,) = [event["detail"] for event in events if event["kind"] == "metric changed"]
        assert detail.startswith("flow: name flow → rate, unit m³/h → l/min; by admin ")


@pytest.mark.parametrize(
    ("path", "body", "status", "detail"),
    [
        (PATH, {"metric": "none", "type": "float"}, 404, "pump has no metric none"),
        ("/api/v1/devices/none/metrics", {"metric": "flow", "type": "float"}, 404, "there is no device none"),
        (PATH, {"metric": "flow"}, 422, "name what to change: name, type, unit or description"),
        (
            PATH,
            {"metric": "flow", "name": "state"},
            409,
            "the name state belongs to the metric state: choose another one",
        ),
        (PATH, {"metric": "flow", "name": " state"}, 422, None),
        (PATH, {"metric": "flow", "type": "number"}, 422, None),
        (PATH, {"metric": "flow", "unit": "x" * 33}, 422, None),
    ],
)
async def test_a_change_that_cannot_be_is_refused(
    tmp_path: Path, path: str, body: dict[str, Any], status: int, detail: str | None
) -> None:
    """Each refusal says why, and nothing is changed."""
    async with device_client(tmp_path) as client:
        before = (await client.get(PATH)).json()
        answer = await client.patch(path, json=body)
        assert answer.status_code == status, answer.text
        assert detail in (None, answer.json()["detail"])
        assert (await client.get(PATH)).json() == before


async def test_only_an_admin_changes_metrics(tmp_path: Path) -> None:
    """An operator reads them."""
    async with device_client(tmp_path, Role.OPERATOR) as client:
        assert (await client.get(PATH)).status_code == 200
        answer = await client.patch(PATH, json={"metric": "flow", "unit": "K"})
        assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed")
