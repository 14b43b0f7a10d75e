"""The commands `hub flow` and `hub audit` on a running hub."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import duckdb
import httpx

from device_agent import Agent, Metric
from tests.end_to_end.hub import COMMAND, Hub, running_hub

METRICS = [Metric("number", "integer"), Metric("text", "string")]
ROWS = 500


async def command(hub: Hub, *arguments: str) -> tuple[int, str, str]:
    """Run a `hub` command with the access of the data directory; return exit code, stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, "--url", hub.url, "--data", str(hub.data),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def fill(hub: Hub) -> None:
    token = await hub.token("device", "--device", "pump")
    async with Agent(hub.url, device="pump", token=token, metrics=METRICS) as agent:
        times = list(range(1, ROWS + 1))
        await agent.send_columns(times, {"number": times, "text": [f"{time}" if time % 2 else None for time in times]})
        await agent.drain(30)
    await hub.settled()


async def test_the_accounting_is_shown_and_audited(tmp_path: Path) -> None:
    """Both commands report what was sent, for people and for programs, and /metrics has the totals. A store from which
    readings were removed outside the hub does not balance, and the audit says where."""
    async with running_hub(tmp_path / "data") as hub:
        await fill(hub)
        accepted = ROWS + ROWS // 2
        code, out, err = await command(hub, "flow", "--once", "--json")
        assert (code, err) == (0, "")
        totals = json.loads(out)["totals"]
        assert (totals["accepted"], totals["stored"], totals["difference"]) == (accepted, accepted, 0)
        code, out, _ = await command(hub, "flow", "--once")
        assert code == 0
        assert all(word in out for word in ("pump", f"{accepted}", "store"))
        code, out, _ = await command(hub, "audit", "pump", "--json")
        audit = json.loads(out)
        assert (code, audit["balanced"], audit["findings"]) == (0, True, [])
        assert {m["metric"]: m["counted"] for m in audit["metrics"]} == {"number": ROWS, "text": ROWS // 2}
        code, _, err = await command(hub, "audit", "nobody")
        assert code == 1
        assert "there is no device nobody" in err
        async with httpx.AsyncClient() as client:
            lines = (await client.get(f"{hub.url}/metrics")).text.splitlines()
        assert {f"hub_stored_readings {accepted:.1f}", "hub_waiting_readings 0.0", "hub_unbalanced_readings 0.0"} <= {
            *lines
        }
    with duckdb.connect(tmp_path / "data" / "history.duckdb") as connection:
        connection.execute("DELETE FROM raw_integer WHERE time_ns <= 3")
    async with running_hub(tmp_path / "data") as hub:
        await hub.settled()
        code, out, _ = await command(hub, "audit", "pump")
        assert code == 1
        assert "3 accepted readings are neither stored nor waiting" in out
