"""Record the data directory of an installed hub, the spool of its agent, and what that hub answers.

    python -m tests.end_to_end.stored_data.record BIN FOLDER

`BIN` holds the programs `hub`, `device-agent` and `device-sim` of the version to record. The results are written to
`FOLDER`: `data.tar.xz` and `answers.json`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import httpx

from tests.end_to_end.bridged_hub import connected, publish, when_handled
from tests.end_to_end.hub import Hub
from tests.end_to_end.raw_agent import connect_agent, data, greeted_agent, hello
from tests.end_to_end.rejected_batches import send_batches
from tests.end_to_end.stored_data.answers import answers_of
from tests.hub.storage.duckdb.locked_file import locked_by_another_process
from tests.services import find_service
from tests.services.found import MOSQUITTO
from tests.services.mosquitto import Mosquitto

BRIDGE = """
[[mqtt]]
name = "plant"
url = "{url}"
client_id = "plant-hub"
subscribe = [
  {{ topic = "sensors/{{device}}/{{metric}}", payload = "value" }},
  {{ topic = "machines/{{device}}", payload = "json" }},
]
publish = [{{ topic = "out/{{device}}/{{metric}}" }}]
"""
LEVEL = {"name": "level", "type": "float"}
SPEED = {"name": "speed", "type": "integer"}
KILN_START_S = 1_769_860_800
SPOOL = "kiln.spool"


async def record(programs: Path, folder: Path) -> None:
    """Run the hub, leave its store and its bridge behind the journal, stop it, and record the directory."""
    with tempfile.TemporaryDirectory() as work:
        directory, config = Path(work) / "directory", Path(work) / "hub.toml"
        directory.mkdir()
        program = find_service(MOSQUITTO).path
        assert program is not None
        with Mosquitto(program, Path(work) / "broker") as broker:
            config.write_text(BRIDGE.format(url=broker.url))
            command = (str(programs / "hub"),)
            hub = Hub(
                directory / "data",
                options=("--config", str(config)),
                launcher=command,
                command=command,
                log=Path(work) / "hub.log",
            )
            await hub.start()
            try:
                tokens = {role: await hub.token(role) for role in ("viewer", "operator", "admin")}
                tokens["gateway"] = await hub.token("gateway", "--devices", "*")
                await send_everything(hub, programs, tokens["gateway"], broker)
                await replay(programs, hub, tokens["gateway"], Path(work), directory / SPOOL, rows=range(60))
                await hub.settled()
                await hub.stop()
                broker.stop()
                with locked_by_another_process(hub.data / "history.duckdb"):
                    await hub.start()
                    await send_the_rest(hub)
                    await hub.stop()
                for first in (60, 80, 100):
                    rows = range(first, first + 20)
                    await replay(programs, hub, tokens["gateway"], Path(work), directory / SPOOL, rows=rows)
                with tarfile.open(folder / "data.tar.xz", "w:xz", preset=9) as archive:
                    archive.add(directory, ".", filter=without_owner)
                broker.start()
                await hub.start()
                await connected(hub)
                await hub.settled()
                answers = await answers_of(hub)
                published = (await hub.get("/api/v1/mqtt"))["bridges"][0]["outward"]["published"]
                await hub.stop()
            finally:
                await hub.kill()
        text = json.dumps({"tokens": tokens, "published": published, "answers": answers}, indent=1, ensure_ascii=False)
        (folder / "answers.json").write_text(text + "\n")


async def send_everything(hub: Hub, programs: Path, token: str, broker: Mosquitto) -> None:
    """Send readings of every type and way, with what the hub rejects, and make one event of each kind."""
    await run(
        str(programs / "device-sim"), "run", "--hub", hub.url, "--token", token, "--devices", "5", "--rate", "2",
        "--duration", "4",
    )  # fmt: skip
    await connected(hub)
    messages = [("sensors/boiler/temperature", f"{20 + n / 4}") for n in range(8)]
    messages += [
        ("machines/press", json.dumps({"ts": KILN_START_S * 1000 + n, "speed": n, "on": True})) for n in range(8)
    ]
    messages += [("machines/press", "{broken")]
    await asyncio.to_thread(publish, broker, messages)
    await when_handled(hub, len(messages))

    connection, _ = await greeted_agent(hub, token)
    for seq in range(1, 11):
        await connection.send(
            data(seq, {"f": [seq / 8], "i": [-(2**53) - seq], "b": [seq % 2 == 0], "s": [f"№ {seq}"]})
        )
    await connection.send(data(10))
    await connection.send({"type": "gap", "from": 11, "to": 15, "reason": "the spool was full"})
    await connection.send(data(16, {"f": [None, 16.5], "s": ["sixteen", None]}, [16, 17]))
    columns: list[dict[str, Any]] = [{"f": ["warm"]}, {"x": [1.0]}, {"i": [2**63]}, {"f": [18.5]}]
    for seq, values in enumerate(columns, start=17):
        await connection.send(data(seq, values))
    while (await connection.receive()) != {"type": "ack", "seq": 20}:
        pass
    newer, _ = await greeted_agent(hub, token, "msgpack")
    await newer.ws.close()

    speeds = [{"time": [n], "values": {"speed": [n]}} for n in range(1, 7)]
    await send_batches(hub, "pump", speeds, metrics=[LEVEL])
    await send_batches(
        hub, "pump", [{"time": [9], "values": {"level": [9.5]}}], metrics=[LEVEL, SPEED], format="msgpack"
    )
    async with await client_of(hub) as client:
        entries = (await client.get("/quarantine", params={"device": "pump"})).json()["quarantine"]
        offsets = sorted(entry["offset"] for entry in entries)
        assert (await client.post(f"/quarantine/{offsets[0]}/retry")).status_code == 200
        assert (await client.delete(f"/quarantine/{offsets[1]}")).is_success
        await send_batches(hub, "old", [{"time": [1], "values": {"level": [1.5]}}], metrics=[LEVEL])
        await hub.settled()
        assert (await client.post("/devices/retire", json={"devices": ["old"]})).is_success
        revoked = await client.post("/tokens", json={"role": "viewer"})
        assert revoked.is_success, revoked.text
        assert (await client.delete(f"/tokens/{revoked.json()['id']}")).is_success


async def send_the_rest(hub: Hub) -> None:
    """Send what the store and the broker do not have when the hub stops."""
    connection = await connect_agent(hub, await hub.token("device", "--device", "d"))
    await connection.send(hello())
    assert (await connection.receive())["acked"] == 20
    for seq in range(21, 41):
        await connection.send(data(seq, {"f": [seq / 8], "s": [f"№ {seq}"]}))
    await connection.send(data(41, {"b": ["yes"]}))
    while (await connection.receive()) != {"type": "ack", "seq": 41}:
        pass
    await connection.ws.close()
    await send_batches(hub, "tank", [{"time": [n], "values": {"level": [n / 4]}} for n in range(1, 9)], metrics=[LEVEL])


async def replay(programs: Path, hub: Hub, token: str, work: Path, spool: Path, *, rows: range) -> None:
    """Replay these rows of the kiln's log; while the hub is stopped they stay in the spool."""
    log = work / "kiln.jsonl"
    log.write_text("".join(json.dumps({"time": (KILN_START_S + n) * 10**9, "temperature": n / 2}) + "\n" for n in rows))
    agent = str(programs / "device-agent")
    where = ("--device", "kiln", "--spool", str(spool))
    before = json.loads(await run(agent, "status", *where, "--json"))["waiting"] if spool.exists() else 0
    process = await asyncio.create_subprocess_exec(
        agent, "replay", str(log), "--hub", hub.url, "--token", token, *where
    )
    if not hub.is_running:
        while json.loads(await run(agent, "status", *where, "--json"))["waiting"] == before:
            pass
        process.terminate()
    await process.wait()


async def client_of(hub: Hub) -> httpx.AsyncClient:
    """Return a client of the API that is signed in as admin."""
    headers = {"Authorization": f"Bearer {await hub.admin()}"}
    return httpx.AsyncClient(base_url=f"{hub.url}/api/v1", headers=headers, timeout=30)


def without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Return the member without the user who made it; leave out the files that only lock."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return None if member.name.endswith(".lock") else member


async def run(*command: str) -> str:
    """Run a program that must succeed; return its standard output."""
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0, command
    return out.decode()


if __name__ == "__main__":
    asyncio.run(record(Path(sys.argv[1]), Path(sys.argv[2])))
