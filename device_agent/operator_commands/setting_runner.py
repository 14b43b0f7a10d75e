"""The runner of settings: it writes desired values to the spool, calls the handlers, and says what is in force."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from math import inf
from typing import NamedTuple

import msgspec

from agent_client.client import Surroundings
from device_agent.errors import AgentError, ReadingError, SpoolError, SpoolFailed
from device_agent.operator_commands.desired import (
    FIRST_RETRY_S,
    MAX_RETRY_S,
    Application,
    SettingStates,
    StoredSettings,
)
from device_agent.operator_commands.handler import CommandHandler, run_limited
from device_agent.operator_commands.runner import RETRY_SECONDS, CommandRunner
from device_agent.spool import Spool
from wire.backoff import equal_jitter
from wire.command import CommandParameter, ParametersRefused, ParameterValue, json_size
from wire.device import Desired, Reported, SettingProblem
from wire.errors import Code
from wire.limits import MAX_SETTINGS

MAX_DECLARED_BYTES = 16 * 1024
"""Declarations of all settings of a device as JSON: with the metrics and the commands they fit into one hello."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(StoredSettings).decode

_log = logging.getLogger(__name__)


class SettingOverview(NamedTuple):
    """The settings of a device at a moment, by name; `declared` are the names of those that it has."""

    declared: Sequence[str]
    version: int
    desired: Mapping[str, ParameterValue]
    in_force: Mapping[str, ParameterValue]
    problems: Mapping[str, SettingProblem]


class SettingRunner:
    """The settings of one device. Handlers run one at a time, and not beside commands that run alone."""

    def __init__(self, spool: Spool, surroundings: Surroundings, commands: CommandRunner) -> None:
        self._spool = spool
        self._surroundings = surroundings
        self._commands = commands
        self._handlers: dict[str, CommandHandler] = {}
        self._declared_bytes = 0
        self._settings = SettingStates(
            partial(equal_jitter, first=FIRST_RETRY_S, maximum=MAX_RETRY_S, random=random.random)
        )
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._turns = count()
        self._failing: set[str] = set()
        self._is_closed = False

    @property
    def declarations(self) -> Sequence[CommandParameter]:
        """The settings of the device."""
        return [*self._settings.declared]

    @property
    def overview(self) -> SettingOverview:
        """The settings as they are on disk, and the problems."""
        stored = self._settings.stored
        return SettingOverview(
            [*self._handlers], stored.version, stored.desired, self._settings.in_force, self._settings.problems
        )

    def add(self, handler: CommandHandler) -> None:
        """Declare a setting. Raises AgentError if there is one of this name, or too many."""
        (setting,) = handler.declaration.parameters
        if setting.name in self._handlers:
            raise AgentError(f"the setting {setting.name!r} has a handler already")
        size = self._declared_bytes + json_size(setting)
        if len(self._handlers) >= MAX_SETTINGS or size > MAX_DECLARED_BYTES:
            raise AgentError(f"a device has at most {MAX_SETTINGS} settings, in {MAX_DECLARED_BYTES:,} bytes")
        self._handlers[setting.name] = handler
        self._declared_bytes = size
        self._settings.declare(setting)
        self._changed()

    async def open(self) -> None:
        """Read the settings of earlier runs. Raises SpoolError."""
        content = await self._spool.read_settings()
        if content is None:
            return
        try:
            self._settings.load(_decode(content))
        except msgspec.DecodeError as error:
            _log.error("the record of the settings cannot be read, the hub sends the desired values again: %s", error)

    async def run(self) -> None:
        """Write changes and call handlers, until cancelled. Raises SpoolFailed."""
        while True:
            self._wake.clear()
            if (changes := self._settings.changes()) is not None:
                await self._write(changes)
                continue
            if not self._is_closed:
                application = self._settings.start(self._obstacle_of, self._surroundings.monotonic())
                if application is not None:
                    self._task = asyncio.create_task(self._apply(application), name=f"setting {application.name}")
                elif self._settings.changes() is not None:
                    continue
                # A problem may be another one.
                self._commands.notify()
            retry_s = inf if self._is_closed else self._settings.next_retry_s
            rest_s = retry_s - self._surroundings.monotonic()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if rest_s == inf else max(0.0, rest_s)):
                    await self._wake.wait()

    def wake(self) -> None:
        """Set what waited for an obstacle that is gone, such as a port that was closed."""
        self._wake.set()

    async def drain(self, wait_s: float) -> None:
        """Call no more handlers, and wait for the one that runs."""
        self._is_closed = True
        if self._task is not None:
            await asyncio.wait((self._task,), timeout=wait_s)

    async def close(self) -> None:
        """End the handler that still runs, and write the rest, after `run` was cancelled. Raises SpoolError."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if (changes := self._settings.changes()) is not None:
            await self._write_to_spool(changes)

    def connect(self) -> None:
        """Begin a new connection."""
        self._settings.connect()
        self._commands.notify()

    def receive(self, desired: Desired) -> None:
        """Take the desired values of the hub."""
        self._settings.receive(desired)
        self._changed()

    def lose(self, source: str, reason: str) -> None:
        """Set the values of the settings at a source again: its board has restarted."""
        names = [name for name, handler in self._handlers.items() if source and handler.source == source]
        self._settings.lose(names, reason)
        self._changed()

    def report_value(self, name: str, value: object) -> None:
        """Report that the device itself has changed a value. Raises ReadingError for one that is not possible."""
        try:
            self._settings.report_value(name, value)
        except ParametersRefused as refused:
            raise ReadingError(Code.BAD_MESSAGE, name, str(refused)) from None
        self._changed()

    def take_report(self) -> Reported | None:
        """Return the report that has to be sent on this connection; None without news."""
        return self._settings.take_report()

    async def _write(self, changes: StoredSettings) -> None:
        try:
            await self._write_to_spool(changes)
        except SpoolFailed:
            raise
        except SpoolError as error:
            _log.warning("settings cannot be recorded, and are not set before that: %s", error)
            await asyncio.sleep(RETRY_SECONDS)
        self._commands.notify()

    async def _write_to_spool(self, changes: StoredSettings) -> None:
        await self._spool.write_settings(_encode(changes))
        self._settings.commit(changes)

    async def _apply(self, application: Application) -> None:
        """Call a handler. Its place is free when it has really ended, as that of a command."""
        name, value = application
        handler, turn = self._handlers[name], f"setting {next(self._turns)}"
        release = partial(self._commands.release_turn, turn)
        try:
            await self._commands.take_turn(turn)
        except asyncio.CancelledError:
            release()
            raise
        outcome = await run_limited(handler, {name: value}, release)
        if outcome.state == "succeeded":
            self._failing.discard(name)
            _log.info("setting %s is %s", name, value)
        else:
            level = logging.DEBUG if name in self._failing else logging.WARNING
            self._failing.add(name)
            _log.log(level, "setting %s cannot be %s: %s", name, value, outcome.message or outcome.code)
        self._settings.finish(outcome, self._surroundings.monotonic())
        self._changed()

    def _obstacle_of(self, name: str) -> str:
        handler = self._handlers.get(name)
        return "" if handler is None else handler.obstacle()

    def _changed(self) -> None:
        self._wake.set()
