"""A directory with known content, recorded once by a real hub and its agents, and copied for each trial.

Four states of it are kept. `older` was stopped in order: a backup. `middle` was copied while the hub ran. `killed` was
killed with SIGKILL, so the newest commits are in the write-ahead logs, and the store lacks the last of them. `merged`
is the same after SQLite has moved the logs into the databases, as a hub does from time to time.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import apsw
import duckdb
import msgspec

from device_agent import Agent, Metric
from tests.damage.outcome import Truth
from tests.damage.reading import HubReader
from tests.damage.unchecked import switch_off_checksums
from tests.end_to_end.hub import Hub
from tests.end_to_end.hub_child import HubChild
from tests.end_to_end.rejected_batches import send_batches

ROWS = 5
METRICS = (Metric("temperature", unit="°C", description="of the water"), Metric("count", "integer"))
BATCH_READINGS = ROWS * len(METRICS)

KEPT = "kept"
"""Device whose agent has a durable spool: it keeps acknowledged batches, and sends them again when they were lost."""

MEMORY = "memory"
"""Device whose agent keeps nothing: only the hub has its batches."""

ODD = "odd"
"""Device whose batches are rejected, and which does not connect again."""

TAGS = {"site": "north", "room": "boiler room"}

HUB, SPOOL = "hub", "agent/kept.spool"
"""Places in a directory: the data of the hub, and the spool of the device `kept`."""

KEEP_NOTHING = "[journal]\nkeep_seconds = 0\nkeep_bytes = 0\n"
"""Settings of the first run: as in a hub that is older than a day, its readings are only in the store."""


WAITING = 40
"""Batches in the spool of `kept` that the hub never got."""

DRAIN_S = 30.0


class Recording(msgspec.Struct, frozen=True):
    """Knowledge of the trials about the recorded directories. `tokens` are those of each device and of the admin."""

    truth: Truth
    tokens: dict[str, str]
    sent: dict[str, int]

    def waiting_values(self) -> list[bytes]:
        """Return the bytes of each value of the metric `temperature` that only the spool of `kept` has.

        Agents send so few rows in msgpack: a byte with the type, and eight of the value.
        """
        last = self.sent[KEPT]
        return [
            msgspec.msgpack.encode(value_of(KEPT, "temperature", time))
            for batch in range(last - WAITING + 1, last + 1)
            for time in times_of(batch)
        ]


def times_of(batch: int) -> list[int]:
    """Return the times of a batch of a device. Batches are numbered from 1."""
    return list(range(1 + (batch - 1) * ROWS, 1 + batch * ROWS))


def value_of(device: str, metric: str, time: int) -> float:
    """Return the one right value of a reading."""
    return time * 4 + len(device) if metric == "count" else time * 0.25 + len(device)


async def send_batch(agent: Agent, batch: int) -> None:
    """Send this batch of the agent's device."""
    times = times_of(batch)
    await agent.send_columns(
        times, {metric.name: [value_of(agent.device, metric.name, time) for time in times] for metric in METRICS}
    )


def readings_of(sent: dict[str, int]) -> dict[str, dict[str, dict[int, float]]]:
    """Return every reading of the devices that sent so many batches."""
    return {
        device: {
            metric.name: {
                time: value_of(device, metric.name, time) for batch in range(1, last + 1) for time in times_of(batch)
            }
            for metric in METRICS
        }
        for device, last in sent.items()
    }


def open_agent(url: str, device: str, token: str, spool: Path | None) -> Agent:
    """Return the agent of a device."""
    return Agent(url, device=device, token=token, spool=spool, metrics=METRICS, tags=TAGS, drain_seconds=0.0)


async def record(root: Path, *, unchecked: bool = False) -> Recording:
    """Record the directories below `root`. `unchecked` switches the checksums of the hub off, too."""
    recorder = _Recorder(root, unchecked)
    await recorder.first_run()
    await recorder.second_run()
    await recorder.end()
    return recorder.recording


class _Recorder:
    """A hub and its agents at work."""

    def __init__(self, root: Path, unchecked: bool) -> None:
        self.recording = Recording(Truth({}, {}, BATCH_READINGS, {}), {}, {KEPT: 0, MEMORY: 0})
        self._root = root
        self._unchecked = unchecked
        self._work = root / "work"
        (self._work / SPOOL).parent.mkdir(parents=True)

    async def first_run(self) -> None:
        """Run a hub whose journal keeps nothing, and stop it in order."""
        config = self._root / "first.toml"
        config.write_text(KEEP_NOTHING)
        async with self._hub("first", "--config", str(config)) as (child, hub):
            for device in self.recording.sent:
                self.recording.tokens[device] = await hub.token("device", "--device", device)
            self.recording.tokens["admin"] = await hub.token("admin", "--label", "trials")
            await hub.token("viewer", "--label", "wall display")
            async with self._agents(hub) as agents:
                await self._send(agents, groups=6, batches=10)
            await send_batches(hub, ODD, [_rejected(number) for number in range(3)])
            await hub.settled()
            assert await child.stop() == 0, child.log()
        shutil.copytree(self._work, self._root / "older")

    async def second_run(self) -> None:
        """Continue with the usual settings, copy the files of the running hub, continue, and kill it."""
        async with self._hub("second") as (child, hub), self._agents(hub) as agents:
            await self._send(agents, groups=15, batches=3)
            await send_batches(hub, ODD, [_rejected(number) for number in range(3, 6)])
            await hub.settled()
            async with HubReader(hub.url, self.recording.tokens["admin"]) as reader:
                self.recording.truth.facts.update(await reader.facts())
                self.recording.truth.quarantined.update(await reader.quarantined())
            shutil.copytree(self._work, self._root / "middle")
            await self._send(agents, groups=15, batches=3)
            await child.kill()
            # What the agent reads from its sensors while there is no hub.
            for _ in range(WAITING):
                await self._send_batch(agents[KEPT])
            shutil.copytree(self._work, self._root / "killed")

    async def end(self) -> None:
        """Complete the truth, and move the logs of the killed hub into its databases."""
        self.recording.truth.readings.update(readings_of(self.recording.sent))
        merged = self._root / "merged"
        shutil.copytree(self._work, merged)  # the agent has closed its spool meanwhile
        with duckdb.connect(merged / HUB / "history.duckdb") as store:
            store.execute("CHECKPOINT")
        for name in ("journal.db", "registry.db"):
            connection = apsw.Connection(os.fspath(merged / HUB / name))
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # reads the log
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            connection.close()
        shutil.rmtree(self._work)

    @asynccontextmanager
    async def _hub(self, name: str, *options: str) -> AsyncIterator[tuple[HubChild, Hub]]:
        """Yield a forked hub, and the client that creates its tokens and reads its accounting."""
        streams = self._root / name
        streams.mkdir()
        child = HubChild(
            self._work / HUB, streams, options=options, prepare=switch_off_checksums if self._unchecked else None
        )
        try:
            client = Hub(self._work / HUB)
            client.url = await child.address() or ""
            assert client.url, child.log()
            yield child, client
        finally:
            await child.kill()

    @asynccontextmanager
    async def _agents(self, hub: Hub) -> AsyncIterator[dict[str, Agent]]:
        async with AsyncExitStack() as stack:
            yield {
                device: await stack.enter_async_context(
                    open_agent(
                        hub.url, device, self.recording.tokens[device], self._work / SPOOL if device == KEPT else None
                    )
                )
                for device in self.recording.sent
            }

    async def _send(self, agents: Mapping[str, Agent], *, groups: int, batches: int) -> None:
        """Send batches of each device in groups, each of which is a commit or more of the journal."""
        for _ in range(groups):
            for agent in agents.values():
                for _ in range(batches):
                    await self._send_batch(agent)
            for agent in agents.values():
                await agent.drain(DRAIN_S)

    async def _send_batch(self, agent: Agent) -> None:
        self.recording.sent[agent.device] += 1
        await send_batch(agent, self.recording.sent[agent.device])


def _rejected(number: int) -> dict[str, object]:
    return {"time": [number + 1], "values": {"level": [f"not a number {number}"]}}
