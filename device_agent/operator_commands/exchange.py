"""The operators' side of an agent: its commands and its settings, over one connection and in one spool."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from agent_client.client import Surroundings
from device_agent.operator_commands.runner import CommandRunner
from device_agent.operator_commands.setting_runner import SettingRunner
from device_agent.spool import Spool
from wire.command import CommandDeclaration, CommandParameter
from wire.device import Command, CommandRecorded, CommandState, Desired, Reported


class OperatorExchange:
    """Commands and settings of one device. Implements agent_client.session.CommandExchange.

    `on_change` is called when there is something to send to the hub.
    """

    def __init__(self, spool: Spool, surroundings: Surroundings, on_change: Callable[[], None]) -> None:
        self.commands = CommandRunner(spool, surroundings, on_change)
        self.settings = SettingRunner(spool, surroundings, self.commands)

    @property
    def declarations(self) -> Sequence[CommandDeclaration]:
        return self.commands.declarations

    @property
    def declared_settings(self) -> Sequence[CommandParameter]:
        return self.settings.declarations

    @property
    def changed(self) -> asyncio.Event:
        return self.commands.changed

    async def open(self) -> None:
        """Read what is left of earlier runs. Raises SpoolError."""
        await self.commands.open()
        await self.settings.open()

    def wake(self) -> None:
        """Continue with what waited for a source to be open."""
        self.commands.wake()
        self.settings.wake()

    async def drain(self, wait_s: float) -> None:
        """Begin nothing more, and wait for the handlers that run."""
        await asyncio.gather(self.commands.drain(wait_s), self.settings.drain(wait_s))

    async def close(self) -> None:
        """End the handlers that run, and record it, after the tasks of `run` were cancelled. Raises SpoolError."""
        await self.settings.close()
        await self.commands.close()

    def connect(self, hub_ns: int) -> None:
        self.commands.connect(hub_ns)
        self.settings.connect()

    def note_hub_time(self, hub_ns: int) -> None:
        self.commands.note_hub_time(hub_ns)

    def receive(self, command: Command) -> None:
        self.commands.receive(command)

    def record(self, recorded: CommandRecorded) -> None:
        self.commands.record(recorded)

    def receive_desired(self, desired: Desired) -> None:
        self.settings.receive(desired)

    def take_reports(self) -> Sequence[CommandState | Reported]:
        report = self.settings.take_report()
        return [*self.commands.take_reports(), *([] if report is None else [report])]
