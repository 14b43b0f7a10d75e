"""Requests for the port of a source, at every moment of its opening."""

from __future__ import annotations

import asyncio

import pytest

from device_agent.sources.ports import LineErrors, PortError
from device_agent.sources.ports.hold import PortHold


class OpenPort:
    """A port that is open until it is closed."""

    name = "port"

    def __init__(self) -> None:
        self.is_open = True

    async def read(self) -> bytes:
        raise PortError("closed")

    def write(self, data: bytes) -> None:
        pass

    async def set_baud(self, baud: int) -> None:
        pass

    def line_errors(self) -> LineErrors | None:
        return None

    def close(self) -> None:
        self.is_open = False


class Opening:
    """An attempt to open a port that ends when the test says so."""

    def __init__(self) -> None:
        self.port = OpenPort()
        self.may_end = asyncio.Event()

    async def open(self) -> OpenPort:
        await self.may_end.wait()
        return self.port


async def test_a_port_that_is_being_opened_is_closed_before_it_is_given_away() -> None:
    """The program waits for the attempt, and does not get a port that is still open."""
    hold, opening = PortHold(), Opening()
    opened = asyncio.ensure_future(hold.opened(opening.open()))
    await asyncio.sleep(0)
    given = asyncio.Event()

    async def take() -> None:
        async with hold.request():
            assert not opening.port.is_open
            given.set()

    taking = asyncio.ensure_future(take())
    await asyncio.sleep(0)
    assert not given.is_set()
    opening.may_end.set()
    assert await opened is opening.port
    await taking
    assert hold.was_requested
    assert not hold.is_requested
    await hold.wait_free()
    assert not hold.was_requested


async def test_a_port_that_is_opened_after_all_is_closed_when_its_source_ends() -> None:
    """A thread that opens a port cannot be cancelled."""
    hold, opening = PortHold(), Opening()
    opened = asyncio.ensure_future(hold.opened(opening.open()))
    await asyncio.sleep(0)
    opened.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opened
    opening.may_end.set()
    while opening.port.is_open:  # noqa: ASYNC110 - the port announces nothing
        await asyncio.sleep(0)


async def test_a_request_ends_the_wait_for_an_absent_port() -> None:
    """And the source waits until it is free."""
    hold = PortHold()
    waiting = asyncio.ensure_future(hold.wait_request(600))
    await asyncio.sleep(0)
    async with hold.request():
        await waiting
        free = asyncio.ensure_future(hold.wait_free())
        await asyncio.sleep(0)
        assert not free.done()
    await free
