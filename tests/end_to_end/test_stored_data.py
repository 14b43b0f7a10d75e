"""A data directory and a spool that an earlier version wrote: today's hub and agent continue them.

`stored_data/README.md` describes what they contain and how they were made.
"""

from __future__ import annotations

import asyncio
import json
import tarfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from device_agent import Agent
from tests.end_to_end.bridged_hub import bridge_when, connected, publish, when_handled
from tests.end_to_end.hub import Hub, running_hub
from tests.end_to_end.mqtt_peers import Subscriber
from tests.end_to_end.raw_agent import connect_agent, data, hello
from tests.end_to_end.rejected_batches import send_batches
from tests.end_to_end.stored_data.answers import answers_of
from tests.end_to_end.stored_data.record import BRIDGE, KILN_START_S, LEVEL, SPOOL
from tests.services.mosquitto import Mosquitto

FOLDER = Path(__file__).with_name("stored_data")
RECORDED: dict[str, Any] = json.loads((FOLDER / "answers.json").read_text())


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A copy of what the earlier version left."""
    with tarfile.open(FOLDER / "data.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


async def when_stored(hub: Hub) -> None:
    """Return as soon as the store has every entry of the journal."""
    while True:
        flow = await hub.get("/api/v1/flow")
        store = next(consumer for consumer in flow["consumers"] if consumer["name"] == "store")
        if store["lag"] == 0:
            return
        await asyncio.sleep(0.05)


def values_of(answers: dict[str, Any], device: str, metric: str) -> list[Any]:
    """Return the stored values of a series."""
    (series,) = (part for part in answers["history"] if (part["device"], part["metric"]) == (device, metric))
    values: list[Any] = series["values"]
    return values


async def test_the_hub_answers_as_the_earlier_version_did(directory: Path) -> None:
    """History, latest values, devices, quarantine, events, tokens and accounting equal the recorded answers. This
    includes the journal entries that the store lacked."""
    async with running_hub(directory / "data") as hub:
        await when_stored(hub)
        answers = await answers_of(hub)
        assert answers["tokens"].items() >= RECORDED["answers"]["tokens"].items()
        for name in RECORDED["answers"].keys() - {"tokens"}:
            assert answers[name] == RECORDED["answers"][name], name
        assert await hub.problems() == {}


async def test_the_agent_continues_the_spool_of_the_earlier_version(directory: Path) -> None:
    """The agent sends the batches that were not acknowledged, under their epoch, with the token of before; new readings
    follow them. Nothing is lost and nothing is stored twice."""
    before = next(device for device in RECORDED["answers"]["devices"] if device["device"] == "kiln")
    async with running_hub(directory / "data") as hub:
        token = RECORDED["tokens"]["gateway"]
        async with Agent(hub.url, device="kiln", token=token, spool=directory / SPOOL) as agent:
            waiting = agent.counts.waiting
            await agent.send({"temperature": 60.0}, (KILN_START_S + 120) * 10**9)
            await agent.drain(30)
        await when_stored(hub)
        answers = await answers_of(hub)
        after = next(device for device in answers["devices"] if device["device"] == "kiln")
        assert waiting > 0
        assert (after["epoch"], after["acked"]) == (before["epoch"], before["acked"] + waiting + 1)
        assert values_of(answers, "kiln", "temperature") == [n / 2 for n in range(121)]
        accounting = answers["accounting"]["kiln"]
        assert (accounting["stored"], accounting["lost_batches"], accounting["duplicate_batches"]) == (121, 0, 0)
        assert accounting["difference"] == answers["accounting"]["total"]["difference"] == 0


async def test_the_hub_continues_the_data_of_the_earlier_version(directory: Path) -> None:
    """A device resumes after its last acknowledged batch, messages in quarantine are retried, and a retired device
    returns. The accounting balances."""
    async with running_hub(directory / "data") as hub:
        connection = await connect_agent(hub, RECORDED["tokens"]["gateway"])
        await connection.send(hello())
        assert (await connection.receive())["acked"] == 41
        for seq in (41, 42):
            await connection.send(data(seq, {"i": [seq]}))
            assert await connection.receive() == {"type": "ack", "seq": seq}
        await connection.ws.close()
        await send_batches(hub, "old", [{"time": [2], "values": {"level": [2.5]}}], metrics=[LEVEL])
        headers = {"Authorization": f"Bearer {RECORDED['tokens']['operator']}"}
        async with httpx.AsyncClient(base_url=hub.url, headers=headers, timeout=30) as client:
            retried = (await client.post("/api/v1/quarantine/retry", json={"device": "pump"})).json()
        kept = [entry for entry in RECORDED["answers"]["quarantine"] if entry["device"] == "pump"]
        assert retried["accepted"] == len(kept) > 0, retried
        await when_stored(hub)
        answers = await answers_of(hub)
        recorded = RECORDED["answers"]
        assert values_of(answers, "d", "i") == [*values_of(recorded, "d", "i"), 42]
        assert values_of(answers, "old", "level") == [1.5, 2.5]
        assert values_of(answers, "pump", "speed") == [1, 3, 4, 5, 6]
        assert not next(device for device in answers["devices"] if device["device"] == "old")["retired"]
        assert len(answers["quarantine"]) == len(recorded["quarantine"]) - len(kept)
        total, before = answers["accounting"]["total"], recorded["accounting"]["total"]
        assert total["accepted"] == total["stored"] == before["accepted"] + 2 + len(kept)
        assert (total["waiting"], total["difference"]) == (0, 0)
        assert total["duplicate_batches"] == before["duplicate_batches"] + 1


async def test_the_bridge_continues_after_the_last_entry_that_the_broker_acknowledged(
    directory: Path, mosquitto_program: Path
) -> None:
    """The broker receives exactly the readings that waited for it, and devices of the broker keep their epoch."""
    config = directory / "hub.toml"
    received: list[str] = []
    with Mosquitto(mosquitto_program, directory / "broker") as broker:
        config.write_text(BRIDGE.format(url=broker.url))
        async with (
            Subscriber(broker.port, "watcher", "out/#", lambda message: received.append(message.topic)) as watcher,
            running_hub(directory / "data", options=["--config", str(config)]) as hub,
        ):
            await connected(hub)
            await hub.settled()
            waited = RECORDED["published"]
            await watcher.until(lambda: len(received) >= waited)
            bridge = await bridge_when(hub, lambda bridge: bridge["outward"]["lag"] == 0)
            assert (len(received), bridge["outward"]["published"]) == (waited, waited)
            assert {topic.split("/")[1] for topic in received} == {"d", "tank"}
            await asyncio.to_thread(publish, broker, [("sensors/boiler/temperature", "30")])
            await when_handled(hub, 1)
            await hub.settled()
            answers = await answers_of(hub)
            devices = [
                next(device for device in source["devices"] if device["device"] == "boiler")
                for source in (RECORDED["answers"], answers)
            ]
            assert devices[0]["epoch"] == devices[1]["epoch"]
            assert devices[0]["acked"] + 1 == devices[1]["acked"]
            assert values_of(answers, "boiler", "temperature")[-1] == 30.0
            assert answers["accounting"]["total"]["difference"] == 0
