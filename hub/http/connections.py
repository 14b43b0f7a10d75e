"""The open WebSocket connections of the hub: their credentials, the bounds of their number, and floods."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from functools import partial
from typing import NamedTuple, Protocol

from starlette.types import Scope

from hub.http.refusals import RefusalCause, RequestRefusals, client_of, peer_of
from hub.http.websocket import DirectWebSocket
from hub.model.identity import Identity, Role
from wire import limits
from wire.errors import Code, WireError
from wire.frame_budget import Flood

MAX_UNAUTHENTICATED = 512
"""Connections without a valid token, of all addresses. A client sends its token in the first message, one round trip
after the upgrade; clients with the token in a header do not count. Each costs 0.6 MB at most: 300 MB."""

MAX_UNAUTHENTICATED_PER_ADDRESS = 64
"""As many agents of one site without a header may connect at the same moment. One client alone cannot replace the
waiting connections of all others. Behind a proxy that is not trusted, all clients have its address."""

MAX_OF_TOKEN = {Role.DEVICE: 16, Role.GATEWAY: 20_000}
MAX_OF_VIEWER_TOKEN = 256
"""Connections of one token; one more ends the oldest. A device has one, and a few that its network has lost. A gateway
has one for each of its devices. Dashboards of a team, or of a wall of screens, may share a token."""

DESCRIPTIONS = {
    Flood.FRAGMENTS: f"a message has at most {limits.MAX_FRAGMENTS:,} frames, empty ones included",
    Flood.CONTROL_FRAMES: (
        f"at most {limits.MAX_CONTROL_RATE} pings and pongs a second are accepted, after {limits.MAX_CONTROL_BURST} "
        "at once"
    ),
    Flood.BEFORE_AUTHENTICATION: (
        f"before the token, at most {limits.MAX_FRAMES_BEFORE_AUTHENTICATION:,} frames and "
        f"{limits.MAX_BYTES_BEFORE_AUTHENTICATION:,} bytes are accepted"
    ),
}


class Endable(Protocol):
    """A connection that can be ended with an error. `end` never waits and may be called twice."""

    def end(self, error: WireError) -> None:
        """Send the error and close with its close code."""


class _OpenConnection(NamedTuple):
    """An open connection: its socket, the address and path of its client, and the owner of its credential."""

    direct: DirectWebSocket
    peer: str
    path: str
    identity: Identity | None = None


class Connections:
    """The open connections. During shutdown, a new connection is ended at once."""

    def __init__(self, refusals: RequestRefusals | None = None) -> None:
        self._refusals = refusals or RequestRefusals()
        self._open: dict[Endable, _OpenConnection] = {}
        # Oldest first, as the connections of each token.
        self._unauthenticated: OrderedDict[Endable, str] = OrderedDict()
        self._of_token: dict[str, dict[Endable, None]] = {}
        self._closing: WireError | None = None
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def closing(self) -> WireError | None:
        """The error that ends every connection while the hub stops; None before that."""
        return self._closing

    def add(self, connection: Endable, scope: Scope, direct: DirectWebSocket, identity: Identity | None = None) -> None:
        """Add a connection, and end it if it floods. It may replace an older one of its token or of its address."""
        peer = peer_of(scope)
        self._open[connection] = _OpenConnection(direct, peer, scope["path"])
        direct.on_flood = partial(self._end_flood, connection)
        direct.on_bad_frame = partial(self._report, connection, RefusalCause.BAD_FRAME)
        if identity is None:
            self._unauthenticated[connection] = client_of(peer)
            self._end_surplus(client_of(peer))
        else:
            self.authenticate(connection, identity)
        if self._closing is not None:
            connection.end(self._closing)

    def authenticate(self, connection: Endable, identity: Identity) -> None:
        """Record the owner of a connection; its frames and bytes are no longer bounded in total."""
        known = self._open.get(connection)
        if known is None:
            return
        self._discard_credential(connection, known)
        self._open[connection] = known._replace(identity=identity)
        own = self._of_token.setdefault(identity.token_id, {})
        own[connection] = None
        known.direct.admit()
        most = MAX_OF_TOKEN.get(identity.role, MAX_OF_VIEWER_TOKEN)
        if len(own) > most:
            oldest = next(iter(own))
            del own[oldest]
            self._end_oldest(oldest, f"a token of role {identity.role} has at most {most:,} connections")

    def remove(self, connection: Endable) -> None:
        """Remove a closed connection."""
        known = self._open.pop(connection, None)
        if known is not None:
            self._discard_credential(connection, known)
        self._changed.set()

    def token_ids(self) -> list[str]:
        """Return the ids of the tokens with an open connection."""
        return list(self._of_token)

    def revoke(self, credentials: set[str]) -> None:
        """End every connection that was opened with one of these credentials: ids of tokens and of sessions."""
        error = WireError(Code.REVOKED, "the token was revoked or has expired: create a new one, or sign in again")
        for connection, known in list(self._open.items()):
            if known.identity is not None and known.identity.credential in credentials:
                connection.end(error)

    def close(self) -> None:
        """End all connections, and every new one, because the hub is shutting down."""
        self._closing = WireError(Code.SHUTTING_DOWN, "the hub is shutting down")
        for connection in list(self._open):
            connection.end(self._closing)

    async def empty(self) -> None:
        """Wait until no connection is open."""
        while self._open:
            self._changed.clear()
            await self._changed.wait()

    def _end_surplus(self, client: str) -> None:
        """End the oldest unauthenticated connection of this client, or of all, if there are too many."""
        waiting = self._unauthenticated
        own = [connection for connection, owner in waiting.items() if owner == client]
        if len(own) > MAX_UNAUTHENTICATED_PER_ADDRESS:
            oldest = own[0]
        elif len(waiting) > MAX_UNAUTHENTICATED:
            oldest = next(iter(waiting))
        else:
            return
        del waiting[oldest]
        self._end_oldest(oldest, "too many connections without a valid token: send it in the Authorization header")

    def _end_oldest(self, connection: Endable, detail: str) -> None:
        self._report(connection, RefusalCause.TOO_MANY_CONNECTIONS, detail)
        connection.end(WireError(Code.BUSY, detail))

    def _discard_credential(self, connection: Endable, known: _OpenConnection) -> None:
        self._unauthenticated.pop(connection, None)
        if known.identity is not None:
            own = self._of_token.get(known.identity.token_id, {})
            own.pop(connection, None)
            if not own:
                self._of_token.pop(known.identity.token_id, None)

    def _end_flood(self, connection: Endable, flood: Flood) -> None:
        error = WireError(Code.TOO_MANY_FRAMES, DESCRIPTIONS[flood])
        self._report(connection, RefusalCause.FLOOD, error.message)
        connection.end(error)

    def _report(self, connection: Endable, reason: RefusalCause, detail: str) -> None:
        known = self._open.get(connection)
        if known is not None:
            self._refusals.report(reason, path=known.path, peer=known.peer, detail=detail)
