"""Metrics whose type changes: everything stays readable under the metric, and nothing is lost or stored twice."""

from __future__ import annotations

import asyncio
import csv
from pathlib import Path
from typing import Any

import httpx
import pytest

from device_agent import Agent
from tests.end_to_end.hub import Hub, running_hub
from tests.end_to_end.raw_agent import RawAgent, connect_agent, data, hello
from tests.end_to_end.viewer import Viewer
from tests.services.influxdb import InfluxdbServer
from wire.model import Metric

LEVEL = {"name": "level", "type": "integer", "unit": "cm"}


async def greeted(hub: Hub, token: str, *metrics: dict[str, Any], format: str = "json") -> tuple[RawAgent, int]:
    connection = await connect_agent(hub, token, format)
    await connection.send(hello(metrics=list(metrics)))
    welcome = await connection.receive()
    assert welcome["type"] == "welcome", welcome
    return connection, welcome["acked"]


async def acknowledged(connection: RawAgent, seq: int) -> None:
    """Return when this batch is durable."""
    while (await connection.receive()) != {"type": "ack", "seq": seq}:
        pass


async def history(hub: Hub, metric: str = "level") -> list[tuple[str, list[int], list[Any]]]:
    """Return the type, the times and the values of each part of the history of a metric."""
    answer = await hub.get("/api/v1/history", device="d", metric=metric, points=0, **{"from": "0"})
    return [(part["type"], part["time_ns"], part["values"]) for part in answer["series"]]


async def exported(hub: Hub, format: str) -> str:
    """Return the export of the device."""
    headers = {"Authorization": f"Bearer {await hub.admin()}"}
    async with httpx.AsyncClient(base_url=hub.url, headers=headers) as client:
        answer = await client.get("/api/v1/export", params={"device": "d", "format": format})
    assert answer.status_code == 200, answer.text
    return answer.text


@pytest.mark.deadline(120)
@pytest.mark.parametrize("format", ["json", "msgpack"])
async def test_a_float_widens_an_integer_metric_once(tmp_path: Path, format: str) -> None:
    """The batch with the float is accepted, old integers are numbers of the same history, dashboards get the new
    declaration, and there is one event. An agent that declares integer again keeps sending to the float metric."""
    async with running_hub(tmp_path / "data") as hub, Viewer(hub.ws_url, await hub.admin()) as viewer:
        token = await hub.token("device", "--device", "d")
        connection, acked = await greeted(hub, token, LEVEL, format=format)
        assert acked == 0
        await viewer.subscribe(1)
        await viewer.live()
        for seq, values in ((1, [10]), (2, [11]), (3, [11.5]), (4, [12]), (5, [12.5])):
            await connection.send(data(seq, {"level": values}))
        await acknowledged(connection, 5)
        await viewer.wait(lambda: len(viewer.points["d", "level"]) == 5)
        assert [value for _, value in viewer.points["d", "level"]] == [10.0, 11.0, 11.5, 12.0, 12.5]
        (declared,) = viewer.session.schemas[viewer.session.subscriptions[1].schema or 0]
        assert (declared.metric, declared.type, declared.unit) == ("level", "float", "cm")
        await connection.ws.close()
        connection, acked = await greeted(hub, token, LEVEL, format=format)
        assert acked == 5
        await connection.send(data(6, {"level": [13]}))
        assert (await connection.receive()) == {"type": "ack", "seq": 6}
        flow = await hub.settled()
        assert flow["totals"]["quarantined_batches"] == 0
        expected = [("float", [*range(1, 7)], [10.0, 11.0, 11.5, 12.0, 12.5, 13.0])]
        assert await history(hub) == expected
        events = (await hub.get("/api/v1/devices/d/events"))["events"]
        assert [event["detail"] for event in events if event["kind"] == "metric widened"] == [
            "level was integer and is float now: the device sends such values"
        ]
        await hub.kill()
        await hub.start()
        await hub.settled()
        assert await history(hub) == expected
        audit = await hub.get("/api/v1/devices/d/audit")
        assert [(m["metric"], m["type"], m["counted"], m["stored_least"]) for m in audit["metrics"]] == [
            ("level", "float", 6, 6)
        ]


@pytest.mark.deadline(120)
async def test_an_agent_widens_its_own_metric(tmp_path: Path) -> None:
    """The batches in its spool have integers, and then floats. A new run that declares integer continues as float."""
    async with running_hub(tmp_path / "data") as hub:
        token = await hub.token("device", "--device", "d")
        for values in ([1, 2, 2.5], [3, 3.5]):
            async with Agent(
                hub.url, device="d", token=token, spool=tmp_path / "spool", metrics=[Metric("level", "integer")]
            ) as agent:
                for value in values:
                    await agent.send({"level": value})
                await agent.drain(30)
        flow = await hub.settled()
        assert (flow["totals"]["quarantined_batches"], flow["totals"]["accepted"]) == (0, 5)
        ((type, _, found),) = await history(hub)
        assert (type, found) == ("float", [1.0, 2.0, 2.5, 3.0, 3.5])


@pytest.mark.deadline(120)
async def test_an_agent_with_a_spool_follows_a_retyped_metric(tmp_path: Path) -> None:
    """Its declaration wins over the type in its spool: what it sends is in quarantine until the hub has that type."""
    async with running_hub(tmp_path / "data") as hub:
        token = await hub.token("device", "--device", "d")
        for metrics, value in (([], "n/a"), ([Metric("level")], 20.5)):
            async with Agent(hub.url, device="d", token=token, spool=tmp_path / "spool", metrics=metrics) as agent:
                await agent.send({"level": value})
                await agent.drain(30)
        assert (await hub.settled())["totals"]["quarantined_batches"] == 1
        retyped = await hub.run("metric", "retype", "d", "level", "float", "--data", str(hub.data), "--url", hub.url)
        assert retyped.splitlines()[-1] == "accepted 1 message from quarantine with 1 reading"
        async with Agent(hub.url, device="d", token=token, spool=tmp_path / "spool") as agent:
            await agent.send({"level": 21.5})
            await agent.drain(30)
        await hub.settled()
        found = [(type, values) for type, _, values in await history(hub)]
        assert found == [("float", [20.5, 21.5]), ("string", ["n/a"])]


@pytest.mark.deadline(120)
async def test_every_type_has_its_own_field_in_influxdb(tmp_path: Path, influxdb2: InfluxdbServer) -> None:
    """InfluxDB would refuse a float in a field of integers. The fields keep the metric's first name, and the hub reads
    them as one history, also after a restart; a comparison with the journal misses nothing."""
    access = influxdb2.fresh()
    settings = tmp_path / "hub.toml"
    settings.write_text(access.settings())
    hub = Hub(tmp_path / "data", options=("--config", str(settings)))
    await hub.start()
    try:
        token = await hub.token("device", "--device", "d")
        connection, _ = await greeted(hub, token, LEVEL)
        for seq, value in ((1, 10), (2, 11.5), (3, 12)):
            await connection.send(data(seq, {"level": [value]}))
        await acknowledged(connection, 3)
        await hub.run("metric", "rename", "d", "level", "fill", "--url", hub.url, "--token", await hub.admin())
        await connection.send(data(4, {"level": [13.5]}))
        await acknowledged(connection, 4)
        for _ in range(2):
            flow = await hub.settled()
            assert (flow["totals"]["quarantined_batches"], flow["totals"]["difference"]) == (0, 0)
            assert await history(hub, "fill") == [("float", [1, 2, 3, 4], [10.0, 11.5, 12.0, 13.5])]
            assert (await hub.get("/api/v1/store/missing"))["missing"] == []
            await hub.kill()
            await hub.start()
        async with httpx.AsyncClient(base_url=access.url, headers={"Authorization": f"Token {access.token}"}) as client:
            answer = await client.get("/query", params={"db": access.bucket, "q": "SHOW FIELD KEYS FROM telemetry"})
        (found,) = answer.json()["results"][0]["series"]
        assert dict(found["values"]) == {"level": "integer", "level (float)": "float"}
    finally:
        await hub.kill()


@pytest.mark.deadline(180)
async def test_a_metric_is_retyped_and_renamed(tmp_path: Path) -> None:
    """The batches that were refused for their type are stored. Texts and numbers stay readable under the new name,
    while the device continues to send the old one. All of it survives restarts, and a backup of it is intact."""
    async with running_hub(tmp_path / "data") as hub, Viewer(hub.ws_url, await hub.admin()) as viewer:
        token = await hub.token("device", "--device", "d")
        connection, _ = await greeted(hub, token, {"name": "t", "type": "string"})
        await viewer.subscribe(1)
        await viewer.live()
        for seq, value in ((1, "n/a"), (2, 20.5), (3, "off")):
            await connection.send(data(seq, {"t": [value]}))
        await acknowledged(connection, 3)
        await hub.settled()
        assert (await hub.get("/api/v1/flow"))["totals"]["quarantined_batches"] == 1
        options = ("--data", str(hub.data), "--url", hub.url)
        retyped = await hub.run("metric", "retype", "d", "t", "float", *options)
        assert retyped.splitlines()[-1] == "accepted 1 message from quarantine with 1 reading"
        assert (await hub.get("/api/v1/flow"))["totals"]["quarantined_batches"] == 0
        await hub.run("metric", "rename", "d", "t", "temperature", *options)
        await hub.run("metric", "describe", "d", "temperature", "--unit", "°C", *options)
        await viewer.wait(
            lambda: [series.unit for known in viewer.session.schemas.values() for series in known] == ["°C"]
        )
        ((declared,),) = viewer.session.schemas.values()
        assert (declared.metric, declared.type) == ("temperature", "float")
        await connection.send(data(4, {"t": [21.5]}))
        await viewer.wait(lambda: viewer.points["d", "temperature"][-1:] == [(4 / 1e6, 21.5)])
        await hub.settled()
        times, values = [2, 4], [20.5, 21.5]
        expected = [("float", times, values), ("string", [1, 3], ["n/a", "off"])]
        assert await history(hub, "temperature") == expected
        rows = csv.DictReader((await exported(hub, "csv")).splitlines())
        assert [(row["metric"], row["value"]) for row in rows] == [
            ("temperature", value) for value in ("20.5", "21.5", "n/a", "off")
        ]
        lines = (await exported(hub, "line")).splitlines()
        assert [line.split("=")[-1] for line in lines] == ["20.5 2", "21.5 4", '"n/a" 1', '"off" 3']
        for suffix in ("csv", "lp"):
            path = tmp_path / f"d.{suffix}"
            await hub.run("export", "d", "--output", str(path), "--url", hub.url, "--token", await hub.admin())
            assert [text in path.read_text() for text in ("20.5", "21.5", "n/a", "off")] == [True] * 4
        await connection.ws.close()
        await hub.kill()
        await hub.start()
        connection, acked = await greeted(hub, token, {"name": "t"})
        await connection.send(data(acked + 1, {"t": [22.5]}))
        await acknowledged(connection, acked + 1)
        await hub.settled()
        times.append(acked + 1)
        values.append(22.5)
        assert await history(hub, "temperature") == expected
        (audited,) = (await hub.get("/api/v1/devices/d/audit"))["metrics"]
        assert (audited["metric"], audited["counted"], audited["stored_least"]) == ("temperature", 5, 5)
        missing = await hub.get("/api/v1/store/missing")
        assert missing["missing"] == []
        await hub.run("backup", str(tmp_path / "copy"), "--data", str(hub.data))
        assert "registry.db" in await hub.run("verify", "--data", str(tmp_path / "copy"))


@pytest.mark.deadline(180)
async def test_a_hub_that_is_killed_during_a_change_has_it_or_not(tmp_path: Path) -> None:
    """After each kill the metric has the old type or the new one. Its earlier types and names are known, and every
    acknowledged reading is in its history."""
    async with running_hub(tmp_path / "data") as hub:
        token = await hub.token("device", "--device", "d")
        admin = {"Authorization": f"Bearer {await hub.admin()}"}
        connection, acked = await greeted(hub, token, {"name": "m0", "type": "integer"})
        await connection.send(data(1, {"m0": [1]}))
        await acknowledged(connection, 1)
        types = ["float", "string", "boolean", "integer"]
        values: dict[str, Any] = {"float": 1.5, "string": "x", "boolean": True, "integer": 7}
        requested: list[tuple[str, str]] = [("integer", "m0")]
        for turn in range(4):
            requested.append((types[turn], f"m{turn + 1}"))
            async with httpx.AsyncClient(base_url=hub.url, headers=admin) as client:
                body = {"metric": "m0", "type": types[turn], "name": f"m{turn + 1}"}
                change = asyncio.create_task(client.patch("/api/v1/devices/d/metrics", json=body))
                await asyncio.sleep(0.002 * turn)
                await hub.kill()
                await asyncio.wait([change])
                change.exception()
            await hub.start()
            (metric,) = (await hub.get("/api/v1/devices/d/metrics"))["metrics"]
            assert (metric["type"], metric["metric"]) in requested[-2:]
            requested = [requested[0], *requested[1:-1], (metric["type"], metric["metric"])]
            assert set(metric["earlier_names"]) | {metric["metric"]} == {name for _, name in requested}
            connection, acked = await greeted(hub, token, {"name": "m0", "type": metric["type"]})
            await connection.send(data(acked + 1, {"m0": [values[metric["type"]]]}))
            await acknowledged(connection, acked + 1)
            await hub.settled()
            found = [time for _, times, _ in await history(hub, "*") for time in times]
            assert sorted(found) == list(range(1, acked + 2))
        assert (await hub.get("/api/v1/flow"))["totals"]["quarantined_batches"] == 0
