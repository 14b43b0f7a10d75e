"""The hub of the agent's tests, with more faults and with the counts that a report contains."""

from __future__ import annotations

from collections import Counter
from http import HTTPStatus

import msgspec
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from tests.device_agent.peer import Link, Peer
from wire import device, limits
from wire.columns import unpack_floats, unpack_times
from wire.errors import Close, Code


class FleetPeer(Peer):
    """A hub with optional faults.

    It closes one connection after `closes_after` batches, says with the first batch that another agent took over
    (`supersedes`), does not show its counts, or reports that its store `loses` readings.
    """

    def __init__(
        self, *, closes_after: int = 0, supersedes: bool = False, shows_counts: bool = True, loses: int = 0
    ) -> None:
        super().__init__(window=limits.DEFAULT_WINDOW)
        self.closes_after = closes_after
        self.supersedes = supersedes
        self.shows_counts = shows_counts
        self.loses = loses
        self._batches = 0
        self._repeated: Counter[str] = Counter()

    @property
    def senders(self) -> set[str]:
        """The devices of which a batch was received."""
        return {entry.device for entry in [*self.journal, *self._pending]}

    def batches(self, name: str) -> list[device.Data]:
        """Return the batches of a device in the journal."""
        return [
            entry.message for entry in self.journal if entry.device == name and isinstance(entry.message, device.Data)
        ]

    def gaps(self, name: str) -> list[device.Gap]:
        """Return the gaps of a device in the journal."""
        return [
            entry.message for entry in self.journal if entry.device == name and isinstance(entry.message, device.Gap)
        ]

    def times(self, name: str, *, historical: bool = False) -> list[int]:
        """Return the times of a device in the journal: of its live rows or of its historical ones."""
        return [
            time_ns
            for batch in self.batches(name)
            if batch.historical == historical
            for time_ns in (unpack_times(batch.time) if isinstance(batch.time, bytes) else batch.time)
        ]

    async def _append(
        self, link: Link, first: int, last: int, message: device.Data | device.Gap | device.Refused | device.DeviceEvent
    ) -> None:
        if self.supersedes:
            error = device.Error(Code.SUPERSEDED, "another agent took over")
            await self._refuse(link.connection, link.format, error)
            return
        self._repeated[link.hello.device] += last <= link.session.received
        await super()._append(link, first, last, message)
        self._batches += 1
        if self._batches == self.closes_after:
            await link.connection.close(Close.SERVICE_RESTART)

    async def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        if not request.path.endswith("/api/v1/flow"):
            return await super()._admit(connection, request)
        if not self.shows_counts:
            return connection.respond(HTTPStatus.FORBIDDEN, "not allowed\n")
        return connection.respond(HTTPStatus.OK, msgspec.json.encode({"devices": self._counts()}).decode())

    def _counts(self) -> list[dict[str, object]]:
        """Return the counts of each device that has sent something."""
        counts = []
        for name in self.senders:
            columns = [column for batch in self.batches(name) for column in batch.values.values()]
            accepted = sum(len(unpack_floats(column) if isinstance(column, bytes) else column) for column in columns)
            counts.append(
                {
                    "device": name,
                    "accepted": accepted,
                    "stored": accepted - self.loses,
                    "duplicate_batches": self._repeated[name],
                }
            )
        return counts
