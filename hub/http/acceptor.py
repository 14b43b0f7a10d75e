"""New connections of the hub's port: accepted a few at a time, at the rate that the share of their address allows.

The event loop's own server accepts every waiting connection in one turn, 4,096 in 34 ms, and a client that connects and
disconnects without a pause costs as much as requests do. Here such connections wait as bare sockets, which cost a file
descriptor and 20 µs, and those that end meanwhile are never opened.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable

import structlog

from hub.http.forwarded import TrustedProxies
from hub.http.loop_share import CONNECTION_S, TurnQueues
from hub.http.refusals import RefusalCause, RequestRefusals

ACCEPTS_PER_TURN = 16
"""Connections that are accepted in one turn of the event loop: 3 ms for all of them."""

ACCEPT_INTERVAL_S = 0.005
"""Time until the next connections are accepted after so many: 3,200 in a second, a fleet of 10,000 in three. Those that
end at once cost the system's time, too, which no share contains."""

MAX_NEW_PER_ADDRESS = 1_024
MAX_NEW = 4_096
"""Connections that wait for the share of their address: those of a site whose devices connect at once, and those of all
addresses. At either bound, one more resets the oldest of its address."""

ACCEPT_PAUSE_S = 1.0
"""Time without accepting after the system refused a connection, for example for want of file descriptors."""

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER with a time of 0: closing resets the connection, and no state of it remains in the system."""

log = structlog.get_logger(__name__)


class Acceptor:
    """Accepts the connections of a listener. `close` is called when nobody accepts any longer."""

    def __init__(
        self,
        listener: socket.socket,
        *,
        turns: TurnQueues,
        refusals: RequestRefusals,
        proxies: TrustedProxies = TrustedProxies(),  # noqa: B008 - immutable
        max_connections: int | None = None,
        open_connections: Callable[[], int] = lambda: 0,
    ) -> None:
        """Bound the connections to what the file descriptors of the process allow, if that is given."""
        self._listener = listener
        self._turns = turns
        self._refusals = refusals
        self._proxies = proxies
        self._max_connections = max_connections
        self._open_connections = open_connections
        self._max_new, self._max_new_per_address = MAX_NEW, MAX_NEW_PER_ADDRESS
        if max_connections is not None:
            self._max_new = min(MAX_NEW, max_connections // 4)
            self._max_new_per_address = min(MAX_NEW_PER_ADDRESS, max_connections // 8)
        self._loop = asyncio.get_running_loop()
        # Connections whose turn has come, and those that wait for it.
        self._ready: deque[tuple[socket.socket, str]] = deque()
        self._new: dict[socket.socket, None] = {}
        self._changed = asyncio.Event()
        self._is_reading = False
        self._pause: asyncio.TimerHandle | None = None

    async def accept(self) -> tuple[socket.socket, str]:
        """Return the next connection and the address of its client."""
        while True:
            if len(self._ready) < ACCEPTS_PER_TURN:
                self._read()
            if self._ready:
                connection, peer = self._ready.popleft()
                # A connection that its client has closed meanwhile would cost as much as any other.
                if is_open(connection):
                    self.charge(peer, CONNECTION_S)
                    return connection, peer
                connection.close()
                continue
            self._changed.clear()
            await self._changed.wait()

    def close(self) -> None:
        """Stop accepting, and close the connections that wait."""
        self._stop()
        if self._pause is not None:
            self._pause.cancel()
        for connection in (*self._new, *(connection for connection, _ in self._ready)):
            self._turns.leave(connection)
            connection.close()
        self._new.clear()
        self._ready.clear()

    def _read(self) -> None:
        if not self._is_reading and self._pause is None:
            self._is_reading = True
            self._loop.add_reader(self._listener, self._accept_some)

    def _stop(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._listener)

    def _accept_some(self) -> None:
        """Accept the connections of one turn of the event loop."""
        for _ in range(ACCEPTS_PER_TURN):
            try:
                connection, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                break
            except OSError as error:
                log.warning("connection not accepted, retrying", reason=error.strerror, wait_s=ACCEPT_PAUSE_S)
                self._stop()
                self._pause = self._loop.call_later(ACCEPT_PAUSE_S, self._resume)
                break
            connection.setblocking(False)
            self._sort(connection, address[0])
        else:
            self._stop()
            self._pause = self._loop.call_later(ACCEPT_INTERVAL_S, self._resume)
        if len(self._ready) >= ACCEPTS_PER_TURN:
            self._stop()
        if self._ready:
            self._changed.set()

    def _resume(self) -> None:
        self._pause = None
        self._read()

    def _sort(self, connection: socket.socket, peer: str) -> None:
        """Let a connection wait for its turn, if its address has used its share."""
        if self._is_full:
            self._reset(connection, peer, f"the hub's file descriptors allow {self._max_connections:,} connections")
        elif self._proxies.is_proxy(peer) or self._turns.has_room(peer, self._loop.time()):
            self._ready.append((connection, peer))
        elif not is_open(connection):
            connection.close()
        else:
            self._new[connection] = None
            self._turns.wait(peer, connection, self._turn_of(connection, peer), is_new=True)
            if len(self._new) > self._max_new or self._turns.count_new(peer) > self._max_new_per_address:
                self._reset_oldest(peer)

    @property
    def _is_full(self) -> bool:
        """True if one more connection could leave no file descriptor for the journal and the store."""
        if self._max_connections is None:
            return False
        return self._open_connections() + len(self._new) + len(self._ready) >= self._max_connections

    def _reset_oldest(self, peer: str) -> None:
        """Reset a connection for a newer one of its address, which is more likely to have a client that still waits."""
        oldest = self._turns.oldest_new(peer)
        assert isinstance(oldest, socket.socket)
        self._turns.leave(oldest)
        del self._new[oldest]
        self._reset(oldest, peer, "too many connections of this address wait to be accepted")

    def _reset(self, connection: socket.socket, peer: str, detail: str) -> None:
        self._refusals.report(RefusalCause.TOO_MANY_CONNECTIONS, path="", peer=peer, detail=detail)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.close()

    def _turn_of(self, connection: socket.socket, peer: str) -> Callable[[], None]:
        def turn() -> None:
            del self._new[connection]
            self._ready.append((connection, peer))
            self._changed.set()

        return turn

    def charge(self, peer: str, seconds: float) -> None:
        """Charge the time that a connection takes apart from its requests to its address."""
        # Each request through a proxy is charged to its own client.
        if not self._proxies.is_proxy(peer):
            self._turns.shares.charge(peer, seconds, self._loop.time())


def is_open(connection: socket.socket) -> bool:
    """Return whether the client has not closed or reset the connection without sending anything."""
    try:
        return connection.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


class PlainListener:
    """Accepts connections without TLS, and makes a protocol for each one; `run` ends by cancellation."""

    def __init__(self, acceptor: Acceptor, make_protocol: Callable[[], asyncio.BaseProtocol]) -> None:
        self._acceptor = acceptor
        self._make_protocol = make_protocol
        self._opening: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Accept connections until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                connection, _ = await self._acceptor.accept()
                task = loop.create_task(self._open(connection))
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)
        finally:
            self._acceptor.close()
            if self._opening:
                # They take a few turns. Cancelling one closes its transport without a word to its protocol, which the
                # shutdown would then write to.
                await asyncio.wait(self._opening)

    async def _open(self, connection: socket.socket) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().connect_accepted_socket(self._make_protocol, connection)
        except OSError:
            # The client has disconnected.
            connection.close()
