"""The command `hub import` in a process of its own, and the history that it leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from tests.end_to_end.hub import COMMAND, Hub


async def start_import(hub: Hub, token: str, *arguments: str) -> asyncio.subprocess.Process:
    """Start `hub import`."""
    return await asyncio.create_subprocess_exec(
        *COMMAND,
        "import",
        *arguments,
        "--url",
        hub.url,
        "--token",
        token,
        "--json",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def import_result(process: asyncio.subprocess.Process) -> tuple[int | None, dict[str, Any], str]:
    """Return its exit code, its report and its standard error."""
    out, err = await process.communicate()
    assert out, err.decode()
    return process.returncode, json.loads(out), err.decode()


async def stored_values(hub: Hub, device: str, metric: str) -> Sequence[Any]:
    """Return every stored value of a series in order of time."""
    answer = await hub.get("/api/v1/history", device=device, metric=metric, points=0, **{"from": "0"})
    values: Sequence[Any] = answer["series"][0]["values"]
    return values
