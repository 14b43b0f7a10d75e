"""The registry for sources of batches: it declares metrics and checks what an agent may write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from hub.journal.journal import Journal
from hub.live.hub import LiveHub
from hub.model.batch import Series
from hub.model.identity import Identity
from hub.model.journal import JournalError, JournalFull
from hub.registry.registry import Registry
from wire import device as messages
from wire.command import CommandDeclaration, CommandParameter
from wire.errors import Code, WireError
from wire.limits import MAX_MESSAGE
from wire.model import Metric


@dataclass(slots=True)
class DeviceDirectory:
    """Implements hub.ingest.agent_session.MetricDirectory for sources inside the hub, which may write as any device."""

    registry: Registry
    journal: Journal
    live: LiveHub
    clock: Callable[[], int]

    async def declare(self, device: str, metrics: Sequence[Metric]) -> Mapping[str, Series | WireError]:
        """Return all metrics of the device, durable; a WireError for each whose type conflicts."""
        known = await self.registry.declare(device, metrics)
        series = [s for s in known.values() if isinstance(s, Series)]
        highest = max([s.id for s in series], default=0)
        if highest > self.journal.series_ids.highest:
            # Before the first reading: a registry that is restored from a copy must not assign these ids again.
            try:
                await self.journal.series_ids.record(highest)
            except JournalError as error:
                code = Code.STORAGE_FULL if isinstance(error, JournalFull) else Code.STORAGE_FAILED
                raise WireError(code, str(error)[:MAX_MESSAGE]) from error
        self.live.add_series(series)
        return known

    def record(self, device: str, kind: str, detail: str, time_ns: int | None = None) -> None:
        """Record an event of the device, of now or of a time of its own."""
        self.registry.record_event(device, self.clock() if time_ns is None else time_ns, kind, detail)

    def describe(self, device: str, *, tags: Mapping[str, str], agent: str) -> None:
        """Record the device's tags and the name of its agent."""
        self.registry.describe(device, tags=tags, agent=agent)

    async def declare_commands(self, device: str, commands: Sequence[CommandDeclaration], *, replace: bool) -> None:
        """Record commands that the device executes, durable. `replace`: these are all of them."""
        left_out = await self.registry.commands.declare(device, commands, replace=replace)
        if left_out:
            names = ", ".join(left_out)
            self.record(device, "commands left out", f"more or longer commands than the hub keeps of a device: {names}")


@dataclass(slots=True)
class ConnectionDirectory(DeviceDirectory):
    """Implements hub.ingest.agent_session.AgentDirectory for one connection.

    `identify` returns the identity of the connection's headers, or else of the token in its hello.
    """

    identify: Callable[[str | None], Awaitable[Identity | None]]
    on_identity: Callable[[Identity], None]

    async def allow(self, hello: messages.Hello) -> None:
        """Raise WireError when the connection's credential may not write as this device."""
        identity = await self.identify(hello.token)
        if identity is None:
            raise WireError(
                Code.NOT_AUTHENTICATED,
                "no valid token: send it as Authorization: Bearer, or in the hello; `hub token create` makes one",
            )
        if not identity.may_write(hello.device):
            scope = f" is for {identity.pattern!r}" if identity.pattern else ""
            raise WireError(
                Code.NOT_ALLOWED,
                f"the token (role {identity.role}){scope} and may not write as {hello.device!r}: let the agent use the "
                "device's name, or create a token for this name",
            )
        self.on_identity(identity)
        # A connection says hello once, and what only that needs would be kept as long as the connection: 0.6 kB.
        del self.identify, self.on_identity

    async def declare_settings(self, device: str, settings: Sequence[CommandParameter], *, replace: bool) -> None:
        """Record settings that the device has, durable. `replace`: these are all of them."""
        left_out = await self.registry.desired.declare(device, settings, replace=replace)
        if left_out:
            names = ", ".join(left_out)
            self.record(device, "settings left out", f"more or longer settings than the hub keeps of a device: {names}")
