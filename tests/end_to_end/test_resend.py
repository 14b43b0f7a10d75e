"""A store that acknowledged readings and lost them: `hub audit` finds them, `hub store resend` writes them again."""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from device_agent import Agent, Metric
from hub.cli.application import app
from tests.end_to_end.hub import Hub, running_hub
from tests.services.influxdb import Access, InfluxdbServer

METRICS = [Metric("level"), Metric("state", "string")]
SECOND = 1_000_000_000
BEGIN = 1_780_000_000 * SECOND
ROWS = 300


async def command(hub: Hub, *arguments: str) -> tuple[int, str, str]:
    """Run a `hub` command with the access of the data directory; return exit code, stdout and stderr.

    It runs in a thread of this process, because a process of its own takes seconds to start on a busy machine.
    """
    given = [*arguments, "--url", hub.url, "--data", str(hub.data)]
    result = await asyncio.to_thread(CliRunner().invoke, app, given)
    return result.exit_code, result.stdout, result.stderr


async def send(hub: Hub, device: str, first: int) -> None:
    """Send ROWS rows of a device, the first one `first` seconds after BEGIN, and wait until they are stored."""
    token = await hub.token("device", "--device", device)
    async with Agent(hub.url, device=device, token=token, metrics=METRICS) as agent:
        times = [BEGIN + row * SECOND for row in range(first, first + ROWS)]
        states = [f"{row}" if row % 3 == 0 else None for row in range(first, first + ROWS)]
        await agent.send_columns(times, {"level": [time / SECOND for time in times], "state": states})
        await agent.drain(30)
    await hub.settled()


async def audited(hub: Hub, device: str) -> tuple[int, dict[str, Any]]:
    code, out, _ = await command(hub, "audit", device, "--json")
    return code, json.loads(out)


def delete(access: Access, start: str, stop: str, predicate: str) -> None:
    """Delete readings with the API of InfluxDB 2, as a person may do."""
    answer = httpx.post(
        f"{access.url}/api/v2/delete",
        params={"org": access.org, "bucket": access.bucket},
        headers={"Authorization": f"Token {access.token}"},
        json={"start": start, "stop": stop, "predicate": predicate},
        trust_env=False,
        timeout=30,
    )
    answer.raise_for_status()


@pytest.mark.deadline(180)
async def test_readings_that_influxdb_lost_are_found_and_written_again(
    influxdb2: InfluxdbServer, tmp_path: Path
) -> None:
    """Its folder is replaced by an older copy after it has acknowledged more; then a part is deleted by its API. The
    audit finds what is missing by series and time, and names the command. After that the audit balances."""
    access = influxdb2.fresh()
    config = tmp_path / "hub.toml"
    config.write_text(access.settings())
    async with running_hub(tmp_path / "data", options=("--config", str(config))) as hub:
        await send(hub, "pump", 0)
        with influxdb2.down():
            shutil.copytree(influxdb2.folder, tmp_path / "copy")
        await send(hub, "pump", ROWS)
        await send(hub, "fan", 0)
        assert (await audited(hub, "pump"))[0] == 0
        with influxdb2.down():
            shutil.rmtree(influxdb2.folder)
            shutil.copytree(tmp_path / "copy", influxdb2.folder)

        code, audit = await audited(hub, "pump")
        assert (code, audit["balanced"], audit["difference"]) == (1, False, 0)
        lost = {item["metric"]: item for item in audit["lost"]}
        assert {name: (item["readings"], item["first_ns"], item["last_ns"]) for name, item in lost.items()} == {
            "level": (ROWS, BEGIN + ROWS * SECOND, BEGIN + (2 * ROWS - 1) * SECOND),
            "state": (ROWS // 3, BEGIN + ROWS * SECOND, BEGIN + (2 * ROWS - 3) * SECOND),
        }
        step = audit["findings"][-1].partition("`")[2].rstrip("`")
        assert step.startswith("hub store resend --since 20")
        code, out, err = await command(hub, *shlex.split(step)[1:])
        assert (code, out.partition(" missing")[0]) == (0, f"{2 * (ROWS + ROWS // 3)}"), (out, err)
        assert [(await audited(hub, device))[0] for device in ("pump", "fan")] == [0, 0]

        delete(access, "2026-05-28T20:00:00Z", "2026-05-29T00:00:00Z", 'device="fan"')
        code, out, _ = await command(hub, "audit")
        assert code == 1
        assert f"fan level: the store acknowledged and lost {ROWS} readings" in out
        assert "pump" not in out
        for expected in (ROWS + ROWS // 3, 0):
            code, out, _ = await command(hub, "store", "resend", "--since", "30m", "--json")
            assert (code, json.loads(out)["resent"]) == (0, expected)
        code, out, _ = await command(hub, "audit")
        assert (code, "2 devices audited, all balance" in out) == (0, True), out
        answer = await hub.get("/api/v1/history", device=["fan", "pump"], metric="level", points=0, **{"from": "0"})
        assert [len(series["values"]) for series in answer["series"]] == [ROWS, 2 * ROWS]


async def replace_by_older_copy(data: Path, options: tuple[str, ...]) -> Hub:
    """Run a hub, keep a copy of its DuckDB file, send more, and put the copy in its place. Return the running hub."""
    hub = Hub(data, options=options)
    await hub.start()
    try:
        await send(hub, "pump", 0)
        assert await hub.stop() == 0
        shutil.copy(data / "history.duckdb", data / "copy")
        await hub.start()
        # The journal always keeps its newest block: that of the last batch.
        await send(hub, "pump", ROWS)
        await send(hub, "pump", 2 * ROWS)
        assert await hub.stop() == 0
        shutil.move(data / "copy", data / "history.duckdb")
        await hub.start()
        await hub.settled()
    except BaseException:
        await hub.kill()
        raise
    return hub


@pytest.mark.deadline(180)
@pytest.mark.parametrize("resend_seconds", [1800, 0])
async def test_duckdb_replaced_by_an_older_copy_is_filled_from_the_journal(tmp_path: Path, resend_seconds: int) -> None:
    """The hub writes what the copy lacks at its start, from what the journal keeps after an acknowledgement. Without
    that, the readings are lost, and the audit says so."""
    config = tmp_path / "hub.toml"
    config.write_text(f"[journal]\nkeep_bytes = 0\nresend_seconds = {resend_seconds}\n")
    hub = await replace_by_older_copy(tmp_path / "data", ("--config", str(config)))
    try:
        code, audit = await audited(hub, "pump")
        if resend_seconds:
            assert (code, audit["stored"]) == (0, 3 * (ROWS + ROWS // 3))
            code, out, _ = await command(hub, "store", "resend")
            assert (code, "nothing is missing" in out) == (0, True)
        else:
            assert (code, audit["difference"] > 0, audit["lost"]) == (1, True, [])
            assert "the journal does not have these readings any more" in audit["findings"][-1]
        assert await hub.stop() == 0
    finally:
        await hub.kill()
