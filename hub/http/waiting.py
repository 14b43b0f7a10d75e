"""HTTP connections that wait for a request or the rest of one, and the bounds of their number. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

MAX_WAITING_CONNECTIONS = 4096
"""Connections of all addresses: as many as the system may accept at one moment for a fleet that reconnects. Each holds
64 KiB of a request at most, together 256 MiB. Running requests and WebSockets do not count."""

MAX_WAITING_PER_ADDRESS = 512
"""Connections of one address: a browser has six, and agents behind one address wait for milliseconds only. At either
bound the oldest one is closed: that of the address, or of the address that has most. A trusted proxy has the
connections of many clients: only the bound of all addresses holds for it."""


class Evictable(Protocol):
    """A waiting connection that can be closed for a newer one."""

    def make_room(self) -> None: ...


class WaitingConnections:
    """The waiting connections of each address, the longest wait first."""

    def __init__(self, max_connections: int | None = None) -> None:
        """Bound the waiting connections to half of the possible ones, and those of an address to an eighth, too."""
        self._max = MAX_WAITING_CONNECTIONS
        self._max_per_address = MAX_WAITING_PER_ADDRESS
        if max_connections is not None:
            self._max = min(self._max, max_connections // 2)
            self._max_per_address = min(self._max_per_address, max_connections // 8)
        self._addresses: dict[Evictable, str | None] = {}
        self._of_address: dict[str | None, OrderedDict[Evictable, None]] = {}

    def __len__(self) -> int:
        return len(self._addresses)

    def add(self, connection: Evictable, client: str | None) -> Evictable | None:
        """Add a connection, and return the one that has to be closed for it. `client` is None for a trusted proxy."""
        self._addresses[connection] = client
        own = self._of_address.setdefault(client, OrderedDict())
        own[connection] = None
        if client is not None and len(own) > self._max_per_address:
            return next(iter(own))
        if len(self) > self._max:
            most = max(self._of_address, key=lambda address: len(self._of_address[address]))
            return next(iter(self._of_address[most]))
        return None

    def remove(self, connection: Evictable) -> None:
        """Remove a connection that waits no longer."""
        if connection in self._addresses:
            client = self._addresses.pop(connection)
            own = self._of_address[client]
            del own[connection]
            if not own:
                del self._of_address[client]
