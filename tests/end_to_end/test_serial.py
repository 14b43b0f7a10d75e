"""Lines of a serial port, through the real agent, to the history of a real hub."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import httpx
import pytest

from tests.conditions import until
from tests.end_to_end.hub import NO_TLS, Hub, running_hub
from tests.end_to_end.serial_agent import serial_agent

CASES = Path(__file__).parents[1] / "formats" / "cases"

SAT_15H = 1_795_878_000_000_000_000
"""2026-11-28T15:00:00Z."""


@pytest.mark.deadline(180)
async def test_what_devices_really_send_arrives(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Times as counts since 1970, since 2000 and of the uptime; lists, numbers as text, local times, words without a
    value, NULs, and a table. A bad value costs itself, and the agent counts all."""
    caplog.set_level(logging.INFO, logger="device_agent")
    async with running_hub(tmp_path / "data") as hub:
        times = (CASES / "serial-times.jsonl").read_bytes()
        lost = (CASES / "serial-lost.jsonl").read_bytes()
        async with serial_agent(hub, tmp_path, "times") as agent:
            await agent.play(times)
            found = (await agent.series())["temp"]
            assert (found[21.6], found[21.7]) == (SAT_15H, SAT_15H + 123 * 10**6)
            # Before 1990: kept as it was sent, marked and counted.
            assert (found[21.5], found[21.75], agent.counts.odd_times) == (123456 * 10**9, 580219289 * 10**9, 2)

        async with serial_agent(hub, tmp_path, "since", time="since_2000") as agent:
            await agent.play(times.splitlines(keepends=True)[3])
            assert (await agent.series())["temp"] == {21.75: 1_526_904_089 * 10**9}

        async with serial_agent(hub, tmp_path, "uptime", time="uptime_ms") as agent:
            await agent.play(b'{"time":123456,"t":1}\n{"time":124456,"t":2}\n{"time":500,"t":3}\n')
            found = (await agent.series())["t"]
            assert found[2] - found[1] == 10**9
            assert abs(found[3] - time.time_ns()) < 600 * 10**9

        async with serial_agent(hub, tmp_path, "lost", zone="Europe/Berlin") as agent:
            await agent.play(lost + b'{"temp":"high","hum":43}\n')
            assert await agent.values() == {
                "temp": [20.5, 22.1, 22.2, 22.3, 22.8], "hum": [39, 40, 41, 42, 43],
                "type": ["accelerometer"], "data.0": [0.1], "data.1": [0.9], "data.2": [0.2],
            }  # fmt: skip
            assert (await agent.series())["temp"][22.1] == SAT_15H - 3600 * 10**9
            counts = agent.counts
            assert (counts.format, counts.readings, counts.no_values, counts.refused) == ("json", 14, 1, 1)

        async with serial_agent(hub, tmp_path, "words") as agent:
            await agent.play(b'{"a":-nan,"b":"None","c":"unavailable","d":"N/A","e":inf}\r\n')
            await agent.play(b'{"a":21.5,"b":21.5,"c":"21.5","d":21.5,"e":21.5}\r\n')
            await agent.play(b'{"a":12.5}\0\r\n\0{"a":12.6}\0\r\n')
            assert await agent.values() == {"a": [12.5, 12.6, 21.5], **{metric: [21.5] for metric in "bcde"}}
            assert (agent.counts.no_values, agent.counts.refused) == (5, 0)

        async with serial_agent(hub, tmp_path, "table") as agent:
            rows = b"".join(b"%d,5;4%d\r\n" % (number, number) for number in range(5))
            await agent.play(b"Temperature [\xc2\xb0C];Humidity\r\n" + rows)
            assert await agent.values() == {"Temperature": [0.5, 1.5, 2.5, 3.5, 4.5], "Humidity": [40, 41, 42, 43, 44]}
            assert (agent.counts.format, agent.counts.refused, agent.counts.skipped) == ("csv", 0, 0)


@pytest.mark.deadline(120)
async def test_what_an_agent_refuses_is_counted_and_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Every line and value is a reading, refused or without a value, at the agent and at the hub, although the hub is
    killed before it has acknowledged the report; the quarantine has the first example of each reason."""
    caplog.set_level(logging.INFO, logger="device_agent")
    hub = Hub(tmp_path / "data")
    await hub.start()
    try:
        async with serial_agent(hub, tmp_path, "kiln") as agent:
            await agent.play(b'{"t":20,"n":1}\n')
            await hub.kill()
            await agent.write(b'{"t":"hot","n":2}\nnoise\n{"t":"\\u001b[2J","n":null}\n{"t":21,"n":"unknown"}\n')
            await until(lambda: agent.counts.lines == 5)
            await hub.start()
            await agent.play(b'{"t":"cold","n":3}\n')
            counts = agent.counts
            assert (counts.readings, counts.refused, counts.no_values) == (5, 4, 2)
            assert await agent.values() == {"t": [20, 21], "n": [1, 2, 3]}
            flow = await hub.settled()
            (row,) = flow["devices"]
            assert (row["accepted"], row["source_refused"], row["difference"]) == (counts.readings, counts.refused, 0)
            assert (await hub.get("/api/v1/devices/kiln"))["source_refused"] == counts.refused
            listed = (await hub.get("/api/v1/quarantine", device="kiln"))["quarantine"]
            assert {entry["code"] for entry in listed} == {"source_refused"}
            shown = [await hub.get(f"/api/v1/quarantine/{entry['offset']}") for entry in listed]
            text = "".join(entry["text"] for entry in shown)
            assert '"raw": "{\\"t\\":\\"hot\\",\\"n\\":2}"' in text
            assert '"raw": "noise"' in text
            assert "device-agent try" in shown[0]["advice"]
        hub_counts = await hub.run("flow", "--once", "--url", hub.url, "--token", await hub.admin())
        assert "unread" in hub_counts.split("\n")[-3]
        admin = {"Authorization": f"Bearer {await hub.admin()}"}
        async with httpx.AsyncClient(base_url=hub.url, headers=admin, verify=NO_TLS) as client:
            assert "hub_source_refused_total 4.0" in (await client.get("/metrics")).text
        assert await hub.stop() == 0
    finally:
        await hub.kill()
