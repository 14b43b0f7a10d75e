"""The operations about desired values, on a real hub with an agent that applies them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from hub.app.services import HubServices
from hub.model.identity import Role
from tests.conditions import until
from tests.hub.http.command_agent import Apply, accept, command_agent
from tests.hub.http.opened_hub import http_client, listening, new_token, opened_hub
from wire import device as messages
from wire.command import CommandParameter

NUMBERS = count()
SETTINGS = [
    CommandParameter("pressure", unit="bar", min=0, max=6, description="At the outlet."),
    CommandParameter("mode", "string", choices=["eco", "boost"]),
]


class RunningHub(NamedTuple):
    services: HubServices
    client: httpx.AsyncClient
    url: str
    gateway: str
    device: str = "pump"

    def agent(self, apply: Apply = accept, **options: Any) -> Any:
        """Connect the device, by default with its settings."""
        return command_agent(self.url, self.gateway, self.device, apply=apply, **{"settings": SETTINGS, **options})

    @property
    def path(self) -> str:
        return f"/api/v1/devices/{self.device}/desired"

    async def change(self, wait_s: float = 0, **values: Any) -> Any:
        return await self.asked("PATCH", json={"values": values, "wait_s": wait_s})

    async def get(self, **query: Any) -> Any:
        return await self.asked("GET", params=query)

    async def asked(self, method: str, path: str = "", **options: Any) -> Any:
        answer = await self.client.request(method, path or self.path, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    @property
    def is_connected(self) -> bool:
        device = self.services.devices.get(self.device)
        return device is not None and device.session is not None


def states(shown: Any) -> dict[str, tuple[Any, ...]]:
    """Return the desired value, the reported one, the state and its code of each setting with a desired value."""
    return {
        row["name"]: (row["desired"]["value"], row["reported"], row["desired"]["state"], row["desired"]["code"])
        for row in shown["settings"]
        if row["desired"] is not None
    }


@asynccontextmanager
async def running_hub(data: Path) -> AsyncIterator[RunningHub]:
    async with (
        opened_hub(data) as services,
        listening(services) as url,
        http_client(services, Role.OPERATOR) as client,
    ):
        yield RunningHub(services, client, url, await new_token(services, Role.GATEWAY))


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture
async def hub(shared: RunningHub) -> RunningHub:
    """Return the hub with a device of this test, whose settings it knows, and which is not connected."""
    own = shared._replace(device=f"pump-{next(NUMBERS)}")
    async with own.agent():
        pass
    await until(lambda: not own.is_connected)
    return own


async def test_a_desired_value_is_in_sync_when_the_device_has_it(hub: RunningHub) -> None:
    """With the operator, both versions and the times; another value of the device is shown, too."""
    async with hub.agent() as agent:
        shown = await hub.change(pressure=2, wait_s=10)
        assert states(shown) == {"pressure": (2.0, 2.0, "in_sync", "")}
        assert (shown["version"], shown["reported_version"], shown["state"], shown["is_current"]) == (
            1, 1, "in_sync", True,
        )  # fmt: skip
        setting = shown["settings"][0]
        assert setting["declared"]["usage"] == "pressure=FLOAT bar (0 to 6)"
        assert setting["desired"]["operator"].startswith("operator ")
        assert shown["settings"][1]["desired"] is None
        await agent.send(messages.Reported(1, {"pressure": 3.0}))
        await until(lambda: hub.services.desired.record(hub.device).reported == messages.Reported(1, {"pressure": 3.0}))
        assert states(await hub.get()) == {"pressure": (2.0, 3.0, "out_of_sync", "differs")}


async def test_desired_values_wait_for_the_device(hub: RunningHub) -> None:
    """It gets the whole document after its welcome. The last report stays until it reports again."""
    await hub.change(pressure=1, mode="eco")
    shown = await hub.change(pressure=2)
    assert states(shown) == {
        "pressure": (2.0, None, "unknown", "not_reported"),
        "mode": ("eco", None, "unknown", "not_reported"),
    }
    async with hub.agent() as agent:
        await agent.until(lambda: agent.desired)
        assert agent.desired == [messages.Desired(2, {"pressure": 2.0, "mode": "eco"})]
        assert (await hub.get(wait_s=10))["state"] == "in_sync"
    await until(lambda: not hub.is_connected)
    offline = await hub.get()
    assert (offline["state"], offline["is_current"]) == ("in_sync", False)
    shown = await hub.change(mode="boost")
    assert states(shown)["mode"] == ("boost", "eco", "out_of_sync", "not_processed")
    async with hub.agent(lambda desired: []) as agent:
        await agent.until(lambda: agent.desired)
        assert not (await hub.get())["is_current"]


async def test_a_device_rejects_a_value_with_its_reason(hub: RunningHub) -> None:
    """Or tries again by itself."""

    def reject(desired: messages.Desired) -> list[messages.Reported]:
        problems = [
            messages.SettingProblem("pressure", "refused", "The valve is locked."),
            messages.SettingProblem("mode", "unavailable", "The port is closed.", retried=True),
        ]
        return [messages.Reported(desired.version, {"pressure": 1.0, "mode": "eco"}, problems)]

    async with hub.agent(reject):
        shown = await hub.change(pressure=2, wait_s=10)
        assert shown["settings"][0]["desired"]["message"] == "The valve is locked."
        shown = await hub.change(mode="boost")
        shown = await hub.get(wait_s=10, seen=shown["revision"])
        assert states(shown) == {
            "pressure": (2.0, 1.0, "rejected", "refused"),
            "mode": ("boost", "eco", "out_of_sync", "unavailable"),
        }
        assert shown["state"] == "rejected"
    events = (await hub.asked("GET", f"/api/v1/devices/{hub.device}/events"))["events"]
    found = [(event["kind"], event["detail"].split(" by ")[0]) for event in events if "desired" in event["kind"]]
    assert found[::-1] == [
        ("desired value", "pressure: 2.0 (version 1)"),
        ("desired value rejected", "pressure: 2.0 (version 1): refused: The valve is locked."),
        ("desired value", 'mode: "boost" (version 2)'),
    ]


@pytest.mark.parametrize(
    ("body", "status", "code", "words"),
    [
        ({"values": {"volume": 1}}, 422, "unknown_setting", "mode, pressure"),
        ({"values": {"volume": None}}, 422, "unknown_setting", "mode, pressure"),
        ({"values": {"pressure": 7}}, 422, "wrong_value", "7 bar is above 6 bar"),
        ({"values": {"pressure": "2"}}, 422, "wrong_value", "not of the type float"),
        ({"values": {"pressure": 2}, "expected_version": 3}, 409, "wrong_version", "version 0 and not 3"),
        ({"values": {}}, 422, "wrong_request", "values"),
        ({"values": {"pressure": 2}, "wait_s": 61}, 422, "wrong_request", "wait_s"),
    ],
)
async def test_a_change_that_is_not_possible_is_refused(
    hub: RunningHub, body: dict[str, Any], status: int, code: str, words: str
) -> None:
    """With the reason and what to do; nothing is recorded."""
    answer = await hub.client.patch(hub.path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert words in answer.json()["detail"]
    assert (await hub.get())["version"] == 0


async def test_a_value_is_no_longer_desired(hub: RunningHub) -> None:
    """With null or DELETE; the device gets the document without it. A second time changes nothing."""
    await hub.change(pressure=2, mode="eco")
    shown = await hub.asked("PATCH", json={"values": {"pressure": None}, "expected_version": 1})
    assert [*states(shown)] == ["mode"]
    async with hub.agent() as agent:
        await agent.until(lambda: agent.desired)
        for version in (3, 3):
            assert (await hub.asked("DELETE", f"{hub.path}/mode"))["version"] == version
        await agent.until(lambda: len(agent.desired) == 2)
        assert agent.desired[-1] == messages.Desired(3, {})
    refused = await hub.client.delete(f"{hub.path}/mode", params={"expected_version": 1})
    assert (refused.status_code, refused.json()["code"]) == (409, "wrong_version")
    unknown = "/api/v1/devices/other/desired"
    for method, path in (("GET", unknown), ("PATCH", unknown), ("DELETE", f"{unknown}/mode")):
        body = {"values": {"mode": "eco"}} if method == "PATCH" else None
        assert (await hub.client.request(method, path, json=body)).status_code == 404


async def test_a_request_that_cannot_wait_is_answered_at_once(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the bound of the requests that wait."""
    monkeypatch.setattr(hub.services.desired._watches, "_max_watches", 0)
    shown = await hub.change(wait_s=60, pressure=2)
    assert await hub.get(wait_s=60) == shown


async def test_only_a_device_that_declares_settings_gets_desired_values(hub: RunningHub) -> None:
    """Also after the welcome. An older agent and a guest get none, and their reports do not count."""
    await hub.change(pressure=2)
    async with hub.agent(settings=[]) as agent:
        await agent.send(messages.Reported(1, {"pressure": 2.0}))
        await agent.send(messages.Declare([], settings=SETTINGS[:1]))
        await agent.until(lambda: agent.desired)
        await until(lambda: hub.services.desired.is_current(hub.device))
    await until(lambda: not hub.is_connected)
    async with hub.agent(version="telemetry.v1.3.json", declared=[], settings=[]) as agent:
        assert not agent.desired
        await agent.send(messages.Reported(1, {"pressure": 2.0}))
        await agent.send(messages.Data(1, [], {}))
        await until(lambda: hub.services.devices.device(hub.device).received == 1)
        assert not hub.services.desired.is_current(hub.device)


async def test_only_an_operator_changes_desired_values(hub: RunningHub) -> None:
    """A viewer reads them."""
    async with http_client(hub.services, Role.VIEWER) as client:
        assert (await client.get(hub.path)).status_code == 200
        assert (await client.patch(hub.path, json={"values": {"pressure": 2}})).status_code == 403
        assert (await client.delete(f"{hub.path}/pressure")).status_code == 403


async def test_desired_values_and_reports_survive_a_restart(tmp_path: Path) -> None:
    """With the declared settings and the version."""
    async with running_hub(tmp_path) as hub, hub.agent():
        await until(lambda: hub.is_connected)
        before = await hub.change(pressure=2, wait_s=10)
    async with running_hub(tmp_path) as hub:
        after = await hub.get()
        assert after == {**before, "is_current": False}
        assert (await hub.change(pressure=3))["version"] == 2


async def test_a_retired_device_takes_no_desired_values(hub: RunningHub) -> None:
    """Values that are desired already can be removed."""
    await hub.change(pressure=2)
    retired = await hub.client.post("/api/v1/devices/retire", json={"devices": [hub.device]})
    assert retired.json()["count"] == 1
    refused = await hub.client.patch(hub.path, json={"values": {"pressure": 3}})
    assert (refused.status_code, refused.json()["code"]) == (409, "not_connected")
    assert "is retired: it takes desired values again when it connects" in refused.json()["detail"]
    assert (await hub.client.delete(f"{hub.path}/pressure")).status_code == 200
