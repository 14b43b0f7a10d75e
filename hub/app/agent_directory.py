"""What a device's conversation asks of the registry, and what the other rooms have to learn from its answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from hub.live.live import Live
from hub.model.batch import Series
from hub.model.identity import Identity
from hub.model.journal import Journal, JournalError, JournalFull
from hub.registry.registry import Registry
from wire import device as messages
from wire.errors import Code, WireError
from wire.limits import MAX_MESSAGE
from wire.model import Metric


class DeviceDirectory:
    """Implements hub.ingest.feed.FeedDirectory: the hub's memory of devices, for those who may write."""

    def __init__(self, registry: Registry, journal: Journal, live: Live, *, clock: Callable[[], int]) -> None:
        self._registry = registry
        self._journal = journal
        self._live = live
        self._clock = clock

    async def declare(self, device: str, metrics: Sequence[Metric]) -> Mapping[str, Series | WireError]:
        """All metrics of the device, durable when this returns; a WireError for each whose type conflicts."""
        known = await self._registry.declare(device, metrics)
        series = [s for s in known.values() if isinstance(s, Series)]
        highest = max([s.id for s in series], default=0)
        if highest > self._journal.highest_series:
            # Before the first reading: a registry that is put back from a copy must not give these ids out again.
            try:
                await self._journal.tell_series(highest)
            except JournalError as error:
                code = Code.STORAGE_FULL if isinstance(error, JournalFull) else Code.STORAGE_FAILED
                raise WireError(code, str(error)[:MAX_MESSAGE]) from error
        self._live.add_series([s for s in series if s.live is None])
        return known

    def record(self, device: str, kind: str, detail: str) -> None:
        """Keeps an event of the device."""
        self._registry.record_event(device, self._clock(), kind, detail)

    def describe(self, device: str, *, tags: Mapping[str, str], agent: str) -> None:
        """Keeps what the agent says of itself."""
        self._registry.describe(device, tags=tags, agent=agent)


class AgentDirectory(DeviceDirectory):
    """Implements hub.ingest.conversation.Directory for one connection.

    `identify` finds whom the connection's headers stand for, or else the token of its hello.
    """

    def __init__(
        self,
        registry: Registry,
        journal: Journal,
        live: Live,
        *,
        identify: Callable[[str | None], Awaitable[Identity | None]],
        clock: Callable[[], int],
        on_identity: Callable[[Identity], None],
    ) -> None:
        super().__init__(registry, journal, live, clock=clock)
        self._identify = identify
        self._on_identity = on_identity

    async def allow(self, hello: messages.Hello) -> None:
        """Raises WireError when the connection's credential may not write as this device."""
        identity = await self._identify(hello.token)
        if identity is None:
            raise WireError(
                Code.NOT_AUTHENTICATED,
                "no valid token: send it as Authorization: Bearer, or in the hello; `hub token create` makes one",
            )
        if not identity.may_write(hello.device):
            bound = f" is for {identity.pattern!r}" if identity.pattern else ""
            raise WireError(
                Code.NOT_ALLOWED, f"the token (role {identity.role}){bound} and may not write as {hello.device!r}"
            )
        self._on_identity(identity)
