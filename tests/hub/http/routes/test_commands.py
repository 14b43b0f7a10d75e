"""The operations about commands, on a real hub with an agent that answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from hub.app.services import HubServices
from hub.ingest.agent_session import MAX_REPORTS
from hub.model.command import MAX_OPEN_PER_DEVICE, new_command
from hub.model.identity import Role
from tests.conditions import until
from tests.hub.http.command_agent import DECLARED, command_agent, state
from tests.hub.http.opened_hub import http_client, listening, new_token, opened_hub
from tests.tasks import running_task
from wire import device as messages
from wire.limits import MAX_COMMANDS_SENT

PATH = "/api/v1/devices/pump/commands"
QUEUED = {"name": "stop", "mode": "queue"}


class RunningHub(NamedTuple):
    services: HubServices
    client: httpx.AsyncClient
    url: str
    gateway: str

    async def send(self, **body: Any) -> Any:
        answer = await self.client.post(PATH, json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def get(self, path: str = "", **query: Any) -> Any:
        answer = await self.client.get(PATH + path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    @property
    def is_connected(self) -> bool:
        device = self.services.devices.get("pump")
        return device is not None and device.session is not None


@asynccontextmanager
async def running_hub(data: Path) -> AsyncIterator[RunningHub]:
    async with (
        opened_hub(data) as services,
        running_task(services.commands.run()),
        listening(services) as url,
        http_client(services, Role.OPERATOR) as client,
    ):
        yield RunningHub(services, client, url, await new_token(services, Role.GATEWAY))


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningHub]:
    """Run a hub that knows the device, which is not connected."""
    async with running_hub(tmp_path_factory.mktemp("hub")) as running:
        async with command_agent(running.url, running.gateway):
            pass
        await until(lambda: not running.is_connected)
        yield running


def states(command: Any) -> list[str]:
    return [change["state"] for change in command["states"]]


async def test_a_call_returns_the_result(hub: RunningHub) -> None:
    """With the parameters that the device gets: a text that is a number stays a text."""
    async with command_agent(hub.url, hub.gateway) as agent:
        sent = await hub.send(name="set_speed", parameters={"speed": 3, "mode": "12"}, wait_s=10)
        assert (sent["state"], sent["result"]) == ("succeeded", {"speed": 3.0, "mode": "12"})
        assert states(sent) == ["queued", "sent", "received", "succeeded"]
        assert sent["operator"].startswith("operator ")
        await agent.until(lambda: len(agent.recorded) == 2)
        assert agent.recorded == [(sent["id"], "received"), (sent["id"], "succeeded")]
        assert await hub.get(f"/{sent['id']}") == sent
        # The same report again changes nothing, and is confirmed again.
        await agent.send(state(agent.commands[0], "failed"))
        await agent.until(lambda: len(agent.recorded) == 3)
        assert await hub.get(f"/{sent['id']}") == sent


async def test_the_declared_commands_are_listed(hub: RunningHub) -> None:
    """Also those of a device that is not connected; a new hello replaces them, a declaration adds to them."""
    async with command_agent(hub.url, hub.gateway, "other", declared=DECLARED[:1]) as agent:
        await agent.send(messages.Declare([], DECLARED[2:]))
        await until(lambda: len(hub.services.registry.commands.declared("other")) == 2)
    async with command_agent(hub.url, hub.gateway, "other", declared=[], version="telemetry.v1.3.json"):
        pass
    assert hub.services.registry.commands.declared("other") == []
    listed = (await hub.get("/declared"))["commands"]
    assert [command["usage"] for command in listed] == [
        "stop", "set_speed speed=FLOAT m/s (0 to 30) [mode=STRING]", "erase"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status", "code", "words"),
    [
        ({"name": "start"}, 422, "unknown_command", "erase, set_speed, stop"),
        ({"name": "set_speed", "parameters": {"speed": 31}}, 422, "wrong_parameters", "31 m/s is above 30 m/s"),
        ({"name": "set_speed", "parameters": {"speed": "3"}}, 422, "wrong_parameters", "not of the type float"),
        ({"name": "stop"}, 409, "not_connected", "queue"),
        ({"name": "erase", "mode": "queue"}, 409, "not_confirmed", "confirm"),
        ({"name": "stop", "timeout_s": 0}, 422, "wrong_request", "timeout_s"),
        ({"name": "stop", "mode": "queue", "ttl_s": 604801}, 422, "wrong_request", "ttl_s"),
    ],
)
async def test_a_command_that_cannot_be_sent_is_refused(
    hub: RunningHub, body: dict[str, Any], status: int, code: str, words: str
) -> None:
    """With the reason and what to do; nothing is recorded."""
    before = await hub.get()
    answer = await hub.client.post(PATH, json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert words in answer.json()["detail"]
    assert await hub.get() == before


async def test_queued_commands_are_sent_in_order_when_the_device_returns(tmp_path: Path) -> None:
    """At most 16 that it has not received; then the next ones. A cancelled one is not sent."""
    async with running_hub(tmp_path) as hub:
        async with command_agent(hub.url, hub.gateway):
            pass
        await until(lambda: not hub.is_connected)
        sent = [(await hub.send(**QUEUED))["id"] for _ in range(20)]
        cancelled = await hub.client.post(f"{PATH}/{sent.pop(3)}/cancel")
        assert (cancelled.json()["state"], cancelled.json()["code"]) == ("cancelled", "cancelled")
        async with command_agent(hub.url, hub.gateway, execute=lambda command: []) as agent:
            await agent.until(lambda: len(agent.commands) == MAX_COMMANDS_SENT)
            refused = await hub.client.post(f"{PATH}/{sent[0]}/cancel")
            assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
            assert len(agent.commands) == MAX_COMMANDS_SENT
        await until(lambda: not hub.is_connected)
        async with command_agent(hub.url, hub.gateway) as agent:
            await agent.until(lambda: len(agent.recorded) == 2 * len(sent))
            assert [command.id for command in agent.commands] == sent
        listed = await hub.get(state="succeeded", limit=15)
        rest = await hub.get(state="succeeded", limit=15, cursor=listed["next"])
        assert [row["id"] for row in listed["commands"] + rest["commands"]] == sent[::-1]


async def test_open_commands_survive_a_restart_of_the_hub(tmp_path: Path) -> None:
    """One that was sent is sent again, and those that wait are sent after it."""
    async with running_hub(tmp_path) as hub:
        async with command_agent(hub.url, hub.gateway, execute=lambda command: []) as agent:
            sent = [(await hub.send(**QUEUED))["id"]]
            await agent.until(lambda: agent.commands)
        await until(lambda: not hub.is_connected)
        sent += [(await hub.send(**QUEUED))["id"] for _ in range(3)]
    async with running_hub(tmp_path) as hub, command_agent(hub.url, hub.gateway) as agent:
        await agent.until(lambda: len(agent.recorded) == 2 * len(sent))
        assert [command.id for command in agent.commands] == sent
        assert states(await hub.get(f"/{sent[0]}")) == ["queued", "sent", "received", "succeeded"]


async def test_a_full_queue_refuses_further_commands(hub: RunningHub) -> None:
    """The refusal says what to do."""
    async with command_agent(hub.url, hub.gateway, "full"):
        pass
    now_ns, table = hub.services.devices.clock(), hub.services.registry.commands
    full = [
        new_command(
            id=f"{number:032x}", device="full", name="stop", parameters={}, operator="", now_ns=now_ns, timeout_ms=1000,
            ttl_s=600,
        )
        for number in range(MAX_OPEN_PER_DEVICE)
    ]  # fmt: skip
    await asyncio.gather(*(table.insert(record, lambda _: None) for record in full))
    refused = await hub.client.post(PATH.replace("pump", "full"), json=QUEUED)
    assert (refused.status_code, refused.json()["code"]) == (409, "queue_full")
    assert "cancel some" in refused.json()["detail"]


async def test_a_call_without_an_answer_times_out_and_its_late_result_counts(hub: RunningHub) -> None:
    """The reason says whether the device has the command. A client can wait for each state."""
    late: list[messages.Command] = []

    def receive(command: messages.Command) -> list[messages.CommandState]:
        late.append(command)
        return [state(command, "received", code="not_durable")] if command.name == "stop" else []

    async with command_agent(hub.url, hub.gateway, execute=receive) as agent:
        silent = await hub.send(name="set_speed", parameters={"speed": 1}, timeout_s=0.3, wait_s=10)
        assert (silent["state"], silent["code"], states(silent)) == (
            "timed_out", "not_confirmed", ["queued", "sent", "timed_out"]
        )  # fmt: skip
        stopped = await hub.send(name="stop", timeout_s=0.3, wait_s=10)
        assert (stopped["state"], stopped["code"], stopped["states"][2]["code"]) == (
            "timed_out", "no_result", "not_durable"
        )  # fmt: skip
        waiting = asyncio.create_task(hub.get(f"/{stopped['id']}", seen=4, wait_s=30))
        await agent.send(state(late[1], "succeeded"))
        done = await waiting
        assert (done["state"], done["late"], states(done)[3:]) == ("succeeded", True, ["timed_out", "succeeded"])
        events = (await hub.client.get("/api/v1/devices/pump/events")).json()["events"]
        kinds = [event["kind"] for event in events if stopped["id"] in event["detail"]]
        assert kinds == ["command succeeded", "command timed out", "command"]


async def test_a_queued_command_expires(hub: RunningHub) -> None:
    """Without a connection the device never gets it."""
    sent = await hub.send(**QUEUED, ttl_s=1, wait_s=20)
    assert (sent["state"], sent["code"], sent["states"][0]["code"]) == ("expired", "not_sent", "not_connected")
    async with command_agent(hub.url, hub.gateway) as agent:
        await hub.send(name="stop", wait_s=20)
        assert sent["id"] not in [command.id for command in agent.commands]


async def test_a_report_about_a_command_of_another_device_changes_nothing(hub: RunningHub) -> None:
    """It is confirmed, so that the agent can forget it, and recorded as an event. A guest gets no commands."""
    async with command_agent(hub.url, hub.gateway, execute=lambda command: []):
        sent = await hub.send(name="stop", timeout_s=20)
        async with command_agent(hub.url, hub.gateway, "other") as other:
            await other.send(messages.CommandState(sent["id"], "succeeded", 1))
            await other.until(lambda: other.recorded)
        assert (await hub.get(f"/{sent['id']}"))["state"] == "sent"
        events = (await hub.client.get("/api/v1/devices/other/events")).json()["events"]
        assert any(event["kind"] == "command unknown" and sent["id"] in event["detail"] for event in events)
    await until(lambda: not hub.is_connected)
    async with command_agent(hub.url, hub.gateway, declared=[], guest=True):
        assert (await hub.client.post(PATH, json={"name": "stop"})).json()["code"] == "not_connected"
    assert len((await hub.get("/declared"))["commands"]) == len(DECLARED)


async def test_only_an_operator_sends_commands(hub: RunningHub) -> None:
    """A viewer reads them."""
    async with http_client(hub.services, Role.VIEWER) as viewer:
        assert (await viewer.get(PATH)).status_code == 200
        assert (await viewer.post(PATH, json=QUEUED)).status_code == 403
        assert (await viewer.post(f"{PATH}/{'f' * 32}/cancel")).status_code == 403
    assert (await hub.client.get(f"{PATH}/{'f' * 32}")).status_code == 404
    assert (await hub.client.post(f"{PATH}/{'f' * 32}/cancel")).status_code == 404
    unknown = PATH.replace("pump", "none")
    for path in (unknown, f"{unknown}/declared"):
        assert (await hub.client.get(path)).status_code == 404
    assert (await hub.client.post(unknown, json=QUEUED)).status_code == 404


async def test_a_request_that_cannot_wait_is_answered_at_once(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the bound of the requests that wait. A queued command can be cancelled twice."""
    monkeypatch.setattr(hub.services.commands._watches, "_max_watches", 0)
    sent = await hub.send(**QUEUED, wait_s=60)
    assert await hub.get(f"/{sent['id']}", wait_s=60) == sent
    for _ in range(2):
        cancelled = await hub.client.post(f"{PATH}/{sent['id']}/cancel")
        assert (cancelled.status_code, states(cancelled.json())) == (200, ["queued", "cancelled"])


async def test_a_flood_of_states_is_confirmed(hub: RunningHub) -> None:
    """Each one, also those beyond the number that is recorded at the same time."""
    async with command_agent(hub.url, hub.gateway) as agent:
        ids = [f"{number:032x}" for number in range(MAX_REPORTS + 8)]
        await agent.send(*(messages.CommandState(id, "succeeded", 1) for id in ids))
        await agent.until(lambda: {*ids} <= {id for id, _ in agent.recorded})
        assert (await hub.send(name="stop", wait_s=20))["state"] == "succeeded"


async def test_a_repeated_request_is_the_same_command(hub: RunningHub) -> None:
    """Also two at the same time, and after the command has ended; the id of another command is refused."""
    body = {"name": "set_speed", "parameters": {"speed": 3}, "mode": "queue", "id": "ab" * 8}
    answers = await asyncio.gather(*(hub.client.post(PATH, json=body) for _ in range(4)))
    assert [(answer.status_code, answer.json()["id"]) for answer in answers] == [(201, body["id"])] * 4
    for other in ({"parameters": {"speed": 4}}, {"name": "stop", "parameters": {}}, {"mode": "call"}):
        refused = await hub.client.post(PATH, json={**body, **other})
        assert (refused.status_code, refused.json()["code"]) == (409, "id_in_use"), refused.text
    async with command_agent(hub.url, hub.gateway) as agent, command_agent(hub.url, hub.gateway, "second"):
        ended = await hub.get(f"/{body['id']}", wait_s=10)
        assert ended["state"] == "succeeded"
        assert await hub.send(**body) == ended
        refused = await hub.client.post(PATH.replace("pump", "second"), json=body)
        assert (refused.status_code, refused.json()["code"]) == (409, "id_in_use"), refused.text
        assert [command.id for command in agent.commands].count("ab" * 8) == 1
    for wrong in ("ab" * 7, "AB" * 8, "ab" * 17, "ab" * 8 + "\n"):
        assert (await hub.client.post(PATH, json={**body, "id": wrong})).status_code == 422
    await until(lambda: not hub.is_connected)


async def test_a_retired_device_takes_no_commands_until_it_connects(hub: RunningHub) -> None:
    """Neither a call nor a queued one, which would expire unseen."""
    async with command_agent(hub.url, hub.gateway, "old"):
        """The hub knows the device from now on."""
    await until(lambda: (device := hub.services.devices.get("old")) is not None and device.session is None)
    path = PATH.replace("pump", "old")
    assert (await hub.client.post("/api/v1/devices/retire", json={"devices": ["old"]})).json()["count"] == 1
    for mode in ("call", "queue"):
        refused = await hub.client.post(path, json={"name": "stop", "mode": mode})
        assert (refused.status_code, refused.json()["code"]) == (409, "not_connected")
        assert refused.json()["detail"] == "old is retired: it takes commands again when it connects"
    async with command_agent(hub.url, hub.gateway, "old"):
        assert (await hub.client.post(path, json={"name": "stop", "wait_s": 10})).json()["state"] == "succeeded"
