"""Tests of accepting connections through real sockets: the share of an address holds for those that come and go."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from hub.http.acceptor import ACCEPTS_PER_TURN, Acceptor, PlainListener
from hub.http.loop_share import BURST_S, CONNECTION_S, LoopShares, TurnQueues
from hub.http.refusals import RefusalCause, RequestRefusals
from hub.http.server import listen
from tests.conditions import until

ADDRESS = "127.0.0.1"


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """Use the hub's event loop, whose transports differ in what a cancelled opening leaves."""
    return "asyncio", {"debug": True, "use_uvloop": True}


@contextlib.contextmanager
def accepting(
    shares: LoopShares, refusals: RequestRefusals | None = None, **bounds: Any
) -> Iterator[tuple[Acceptor, int]]:
    listener = listen(ADDRESS, 0)
    acceptor = Acceptor(listener, turns=TurnQueues(shares), refusals=refusals or RequestRefusals(), **bounds)
    try:
        yield acceptor, listener.getsockname()[1]
    finally:
        acceptor.close()
        listener.close()


async def test_each_opened_connection_is_charged_to_its_address() -> None:
    """One that its client has closed is not opened."""
    loop = asyncio.get_running_loop()
    shares = LoopShares(share=1e-6)
    with accepting(shares) as (acceptor, port):
        socket.create_connection((ADDRESS, port)).close()
        with socket.create_connection((ADDRESS, port)) as client:
            connection, peer = await acceptor.accept()
            assert (connection.getpeername(), peer) == (client.getsockname(), ADDRESS)
            connection.close()
        shares.charge(ADDRESS, BURST_S - CONNECTION_S / 2, loop.time())
        assert shares.delay_s(ADDRESS, loop.time()) > 0


async def test_an_address_without_a_share_waits_and_another_does_not() -> None:
    """Loopback has many addresses."""
    loop = asyncio.get_running_loop()
    shares = LoopShares(share=1e-6)
    shares.charge(ADDRESS, 2 * BURST_S, loop.time())
    with accepting(shares) as (acceptor, port), contextlib.ExitStack() as stack:
        stack.enter_context(socket.create_connection((ADDRESS, port)))
        stack.enter_context(socket.create_connection((ADDRESS, port), source_address=("127.0.0.2", 0)))
        peers = []
        for _ in range(2):
            connection, peer = await acceptor.accept()
            connection.close()
            peers.append(peer)
    assert peers == ["127.0.0.2", ADDRESS]


async def test_a_newer_connection_resets_the_oldest_beyond_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that wait for their share cost a file descriptor each. The refusals count the reset one."""
    monkeypatch.setattr("hub.http.acceptor.MAX_NEW_PER_ADDRESS", 2)
    loop = asyncio.get_running_loop()
    shares, refusals = LoopShares(share=1e-6), RequestRefusals()
    shares.charge(ADDRESS, 2 * BURST_S, loop.time())
    with accepting(shares, refusals) as (acceptor, port), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection((ADDRESS, port))) for _ in range(3)]
        connection, _ = await acceptor.accept()
        assert connection.getpeername() == clients[1].getsockname()
        connection.close()
        with pytest.raises(ConnectionResetError):
            clients[0].recv(1)
    assert dict(refusals.counts) == {RefusalCause.TOO_MANY_CONNECTIONS: 1}


async def test_one_turn_accepts_a_bounded_number() -> None:
    """The others wait in the listener's queue, so that a burst does not delay everything else."""
    with accepting(LoopShares()) as (acceptor, port), contextlib.ExitStack() as stack:
        for _ in range(3 * ACCEPTS_PER_TURN):
            stack.enter_context(socket.create_connection((ADDRESS, port)))
        for number in range(3 * ACCEPTS_PER_TURN):
            connection, _ = await acceptor.accept()
            connection.close()
            if number == 0:
                assert len(acceptor._ready) == ACCEPTS_PER_TURN - 1


async def test_connections_leave_file_descriptors_for_the_journal() -> None:
    """Open connections count, too. When one of them closes, the next client is accepted."""
    refusals = RequestRefusals()
    opened = 8
    with accepting(LoopShares(), refusals, max_connections=8, open_connections=lambda: opened) as (acceptor, port):
        waiting = asyncio.create_task(acceptor.accept())
        with socket.create_connection((ADDRESS, port)) as client:
            await until(lambda: refusals.counts)
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        opened = 7
        with socket.create_connection((ADDRESS, port)) as client:
            connection, _ = await waiting
            assert connection.getpeername() == client.getsockname()
            connection.close()
    assert dict(refusals.counts) == {RefusalCause.TOO_MANY_CONNECTIONS: 1}


async def test_a_stop_leaves_no_connection_half_open() -> None:
    """A protocol whose connection is being opened gets a transport that works: the shutdown writes to it."""
    loop = asyncio.get_running_loop()
    transports: list[asyncio.Transport] = []

    class Stopping(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transports.append(transport)  # type: ignore[arg-type]  # uvloop's loops make transports of this kind
            running.cancel()

    with accepting(LoopShares()) as (acceptor, port), socket.create_connection((ADDRESS, port)) as client:
        running = loop.create_task(PlainListener(acceptor, Stopping).run())
        await asyncio.wait([running])
        client.setblocking(False)
        for transport in transports:
            transport.write(b"bye")
        assert await loop.sock_recv(client, 3) == b"bye"
        transports[0].close()
