"""One trial: copy a recorded directory, damage one file, start the hub and the agents, and observe the result."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Container
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import httpx
from typer.testing import CliRunner

from device_agent import Agent
from device_agent.batch import decode_batch
from device_agent.errors import AgentError, SpoolError
from device_agent.spool import StoredBatch
from device_agent.spool.status import read_status
from hub.cli.token import app as token_command
from tests.damage.kinds import Damage, damaged
from tests.damage.outcome import Observation
from tests.damage.reading import HubReader
from tests.damage.recording import HUB, KEPT, SPOOL, Recording, open_agent, send_batch
from tests.damage.unchecked import switch_off_checksums
from tests.end_to_end.hub_child import HubChild

START_S = 90.0
"""A hub that neither listens nor has ended by then hangs. It needs half a second, and 20 on a machine with ten times as
much work as it can do."""

DELIVERY_S = 60.0
"""Agents deliver within a second. A hub that neither accepts nor reports a problem by then hangs."""

SETTLE_S = 60.0

PATIENCE_S = 2.0
"""A problem that is reported for this long is the answer of the trial: what waits is not lost."""

ENDING_S = 30.0
"""Time that a hub needs to end after its first failed request."""

POLL_S = 0.02


class Target(NamedTuple):
    """A file to damage: its path below a recorded directory, the directory, and the one with an older copy."""

    path: str
    base: str
    older: str


class Case(NamedTuple):
    """A trial: a file and its damage."""

    target: Target
    damage: Damage

    def __str__(self) -> str:
        return f"{self.target.path}: {self.damage}"


def targets(root: Path) -> list[Target]:
    """Return every file of the recorded directories.

    A database is damaged with an empty log, where all its commits are in it. Everything else is as the kill left it.
    """
    found = []
    killed = root / "killed"
    for file in sorted([*(killed / HUB).iterdir(), *(killed / SPOOL).parent.iterdir()]):
        path = str(file.relative_to(killed))
        is_database = any(file.with_name(file.name + log).exists() for log in ("-wal", ".wal"))
        if not file.stat().st_size:
            continue  # a lock
        if is_database:
            found.append(Target(path, "merged", "older"))
        else:
            found.append(Target(path, "killed", "middle"))
    return found


async def run_trial(
    root: Path, recording: Recording, case: Case, work: Path, *, ordinary: Container[str] = (), unchecked: bool = False
) -> Observation:
    """Run the trial in the directory `work`, which must not exist; return what was observed.

    `ordinary` are the events and log lines that an intact directory causes.
    """
    target, damage = case
    shutil.copytree(root / target.base, work)
    file, older = work / target.path, root / target.older / target.path
    content = damaged(file.read_bytes(), damage, name=target.path, older=older.read_bytes() if older.exists() else None)
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    hub = HubChild(work / HUB, work, prepare=switch_off_checksums if unchecked else None)
    trial = _Trial(recording, hub, work)
    try:
        await trial.run()
    finally:
        await hub.kill()
    seen = trial.seen
    seen.reports += _unusual_lines(hub.log())
    seen.reports = [report for report in seen.reports if _phrase(report) not in ordinary]
    return seen


def ordinary_reports(intact: Observation) -> set[str]:
    """Return the events and log lines of a trial without damage, without their details."""
    return {_phrase(report) for report in intact.reports}


class _Trial:
    """A hub that was started on damaged files, and the agents that connect to it."""

    def __init__(self, recording: Recording, hub: HubChild, work: Path) -> None:
        self.seen = Observation()
        self._recording = recording
        self._hub = hub
        self._work = work

    async def run(self) -> None:
        """Start, deliver, wait, and read. Stop early when the hub has ended or hangs."""
        try:
            async with asyncio.timeout(START_S):
                url = await self._hub.address()
        except TimeoutError:
            self._end("hung", "the hub does not listen and does not end")
            return
        if url is None:
            self._end("refused", self._hub.log())
            return
        try:
            async with AsyncExitStack() as stack:
                agents = await self._open_agents(url, stack)
                reader = await stack.enter_async_context(HubReader(url, await self._admin(url)))
                await self._deliver(agents, reader)
                await self._settle(reader)
                await self._read(reader)
                for agent in agents:
                    self.seen.waiting[agent.device] = await _waiting_times(agent)
        except (httpx.HTTPError, OSError) as error:
            await self._ended(error)
        with suppress(SpoolError):
            incidents = read_status(self._work / SPOOL).incidents
            self.seen.reports += [f"spool: {incident.text}" for incident in incidents]

    def _end(self, end: str, message: str) -> None:
        self.seen.end, self.seen.message = end, message

    async def _ended(self, error: Exception) -> None:
        """Note why requests fail: the hub has ended, or it hangs."""
        with suppress(TimeoutError):
            async with asyncio.timeout(ENDING_S):
                await self._hub.wait()
        if self._hub.exit_code is None:
            self._end("hung", f"the hub does not answer: {error!r}")
        else:
            self._end("stopped", self._hub.log())

    async def _open_agents(self, url: str, stack: AsyncExitStack) -> list[Agent]:
        """Open the agents, which send what they keep and one new batch each."""
        agents = []
        for device, batches in self._recording.sent.items():
            agent = open_agent(
                url, device, self._recording.tokens[device], self._work / SPOOL if device == KEPT else None
            )
            try:
                await stack.enter_async_context(agent)
                await send_batch(agent, batches + 1)
            except AgentError as error:
                self.seen.reports.append(f"agent: {error}")
                self.seen.refused.append(device)
            else:
                self.seen.sent[device] = batches + 1
                agents.append(agent)
        return agents

    async def _admin(self, url: str) -> str:
        """Return a token of an admin: the recorded one, or a new one when the hub does not know it any more."""
        token = self._recording.tokens["admin"]
        async with HubReader(url, token) as reader:
            if await reader.accepts_token():
                return token
        self.seen.symptoms.append("the token of the admin is rejected")
        result = await asyncio.to_thread(
            CliRunner().invoke, token_command, ["create", "--data", str(self._work / HUB), "--role", "admin"]
        )
        return result.stdout.strip()

    async def _deliver(self, agents: list[Agent], reader: HubReader) -> None:
        """Wait until the agents have delivered everything, or the hub or an agent reports why they cannot."""
        clock = asyncio.get_running_loop().time
        began = clock()
        while any(agent.spool.acked < agent.spool.next_seq - 1 for agent in agents):
            waited = clock() - began
            problems = [f"agent: {agent.problem}" for agent in agents if agent.problem]
            if waited > PATIENCE_S and (problems or await reader.ready()):
                self.seen.symptoms += problems
                return
            if waited > DELIVERY_S:
                self._end("hung", "the hub does not acknowledge, and reports no problem")
                return
            await asyncio.sleep(POLL_S)

    async def _settle(self, reader: HubReader) -> None:
        """Wait until the store has everything that the journal has, or the hub reports why it has not."""
        clock = asyncio.get_running_loop().time
        began = clock()
        while any(consumer["lag"] for consumer in (await reader.flow())["consumers"]):
            waited = clock() - began
            if waited > PATIENCE_S and await reader.ready():
                return
            if waited > SETTLE_S:
                self._end("hung", "the store does not catch up, and the hub reports no problem")
                return
            await asyncio.sleep(POLL_S)

    async def _read(self, reader: HubReader) -> None:
        seen = self.seen
        try:
            seen.stored = await reader.history()
        except httpx.HTTPStatusError as error:
            seen.unreadable = error.response.text
        try:
            seen.quarantined = await reader.quarantined()
        except httpx.HTTPStatusError as error:
            seen.symptoms.append(f"quarantine: {error.response.text}")
            seen.quarantined = None
        seen.facts = await reader.facts()
        flow = await reader.flow()
        for device in flow["devices"]:
            lost = device["lost_batches"] * self._recording.truth.batch_readings
            seen.declared[device["device"]] = lost + device["damaged"] + max(0, device["difference"] or 0)
        if flow["store"]["missed"]:
            seen.reports.append(f"store missed: {flow['store']['missed']} entries")
        seen.reports += [f"event {kind}: {detail}" for _, kind, detail in await reader.events()]
        seen.problems = await reader.ready()


async def _waiting_times(agent: Agent) -> list[int]:
    """Return the times of the readings that the agent has not delivered."""
    spool = agent.spool
    times: list[int] = []
    after = spool.acked
    while after < spool.next_seq - 1:
        for entry in await spool.read(after, max_batches=1000):
            if isinstance(entry, StoredBatch):
                times += decode_batch(entry.batch).times
                after = entry.seq
            else:
                after = entry.to
    return times


def _unusual_lines(log: str) -> list[str]:
    """Return the warnings and errors of a log."""
    found = []
    for line in log.splitlines():
        try:
            fields = json.loads(line)
        except json.JSONDecodeError:
            continue
        if fields.get("level") in ("warning", "error", "critical"):
            details = {name: value for name, value in fields.items() if name not in ("level", "timestamp", "event")}
            found.append(f"log {fields['event']}: {details}")
    return found


def _phrase(report: str) -> str:
    return report.partition(":")[0]
