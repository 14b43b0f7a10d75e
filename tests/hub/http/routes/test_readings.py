"""Readings by HTTP: any format, durable when they are answered, and each refused value named."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from hub.app.services import HubServices
from hub.http.routes import readings as module
from hub.model.identity import Role
from tests.conditions import until
from tests.hub.http.opened_hub import HOST, connected, http_client, listening, new_token, opened_hub
from wire import device as messages
from wire.codec import AGENT_MESSAGES
from wire.model import Metric

URL = "/api/v1/readings"


@asynccontextmanager
async def client_of(
    services: HubServices, role: Role = Role.DEVICE, pattern: str = "pump"
) -> AsyncIterator[httpx.AsyncClient]:
    """Open a client with a new token."""
    headers = {"Authorization": f"Bearer {await new_token(services, role, pattern)}"}
    transport = httpx.ASGITransport(app=services.application)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}", headers=headers) as client:
        yield client


def of(answer: httpx.Response) -> tuple[int, Any]:
    body = answer.json()
    return answer.status_code, body.get("ok", body.get("detail"))


async def test_a_body_in_any_format_is_stored(tmp_path: Path) -> None:
    """JSON by default, whatever the type says that curl sends; CSV and SenML by their media types; gzip by itself."""
    async with opened_hub(tmp_path) as services, client_of(services) as client:
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert of(await client.post(URL, content=b'{"air": {"t": 21.5}, "on": true}', headers=form)) == (200, 2)
        assert of(await client.post(URL, json=[{"n": 1}, {"n": 2}])) == (200, 2)
        csv = {"Content-Type": "text/csv; charset=utf-8"}
        assert of(await client.post(URL, content=b"a,b\n1,2\n", headers=csv)) == (200, 2)
        senml = {"Content-Type": "application/senml+json"}
        pack = b'[{"bn": "urn:dev:7:", "n": "t", "u": "Cel", "v": 1}]'
        named = await client.post(URL, params={"device": "pump"}, content=pack, headers=senml)
        assert of(named) == (200, 1)
        assert of(await client.post(URL, content=gzip.compress(b'{"n": 3}'))) == (200, 1)
        line = await client.post(URL, params={"format": "line", "time_format": "s"}, content=b"m t=1 1700000000")
        assert of(line) == (200, 1)
        assert of(await client.post(URL, content=b"[]")) == (200, 0)
        device = services.devices.device("pump")
        # A request connects nobody: no agent, and so no device that is offline.
        assert (device.durable.readings, device.state().connected, device.agent) == (9, False, "")


async def test_a_csv_file_without_its_line_ends_is_refused(tmp_path: Path) -> None:
    """As `curl -d` sends it: its names and values would become values of numbered metrics."""
    async with opened_hub(tmp_path) as services, client_of(services) as client:
        csv = {"Content-Type": "text/csv"}
        refused = await client.post(URL, content=b"time,t2026-01-01T00:00:00Z,21.5", headers=csv)
        assert (refused.status_code, "--data-binary" in refused.json()["detail"]) == (422, True)
        assert "add header=false to the URL" in refused.json()["detail"]
        assert [entry.code for entry in services.journal.quarantine.index.values()] == ["syntax"]
        one_line = await client.post(URL, params={"header": "false"}, content=b"21.5,40", headers=csv)
        assert of(one_line) == (200, 2)
        assert of(await client.post(URL, content=gzip.compress(b"a,b\n1,2\n"), headers=csv)) == (200, 2)


async def test_refused_values_are_named_and_their_neighbours_stored(tmp_path: Path) -> None:
    """A request of which nothing is stored is a problem; its content is in quarantine."""
    async with opened_hub(tmp_path) as services, client_of(services) as client:
        assert of(await client.post(URL, json={"n": 1})) == (200, 1)
        partial = await client.post(URL, json={"n": "x", "m": 1})
        body = partial.json()
        [refused] = body.pop("refused")
        assert body == {"ok": 1, "refused_count": 1}
        assert {name: refused[name] for name in ("code", "line", "device", "metric", "value")} == {
            "code": "type", "line": 1, "device": "pump", "metric": "n", "value": "x"
        }  # fmt: skip
        assert "is not a number" in refused["reason"]
        assert refused["setting"] == (
            "add no_value=x to the URL, or run `hub metric retype pump n string` and add types=n%3Dstring to the URL"
        )
        follow = {"no_value": "x"}
        assert of(await client.post(URL, params=follow, json={"n": "x", "m": 2})) == (200, 1)
        nothing = await client.post(URL, json={"n": "x"})
        problem = nothing.json()
        assert (nothing.status_code, problem["code"], len(problem["refused"])) == (422, "wrong_request", 1)
        assert "the content is in quarantine" in problem["detail"]
        device = services.devices.device("pump")
        assert (device.durable.readings, device.durable.quarantined_readings) == (3, 2)
        async with http_client(services) as admin:
            change = {"metric": "n", "type": "string"}
            assert (await admin.patch("/api/v1/devices/pump/metrics", json=change)).json()["retried"]["readings"] == 2
        assert of(await client.post(URL, json={"n": "x"})) == (200, 1)
        number = (await client.post(URL, json={"n": 5})).json()["refused"][0]
        assert number["setting"] == "add types=n%3Dstring to the URL"
        assert of(await client.post(f"{URL}?types=n%3Dstring", json={"n": 5})) == (200, 1)


async def test_a_request_that_cannot_be_stored_is_a_problem(tmp_path: Path) -> None:
    """For the query, the role, or the device; only the content for another device is in quarantine."""
    async with opened_hub(tmp_path) as services, client_of(services) as client:
        unknown = of(await client.post(URL, params={"fromat": "csv"}, json={}))
        assert unknown[0] == 422
        assert "was format meant?" in unknown[1]
        assert of(await client.post(URL, params={"format": "modbus"}, json={}))[0] == 422
        assert services.journal.last_offset == 0
        answer = await client.post(URL, params={"device": "other"}, json={"n": 1})
        denied = of(answer)
        assert denied[0] == 403
        assert "may not write as 'other'" in denied[1]
        assert [refused["code"] for refused in answer.json()["refused"]] == ["device"]
        offset = services.journal.last_offset
        assert offset > 0
        async with http_client(services, Role.ADMIN) as admin:
            assert (await admin.post(URL, json={"n": 1})).status_code == 403
        assert (await client.post(URL, content=b" " * (module.MAX_BODY_BYTES + 1))).status_code == 413
        assert services.journal.last_offset == offset


async def test_a_gateway_writes_for_many_devices(tmp_path: Path) -> None:
    """Each record names its own."""
    async with opened_hub(tmp_path) as services, client_of(services, Role.GATEWAY, "p*") as client:
        rows = [{"device": f"p{number % 3}", "n": number} for number in range(9)]
        assert of(await client.post(URL, json=rows)) == (200, 9)
        assert [services.devices.device(f"p{number}").durable.readings for number in range(3)] == [3, 3, 3]
        assert of(await client.post(URL, params={"device": "p-{room}"}, json={"room": "hall", "n": 1})) == (200, 1)
        assert services.devices.device("p-hall").durable.readings == 1


async def test_many_requests_at_the_same_time_are_all_stored(tmp_path: Path) -> None:
    """All are of one device, and share commits."""
    async with opened_hub(tmp_path) as services, client_of(services) as client:
        answers = await asyncio.gather(*(client.post(URL, json={"n": number}) for number in range(200)))
        assert {answer.status_code for answer in answers} == {200}
        device = services.devices.device("pump")
        assert device.durable.readings == 200
        assert services.journal.last_offset < 150


async def test_a_device_whose_agent_is_connected_is_answered_with_503(tmp_path: Path) -> None:
    """Clients send again after such an answer; nothing of the request is stored."""
    async with opened_hub(tmp_path) as services, client_of(services) as client:
        async with listening(services) as url:
            gateway = await new_token(services, Role.GATEWAY)
            async with connected(f"{url}/v1/plain?device=pump", token=gateway):
                device = services.devices.device("pump")
                await until(lambda: device.session is not None)
                # The session of a plain connection is shared: its device may send requests, too.
                assert of(await client.post(URL, json={"n": 1})) == (200, 1)
            hello = messages.Hello("pump", "0" * 16, 1, True, 0, metrics=[Metric("n")], agent="own")
            async with connected(f"{url}/v1/device", token=gateway) as agent:
                await agent.send(AGENT_MESSAGES["json"].encode(hello), text=True)
                await agent.recv()
                answer = await client.post(URL, json={"n": 2})
                assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
                assert "pump is connected already, through own" in answer.json()["detail"]
        assert device.durable.readings == 1


async def test_a_request_that_is_sent_again_with_its_key_is_stored_once(tmp_path: Path) -> None:
    """The answer is the same; the key with another content, or one that is too long, is a problem."""
    async with opened_hub(tmp_path) as services, client_of(services) as client:
        key = {"Idempotency-Key": "3f1c"}
        answers = [await client.post(URL, json={"n": 1}, headers=key) for _ in range(3)]
        assert [of(answer) for answer in answers] == [(200, 1)] * 3
        assert services.devices.device("pump").durable.readings == 1
        reused = of(await client.post(URL, json={"n": 2}, headers=key))
        assert reused[0] == 422
        assert "another content" in reused[1]
        assert of(await client.post(URL, json={"n": 2}, headers={"Idempotency-Key": "k" * 257}))[0] == 422
        wrong = [await client.post(URL, json={"n": "x"}, headers={"Idempotency-Key": "w"}) for _ in range(2)]
        assert [answer.status_code for answer in wrong] == [422, 422]
        assert wrong[0].json() == wrong[1].json()
        assert services.devices.device("pump").durable.quarantined == 1
    async with opened_hub(tmp_path) as services:
        assert services.journal.facts()["request:0"]
