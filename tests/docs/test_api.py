"""Tests that docs/api.md agrees with a real hub: its commands return the printed answers, its tables are complete."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from device_agent import Agent, Metric
from hub.http.problem import CODES, ProblemCode
from tests.end_to_end.hub import COMMAND, Hub, running_hub

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
QUESTIONS = [
    (command.strip(), BLOCKS[number + 1][1])
    for number, (label, command) in enumerate(BLOCKS)
    if label == "sh" and command.startswith("curl")
]
EXPORTS = [command.strip() for label, command in BLOCKS if label == "sh" and command.startswith("hub export")]
ANY = "…"
"""Placeholder on the page for a value that differs each time."""
BEGIN = 1_769_860_800_000_000_000


@pytest.fixture(scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hub]:
    """Start a hub with the readings of the page."""
    async with running_hub(tmp_path_factory.mktemp("page") / "data") as hub:
        metrics = [Metric("pressure", unit="bar", description="at the outlet"), Metric("running", "boolean")]
        token = await hub.token("device", "--device", "pump")
        async with Agent(hub.url, device="pump", token=token, metrics=metrics) as pump:
            times = [BEGIN + second * 1_000_000_000 for second in range(6)]
            pressures = [1 + second / 2 for second in range(6)]
            await pump.send_columns(times, {"pressure": pressures, "running": [second < 5 for second in range(6)]})
            await pump.drain(30)
        await hub.settled()
        yield hub


def matches(expected: Any, answer: Any) -> bool:
    """Return whether an answer equals the one on the page, placeholders aside."""
    if expected == ANY:
        return answer is not None
    if isinstance(expected, dict) and isinstance(answer, dict):
        return expected.keys() == answer.keys() and all(matches(expected[name], answer[name]) for name in expected)
    if isinstance(expected, list) and isinstance(answer, list):
        return len(expected) == len(answer) and all(map(matches, expected, answer))
    return bool(expected == answer)


async def curl(hub: Hub, command: str) -> httpx.Response:
    """Send the request that curl would send with these arguments."""
    text = command.replace("$HUB", hub.url).replace("$TOKEN", await hub.admin())
    _, *arguments = shlex.split(text)
    options = list(zip(arguments[:-1:2], arguments[1:-1:2], strict=True))
    assert {flag for flag, _ in options} <= {"-H", "-d"}
    headers = dict(value.split(": ", 1) for flag, value in options if flag == "-H")
    body = next((value for flag, value in options if flag == "-d"), None)
    async with httpx.AsyncClient(timeout=30) as client:
        method = "GET" if body is None else "POST"
        return await client.request(method, arguments[-1], headers={"Accept": "*/*", **headers}, content=body)


@pytest.mark.parametrize(("command", "expected"), QUESTIONS)
async def test_a_command_of_the_page_is_answered_as_the_page_says(hub: Hub, command: str, expected: str) -> None:
    """JSON answers are compared by content, other answers character by character."""
    answer = await curl(hub, command)
    if answer.headers["content-type"].endswith("json"):
        assert matches(json.loads(expected), answer.json()), answer.text
    else:
        assert answer.text.replace("\r\n", "\n") == expected


@pytest.mark.parametrize("command", EXPORTS)
async def test_an_export_of_the_page_works(hub: Hub, tmp_path: Path, command: str) -> None:
    """The command writes its file."""
    arguments = shlex.split(command)
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments[1:],
        cwd=tmp_path,
        env={**os.environ, "HUB_URL": hub.url, "HUB_TOKEN": await hub.admin(), "PYTHONPATH": str(Path.cwd())},
    )
    assert await process.wait() == 0
    (file,) = tmp_path.iterdir()
    assert file.name == arguments[-1]
    assert len(file.read_text().splitlines()) == 3


async def test_the_page_names_every_operation_and_no_other(hub: Hub) -> None:
    """The table has the operations of the OpenAPI document."""
    description = await hub.get("/api/v1/openapi.json")
    described = {f"{method.upper()} {path}" for path, methods in description["paths"].items() for method in methods}
    assert set(re.findall(r"^\| `([A-Z]+ /[^`]+)` \|", PAGE, re.MULTILINE)) == described


def test_the_page_says_what_to_do_about_every_code() -> None:
    """The table has every code with its status and a sentence."""
    documented = re.findall(r"^\| `(\w+)` \| (\d{3}) \| .+\. \|$", PAGE, re.MULTILINE)
    assert sorted(code for code, _ in documented) == sorted(ProblemCode)
    assert {(code, int(status)) for code, status in documented} >= {
        (code.value, int(status)) for status, code in CODES.items() if status != 400
    }


async def test_the_page_names_every_parameter_of_a_history_and_of_an_export(hub: Hub) -> None:
    """Each parameter is named in code style."""
    paths = (await hub.get("/api/v1/openapi.json"))["paths"]
    for path in ("/api/v1/history", "/api/v1/export"):
        for parameter in paths[path]["get"]["parameters"]:
            assert f"`{parameter['name']}`" in PAGE
