"""The doors of the hub: each input of foreign data, with what it stores of some lines and how much it refuses.

Each door is the real thing: a command in a process of its own, an agent on a tty, a broker. All get the same lines and
the same settings.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import httpx
from websockets.asyncio.client import connect

from hub.mqtt.sparkplug.payload import DataType, SparkplugMetric, SparkplugPayload, encode, metric
from tests.end_to_end.bridged_hub import bridge_when, publish
from tests.end_to_end.hub import NO_TLS, Hub
from tests.end_to_end.import_command import import_result, start_import
from tests.end_to_end.serial_agent import serial_agent
from tests.services.mosquitto import Mosquitto


class Found(NamedTuple):
    """The value and the time in nanoseconds of each metric that a door stores, and the number of refusals."""

    values: dict[str, Any]
    times: dict[str, int | None]
    refused: int


def found_in(facts: Mapping[str, Any]) -> Found:
    """Return what a check would store."""
    readings = [
        (name, value, row["time_ns"]) for row in facts["first_rows"] for name, value in row["values"].items()
    ]  # fmt: skip
    return Found(
        {name: value for name, value, _ in readings},
        {name: time_ns for name, _, time_ns in readings},
        sum(facts["refused"].values()),
    )


async def stored(hub: Hub, device: str, refused: int) -> Found:
    """Return what the hub has stored of a device."""
    await hub.settled()
    answer = await hub.get("/api/v1/history", device=device, points=0, **{"from": "0", "to": str(2**62)})
    series = {series["metric"]: series for series in answer["series"] if series["values"]}
    return Found(
        {name: found["values"][-1] for name, found in series.items()},
        {name: found["time_ns"][-1] for name, found in series.items()},
        refused,
    )


def settings_file(folder: Path, rules: Mapping[str, str]) -> Path:
    """Write rules as TOML."""
    path = folder / "rules.toml"
    path.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in rules.items()))
    return path


async def through_try(folder: Path, lines: Sequence[str], rules: Mapping[str, str]) -> Found:
    """Read a file with `hub try`."""
    file = folder / "lines.txt"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hub", "try", str(file), "--json", "--rules", str(settings_file(folder, rules)),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    return found_in(json.loads(out))


async def through_import(hub: Hub, folder: Path, device: str, lines: Sequence[str], rules: Mapping[str, str]) -> Found:
    """Import a file."""
    file = folder / f"{device}.txt"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    token = await hub.token("gateway", "--devices", "import-*")
    settings = settings_file(folder, {"zone": "UTC", **rules})
    process = await start_import(hub, token, str(file), "--device", device, "--rules", str(settings))
    _, report, _ = await import_result(process)
    return await stored(hub, device, sum(report["files"][0]["refused"].values()))


async def through_serial(hub: Hub, folder: Path, device: str, lines: Sequence[str], rules: Mapping[str, str]) -> Found:
    """Send lines from a sensor on a port to an agent.

    The first line of texts is sent twice: the agent skips a line whose beginning it may have missed.
    """
    async with serial_agent(hub, folder, device, **rules) as agent:
        first = () if rules["format"] == "json" else lines[:1]
        await agent.play("".join(f"{line}\n" for line in (*first, *lines)).encode())
        refused = agent.counts.refused
    return await stored(hub, device, refused)


async def through_plain(hub: Hub, device: str, lines: Sequence[str], rules: Mapping[str, str]) -> Found:
    """Send a frame for each line to /v1/plain, and half of them as requests. All are answered when they are stored."""
    token = await hub.token("device", "--device", device)
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{hub.ws_url}/v1/plain?{urlencode(rules)}"
    answers = []
    async with (
        connect(url, additional_headers=headers, proxy=None) as socket,
        httpx.AsyncClient(base_url=hub.url, headers=headers, verify=NO_TLS, timeout=30) as client,
    ):
        for number, line in enumerate(lines):
            if number % 2:
                answer = await client.post("/api/v1/readings", params=rules, content=line.encode())
                answers.append(answer.json())
            else:
                await socket.send(line)
                answers.append(json.loads(await socket.recv()))
    return await stored(hub, device, sum(len(answer.get("refused", ())) for answer in answers))


async def through_mqtt(hub: Hub, broker: Mosquitto, device: str, lines: Sequence[str]) -> Found:
    """Publish a message for each line. The subscription of the hub has the settings."""
    before = (await bridge_when(hub, lambda bridge: True))["inward"]
    await asyncio.to_thread(publish, broker, [(f"doors/{device}", line) for line in lines])
    inward = (await bridge_when(hub, lambda bridge: _handled(bridge["inward"]) >= _handled(before) + len(lines)))[
        "inward"
    ]
    return await stored(hub, device, _refused(inward) - _refused(before))


def _refused(inward: Mapping[str, int]) -> int:
    """Return the values that are refused alone, and the messages that are refused as a whole."""
    return inward["refused"] + inward["undecodable"]


def _handled(inward: Mapping[str, int]) -> int:
    return inward["taken"] + inward["undecodable"]


async def through_sparkplug(
    hub: Hub, broker: Mosquitto, node: str, values: Mapping[str, Any], times_ms: Mapping[str, int | None]
) -> Found:
    """Publish a birth with a metric for each value, in the type of Sparkplug that its JSON has, and with its time."""
    metrics = [_metric(name, value)._replace(time_ms=times_ms.get(name)) for name, value in values.items()]
    birth = SparkplugPayload(1_732_806_000_000, 0, (*metrics, metric(DataType.INT64, 0, name="bdSeq")))
    before = (await bridge_when(hub, lambda bridge: True))["inward"]
    await asyncio.to_thread(publish, broker, [(f"spBv1.0/doors/NBIRTH/{node}", encode(birth))])
    inward = (await bridge_when(hub, lambda bridge: _handled(bridge["inward"]) > _handled(before)))["inward"]
    return await stored(hub, f"doors.{node}", _refused(inward) - _refused(before))


def _metric(name: str, value: Any) -> SparkplugMetric:
    if isinstance(value, bool):
        return metric(DataType.BOOLEAN, value, name=name)
    if isinstance(value, str):
        return metric(DataType.STRING, value, name=name)
    return metric(DataType.DOUBLE, float(value), name=name)
