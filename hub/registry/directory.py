"""The registry for sources of batches: it declares metrics and checks what an agent may write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from hub.journal.journal import Journal
from hub.live.hub import LiveHub
from hub.model.batch import Series
from hub.model.identity import Identity
from hub.model.journal import JournalError, JournalFull
from hub.registry.registry import Registry
from wire import device as messages
from wire.errors import Code, WireError
from wire.limits import MAX_MESSAGE
from wire.model import Metric


class DeviceDirectory:
    """Implements hub.ingest.agent_session.MetricDirectory for sources inside the hub, which may write as any device."""

    def __init__(self, registry: Registry, journal: Journal, live: LiveHub, *, clock: Callable[[], int]) -> None:
        self._registry = registry
        self._journal = journal
        self._live = live
        self._clock = clock

    async def declare(self, device: str, metrics: Sequence[Metric]) -> Mapping[str, Series | WireError]:
        """Return all metrics of the device, durable; a WireError for each whose type conflicts."""
        known = await self._registry.declare(device, metrics)
        series = [s for s in known.values() if isinstance(s, Series)]
        highest = max([s.id for s in series], default=0)
        if highest > self._journal.highest_series:
            # Before the first reading: a registry that is restored from a copy must not assign these ids again.
            try:
                await self._journal.record_highest_series(highest)
            except JournalError as error:
                code = Code.STORAGE_FULL if isinstance(error, JournalFull) else Code.STORAGE_FAILED
                raise WireError(code, str(error)[:MAX_MESSAGE]) from error
        self._live.add_series(series)
        return known

    def record(self, device: str, kind: str, detail: str) -> None:
        """Record an event of the device."""
        self._registry.record_event(device, self._clock(), kind, detail)

    def describe(self, device: str, *, tags: Mapping[str, str], agent: str) -> None:
        """Record the device's tags and the name of its agent."""
        self._registry.describe(device, tags=tags, agent=agent)


class ConnectionDirectory(DeviceDirectory):
    """Implements hub.ingest.agent_session.AgentDirectory for one connection."""

    def __init__(
        self,
        registry: Registry,
        journal: Journal,
        live: LiveHub,
        *,
        identify: Callable[[str | None], Awaitable[Identity | None]],
        clock: Callable[[], int],
        on_identity: Callable[[Identity], None],
    ) -> None:
        """`identify` returns the identity of the connection's headers, or else of the token in its hello."""
        super().__init__(registry, journal, live, clock=clock)
        self._identify = identify
        self._on_identity = on_identity

    async def allow(self, hello: messages.Hello) -> None:
        """Raise WireError when the connection's credential may not write as this device."""
        identity = await self._identify(hello.token)
        if identity is None:
            raise WireError(
                Code.NOT_AUTHENTICATED,
                "no valid token: send it as Authorization: Bearer, or in the hello; `hub token create` makes one",
            )
        if not identity.may_write(hello.device):
            scope = f" is for {identity.pattern!r}" if identity.pattern else ""
            raise WireError(
                Code.NOT_ALLOWED, f"the token (role {identity.role}){scope} and may not write as {hello.device!r}"
            )
        self._on_identity(identity)
