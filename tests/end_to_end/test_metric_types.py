"""Metrics whose type changes: everything stays readable under the metric, and nothing is lost or stored twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.hub import Hub, running_hub
from tests.end_to_end.raw_agent import RawAgent, connect_agent, data, hello
from tests.end_to_end.viewer import Viewer

LEVEL = {"name": "level", "type": "integer", "unit": "cm"}


async def greeted(hub: Hub, token: str, *metrics: dict[str, Any], format: str = "json") -> tuple[RawAgent, int]:
    connection = await connect_agent(hub, token, format)
    await connection.send(hello(metrics=list(metrics)))
    welcome = await connection.receive()
    assert welcome["type"] == "welcome", welcome
    return connection, welcome["acked"]


async def history(hub: Hub, metric: str = "level") -> list[tuple[str, list[int], list[Any]]]:
    """Return the type, the times and the values of each part of the history of a metric."""
    answer = await hub.get("/api/v1/history", device="d", metric=metric, points=0, **{"from": "0"})
    return [(part["type"], part["time_ns"], part["values"]) for part in answer["series"]]


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
        while (await connection.receive()) != {"type": "ack", "seq": 5}:
            pass
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
