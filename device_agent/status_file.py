"""The status of a running agent in a small file beside its spool, for `device-agent status`.

The file is written without an fsync: it describes a process, and is worthless after the machine has failed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from device_agent.agent import Agent
from device_agent.operator_commands.log import CommandEntry
from device_agent.operator_commands.setting_runner import SettingOverview
from device_agent.source_delivery import SourceDelivery
from device_agent.source_state import shorten
from device_agent.sources.lines import InputCounts
from device_agent.spool.status import SpoolStatus
from wire.command import ParameterValue, shown
from wire.device import SourceState
from wire.limits import MAX_SOURCE_NAME
from wire.setting import is_same_value
from wire.text import escaped, plural

WRITE_SECONDS = 1.0
"""Shortest time between two writes, after a change of the connection or of a source."""

ENDED_COMMANDS = 5
"""Commands that have ended, and are still in the status."""

REFRESH_SECONDS = 10.0
"""Time between two writes while only acknowledgements arrive: each write wears the flash of a small computer."""

_log = logging.getLogger(__name__)


class SourceDetail(msgspec.Struct, frozen=True):
    """Counts of one source since the agent started; `last_ns` is when something arrived from it, 0: never.

    `refused` counts lines and values. `suppressed` counts readings that a rule of `report` left out for good, `held`
    those that may still be reported. `input` is what a source that reads foreign data has read.
    """

    name: str
    readings: int
    refused: int
    suppressed: int
    held: int
    last_ns: int
    input: InputCounts | None = None


class CommandDetail(msgspec.Struct, frozen=True):
    """A command of an operator: `waiting` or `running`, or its outcome, since `time_ns`."""

    id: str
    name: str
    state: str
    time_ns: int
    code: str = ""
    message: str = ""


class SettingDetail(msgspec.Struct, frozen=True):
    """A setting: the desired value, the one in force, and why they differ; None: there is none, or it is not known.

    `state` is `in_sync`, `out_of_sync` or `rejected`; empty without a desired value.
    """

    name: str
    desired: ParameterValue | None
    in_force: ParameterValue | None
    state: str
    code: str = ""
    message: str = ""


class AgentStatus(msgspec.Struct, frozen=True):
    """State of a running agent at `time_ns`. Times are nanoseconds since 1970 by the agent's clock; 0: never.

    `connection` is the state of the connection to `hub` since `since_ns`. `problem` says why the last one ended; it is
    empty while there is one. `acked_ns` is when the batch `acked` was acknowledged. `input` is what the first source
    that reads foreign data has read; `details` has all sources.

    The counters begin at `started_ns`: `reconnects` counts connections after the first, `acknowledged` and
    `quarantined` readings, `refused` lines and values. `clock_offset_ns` is this computer's clock minus the hub's, with
    the largest error, from the last welcome. `commands` are those that have not ended, and the newest that have.
    """

    time_ns: int
    pid: int
    hub: str
    connection: str
    since_ns: int
    problem: str
    acked: int
    acked_ns: int
    sources: list[SourceState]
    input: InputCounts | None = None
    started_ns: int = 0
    reconnects: int = 0
    acknowledged: int = 0
    quarantined: int = 0
    refused: int = 0
    clock_offset_ns: int | None = None
    clock_error_ns: int | None = None
    details: list[SourceDetail] = []
    commands: list[CommandDetail] = []
    settings: list[SettingDetail] = []


class StatusFile:
    """Writer of the status file of one agent, with the counts of its sources."""

    def __init__(self, spool: Path, agent: Agent, sources: Sequence[SourceDelivery] = ()) -> None:
        self.path = status_path(spool)
        self._agent = agent
        self._sources = sources
        self._started_ns = time.time_ns()
        self._connection = ""
        self._since_ns = 0
        self._acked = agent.spool.acked
        self._acked_ns = 0

    async def keep(self) -> None:
        """Keep the file current until cancelled, then remove it."""
        agent, loop = self._agent, asyncio.get_running_loop()
        written: tuple[object, ...] = ()
        written_s = -REFRESH_SECONDS
        try:
            while True:
                status = self._status()
                shown = _shown(status)
                wait_s = written_s + REFRESH_SECONDS - loop.time()
                if shown != written or wait_s <= 0:
                    await asyncio.to_thread(self._write, status)
                    written, written_s = shown, loop.time()
                await asyncio.sleep(WRITE_SECONDS)
                if _shown(self._status()) != written:
                    continue  # nobody waited for this change
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, written_s + REFRESH_SECONDS - loop.time())):
                        await agent.wait_change()
        finally:
            self.path.unlink(missing_ok=True)

    def _status(self) -> AgentStatus:
        agent = self._agent
        now_ns = time.time_ns()
        if agent.state.value != self._connection:
            self._connection, self._since_ns = agent.state.value, now_ns
        if agent.spool.acked > self._acked:
            self._acked_ns = now_ns
        self._acked = agent.spool.acked
        details = [self._detail(delivery) for delivery in self._sources]
        counts, clock = agent.counts, agent.clock
        return AgentStatus(
            now_ns, os.getpid(), agent.hub_url, self._connection, self._since_ns, agent.problem, self._acked,
            self._acked_ns, agent.sources, next((detail.input for detail in details if detail.input), None),
            started_ns=self._started_ns,
            reconnects=max(0, counts.connections - 1),
            acknowledged=counts.acknowledged.readings,
            quarantined=counts.rejected.readings,
            refused=sum(detail.refused for detail in details),
            clock_offset_ns=None if clock is None else clock.offset_ns,
            clock_error_ns=None if clock is None else clock.error_ns,
            details=details,
            commands=[_command_detail(entry) for entry in agent.recent_commands(ENDED_COMMANDS)],
            settings=_setting_details(agent.settings),
        )  # fmt: skip

    def _detail(self, delivery: SourceDelivery) -> SourceDetail:
        health, filter = delivery.source.health, delivery.filter
        return SourceDetail(
            shorten(health.name, MAX_SOURCE_NAME),
            readings=delivery.readings,
            refused=delivery.refused,
            suppressed=filter.suppressed,
            held=filter.held,
            last_ns=delivery.last_ns,
            input=None if health.input is None else health.input.counts,
        )

    def _write(self, status: AgentStatus) -> None:
        """Replace the file, so that a reader never sees a part of it."""
        new = self.path.with_name(f"{self.path.name}.new")
        try:
            new.write_bytes(msgspec.json.encode(status))
            new.replace(self.path)
        except OSError as error:
            _log.debug("status not written: %s", error)  # the spool reports a disk that is full or failed


def _shown(status: AgentStatus) -> tuple[object, ...]:
    """Return the parts of a status whose changes are written soon."""
    return (
        status.connection, status.problem, [(source.name, source.error) for source in status.sources],
        [(detail.input and detail.input.format, detail.refused) for detail in status.details],
        status.commands, status.settings,
    )  # fmt: skip


def _command_detail(entry: CommandEntry) -> CommandDetail:
    outcome = entry.outcome
    if outcome is None:
        return CommandDetail(entry.id, entry.name, entry.step, entry.time_ns)
    return CommandDetail(entry.id, entry.name, outcome.state, entry.time_ns, outcome.code, outcome.message)


def _setting_details(settings: SettingOverview) -> list[SettingDetail]:
    names = dict.fromkeys((*settings.declared, *settings.desired))
    return [_setting_detail(settings, name) for name in names]


def _setting_detail(settings: SettingOverview, name: str) -> SettingDetail:
    desired, in_force = settings.desired.get(name), settings.in_force.get(name)
    problem = settings.problems.get(name)
    if desired is None:
        return SettingDetail(name, None, in_force, "")
    if problem is not None:
        state = "out_of_sync" if problem.retried else "rejected"
        return SettingDetail(name, desired, in_force, state, problem.code, problem.message)
    is_in_sync = in_force is not None and is_same_value(in_force, desired)
    return SettingDetail(name, desired, in_force, "in_sync" if is_in_sync else "out_of_sync")


def status_path(spool: Path) -> Path:
    """Return the path of the status file of the agent that uses this spool."""
    return spool.with_name(f"{spool.name}.status")


def read_agent_status(spool: Path) -> AgentStatus | None:
    """Return the status that the agent of this spool wrote last; None if there is none that can be read."""
    try:
        return msgspec.json.decode(status_path(spool).read_bytes(), type=AgentStatus)
    except (OSError, msgspec.DecodeError):
        return None


def status_text(spool: SpoolStatus, agent: AgentStatus | None, now_ns: int) -> str:
    """Return the lines that `device-agent status` prints. Texts of a hub or a sensor cannot control the terminal."""
    lines = [
        ("spool", f"{spool.path} ({plural(spool.file_bytes, 'byte')})"),
        ("device", spool.device),
        ("epoch", spool.epoch),
        ("agent", "running" if spool.in_use else "not running"),
        ("waiting", f"{plural(spool.waiting, 'batch', 'batches')}, {plural(spool.size_bytes, 'byte')}"),
        ("oldest", _oldest_text(spool, now_ns)),
        ("lost", f"{plural(spool.lost, 'batch', 'batches')} not yet reported to the hub"),
        ("next", str(spool.next_seq)),
        *(
            [("kept", f"{plural(spool.set_aside, 'batch', 'batches')} that could not be sent")]
            if spool.set_aside
            else []
        ),
        *(("incident", f"{_time(incident.time_ns)}: {incident.text}") for incident in spool.incidents),
    ]
    if agent is not None:
        lines += [
            ("as of", f"{_time(agent.time_ns)}:"),
            ("hub", f"{agent.hub}: {agent.connection} since {_time(agent.since_ns)}"),
            *([("problem", agent.problem)] if agent.problem else []),
            ("acked", f"up to {agent.acked}, {_time(agent.acked_ns) if agent.acked_ns else 'none by this run'}"),
            *([("clock", _clock_text(agent))] if agent.clock_offset_ns is not None else []),
            *([("run", _run_text(agent))] if agent.started_ns else []),
            *_source_lines(agent),
            *_setting_lines(agent),
            *_command_lines(agent),
        ]
    elif spool.in_use:
        lines.append(("hub", "not known: the agent is a library or an older version, and writes no status"))
    return "\n".join(f"{name:<8} {escaped(value)}" for name, value in lines)


def _oldest_text(spool: SpoolStatus, now_ns: int) -> str:
    if spool.oldest_seq is None:
        return "none"
    if spool.oldest_time_ns is None:
        return f"batch {spool.oldest_seq}"
    age_s = max(0, now_ns - spool.oldest_time_ns) // 10**9
    return f"batch {spool.oldest_seq}, its first reading is of {_time(spool.oldest_time_ns)}, {age_s:,} s ago"


def _clock_text(agent: AgentStatus) -> str:
    offset_ms, error_ms = (agent.clock_offset_ns or 0) / 1e6, (agent.clock_error_ns or 0) / 1e6
    where = "ahead of" if offset_ms > 0 else "behind"
    return f"{abs(offset_ms):,.1f} ms {where} the hub's clock, ± {error_ms:,.1f} ms"


def _run_text(agent: AgentStatus) -> str:
    parts = [
        f"{plural(agent.acknowledged, 'reading')} acknowledged",
        f"{agent.quarantined:,} in quarantine",
        f"{agent.refused:,} refused",
        plural(agent.reconnects, "reconnect"),
    ]
    return f"since {_time(agent.started_ns)}: {', '.join(parts)}"


def _source_lines(agent: AgentStatus) -> Iterator[tuple[str, str]]:
    details = {detail.name: detail for detail in agent.details}
    for source in agent.sources:
        state = "works" if source.ok else f"FAILED: {source.error}"
        yield "source", f"{source.name}: {state}, since {_time(source.since)}"
        detail = details.pop(source.name, None)
        if detail is not None:
            yield "", _detail_text(detail)
        if detail is not None and detail.input is not None:
            yield "input", _input_text(detail.input)
    if not agent.details and agent.input is not None:
        yield "input", _input_text(agent.input)


def _setting_lines(agent: AgentStatus) -> Iterator[tuple[str, str]]:
    for setting in agent.settings:
        in_force = "not known" if setting.in_force is None else shown(setting.in_force)
        if setting.desired is None:
            yield "setting", f"{setting.name}: in force {in_force}, no value is desired"
            continue
        state = setting.state.replace("_", " ")
        reason = f" ({setting.code}: {setting.message})" if setting.code else ""
        yield "setting", f"{setting.name}: desired {shown(setting.desired)}, in force {in_force}: {state}{reason}"


def _command_lines(agent: AgentStatus) -> Iterator[tuple[str, str]]:
    for command in agent.commands:
        reason = f" ({command.code}: {command.message})" if command.code else ""
        # The record of one that is damaged has no name.
        name = command.name or "unknown"
        yield "command", f"{name} {command.id}: {command.state}{reason}, since {_time(command.time_ns)}"


def _detail_text(detail: SourceDetail) -> str:
    parts = [
        plural(detail.readings, "reading"),
        f"{detail.refused:,} refused",
        f"{detail.suppressed:,} suppressed" if detail.suppressed else "",
        f"{detail.held:,} held back" if detail.held else "",
        f"the last at {_time(detail.last_ns)}" if detail.last_ns else "nothing arrived yet",
    ]
    return ", ".join(filter(None, parts))


def _input_text(counts: InputCounts) -> str:
    found = f"{counts.format}: {counts.reason}" if counts.format else "no line has a format that is known yet"
    parts = [
        plural(counts.lines, "line"),
        plural(counts.readings, "reading"),
        f"{counts.no_values:,} without a value",
        f"{counts.refused:,} refused",
        f"{plural(counts.skipped, 'first or last line', 'first or last lines')} skipped" if counts.skipped else "",
        plural(counts.senders, "sender") if counts.senders else "",
        f"{counts.ignored:,} of others ignored" if counts.ignored else "",
        f"{plural(counts.dropped, 'datagram')} lost" if counts.dropped else "",
        f"{plural(counts.odd_times, 'time')} before 1990 or in the future" if counts.odd_times else "",
    ]
    return f"{found}; {', '.join(filter(None, parts))}"


def _time(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
