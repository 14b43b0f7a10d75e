"""`hub access` against a running hub: the list, and decisions by code."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.hub.cli.hub_command import CommandedHub, batch, commanded_hub

PATH = "/api/v1/access-requests"


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[CommandedHub]:
    async with commanded_hub(tmp_path_factory.mktemp("hub")) as running:
        yield running


async def ask(hub: CommandedHub, device: str) -> dict[str, str]:
    async with httpx.AsyncClient(base_url=hub.url.replace("ws", "http", 1), verify=False) as client:
        answer = await client.post(PATH, json={"device": device, "program": "agent/1"})
        assert answer.status_code == 201
        asked: dict[str, str] = answer.json()
        return asked


async def test_requests_are_listed_and_decided_by_code(hub: CommandedHub) -> None:
    """The list names a known device. A code can be written as people write it; a wrong one is an error."""
    empty = await hub.run("access", "list")
    assert (empty.exit_code, empty.stdout) == (0, "")
    assert "no request waits" in empty.stderr
    await hub.send("pump", batch(1, 1.5))
    known, new = await ask(hub, "pump"), await ask(hub, "boiler")
    header, first, second = (await hub.run("access", "list")).stdout.splitlines()
    assert header.split() == ["code", "device", "program", "address", "asked", "expires", "note"]
    assert first.split()[:4] == [known["code"], "pump", "agent/1", "127.0.0.1"]
    assert "device exists" in first
    assert "new device" in second
    done = await hub.run("access", "approve", new["code"].lower().replace("-", ""))
    assert (done.exit_code, done.stdout) == (0, f"approved {new['code'].lower().replace('-', '')} for boiler\n")
    refused = await hub.run("access", "refuse", known["code"])
    assert (refused.exit_code, refused.stdout) == (0, f"refused {known['code']} for pump\n")
    assert json.loads((await hub.run("access", "list", "--json")).stdout) == []
    wrong = await hub.run("access", "approve", known["code"])
    assert wrong.exit_code == 1
    assert "no access request with this code waits" in wrong.stderr
