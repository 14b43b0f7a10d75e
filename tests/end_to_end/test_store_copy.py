"""Command `hub store copy` on a real hub's data: to InfluxDB and back; the hub continues with the new store."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.hub import COMMAND, Hub
from tests.end_to_end.import_command import import_result, start_import, stored_values
from tests.services.influxdb import InfluxdbServer

LINES = 3_000
KINDS = 'm,device=d{} f={}.25,i={}i,b=t,s="x y, \\"{}\\"" {}\n'
START_S = 1_700_000_000


async def copied(data: Path, source: str, target: str) -> tuple[int | None, dict[str, Any], str]:
    """Run the copy; return the exit code, the report and stderr."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *("store", "copy", "--data", str(data), "--from", source, "--to", target, "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode, json.loads(out) if out else {}, err.decode()


def plant_file(path: Path, *, first: int) -> None:
    """Write readings of all types for three devices."""
    numbers = range(first, first + LINES)
    path.write_text("".join(KINDS.format(n % 3, n, n, n, START_S + n) for n in numbers))


async def filled(hub: Hub, token: str, file: Path) -> None:
    """Import the file; return when all of it is stored."""
    status, _, errors = await import_result(await start_import(hub, token, str(file)))
    assert status == 0, errors
    await hub.settled()


@pytest.mark.deadline(120)
async def test_history_moves_to_influxdb_and_back(
    tmp_path: Path, influxdb2: InfluxdbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy is rejected while the hub runs. Afterwards every reading is there once. The hub continues with InfluxDB,
    and its new readings are copied back into a new DuckDB file."""
    data = tmp_path / "data"
    plant_file(tmp_path / "first.lp", first=0)
    plant_file(tmp_path / "second.lp", first=LINES)
    hub = Hub(data)
    await hub.start()
    try:
        token = await hub.token("gateway", "--devices", "*")
        await filled(hub, token, tmp_path / "first.lp")
        access = influxdb2.fresh()
        for name in ("url", "token", "org", "bucket"):
            monkeypatch.setenv(f"INFLUXDB_{name.upper()}", getattr(access, name))
        status, _, errors = await copied(data, "duckdb", "influxdb")
        assert status == 1
        assert "in use" in errors
        assert await hub.stop() == 0
        for written, before in ((4 * LINES, 0), (0, 4 * LINES)):
            status, report, errors = await copied(data, "duckdb", "influxdb")
            assert status == 0, errors
            assert report == {"copied": written, "before": before, "refused": 0, "series": 12, "differences": []}
        await hub.start()
        await filled(hub, token, tmp_path / "second.lp")
        flow = await hub.settled()
        assert flow["totals"]["stored"] == flow["totals"]["accepted"] == 8 * LINES
        assert flow["totals"]["difference"] == 0
        assert await stored_values(hub, "d1", "i") == list(range(1, 2 * LINES, 3))
        assert await hub.stop() == 0
        status, report, errors = await copied(data, "influxdb", str(tmp_path / "back.duckdb"))
        assert status == 0, errors
        assert (report["copied"], report["differences"]) == (8 * LINES, [])
        status, report, errors = await copied(data, "influxdb", "duckdb")
        assert status == 1
        assert "empty store" in errors
    finally:
        await hub.kill()
