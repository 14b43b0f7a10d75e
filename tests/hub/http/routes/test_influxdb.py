"""The write side of InfluxDB's API on a real hub: what writers of both versions send, and the answers they expect."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from hub.app.services import HubServices
from hub.http.influxdb import MAX_NAMES, KnownNames
from hub.http.routes import influxdb as module
from hub.model.batch import EntryKind
from hub.model.identity import Role
from tests.conditions import until
from tests.hub.http.opened_hub import connected, listening, new_token, opened_hub
from tests.tasks import running_task
from wire.errors import Code, WireError

TIME_NS = 1_700_000_000_000_000_000
LINE = f"cpu,host=pi usage=1.5,count=3i {TIME_NS}"


class Influx(NamedTuple):
    """A hub, and a client without credentials of its own."""

    services: HubServices
    client: httpx.AsyncClient
    token: str

    async def write(self, lines: str | bytes, *, version: int = 2, **query: str) -> httpx.Response:
        path = "/api/v2/write" if version == 2 else "/write"
        return await self.client.post(path, params=query, content=lines, headers=self.headers)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Token {self.token}"}

    async def stored(self) -> list[tuple[str, str, int, Any]]:
        """Return every reading in the journal, in its order."""
        return [
            (entry.device, series.metric, int(time_ns), value)
            for entry in await self.services.journal.read(0)
            if entry.batch is not None
            for series, values in entry.batch.columns
            for time_ns, value in zip(entry.batch.times, values, strict=True)
        ]

    async def quarantined(self) -> list[str]:
        """Return the reasons in quarantine."""
        entries = await self.services.journal.read(0)
        return [entry.reason[1] for entry in entries if entry.kind is EntryKind.QUARANTINE and entry.reason]


@asynccontextmanager
async def influx(
    path: Path, role: Role = Role.GATEWAY, pattern: str | None = None, **settings: Any
) -> AsyncIterator[Influx]:
    async with opened_hub(path, **settings) as services, running_task(services.readings.run()):
        token = await new_token(services, role, pattern)
        transport = httpx.ASGITransport(app=services.application)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            yield Influx(services, client, token)


async def test_lines_are_durable_when_they_are_answered(tmp_path: Path) -> None:
    """A 204 without a body; the readings are in the journal, with the types of the fields, also in a second request."""
    async with influx(tmp_path / "hub") as hub:
        for number in range(3):
            answer = await hub.write(f"cpu,host=pi usage={number}.5,count={number}i {TIME_NS + number}\n")
            assert (answer.status_code, answer.content) == (204, b"")
            assert answer.headers["x-influxdb-version"].startswith("v2.")
            stored = await hub.stored()
            assert stored[-2:] == [
                ("pi", "cpu.usage", TIME_NS + number, number + 0.5),
                ("pi", "cpu.count", TIME_NS + number, number),
            ]
        types = {metric: series.type for metric, series in hub.services.registry.devices["pi"].series.items()}
        assert types == {"cpu.usage": "float", "cpu.count": "integer"}


async def test_precisions(tmp_path: Path) -> None:
    """Each version has its own words, nanoseconds are the default, and others are refused in its form."""
    words = {1: {"": 1, "n": 1, "u": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}}
    words[2] = {"": 1, "ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}
    async with influx(tmp_path / "hub") as hub:
        given = [(number, precision, factor) for number in words for precision, factor in words[number].items()]
        for place, (number, precision, factor) in enumerate(given):
            for repeat in range(2):  # the second one is read in a block
                count = TIME_NS // factor + repeat
                query = {"precision": precision} if precision else {}
                answer = await hub.write(f"m{place},host=pi a=1 {count}", version=number, **query)
                assert answer.status_code == 204, answer.text
                assert (await hub.stored())[-1] == ("pi", f"m{place}.a", count * factor, 1.0)
        for number, key in ((1, "error"), (2, "message")):
            too_long = await hub.write(LINE, version=number, bucket="b" * 300, db="b" * 300)
            wrong = await hub.write(LINE, version=number, precision="weeks")
            assert (too_long.status_code, wrong.status_code) == (400, 400)
            assert "valid precisions are" in wrong.json()[key]


async def test_compressed_lines(tmp_path: Path) -> None:
    """gzip is recognised with and without its header, in one and in many members; a bomb and damage are refused."""
    async with influx(tmp_path / "hub") as hub:
        url, headers = "/api/v2/write", hub.headers | {"Content-Encoding": "gzip"}
        packed = gzip.compress(LINE.encode())
        assert (await hub.client.post(url, content=packed, headers=headers)).status_code == 204
        assert (await hub.client.post(url, content=packed, headers=hub.headers)).status_code == 204
        many = gzip.compress(f"{LINE[:-1]}1\n".encode()) + gzip.compress(b"\n" * 100_000 + f"{LINE[:-1]}2\n".encode())
        assert (await hub.client.post(url, content=many, headers=headers)).status_code == 204
        assert len(await hub.stored()) == 6  # the second request repeats the first one
        identity = hub.headers | {"Content-Encoding": "identity"}
        assert (await hub.client.post(url, content=LINE, headers=identity)).status_code == 204
        for body, encoding, status in (
            (packed[:-9], "gzip", 400),
            (LINE.encode(), "gzip", 400),
            (zlib.compress(LINE.encode()), "deflate", 400),
            (gzip.compress(bytes(module.MAX_CONTENT_BYTES + 1)), "gzip", 413),
        ):
            answer = await hub.client.post(url, content=body, headers=hub.headers | {"Content-Encoding": encoding})
            assert answer.status_code == status, answer.text
            assert answer.json()["code"] == {400: "invalid", 413: "request too large"}[status]


async def test_the_lines_of_a_request_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer has to split the request; nothing of it is stored."""
    monkeypatch.setattr(module, "MAX_LINES", 10)
    async with influx(tmp_path / "hub") as hub:
        answer = await hub.write("\n".join([LINE] * 11))
        assert (answer.status_code, answer.json()["code"]) == (413, "request too large")
        assert "10 are allowed: send it in smaller parts" in answer.json()["message"]
        assert await hub.stored() == []


async def test_forms_of_the_token(tmp_path: Path) -> None:
    """Token, Bearer, Basic with any user, `u` and `p` in the query, and the form of 1.8's version 2."""
    async with influx(tmp_path / "hub") as hub:
        basic = base64.b64encode(f"anyone:{hub.token}".encode()).decode()
        for authorization in (
            f"Token {hub.token}",
            f"Bearer {hub.token}",
            f"Basic {basic}",
            f"Token anyone:{hub.token}",
        ):
            for path in ("/api/v2/write", "/write"):
                answer = await hub.client.post(path, content=LINE, headers={"Authorization": authorization})
                assert answer.status_code == 204, authorization
        query = {"db": "any", "u": "anyone", "p": hub.token}
        assert (await hub.client.post("/write", params=query, content=LINE)).status_code == 204
        assert (await hub.client.get("/query", params=query | {"q": "SHOW DATABASES"})).status_code == 200
        assert (await hub.client.post("/api/v2/write", params=query, content=LINE)).status_code == 401


async def test_writers_without_the_right(tmp_path: Path) -> None:
    """No token and a wrong one get a 401, a role that only reads and a token for other devices a 403."""
    async with influx(tmp_path / "hub", Role.GATEWAY, "pump*") as hub:
        viewer = await new_token(hub.services, Role.VIEWER)
        for path, key in (("/write", "error"), ("/api/v2/write", "message")):
            for token, status, words in (
                ("", 401, "send a valid token"),
                ("wrong", 401, "send a valid token"),
                (viewer, 403, "role viewer may not write"),
                (hub.token, 403, "may not write as 'pi'"),
            ):
                headers = {"Authorization": f"Token {token}"} if token else {}
                answer = await hub.client.post(path, content=LINE, headers=headers)
                assert (answer.status_code, words in answer.json()[key]) == (status, True), answer.text
            assert {device for device, *_ in await hub.stored()} <= {"pump1"}
            partly = await hub.client.post(path, content=f"{LINE}\n{LINE.replace('pi', 'pump1')}", headers=hub.headers)
            assert partly.status_code == 400
            assert "line 1: the token" in partly.json()[key]
            assert {device for device, *_ in await hub.stored()} == {"pump1"}


async def test_a_refused_line_costs_itself(tmp_path: Path) -> None:
    """The others are stored; the answer names the lines with reasons, and the quarantine has them."""
    lines = [LINE, "cpu,host= usage=1", f"cpu,host=pi usage=2.5 {TIME_NS + 1}", 'cpu,host=pi usage="a text"', ""]
    async with influx(tmp_path / "hub") as hub:
        second = await hub.write("\n".join(lines))
        assert second.status_code == 400
        body = second.json()
        assert (body["code"], body["line"]) == ("invalid", 2)
        assert body["message"].startswith("partial write: unable to parse line 2: ")
        assert "line 4: cpu.usage: a text is not a number (set no_value = " in body["message"]
        assert (
            "in [influx_write] of the hub's settings, or run `hub metric retype pi cpu.usage string` and "
            in body["message"]
        )
        assert "3 readings stored, 2 refusals in quarantine" in body["message"]
        assert len(await hub.stored()) == 3
        assert len(await hub.quarantined()) == 1
        first = await hub.write("\n".join(lines), version=1)
        assert first.status_code == 400
        assert first.json()["error"].startswith("partial write: unable to parse line 2: ")
        assert first.json()["error"].endswith("dropped=2")
        assert first.headers["x-influxdb-error"].startswith("partial write")
        nothing = await hub.write("no line at all")
        assert nothing.status_code == 400
        assert nothing.json()["message"].startswith("unable to parse line 1: ")


async def test_values_that_are_none_are_left_out(tmp_path: Path) -> None:
    """NaN, infinity and an empty text are neither stored nor refused; their neighbours are stored."""
    async with influx(tmp_path / "hub") as hub:
        answer = await hub.write('m,host=pi a=NaN,b=-inf\nm,host=pi s="",c=nan 1700000000000000000\n')
        assert (answer.status_code, await hub.stored(), await hub.quarantined()) == (204, [], [])
        assert "pi" not in hub.services.registry.devices
        answer = await hub.write(f"m,host=pi a=NaN,d=1 {TIME_NS}")
        assert (answer.status_code, await hub.stored()) == (204, [("pi", "m.d", TIME_NS, 1.0)])


async def test_an_empty_request_is_a_test_of_the_connection(tmp_path: Path) -> None:
    """Home Assistant sends one before it starts."""
    async with influx(tmp_path / "hub") as hub:
        for version in (1, 2):
            for content in ("", "\n"):
                assert (await hub.write(content, version=version)).status_code == 204


async def test_devices_and_metrics_by_the_settings(tmp_path: Path) -> None:
    """Templates of tags and the bucket name them; names that are not valid are repaired, and the name is the label."""
    rules = {"device": "{bucket}.{room}", "metric": "{measurement}_{field}", "columns": {"t": "temperature"}}
    async with influx(tmp_path / "hub", influx_write=rules) as hub:
        for count in range(2):
            answer = await hub.write(
                f"air,room=kitchen\\ 1,sensor=x t={count},rssi=-3 {TIME_NS + count}", bucket="home"
            )
            assert answer.status_code == 204
        readings = await hub.stored()
        (device,) = {device for device, *_ in readings}
        assert device.startswith("home.kitchen_1-")
        assert [reading[1:] for reading in readings] == [
            ("air_temperature", TIME_NS, 0.0),
            ("air_temperature", TIME_NS + 1, 1.0),
        ]
        assert hub.services.registry.tags_of(device) == {"name": "home.kitchen 1"}


async def test_the_bucket_names_the_device_of_lines_that_name_none(tmp_path: Path) -> None:
    """With a device token, the device is its own, also if it writes to a bucket."""
    async with influx(tmp_path / "hub") as hub:
        assert (await hub.write(f"air t=1 {TIME_NS}", bucket="home_assistant")).status_code == 204
        assert (await hub.write(f"air t=2 {TIME_NS}", version=1, db="other")).status_code == 204
        own = await new_token(hub.services, Role.DEVICE, "pump")
        headers = {"Authorization": f"Token {own}"}
        answer = await hub.client.post("/api/v2/write?bucket=b", content=f"air t=3 {TIME_NS}", headers=headers)
        assert answer.status_code == 204
        assert [(device, value) for device, _, _, value in await hub.stored()] == [
            ("home_assistant", 1.0),
            ("other", 2.0),
            ("pump", 3.0),
        ]
        assert (await hub.write(f"air t=1 {TIME_NS}")).status_code == 400


async def test_many_lines_of_many_devices(tmp_path: Path) -> None:
    """12,000 lines of 7 devices in several pieces, most of them in blocks: each reading once, with its own time."""
    async with influx(tmp_path / "hub") as hub:
        for repeat in range(2):
            lines = "\n".join(
                f"cpu,host=h{n % 7} usage={n}.5,count={n}i {TIME_NS + repeat * 10**9 + n}" for n in range(12_000)
            )
            assert (await hub.write(lines)).status_code == 204
        devices = [device for device in hub.services.devices if device.id.startswith("h")]
        assert sorted(device.id for device in devices) == [f"h{n}" for n in range(7)]
        assert sum(device.readings for device in devices) == 48_000
        assert sum(device.moved + device.quarantined for device in devices) == 0
        assert sum(device.batches for device in devices) < 200


async def test_what_writers_ask_before_they_write(tmp_path: Path) -> None:
    """Pings, the health, databases, retention policies, buckets and organisations, in the forms of InfluxDB."""
    async with influx(tmp_path / "hub") as hub:
        client, headers = hub.client, hub.headers
        for method in ("GET", "HEAD"):
            ping = await client.request(method, "/ping")
            assert (ping.status_code, ping.content, "x-influxdb-build" in ping.headers) == (204, b"", True)
        assert (await client.get("/ping?verbose=true")).json()["version"].startswith("v2.")
        assert (await client.get("/health")).text == "ok\n"
        assert (await client.head("/health")).status_code == 200
        for method, path, allowed in (
            ("GET", "/write", "POST"),
            ("DELETE", "/query", "GET, POST"),
            ("PUT", "/ping", "GET, HEAD"),
        ):
            wrong = await client.request(method, path)
            assert (wrong.status_code, wrong.headers["allow"]) == (405, allowed)
        health = (await client.get("/health", headers={"Accept": "application/json"})).json()
        assert (health["name"], health["status"]) == ("influxdb", "pass")
        hub.services.devices.refusal = WireError(Code.STORAGE_FULL, "the disk is full")
        full = await client.get("/health", headers={"Accept": "application/json"})
        assert (full.status_code, full.json()["status"], full.json()["message"]) == (503, "fail", "the disk is full")
        assert (await client.get("/health")).text == "ok\n"
        hub.services.devices.refusal = None

        async def query(text: str, method: str = "GET") -> Any:
            how = {"params": {"q": text}} if method == "GET" else {"data": {"q": text}}
            answer = await client.request(method, "/query", headers=headers, **how)  # type: ignore[arg-type]
            assert answer.status_code == 200
            return answer.json()["results"]

        assert await query('CREATE DATABASE "telegraf"', "POST") == [{"statement_id": 0}]
        (shown,) = await query("show databases")
        assert shown["series"] == [{"name": "databases", "columns": ["name"], "values": [["telemetry"], ["telegraf"]]}]
        policy = (
            'CREATE RETENTION POLICY "a" ON "telegraf" DURATION 1d REPLICATION 1; SHOW RETENTION POLICIES ON "telegraf"'
        )
        made, policies = await query(policy)
        assert made == {"statement_id": 0}
        assert policies["series"][0]["values"][0][0] == "autogen"
        (refused,) = await query("SELECT * FROM cpu")
        assert "GET /api/v1/history" in refused["error"]
        assert (await client.get("/query?q=SHOW+DATABASES")).status_code == 401

        found = (await client.get("/api/v2/buckets?name=plant", headers=headers)).json()["buckets"]
        assert [(bucket["name"], len(bucket["id"])) for bucket in found] == [("plant", 16)]
        created = await client.post("/api/v2/buckets", json={"name": "new", "orgID": "x"}, headers=headers)
        assert (created.status_code, created.json()["name"]) == (201, "new")
        for body in ("[]", "{}", "no JSON"):
            assert (await client.post("/api/v2/buckets", content=body, headers=headers)).status_code == 400
        everything = (await client.get("/api/v2/buckets", headers=headers)).json()["buckets"]
        assert [bucket["name"] for bucket in everything] == ["telemetry", "telegraf", "new"]
        assert (await client.get("/api/v2/orgs?org=plant", headers=headers)).json()["orgs"][0]["name"] == "plant"
        assert (await client.get("/api/v2/orgs")).json()["code"] == "unauthorized"


def test_the_remembered_names_are_bounded() -> None:
    """The newest ones stay, and one that is too long is not remembered."""
    names = KnownNames()
    for number in range(MAX_NAMES + 5):
        names.add(f"b{number}")
    names.add("b" * 300)
    assert [*names] == [f"b{number}" for number in range(5, MAX_NAMES + 5)]


async def test_lines_over_a_websocket(tmp_path: Path) -> None:
    """Each frame of lines, text or binary, has one answer when it is durable, and its devices are present."""
    async with influx(tmp_path / "hub") as hub, listening(hub.services) as url:
        headers = {"Authorization": f"Token {hub.token}"}
        async with connected(f"{url}/v1/line?precision=s&bucket=yard", headers=headers) as client:
            for number in range(3):
                text = f"cpu,host=pi usage={number}.5 {1_700_000_000 + number}\nair t=21 {1_700_000_000 + number}"
                await client.send(text.encode() if number else text)
                assert json.loads(await client.recv()) == {"ok": 2}
            assert hub.services.devices.device("pi").session is not None
            await client.send("cpu,host=pi usage=4.5\nno line")
            answer = json.loads(await client.recv())
            assert (answer["ok"], answer["refused"][0]["line"]) == (1, 2)
        stored = await hub.stored()
        assert [value for device, _, _, value in stored if device == "pi"] == [0.5, 1.5, 2.5, 4.5]
        assert {(device, metric) for device, metric, *_ in stored} == {("pi", "cpu.usage"), ("yard", "air.t")}
        assert stored[0][2] == 1_700_000_000 * 10**9
        async with connected(f"{url}/v1/line?ack=none", headers=headers) as client:
            await client.send(f"cpu,host=pi usage=9 {TIME_NS}")
            await until(lambda: hub.services.devices.device("pi").durable.readings == 5)
        with pytest.raises(InvalidStatus) as refused:
            async with connected(f"{url}/v1/line?precision=weeks", headers=headers):
                pass
        assert refused.value.response.status_code == 400
