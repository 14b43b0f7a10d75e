"""The operations about jobs, on a real hub with agents that answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from hub.app.services import HubServices
from hub.model.command_job import MAX_OPEN_JOBS
from hub.model.identity import Role
from tests.conditions import until
from tests.hub.http.command_agent import CommandAgent, Execute, command_agent, state, succeed
from tests.hub.http.opened_hub import http_client, listening, new_token, opened_hub
from tests.tasks import running_task
from wire import device as messages
from wire.command import CommandDeclaration, CommandParameter

PATH = "/api/v1/command-jobs"
PUMPS = [f"pump-{number}" for number in range(5)]
STOP: dict[str, Any] = {"to": ["pump-*"], "name": "stop"}


def site_of(device: str) -> str:
    return "north" if device in PUMPS else "south"


class RunningHub(NamedTuple):
    services: HubServices
    client: httpx.AsyncClient
    url: str
    gateway: str

    async def send(self, path: str = "", expected: int = 201, /, **body: Any) -> Any:
        answer = await self.client.post(PATH + path, json=body)
        assert answer.status_code == expected, answer.text
        return answer.json()

    async def get(self, path: str = "", /, **query: Any) -> Any:
        answer = await self.client.get(PATH + path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    @asynccontextmanager
    async def agents(self, *devices: str, execute: Execute = succeed) -> AsyncIterator[list[CommandAgent]]:
        """Connect pumps in the north and other devices in the south, until the hub has seen all of them leave."""
        async with AsyncExitStack() as stack:
            yield [
                await stack.enter_async_context(
                    command_agent(self.url, self.gateway, device, execute=execute, tags={"site": site_of(device)})
                )
                for device in devices
            ]
        await until(lambda: not any(self.is_connected(device) for device in devices))

    def is_connected(self, id: str) -> bool:
        device = self.services.devices.get(id)
        return device is not None and device.session is not None


@asynccontextmanager
async def running_hub(data: Path) -> AsyncIterator[RunningHub]:
    async with (
        opened_hub(data) as services,
        running_task(services.commands.run()),
        running_task(services.command_jobs.run()),
        listening(services) as url,
        http_client(services, Role.OPERATOR) as client,
    ):
        yield RunningHub(services, client, url, await new_token(services, Role.GATEWAY))


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningHub]:
    """Run a hub that knows the devices, which are not connected."""
    async with running_hub(tmp_path_factory.mktemp("hub")) as running:
        async with running.agents(*PUMPS, "mill"):
            pass
        yield running


def states(job: Any) -> list[str]:
    return [change["state"] for change in job["states"]]


async def test_a_job_sends_the_command_to_each_device_once(hub: RunningHub) -> None:
    """Batch by batch. A command names its job, also in the events of the device."""
    async with hub.agents(*PUMPS) as agents:
        job = await hub.send(**STOP, batch_size=2)
        assert (job["state"], job["targets"], job["batches"], job["counts"]["pending"]) == ("pending", 5, 3, 5)
        done = await hub.get(f"/{job['id']}", wait_s=30)
        assert states(done) == ["pending", "running", "completed"]
        assert (done["ended"], done["failed"], done["counts"]["succeeded"]) == (5, 0, 5)
        assert [len(agent.commands) for agent in agents] == [1] * 5
        targets = (await hub.get(f"/{job['id']}/targets"))["targets"]
        assert [target["device"] for target in targets] == PUMPS
        assert [target["batch"] for target in targets] == [1, 1, 2, 2, 3]
        assert [target["command"] for target in targets] == [agent.commands[0].id for agent in agents]
        command = (await hub.client.get(f"/api/v1/devices/pump-3/commands/{targets[3]['command']}")).json()
        assert (command["job"], command["operator"], command["state"]) == (job["id"], job["operator"], "succeeded")
    events = (await hub.client.get("/api/v1/devices/pump-3/events")).json()["events"]
    assert any(event["kind"] == "command" and f"job {job['id']}" in event["detail"] for event in events)
    of_hub = (await hub.client.get("/api/v1/events")).json()["events"]
    kinds = [event["kind"] for event in of_hub if job["id"] in event["detail"]]
    assert kinds == ["command job completed", "command job"]


async def test_a_repeated_request_is_the_same_job(hub: RunningHub) -> None:
    """Also if the requests arrive together, and after the job has ended. Other content with the same id is refused."""
    request = {**STOP, "id": "cd" * 8}
    async with hub.agents(*PUMPS) as agents:
        jobs = await asyncio.gather(*(hub.send(**request) for _ in range(4)))
        assert {job["id"] for job in jobs} == {request["id"]}
        done = await hub.get(f"/{request['id']}", wait_s=30)
        assert (done["state"], done["counts"]["succeeded"]) == ("completed", 5)
        assert await hub.send(**request) == done
        assert [len(agent.commands) for agent in agents] == [1] * 5
    assert [job["id"] for job in (await hub.get())["jobs"]].count(request["id"]) == 1
    for other in ({"to": ["pump-1"]}, {"name": "start"}, {"parameters": {"speed": 1}}, {"mode": "queue"}):
        refused = await hub.send("", 409, **{**request, **other})
        assert refused["code"] == "id_in_use", refused
    for wrong in ("", "ab", "CD" * 8, "cd" * 17, "cd" * 8 + "\n"):
        await hub.send("", 422, **{**request, "id": wrong})


async def test_a_job_stops_at_a_share_of_failures(hub: RunningHub) -> None:
    """Between two batches. The other devices get no command, and the reasons are at the targets."""

    def execute(command: messages.Command) -> list[messages.CommandState]:
        return [state(command, "rejected", code="busy", message="the pump is busy")]

    async with hub.agents(*PUMPS[:1], execute=execute), hub.agents(*PUMPS[1:]) as others:
        job = await hub.send(**STOP, batch_size=2, stop_share=0.5)
        done = await hub.get(f"/{job['id']}", wait_s=30)
        assert (done["state"], done["code"], done["message"]) == (
            "stopped", "too_many_failures", "1 of 2 targets did not succeed: no further command is sent"
        )  # fmt: skip
        assert {name: count for name, count in done["counts"].items() if count} == {
            "pending": 3, "succeeded": 1, "rejected": 1
        }  # fmt: skip
        assert [len(agent.commands) for agent in others] == [1, 0, 0, 0]
        (failed,) = (await hub.get(f"/{job['id']}/targets", state="rejected"))["targets"]
        assert (failed["device"], failed["code"], failed["message"]) == ("pump-0", "busy", "the pump is busy")
        assert (await hub.client.post(f"{PATH}/{job['id']}/cancel")).status_code == 409
        ended = await hub.get(f"/{(await hub.send(**STOP, batch_size=2, stop_share=None))['id']}", wait_s=30)
        assert (ended["state"], ended["failed"]) == ("completed", 1)


async def test_a_device_that_cannot_get_the_command_is_refused(hub: RunningHub) -> None:
    """It is a target that did not succeed, with the reason. A dry run shows it before."""
    async with hub.agents(*PUMPS[:2]):
        body = {**STOP, "batch_size": 3, "stop_share": None}
        dry = await hub.send("/dry-run", 200, **body)
        assert (dry["targets"], dry["batches"], dry["refused"], dry["command"]["name"]) == (5, 2, 3, "stop")
        assert [(row["batch"], row["code"]) for row in dry["devices"]] == [
            (1, ""), (1, ""), (1, "not_connected"), (2, "not_connected"), (2, "not_connected")
        ]  # fmt: skip
        job = await hub.send(**body)
        done = await hub.get(f"/{job['id']}", wait_s=30)
        assert (done["state"], done["counts"]["succeeded"], done["counts"]["refused"]) == ("completed", 2, 3)
        page = await hub.get(f"/{job['id']}/targets", state="refused", limit=2)
        rest = await hub.get(f"/{job['id']}/targets", state="refused", limit=2, cursor=page["next"])
        assert [(row["device"], row["code"]) for row in page["targets"] + rest["targets"]] == [
            (device, "not_connected") for device in PUMPS[2:]
        ]


async def test_devices_are_selected_by_id_and_tags(hub: RunningHub) -> None:
    """Ids are alternatives, and so are the values of a tag; different tags must all match."""
    for to, expected in (
        (["pump-1", "mill"], ["mill", "pump-1"]),
        (["site=south"], ["mill"]),
        (["*1", "m*", "site=n*", "site=south"], ["mill", "pump-1"]),
        (["*-1", "*-2", "site=north"], ["pump-1", "pump-2"]),
    ):
        dry = await hub.send("/dry-run", 200, to=to, name="stop", mode="queue")
        assert [row["device"] for row in dry["devices"]] == expected
    for wrong in (["other-*"], ["site=east"], ["site=north", "floor=2"]):
        refused = await hub.send("", 422, to=wrong, name="stop", mode="queue")
        assert refused["detail"].startswith(f"no device in service matches {' '.join(wrong)}")


async def test_the_commands_that_a_selection_declares(hub: RunningHub) -> None:
    """Each as most devices declare it, with the number of devices that declare it, and of those with other parameters
    or units. Without a device there is none."""
    declared = [
        CommandDeclaration("open"),
        CommandDeclaration("stop", parameters=[CommandParameter("delay")]),
        CommandDeclaration("set_speed", parameters=[CommandParameter("speed", unit="km/h")]),
    ]
    async with command_agent(hub.url, hub.gateway, "a-valve", declared=declared):
        pass
    found = await hub.get("/declared", to=["a-valve", "mill", "pump-1"])
    assert found["targets"] == 3
    assert [(row["command"]["name"], row["devices"], row["differing"]) for row in found["commands"]] == [
        ("stop", 3, 1), ("set_speed", 3, 1), ("erase", 2, 0), ("open", 1, 0)
    ]  # fmt: skip
    stop, set_speed = found["commands"][:2]
    assert (stop["command"]["parameters"], stop["units"]) == ([], [])
    assert set_speed["command"]["parameters"][0]["unit"] == "m/s"
    km_h = {"parameter": "speed", "unit": "km/h", "expected": "m/s", "devices": 1}
    assert set_speed["units"] == [km_h]
    dry = await hub.send("/dry-run", 200, to=["a-valve", "mill", "pump-1"], name="set_speed", mode="queue")
    assert (dry["command"], dry["units"]) == (set_speed["command"], [km_h])
    assert await hub.get("/declared", to="other-*") == {"targets": 0, "commands": []}
    assert (await hub.client.get(f"{PATH}/declared")).status_code == 422


@pytest.mark.parametrize(
    ("body", "status", "code", "words"),
    [
        ({"name": "start"}, 422, "unknown_command", "none of 5 selected devices can get the command. pump-0: "),
        ({"name": "set_speed", "parameters": {"speed": 31}}, 422, "wrong_parameters", "31 m/s is above 30 m/s"),
        ({"name": "stop"}, 409, "not_connected", "queue"),
        ({"name": "erase", "mode": "queue"}, 409, "not_confirmed", "confirm"),
        ({"name": "stop", "batch_size": 0}, 422, "wrong_request", "batch_size"),
        ({"name": "stop", "stop_share": 20}, 422, "wrong_request", "stop_share"),
        ({"name": "stop", "parameters": {"text": "x" * 4_086}}, 422, "wrong_request", "4,096 bytes"),
        ({"name": "stop", "parameters": {"text": "x" * 4_085}}, 422, "wrong_parameters", "pump-0: "),
    ],
)
async def test_a_job_that_no_device_can_take_is_refused(
    hub: RunningHub, body: dict[str, Any], status: int, code: str, words: str
) -> None:
    """With the reason of the first device; nothing is recorded."""
    before = await hub.get()
    refused = await hub.send("", status, to=["pump-*"], **body)
    assert (refused["code"], words in refused["detail"]) == (code, True), refused
    assert await hub.get() == before


async def test_a_job_has_at_most_so_many_targets(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal says how many match."""
    monkeypatch.setattr("hub.http.routes.command_jobs.MAX_TARGETS", 5)
    assert (await hub.send("/dry-run", 200, **STOP))["targets"] == 5
    refused = await hub.send("", 422, to=["pump-*", "mill"], name="stop", mode="queue")
    assert refused["detail"] == "6 devices match, and a job has at most 5 targets: select fewer"


async def test_a_client_waits_for_the_progress_of_a_job(hub: RunningHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until more targets have ended than it has seen. At the bound of the waiting requests, it is answered at once."""
    async with hub.agents("pump-0"), hub.agents("pump-1", execute=lambda command: []) as (silent,):
        job = await hub.send(to=["pump-0", "pump-1"], name="stop", timeout_s=20)
        path = f"/{job['id']}"
        one = await hub.get(path, wait_s=30, seen=0)
        assert (one["ended"], one["state"]) == (1, "running")
        with monkeypatch.context() as patch:
            patch.setattr(hub.services.command_jobs._watches, "_max_watches", 0)
            assert await hub.get(path, wait_s=60) == one
        waiting = asyncio.create_task(hub.get(path, wait_s=30, seen=1))
        await silent.until(lambda: silent.commands)
        await silent.send(state(silent.commands[0], "failed"))
        assert (await waiting)["ended"] == 2


async def test_a_queued_job_continues_after_a_restart_and_can_be_cancelled(tmp_path: Path) -> None:
    """The commands that are not sent are cancelled with the job."""
    async with running_hub(tmp_path) as hub:
        async with hub.agents(*PUMPS):
            pass
        kept = await hub.send(**STOP, mode="queue", batch_size=2)
        lost = await hub.send(**STOP, mode="queue", batch_size=2)
        for job in (kept, lost):
            await until_count(hub, job, "queued", 2)
    async with running_hub(tmp_path) as hub:
        cancelled = await hub.send(f"/{lost['id']}/cancel", 200)
        counts = cancelled["counts"]
        assert (cancelled["state"], counts["cancelled"], counts["pending"]) == ("cancelled", 2, 3)
        assert await hub.send(f"/{lost['id']}/cancel", 200) == cancelled
        async with hub.agents(*PUMPS) as agents:
            done = await hub.get(f"/{kept['id']}", wait_s=30)
            assert (done["state"], done["counts"]["succeeded"]) == ("completed", 5)
            assert [len(agent.commands) for agent in agents] == [1] * 5
        listed = await hub.get(limit=1)
        rest = await hub.get(limit=1, cursor=listed["next"])
        assert [job["id"] for job in listed["jobs"] + rest["jobs"]] == [lost["id"], kept["id"]]
        for _ in range(MAX_OPEN_JOBS):
            await hub.send(**STOP, mode="queue")
        refused = await hub.send("", 409, **STOP, mode="queue")
        assert (refused["code"], "cancel one" in refused["detail"]) == ("conflict", True)


async def until_count(hub: RunningHub, job: Any, name: str, count: int) -> None:
    while True:
        with hub.services.command_jobs.watch(job["id"]) as changed:
            assert changed is not None
            if (await hub.get(f"/{job['id']}"))["counts"][name] == count:
                return
            await changed.next()


async def test_a_late_result_counts(hub: RunningHub) -> None:
    """The target succeeded, also after the job has ended."""
    sent: list[messages.Command] = []

    def execute(command: messages.Command) -> list[messages.CommandState]:
        sent.append(command)
        return []

    async with hub.agents("mill", execute=execute) as (mill,):
        job = await hub.send(to=["mill"], name="stop", timeout_s=0.2)
        done = await hub.get(f"/{job['id']}", wait_s=30)
        assert (done["state"], done["failed"], done["counts"]["timed_out"]) == ("completed", 1, 1)
        await mill.send(state(sent[0], "succeeded"))
        await mill.until(lambda: mill.recorded)
        late = await hub.get(f"/{job['id']}")
        assert (late["state"], late["failed"], late["counts"]["succeeded"]) == ("completed", 0, 1)


async def test_only_an_operator_begins_and_cancels_jobs(hub: RunningHub) -> None:
    """A viewer reads them."""
    async with http_client(hub.services, Role.VIEWER) as viewer:
        assert (await viewer.get(PATH)).status_code == 200
        for path in ("", "/dry-run", f"/{'f' * 32}/cancel"):
            assert (await viewer.post(PATH + path, json=STOP)).status_code == 403
    for path in ("", "/targets"):
        assert (await hub.client.get(f"{PATH}/{'f' * 32}{path}")).status_code == 404
    assert (await hub.client.post(f"{PATH}/{'f' * 32}/cancel")).status_code == 404
