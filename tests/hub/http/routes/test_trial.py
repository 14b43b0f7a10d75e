"""Reading content over the API without storing it, on a real hub."""

from __future__ import annotations

import base64
import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub.app.services import HubServices
from hub.model.identity import Role
from tests.hub.cli.hub_command import METRICS, batch
from tests.hub.http.opened_hub import http_client, listening, new_token, opened_hub, send_batches
from wire import device

TABLE = "time;Temperatur [°C];Feuchte\n28.11.2026 15:05;21,5;40\n28.11.2026 15:06;n/a;x\n"


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[HubServices]:
    async with opened_hub(tmp_path) as services:
        yield services


@pytest.fixture
async def viewer(services: HubServices) -> AsyncIterator[httpx.AsyncClient]:
    async with http_client(services, Role.VIEWER) as client:
        yield client


async def tried(client: httpx.AsyncClient, content: str, **fields: Any) -> dict[str, Any]:
    answer = await client.post("/api/v1/try", json={"content": content, **fields})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def refused(client: httpx.AsyncClient, content: str, **fields: Any) -> str:
    answer = await client.post("/api/v1/try", json={"content": content, **fields})
    assert answer.status_code == 422, answer.text
    return str(answer.json()["detail"])


async def test_a_table_is_read_with_its_rules(services: HubServices, viewer: httpx.AsyncClient) -> None:
    """The answer has the readings, the refusals with their settings, and what decided; the hub stores nothing."""
    found = await tried(viewer, TABLE, rules={"zone": "Europe/Berlin", "types": {"Feuchte": "float"}})
    assert (found["format"], found["lines"], found["readings"], found["no_values"]) == ("csv", 3, 2, 1)
    assert [row["values"] for row in found["first_rows"]] == [{"Temperatur": 21.5, "Feuchte": 40.0}]
    assert found["first_rows"][0]["time_ns"] == 1795874700_000000000
    assert {(metric["metric"], metric["unit"]) for metric in found["metrics"]} == {
        ("Temperatur", "°C"),
        ("Feuchte", ""),
    }
    (refusal,) = found["refusals"]
    assert (refusal["line"], refusal["metric"], refusal["value"]) == (3, "Feuchte", "x")
    assert 'zone = "Europe/Berlin"' in found["settings"]
    assert {note["code"] for note in found["notes"]} >= {"format", "zone"}
    assert not services.registry.devices
    assert services.journal.last_offset == 0


async def test_the_types_of_the_hub_decide(services: HubServices, viewer: httpx.AsyncClient) -> None:
    """A value that the hub would refuse because of the type of its metric is refused by the trial, too."""
    content = '{"device": "boiler", "temperature": "warm"}'
    assert (await tried(viewer, content))["refused"] == {}
    hello = device.Hello("boiler", "0" * 16, 2, True, 0, metrics=METRICS)
    async with listening(services) as url:
        await send_batches(url, await new_token(services, Role.GATEWAY), hello, batch(1, 1.0))
    metric = METRICS[0].name
    found = await tried(viewer, content.replace("temperature", metric))
    assert found["refused"] == {"type": 1}


async def test_compressed_bytes_are_opened(viewer: httpx.AsyncClient) -> None:
    """As for files and messages; a bomb is refused."""
    content = base64.b64encode(gzip.compress(b'{"temp": 21.5}\n')).decode()
    found = await tried(viewer, content, base64=True)
    assert (found["container"], found["readings"]) == ("gzip", 1)
    bomb = base64.b64encode(gzip.compress(bytes(8 << 20))).decode()
    assert "has more than 4,194,304 bytes" in await refused(viewer, bomb, base64=True)
    assert await refused(viewer, "no base64", base64=True) == "the content is not base64"


async def test_rules_that_cannot_be_applied_are_explained(viewer: httpx.AsyncClient) -> None:
    """The sentence names the setting."""
    assert "Europe/Berlin" in await refused(viewer, "1", rules={"zone": "Berlin"})
    assert "pattern must be set" in await refused(viewer, "1", rules={"format": "regex"})
    assert "hub try --function" in await refused(viewer, "1", rules={"format": "function"})
    assert "colour" in await refused(viewer, "1", rules={"colour": "red"})


async def test_a_pattern_that_is_slow_on_every_line_is_stopped(
    viewer: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It costs its own process some seconds, and not the hub, which answers others meanwhile."""
    monkeypatch.setattr("hub.http.trial.MAX_SECONDS", 1.0)
    rules = {"format": "regex", "pattern": "(?P<n>(a|aa)+)$"}
    detail = await refused(viewer, ("a" * 40 + "b\n") * 1_500, rules=rules)
    assert "takes longer than 1 s" in detail


@pytest.mark.parametrize("role", [Role.GATEWAY, Role.DEVICE])
async def test_tokens_that_write_may_not_try(services: HubServices, role: Role) -> None:
    """A device token reads nothing of the hub, and its types are part of it."""
    token = await new_token(services, role, "boiler")
    async with http_client(services) as client:
        headers = {"Authorization": f"Bearer {token}"}
        answer = await client.post("/api/v1/try", json={"content": "1"}, headers=headers)
    assert answer.status_code == 403
