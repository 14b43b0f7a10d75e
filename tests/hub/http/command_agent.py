"""An agent that executes commands, and applies desired values, as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.hub.http.opened_hub import connected
from tests.tasks import running_task
from wire import device as messages
from wire.codec import AGENT_MESSAGES, HUB_MESSAGES
from wire.command import CommandDeclaration, CommandParameter

DECLARED = [
    CommandDeclaration("stop", "Stand still."),
    CommandDeclaration(
        "set_speed",
        parameters=[
            CommandParameter("speed", unit="m/s", min=0, max=30),
            CommandParameter("mode", "string", default="1"),
        ],
    ),
    CommandDeclaration("erase", confirm=True),
]
Execute = Callable[[messages.Command], list[messages.CommandState]]
"""Returns the states to report for a command."""


def succeed(command: messages.Command) -> list[messages.CommandState]:
    """Receive a command, and execute it with its parameters as the result."""
    return [state(command, "received"), state(command, "succeeded", result=dict(command.parameters))]


def state(command: messages.Command, name: Any, **fields: Any) -> messages.CommandState:
    """Return a state of a command."""
    return messages.CommandState(command.id, name, 1, **fields)


Apply = Callable[[messages.Desired], list[messages.Reported]]
"""Returns the reports about desired values."""


def accept(desired: messages.Desired) -> list[messages.Reported]:
    """Report desired values as in force."""
    return [messages.Reported(desired.version, desired.values)]


class CommandAgent:
    """A connected agent; `commands` are those that it got, in order, and `recorded` what the hub has confirmed.

    `desired` are the desired values that it got, in order.
    """

    def __init__(self, connection: ClientConnection, execute: Execute, apply: Apply) -> None:
        self.desired: list[messages.Desired] = []
        self._apply = apply
        self.commands: list[messages.Command] = []
        self.recorded: list[tuple[str, str]] = []
        self.changed = asyncio.Event()
        self._connection = connection
        self._execute = execute

    async def send(self, *sent: messages.AgentMessage) -> None:
        """Send messages."""
        for message in sent:
            await self._connection.send(AGENT_MESSAGES["json"].encode(message), text=True)

    async def run(self) -> None:
        """Answer commands until the connection ends."""
        with suppress(ConnectionClosed):
            while True:
                match HUB_MESSAGES["json"].decode(await self._connection.recv()):
                    case messages.Command() as command:
                        self.commands.append(command)
                        await self.send(*self._execute(command))
                    case messages.Desired() as desired:
                        self.desired.append(desired)
                        await self.send(*self._apply(desired))
                    case messages.CommandRecorded() as recorded:
                        self.recorded.append((recorded.id, recorded.state))
                self.changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Return when the condition holds, which is evaluated after each message."""
        while not condition():
            self.changed.clear()
            await self.changed.wait()


@asynccontextmanager
async def command_agent(
    url: str,
    token: str,
    device: str = "pump",
    *,
    execute: Execute = succeed,
    declared: list[CommandDeclaration] = DECLARED,
    version: str = "telemetry.v1.4.json",
    guest: bool = False,
    tags: dict[str, str] | None = None,
    settings: list[CommandParameter] | None = None,
    apply: Apply = accept,
) -> AsyncIterator[CommandAgent]:
    """Connect an agent that is welcomed, and answers commands."""
    async with connected(f"{url}/v1/device", token=token, subprotocols=[version]) as connection:
        agent = CommandAgent(connection, execute, apply)
        hello = messages.Hello(device, "0" * 16, 1, True, 0, guest=guest, commands=declared, settings=settings or [])
        await agent.send(msgspec.structs.replace(hello, tags=tags or {}))
        welcome = HUB_MESSAGES["json"].decode(await connection.recv())
        assert isinstance(welcome, messages.Welcome), welcome
        async with running_task(agent.run()):
            yield agent
