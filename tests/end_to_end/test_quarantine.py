"""The quarantine of a real hub: rejected batches are read, corrected and retried, once, or deleted."""

from __future__ import annotations

import asyncio
import json
import random
import struct
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner, Result

from hub.cli import quarantine
from hub.http import quarantine_answers as answers
from tests.end_to_end.browser import PHONE, SCREEN, open_browser, open_page
from tests.end_to_end.hub import Hub, running_hub
from tests.end_to_end.rejected_batches import LEVEL, send_batches

BATCHES = 200
SPEED = {"name": "speed", "type": "float"}


def is_exactly(answer: Any, struct: type[msgspec.Struct]) -> bool:
    """Return whether an answer has exactly the fields of this struct."""
    return bool(msgspec.to_builtins(msgspec.convert(answer, struct)) == answer)


def unknown(number: int) -> dict[str, Any]:
    return {"time": [number], "values": {"speed": [float(number)]}}


WRONG = {"time": [1], "values": {"level": ["high"]}}
PARTLY_WRONG = {"time": [1, 2, 3], "values": {"level": [1.5, "high", 2.5]}}


async def ask(hub: Hub, method: str, path: str, token: str | None = None, **more: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token or await hub.admin()}"}
    async with httpx.AsyncClient(base_url=hub.url, headers=headers, timeout=30) as client:
        return await client.request(method, f"/api/v1/quarantine{path}", **more)


async def test_rejected_batches_are_read_counted_retried_and_deleted(tmp_path: Path) -> None:
    """Every operation of the API answers as described; accounting and metrics count the same, before and after a
    restart."""
    async with running_hub(tmp_path / "data") as hub:
        packed = {"time": struct.pack("<2q", 5, 6), "values": {"speed": struct.pack("<2d", 1.5, float("nan"))}}
        await send_batches(hub, "a", [WRONG, unknown(3)])
        await send_batches(hub, "b", [packed], format="msgpack")
        await hub.stop()
        await hub.start()

        page = await hub.get("/api/v1/quarantine", limit=2)
        assert is_exactly(page, answers.QuarantinePage)
        newest = page["quarantine"]
        assert [(entry["device"], entry["seq"], entry["code"]) for entry in newest] == [
            ("b", 1, "unknown_metric"),
            ("a", 2, "unknown_metric"),
        ]
        last = await hub.get("/api/v1/quarantine", limit=2, cursor=page["next"])
        assert ([entry["code"] for entry in last["quarantine"]], last["next"]) == (["wrong_type"], None)
        assert (await hub.get("/api/v1/quarantine", device="b"))["quarantine"] == newest[:1]
        assert (await hub.get("/api/v1/quarantine", code="wrong_type"))["quarantine"] == last["quarantine"]

        counts = await hub.get("/api/v1/quarantine/counts")
        assert is_exactly(counts, answers.QuarantineCounts)
        assert [(c["code"], c["entries"], c["devices"]) for c in counts["codes"]] == [
            ("unknown_metric", 2, 2),
            ("wrong_type", 1, 1),
        ]
        assert counts["newest"] == newest[0]["offset"]
        message = await hub.get(f"/api/v1/quarantine/{newest[0]['offset']}")
        assert is_exactly(message, answers.QuarantinedMessage)
        assert json.loads(message["text"])["values"] == {"speed": [1.5, None]}
        assert (message["shortened"], "declare it" in message["advice"]) == (False, True)
        raw = await ask(hub, "GET", f"/{newest[1]['offset']}/payload")
        assert json.loads(raw.content) == {"type": "data", "seq": 2, **unknown(3)}

        viewer = await hub.token("viewer")
        assert (await ask(hub, "POST", "/retry", viewer, json={})).status_code == 403
        assert (await ask(hub, "DELETE", f"/{newest[0]['offset']}", viewer)).status_code == 403
        stays = (await ask(hub, "POST", "/retry", json={})).json()
        assert is_exactly(stays, answers.RetriedBatches)
        assert (stays["accepted"], stays["reasons"]) == (0, {"unknown_metric": 2, "wrong_type": 1})

        await send_batches(hub, "a", [], metrics=[LEVEL, SPEED])
        await send_batches(hub, "b", [], metrics=[SPEED])
        operator = await hub.token("operator")
        accepted = await ask(hub, "POST", f"/{newest[0]['offset']}/retry", operator)
        assert accepted.json() == {"accepted": True, "readings": 1, "code": None, "message": None}
        assert (await ask(hub, "POST", f"/{newest[0]['offset']}/retry", operator)).status_code == 404
        done = (await ask(hub, "POST", "/retry", operator, json={"device": "a", "code": "unknown_metric"})).json()
        assert (done["accepted"], done["readings"], done["next"]) == (1, 1, None)
        rejected = await ask(hub, "DELETE", "", operator)
        assert (rejected.status_code, "all=true" in rejected.json()["detail"]) == (422, True)
        assert (await ask(hub, "DELETE", "?all=true", operator)).json() == {"deleted": 1}
        assert (await ask(hub, "DELETE", "/1", operator)).status_code == 404

        counts = await hub.settled()
        assert (counts["totals"]["accepted"], counts["totals"]["stored"]) == (2, 2)
        # The deleted one: two were accepted since.
        assert counts["totals"]["quarantined_batches"] == 1
        history = await hub.get("/api/v1/history", device="*", metric="speed", points=0, **{"from": "0"})
        assert [(s["device"], s["time_ns"], s["values"]) for s in history["series"]] == [
            ("a", [3], [3.0]),
            ("b", [5], [1.5]),
        ]
        latest = await hub.get("/api/v1/latest", device="a", metric="speed")
        assert latest["latest"][0]["latest"] is None
        kinds = [event["kind"] for event in (await hub.get("/api/v1/devices/a/events"))["events"]]
        assert {"quarantine_retried", "quarantine_deleted"} <= set(kinds)
        async with httpx.AsyncClient(base_url=hub.url) as client:
            families = {f.name: f for f in text_string_to_metric_families((await client.get("/metrics")).text)}
        assert {s.labels["code"]: s.value for s in families["hub_quarantined_batches"].samples} == {
            "unknown_metric": 2,
            "wrong_type": 1,
        }


async def test_the_command_line_shows_retries_and_deletes(tmp_path: Path) -> None:
    """Commands print tables for people and JSON for programs. The exit code is 0 on success, 1 when entries remain, 2
    for wrong arguments."""
    async with running_hub(tmp_path / "data") as hub:
        hostile = {"time": [1], "values": {"[red]": [1.0]}}
        await send_batches(hub, "pump", [*map(unknown, range(1, 131)), hostile, WRONG])
        token = await hub.token("operator")

        async def run(*arguments: str) -> Result:
            options = ["--url", hub.url, "--token", token]
            return await asyncio.to_thread(CliRunner().invoke, quarantine.app, [*arguments, *options])

        listed = json.loads((await run("list", "--limit", "120", "--json")).stdout)
        assert [entry["seq"] for entry in listed] == list(range(132, 12, -1))
        table = await run("list", "--limit", "2")
        assert "unknown_metric" in table.stdout
        assert "[red]" in table.stdout
        assert "there are more" in table.stderr
        counted = await run("count")
        assert [line.split()[:2] for line in counted.stdout.splitlines()[1:]] == [
            ["unknown_metric", "131"],
            ["wrong_type", "1"],
        ]
        assert "pump" in (await run("count", "--by", "device")).stdout
        newest = str(listed[0]["offset"])
        shown = (await run("show", newest)).stdout
        assert "wrong_type: level" in shown
        assert '"level": ["high"]' in shown
        assert json.loads((await run("show", newest, "--raw")).stdout) == {"type": "data", "seq": 132, **WRONG}

        for wrong in (["retry"], ["retry", newest, "--all"], ["delete", "--all"], ["show", "0"]):
            assert (await run(*wrong)).exit_code == 2, wrong
        gone = await run("show", "999999")
        assert (gone.exit_code, "not in quarantine" in gone.stderr) == (1, True)

        await send_batches(hub, "pump", [], metrics=[LEVEL, SPEED])
        retried = await run("retry", str(listed[-1]["offset"]), "--json")
        assert (retried.exit_code, json.loads(retried.stdout)["accepted"]) == (0, 1)
        some = await run("retry", "--all")
        assert (some.exit_code, some.stdout) == (1, "accepted 129 messages with 129 readings\n")
        assert "1 stays in quarantine: unknown_metric" in some.stderr
        assert (await run("delete", newest, "--yes")).stdout == "deleted 1\n"
        rest = await run("delete", "--all", "--yes", "--json")
        assert json.loads(rest.stdout) == {"deleted": 1}
        empty = await run("list")
        assert (empty.exit_code, empty.stderr) == (0, "there is no message in quarantine\n")
        rejected = await asyncio.to_thread(
            CliRunner().invoke, quarantine.app, ["list", "--url", hub.url, "--token", "hub_viewer_a_b"]
        )
        assert (rejected.exit_code, "hub quarantine list: " in rejected.stderr) == (1, True)
        local = await asyncio.to_thread(
            CliRunner().invoke, quarantine.app, ["retry", "--all", "--url", hub.url, "--data", str(hub.data)]
        )
        assert (local.exit_code, local.stdout) == (1, "")
        assert "nothing" in local.stderr


async def test_the_page_reads_retries_and_deletes(tmp_path: Path, chromium: Path) -> None:
    """The page shows reasons with counts and the readable messages behind them. An operator retries them when they can
    be accepted, and deletes the rest; a viewer can only read. It fits a phone and updates by itself."""
    async with running_hub(tmp_path / "data") as hub, open_browser(chromium) as browser:
        page = await open_page(browser, hub, "/quarantine")
        await page.get_by_test_id("empty-quarantine").wait_for()
        await send_batches(hub, "x" * 64, [*map(unknown, range(1, 121)), WRONG])
        await page.reload()
        reasons = page.get_by_test_id("reason")
        await reasons.nth(1).wait_for()
        assert await reasons.nth(1).get_attribute("data-code") == "wrong_type"
        assert "120" in await reasons.first.inner_text()
        rows = page.get_by_test_id("message")
        assert await rows.count() == 50
        await page.get_by_test_id("more").click()
        await rows.nth(99).wait_for()
        await rows.first.get_by_role("button").press("Enter")
        opened = page.get_by_test_id("opened")
        await opened.get_by_text('"level": ["high"]').wait_for()
        assert "correct the device's program" in await opened.inner_text()
        await page.set_viewport_size({"width": PHONE["width"], "height": PHONE["height"]})
        assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        await page.set_viewport_size({"width": SCREEN["width"], "height": SCREEN["height"]})

        await send_batches(hub, "x" * 64, [], metrics=[LEVEL, SPEED])
        await reasons.first.get_by_role("button", name="Retry all").click()
        await page.get_by_test_id("confirm").click()
        await page.get_by_text("120 messages accepted, with 120 readings.").wait_for()
        assert (await hub.get("/api/v1/flow"))["totals"]["accepted"] == 120
        await page.get_by_test_id("delete").click()
        await page.get_by_role("button", name="Cancel").click()
        assert (await hub.get("/api/v1/quarantine/counts"))["entries"] == 1
        await page.get_by_test_id("retry").click()
        await page.get_by_text("1 message stays: wrong_type").wait_for()
        await page.get_by_test_id("delete").click()
        await page.get_by_test_id("confirm").click()
        await page.get_by_test_id("empty-quarantine").wait_for()

        viewer = await (await browser.new_context()).new_page()
        await viewer.goto(f"{hub.url}/quarantine")
        await viewer.get_by_role("textbox").fill(await hub.token("viewer"))
        await viewer.get_by_role("textbox").press("Enter")
        await viewer.get_by_test_id("empty-quarantine").wait_for()
        await send_batches(hub, "later", [PARTLY_WRONG])
        await viewer.get_by_test_id("message").wait_for()
        await viewer.get_by_test_id("message").get_by_role("button").click()
        await viewer.get_by_text('"level": ["high"]').wait_for()
        values = viewer.get_by_test_id("values")
        assert await values.locator("tbody tr").all_inner_texts() == ["level\thigh\t1\t1 Jan 1970 00:00:00"]
        assert "The valid values are accepted." in await values.inner_text()
        assert await viewer.get_by_test_id("retry").count() == 0
        assert await viewer.get_by_role("button", name="Retry all").count() == 0


@pytest.mark.deadline(120)
async def test_a_retry_counts_once_although_the_hub_is_killed(tmp_path: Path) -> None:
    """The hub is killed during a retry: each batch is in quarantine or accepted, and at the end stored once."""
    hub = Hub(tmp_path / "data")
    await hub.start()
    try:
        await send_batches(hub, "d", [unknown(number) for number in range(1, BATCHES + 1)])
        await send_batches(hub, "d", [], metrics=[SPEED])
        for delay_s in (random.uniform(0, 0.03), random.uniform(0, 0.1)):
            retry = asyncio.create_task(retry_all(hub))
            await asyncio.wait([retry], timeout=delay_s)
            await hub.kill()
            await asyncio.wait([retry])
            retry.exception()
            await hub.start()
            left = (await hub.get("/api/v1/quarantine/counts"))["entries"]
            accepted = (await hub.get("/api/v1/flow"))["totals"]["accepted"]
            assert left + accepted == BATCHES
        await retry_all(hub)
        counts = await hub.settled()
        assert (counts["totals"]["accepted"], counts["totals"]["stored"]) == (BATCHES, BATCHES)
        history = await hub.get("/api/v1/history", device="d", metric="speed", points=0, **{"from": "0"})
        assert history["series"][0]["time_ns"] == list(range(1, BATCHES + 1))
        assert await hub.stop() == 0
    finally:
        await hub.kill()


async def retry_all(hub: Hub) -> None:
    """Retry in small steps, so that a kill comes between some of them."""
    headers = {"Authorization": f"Bearer {await hub.admin()}"}
    async with httpx.AsyncClient(base_url=hub.url, headers=headers, timeout=30) as client:
        for first in range(0, 2 * BATCHES, 25):
            answer = await client.post("/api/v1/quarantine/retry", json={"after": first, "up_to": first + 25})
            assert answer.status_code == 200
