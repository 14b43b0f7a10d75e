"""Values that cannot be accepted are refused one by one by a real hub, and none is lost or stored twice."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result
from websockets.exceptions import ConnectionClosed

from hub.cli import quarantine
from tests.end_to_end.hub import Hub, running_hub
from tests.end_to_end.raw_agent import RawAgent, connect_agent, hello

BATCHES = 150
ROWS = 4
METRICS = [{"name": "f", "type": "float"}, {"name": "i", "type": "integer"}]
HEALTHY = {"f": lambda row: row + 0.5, "i": lambda row: row}
BROKEN: dict[str, list[Any]] = {"f": ["warm", True, {"a": 1}], "i": ["many", True, [1]], "x": [1.5, "x"]}


def batch(seq: int) -> tuple[dict[str, Any], set[tuple[str, int]], int]:
    """Return a batch, its healthy values as metric and time, and the number of all its values. The same every time."""
    chance = random.Random(seq)
    times = [seq * ROWS + row for row in range(ROWS)]
    values: dict[str, list[Any]] = {}
    healthy = set()
    for name in ("f", "i", "x"):
        column = values[name] = []
        for time_ns in times:
            kind = chance.choice("hhbn" if name != "x" else "bnnn")
            column.append(
                HEALTHY[name](time_ns) if kind == "h" else chance.choice(BROKEN[name]) if kind == "b" else None
            )
            if kind == "h":
                healthy.add((name, time_ns))
    count = sum(value is not None for column in values.values() for value in column)
    return {"type": "data", "seq": seq, "time": times, "values": values}, healthy, count


async def greeted(hub: Hub, token: str, subprotocol: str, **changes: Any) -> tuple[RawAgent, int]:
    agent = await connect_agent(hub, token, subprotocol=subprotocol)
    await agent.send(hello(metrics=METRICS, **changes))
    return agent, (await agent.receive())["acked"]


async def deliver(hub: Hub, token: str, acked: int, up_to: int) -> list[dict[str, Any]]:
    """Send batches after `acked`; return the rejects when the last is acknowledged."""
    agent, acked = await greeted(hub, token, "telemetry.v1.2.json")
    for seq in range(acked + 1, up_to + 1):
        await agent.send(batch(seq)[0])
    rejects = []
    while acked < up_to:
        answer = await agent.receive()
        if answer["type"] == "reject":
            rejects.append(answer)
        acked = answer["seq"] if answer["type"] == "ack" else acked
    await agent.ws.close()
    return rejects


async def test_every_value_is_stored_or_in_quarantine_once_over_a_kill(tmp_path: Path) -> None:
    """Batches with any values broken are sent, the hub is killed under them, and they are sent again: what is stored is
    what was healthy, everything else is in quarantine, and both together are what was sent."""
    async with running_hub(tmp_path / "data") as hub:
        token = await hub.token("device", "--device", "d")
        first = await deliver(hub, token, 0, BATCHES // 2)
        agent, _ = await greeted(hub, token, "telemetry.v1.2.json")
        for seq in range(BATCHES // 2 + 1, BATCHES + 1):
            await agent.send(batch(seq)[0])
        await agent.receive()  # some of them are durable
        await hub.kill()
        try:
            while True:
                await agent.receive()
        except ConnectionClosed:
            pass
        await hub.start()
        await deliver(hub, token, 0, BATCHES)
        sent = [batch(seq) for seq in range(1, BATCHES + 1)]
        healthy = set().union(*(values for _, values, _ in sent))
        counts = (await hub.settled())["devices"][0]
        assert (counts["accepted"], counts["stored"], counts["difference"]) == (len(healthy), len(healthy), 0)
        assert counts["accepted"] + counts["quarantined"] == sum(count for *_, count in sent)
        history = await hub.get("/api/v1/history", device="d", metric="*", points=0, **{"from": "0"})
        stored = Counter((s["metric"], time) for s in history["series"] for time in s["time_ns"])
        assert stored == Counter(healthy)
        kept = []
        cursor: dict[str, str] | None = {}
        while cursor is not None:
            page = await hub.get("/api/v1/quarantine", limit=100, **cursor)
            kept += page["quarantine"]
            cursor = {"cursor": page["next"]} if page["next"] else None
        assert max(Counter((entry["seq"], entry["code"]) for entry in kept).values()) == 1
        for reject in first:
            columns = {(column["metric"], row) for column in reject["columns"] for row in rows_of(column)}
            message, healthy_of, count = batch(reject["seq"])
            if healthy_of:
                sent_cells = {
                    (name, row) for name, column in message["values"].items()
                    for row, value in enumerate(column) if value is not None
                }  # fmt: skip
                assert reject["partial"]
                assert columns == {cell for cell in sent_cells if (cell[0], message["time"][cell[1]]) not in healthy_of}
                assert reject["readings"] == len(columns) == count - len(healthy_of)


def rows_of(column: dict[str, Any]) -> list[int]:
    """Return the refused rows of a column."""
    return [row for first, last in column["rows"] for row in range(first, last + 1)]


async def test_the_commands_show_the_values_and_count_readings(tmp_path: Path) -> None:
    """`hub quarantine` names the metric, the row and the value as it was sent; the accounting counts readings. A retry
    accepts what became valid. The agent of an older version gets the reason only."""
    async with running_hub(tmp_path / "data") as hub:
        token = await hub.token("device", "--device", "d")
        agent, _ = await greeted(hub, token, "telemetry.v1.1.json")
        await agent.send(
            '{"type":"data","seq":1,"time":[1,2,3],"values":{"f":[1.5,NaN,2.5],"i":[1,"many",3],"x":[7,null,8]}}'
        )
        assert await agent.receive() == {
            "type": "reject", "seq": 1, "code": "not_finite",
            "message": "f has a value that is not a finite number (row 1: NaN)",
        }  # fmt: skip
        assert await agent.receive() == {"type": "ack", "seq": 1}

        async def run(app: Any, *arguments: str) -> Result:
            options = ["--url", hub.url, "--token", await hub.token("operator")]
            return await asyncio.to_thread(CliRunner().invoke, app, [*arguments, *options])

        listed = (await run(quarantine.app, "list")).stdout
        assert "i is declared integer but has str (row 1: many)" in " ".join(listed.split())
        entries = {e["code"]: e["offset"] for e in json.loads((await run(quarantine.app, "list", "--json")).stdout)}
        assert set(entries) == {"not_finite", "wrong_type", "unknown_metric"}
        shown = (await run(quarantine.app, "show", str(entries["wrong_type"]))).stdout
        assert ["i", "many", "1"] in [line.split()[:3] for line in shown.splitlines()]
        assert "the valid values of the batch" in shown
        counts = (await hub.settled())["totals"]
        assert (counts["accepted"], counts["quarantined"], counts["quarantined_batches"]) == (4, 4, 3)
        await agent.send({"type": "declare", "metrics": [{"name": "x", "type": "integer"}]})
        await agent.send({"type": "data", "seq": 2, "time": [9], "values": {"x": [9]}})
        assert await agent.receive() == {"type": "ack", "seq": 2}
        retried = await run(quarantine.app, "retry", "--code", "unknown_metric")
        assert (retried.exit_code, retried.stdout) == (0, "accepted 1 message with 2 readings\n")
        counts = (await hub.settled())["totals"]
        assert (counts["accepted"], counts["stored"], counts["quarantined"], counts["difference"]) == (7, 7, 2, 0)
        await agent.ws.close()
